/*
 * engine-fake.c: engine.h without a network
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See engine-fake.h for what it is to its users.
 *
 * 'engines' is the swarm.  Each engine has one timer in its main context; a
 * step of it looks at every torrent once (virTorrentFakeStep), moves at most
 * what the limits allow and delivers events, so no event is ever delivered
 * from inside a call.  A callback may call anything, virTorrentEngineFree()
 * and virTorrentEngineRemove() included: engine and torrent are counted, and
 * looked at again after each callback.
 *
 * Everything runs in one thread; there are no locks.
 */

#include <config.h>

#include "engine-fake.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine-base.h"
#include "merkle.h"
#include "metainfo.h"
#include "queue.h"

#define STEP_MS 2
#define RESUME_MAGIC "fake-resume-1\n"

typedef struct {
    VirTorrentEngine *engine;      /* NULL once removed */
    char *id;
    char *key;
    GBytes *metainfo;              /* NULL: only the magnet is known */
    VirTorrentMetainfoRaw raw;
    char *dir, *file;
    GPtrArray *peers;              /* "address:port" to ask */
    VirTorrentState state;
    guint8 *have;                  /* one byte per piece */
    guint have_count;
    guint check_next;              /* CHECKING: the next piece */
    gboolean master;               /* ADD_SEED: never written to */
    gboolean tell_metadata, tell_complete;
    gboolean resume_wanted, changed;
    guint64 downloaded, uploaded;
    guint sources;                 /* in the last step */
    char *error;
    gboolean tell_error;
} virTorrentFake;

struct _VirTorrentEngine {
    gatomicrefcount refs;
    gboolean freed;
    VirTorrentEventFunc func;
    gpointer opaque;
    char *address;
    guint16 port;
    GStrv bootstrap, allow;
    guint64 upload_limit, download_limit;
    gint64 down_budget, up_budget; /* bytes that may move by now */
    gboolean dht, lsd;
    VirTorrentQueue *queue;
    GHashTable *torrents;          /* id -> virTorrentFake */
    GSource *timer;
    gint64 last_step;
    guint64 moved_down, moved_up;
    gint64 rate_since;
    guint64 rate_down, rate_up;
};

static GPtrArray *engines;
static GHashTable *faults_armed, *faults_fired;
static guint64 default_speed;

static void
virTorrentFakeSetup(void)
{
    if (engines)
        return;
    engines = g_ptr_array_new();
    faults_armed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    faults_fired = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

void
virTorrentFakeFault(const char *what, guint times)
{
    virTorrentFakeSetup();
    g_hash_table_insert(faults_armed, g_strdup(what), GUINT_TO_POINTER(times));
}

guint
virTorrentFakeFired(const char *what)
{
    virTorrentFakeSetup();
    return GPOINTER_TO_UINT(g_hash_table_lookup(faults_fired, what));
}

void
virTorrentFakeReset(void)
{
    virTorrentFakeSetup();
    g_hash_table_remove_all(faults_armed);
    g_hash_table_remove_all(faults_fired);
    default_speed = 0;
}

void
virTorrentFakeSetSpeed(guint64 bytes_per_second)
{
    default_speed = bytes_per_second;
}

/* TRUE where the armed fault is to happen now. */
static gboolean
virTorrentFakeHits(const char *what)
{
    guint left = GPOINTER_TO_UINT(g_hash_table_lookup(faults_armed, what));

    if (left == 0)
        return FALSE;
    if (left != G_MAXUINT)
        g_hash_table_insert(faults_armed, g_strdup(what), GUINT_TO_POINTER(left - 1));
    g_hash_table_insert(faults_fired, g_strdup(what),
                        GUINT_TO_POINTER(virTorrentFakeFired(what) + 1));
    return TRUE;
}

/* --- torrents ----------------------------------------------------------- */

static void
virTorrentFakeFinalize(gpointer opaque)
{
    virTorrentFake *t = opaque;

    g_free(t->id);
    g_free(t->key);
    g_clear_pointer(&t->metainfo, g_bytes_unref);
    virTorrentMetainfoRawClear(&t->raw);
    g_free(t->dir);
    g_free(t->file);
    g_ptr_array_unref(t->peers);
    g_free(t->have);
    g_free(t->error);
}

static void
virTorrentFakeUnref(gpointer opaque)
{
    g_atomic_rc_box_release_full(opaque, virTorrentFakeFinalize);
}

/* Out of its engine: whoever still holds it finds engine NULL. */
static void
virTorrentFakeDetach(gpointer opaque)
{
    virTorrentFake *t = opaque;

    t->engine = NULL;
    virTorrentFakeUnref(t);
}

static char *
virTorrentFakePath(virTorrentFake *t)
{
    return g_build_filename(t->dir, t->file, NULL);
}

static guint64
virTorrentFakePieceSize(virTorrentFake *t, guint i)
{
    guint64 begin = (guint64)i * t->raw.info->piece_length;

    return MIN(t->raw.info->piece_length, t->raw.info->size - begin);
}

static void
virTorrentFakeFail(virTorrentFake *t, const char *what, int err)
{
    g_free(t->error);
    t->error = g_strdup_printf("cannot %s '%s': %s", what, t->file, g_strerror(err));
    t->state = VIR_TORRENT_FAILED;
    t->tell_error = TRUE;
}

static void
virTorrentFakeSetHave(virTorrentFake *t, guint i)
{
    if (t->have[i])
        return;
    t->have[i] = 1;
    t->have_count++;
    t->changed = TRUE;
}

static void
virTorrentFakeMaybeComplete(virTorrentFake *t)
{
    if (t->have_count < t->raw.pieces) {
        t->state = VIR_TORRENT_DOWNLOADING;
        if (t->master) {
            t->error = g_strdup_printf("'%s' is not what it was when it was verified", t->file);
            t->state = VIR_TORRENT_FAILED;
            t->tell_error = TRUE;
        }
        return;
    }
    t->state = VIR_TORRENT_COMPLETE;
    t->tell_complete = TRUE;
}

static gboolean
virTorrentFakeSetMetainfo(virTorrentFake *t, GBytes *metainfo, GError **error)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(metainfo, &len);
    VirTorrentMetainfoRaw raw = { 0 };

    if (!virTorrentMetainfoRead(data, len, &raw, error))
        return FALSE;
    t->raw = raw;
    t->metainfo = g_bytes_new_from_bytes(metainfo, 0, raw.length);
    t->have = g_new0(guint8, raw.pieces);
    g_free(t->key);
    t->key = g_strdup(raw.info->key);
    return TRUE;
}

static const guint8 *
virTorrentFakePieceHash(virTorrentFake *t, guint i)
{
    return t->raw.layer ? t->raw.layer + (gsize)i * VIR_TORRENT_HASH_SIZE : t->raw.root;
}

/* errno 0: read well but wrong */
static gboolean
virTorrentFakeVerify(virTorrentFake *t, int fd, guint i)
{
    g_autoptr(VirTorrentHasher) hasher = virTorrentHasherNew();
    g_autofree guint8 *buffer = g_malloc(VIR_TORRENT_READ_SIZE);
    guint8 hash[VIR_TORRENT_HASH_SIZE];
    struct stat st;

    errno = 0;
    if (!t->raw.root || fstat(fd, &st) < 0 ||
        (guint64)st.st_size < (guint64)i * t->raw.info->piece_length + virTorrentFakePieceSize(t, i))
        return FALSE;
    if (!virTorrentHasherPiece(hasher, fd, t->raw.info->size, t->raw.info->piece_length, i,
                               buffer, NULL, NULL, hash))
        return FALSE;
    errno = 0;
    return memcmp(hash, virTorrentFakePieceHash(t, i), sizeof(hash)) == 0;
}

/* --- finding each other -------------------------------------------------- */

static char *
virTorrentFakeEndpoint(VirTorrentEngine *e)
{
    const char *address = e->address ? e->address : "127.0.0.1";

    return g_strdup_printf(strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, e->port);
}

static gboolean
virTorrentFakeAllows(VirTorrentEngine *e, VirTorrentEngine *other)
{
    g_autoptr(GInetAddress) address =
        g_inet_address_new_from_string(other->address ? other->address : "127.0.0.1");
    gsize i;

    if (!e->allow || !e->allow[0])
        return TRUE;
    for (i = 0; e->allow[i]; i++) {
        g_autoptr(GInetAddressMask) mask = g_inet_address_mask_new_from_string(e->allow[i], NULL);

        if (g_inet_address_mask_matches(mask, address))
            return TRUE;
    }
    return FALSE;
}

static gboolean
virTorrentFakeBootstraps(VirTorrentEngine *e, VirTorrentEngine *other)
{
    g_autofree char *endpoint = virTorrentFakeEndpoint(other);

    return e->bootstrap && g_strv_contains((const char *const *)e->bootstrap, endpoint);
}

/* Whether the DHT's graph of bootstrap hosts leads from one to the other. */
static gboolean
virTorrentFakeMeetByDht(VirTorrentEngine *from, VirTorrentEngine *to)
{
    g_autoptr(GPtrArray) seen = g_ptr_array_new();
    guint i, j;

    g_ptr_array_add(seen, from);
    for (i = 0; i < seen->len; i++) {
        VirTorrentEngine *e = seen->pdata[i];

        if (e == to)
            return e->dht;
        for (j = 0; e->dht && j < engines->len; j++) {
            VirTorrentEngine *n = engines->pdata[j];

            if (n->dht && !g_ptr_array_find(seen, n, NULL) &&
                (virTorrentFakeBootstraps(e, n) || virTorrentFakeBootstraps(n, e)))
                g_ptr_array_add(seen, n);
        }
    }
    return FALSE;
}

static gboolean
virTorrentFakeKnows(virTorrentFake *t, VirTorrentEngine *other)
{
    g_autofree char *endpoint = virTorrentFakeEndpoint(other);

    return g_ptr_array_find_with_equal_func(t->peers, endpoint, g_str_equal, NULL);
}

static virTorrentFake *
virTorrentFakeByKey(VirTorrentEngine *e, const char *key)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, e->torrents);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        virTorrentFake *t = value;

        if (g_strcmp0(t->key, key) == 0)
            return t;
    }
    return NULL;
}

/* The peers of @t: torrents with its key in engines that know of each other. */
static GPtrArray *
virTorrentFakeSources(virTorrentFake *t)
{
    GPtrArray *sources = g_ptr_array_new();
    guint i;

    for (i = 0; i < engines->len; i++) {
        VirTorrentEngine *e = engines->pdata[i];
        virTorrentFake *other;

        if (e == t->engine || !virTorrentFakeAllows(t->engine, e) ||
            !virTorrentFakeAllows(e, t->engine))
            continue;
        other = virTorrentFakeByKey(e, t->key);
        if (other && other->state != VIR_TORRENT_FAILED &&
            (virTorrentFakeKnows(t, e) || virTorrentFakeKnows(other, t->engine) ||
             (t->engine->lsd && e->lsd) || virTorrentFakeMeetByDht(t->engine, e)))
            g_ptr_array_add(sources, other);
    }
    return sources;
}

/* --- what happens in a step ---------------------------------------------- */

static void
virTorrentFakeStepCheck(virTorrentFake *t)
{
    g_autofree char *path = virTorrentFakePath(t);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        if (errno != ENOENT)
            virTorrentFakeFail(t, "open", errno);
        else
            virTorrentFakeMaybeComplete(t);
        return;
    }
    if (virTorrentFakeVerify(t, fd, t->check_next))
        virTorrentFakeSetHave(t, t->check_next);
    close(fd);
    if (++t->check_next == t->raw.pieces)
        virTorrentFakeMaybeComplete(t);
}

static void
virTorrentFakeStepMetadata(virTorrentFake *t, GPtrArray *sources)
{
    guint i;

    for (i = 0; i < sources->len; i++) {
        virTorrentFake *s = sources->pdata[i];
        g_autoptr(GError) error = NULL;

        if (!s->metainfo)
            continue;
        if (virTorrentFakeHits("metadata-never"))
            return;
        if (!virTorrentFakeSetMetainfo(t, s->metainfo, &error)) {
            t->error = g_strdup(error->message);
            t->state = VIR_TORRENT_FAILED;
            t->tell_error = TRUE;
            return;
        }
        t->tell_metadata = TRUE;
        t->changed = TRUE;
        t->state = VIR_TORRENT_CHECKING;
        return;
    }
}

/* Reads piece @i at @s into @buffer. */
static gboolean
virTorrentFakeFetchPiece(virTorrentFake *t, virTorrentFake *s, guint i, guint8 *buffer)
{
    g_autofree char *path = virTorrentFakePath(s);
    guint64 len = virTorrentFakePieceSize(t, i);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    gboolean ok;

    errno = fd < 0 ? errno : EIO;
    ok = fd >= 0 && !virTorrentFakeHits("eio") &&
        pread(fd, buffer, len, (guint64)i * t->raw.info->piece_length) == (gssize)len;
    if (!ok)
        virTorrentFakeFail(s, "read", errno);
    if (fd >= 0)
        close(fd);
    return ok;
}

static gboolean
virTorrentFakeStorePiece(virTorrentFake *t, guint i, const guint8 *buffer)
{
    g_autofree char *path = virTorrentFakePath(t);
    guint64 len = virTorrentFakePieceSize(t, i);
    guint64 begin = (guint64)i * t->raw.info->piece_length;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    gboolean ok;

    if (fd < 0) {
        virTorrentFakeFail(t, "open", errno);
        return FALSE;
    }
    if (virTorrentFakeHits("enospc")) {
        errno = ENOSPC;
        ok = FALSE;
    } else {
        ok = pwrite(fd, buffer, len, begin) == (gssize)len;
    }
    if (!ok) {
        virTorrentFakeFail(t, "write", errno);
    } else if (virTorrentFakeVerify(t, fd, i)) {
        virTorrentFakeSetHave(t, i);
    }
    close(fd);
    return ok;
}

/* One piece, where a peer has one that is missing and the limits allow it. */
static gboolean
virTorrentFakeMovePiece(virTorrentFake *t, GPtrArray *sources)
{
    guint i, k;

    for (i = 0; i < t->raw.pieces; i++) {
        if (t->have[i])
            continue;
        for (k = 0; k < sources->len; k++) {
            virTorrentFake *s = sources->pdata[k];
            guint64 len = virTorrentFakePieceSize(t, i);
            g_autofree guint8 *buffer = NULL;

            if (!s->have || !s->have[i] || s->state == VIR_TORRENT_FAILED ||
                s->engine->up_budget <= 0)
                continue;
            buffer = g_malloc(len);
            if (!virTorrentFakeFetchPiece(t, s, i, buffer))
                continue;
            if (virTorrentFakeHits("corrupt"))
                buffer[len / 2] ^= 1;
            t->engine->down_budget -= len;
            s->engine->up_budget -= len;
            t->downloaded += len;
            t->engine->moved_down += len;
            s->uploaded += len;
            s->engine->moved_up += len;
            return virTorrentFakeStorePiece(t, i, buffer);
        }
    }
    return FALSE;
}

/* Another one is to be fetched before. */
static gboolean
virTorrentFakeHasToWait(virTorrentFake *t)
{
    gint64 now = g_get_monotonic_time();
    const char *first;

    virTorrentQueueTell(t->engine->queue, t->id, t->downloaded, now);
    while ((first = virTorrentQueueFirst(t->engine->queue, now))) {
        virTorrentFake *other = g_hash_table_lookup(t->engine->torrents, first);

        if (other && other->state != VIR_TORRENT_COMPLETE && other->state != VIR_TORRENT_FAILED)
            return other != t;
        virTorrentQueueRemove(t->engine->queue, first);
    }
    return FALSE;
}

static void
virTorrentFakeStepDownload(virTorrentFake *t, GPtrArray *sources)
{
    gboolean paced = t->engine->download_limit || default_speed;

    if (virTorrentFakeHasToWait(t) || virTorrentFakeHits("stall"))
        return;
    do {
        if (t->engine->down_budget <= 0 || !virTorrentFakeMovePiece(t, sources))
            break;
        if (t->have_count == t->raw.pieces)
            virTorrentFakeMaybeComplete(t);
    } while (paced && t->state == VIR_TORRENT_DOWNLOADING);
}

static GBytes *
virTorrentFakeResumeData(virTorrentFake *t)
{
    GByteArray *out = g_byte_array_new();
    guint32 pieces = t->metainfo ? t->raw.pieces : 0;
    guint32 key_len = strlen(t->key);

    g_byte_array_append(out, (const guint8 *)RESUME_MAGIC, strlen(RESUME_MAGIC));
    g_byte_array_append(out, (const guint8 *)&key_len, sizeof(key_len));
    g_byte_array_append(out, (const guint8 *)t->key, key_len);
    g_byte_array_append(out, (const guint8 *)&pieces, sizeof(pieces));
    if (t->metainfo) {
        g_byte_array_append(out, t->have, pieces);
        g_byte_array_append(out, g_bytes_get_data(t->metainfo, NULL), g_bytes_get_size(t->metainfo));
    }
    return g_byte_array_free_to_bytes(out);
}

static void
virTorrentFakeTell(virTorrentFake *t, VirTorrentEventType type, GBytes *data)
{
    VirTorrentEngine *e = t->engine;
    VirTorrentEvent event = { .type = type, .id = t->id, .data = data };

    if (type == VIR_TORRENT_EVENT_FAILED)
        event.message = t->error;
    e->func(&event, e->opaque);
}

/* Delivers what has to be said; the torrent may be removed at each call. */
static void
virTorrentFakeStepEvents(virTorrentFake *t)
{
    if (t->engine && t->tell_metadata) {
        t->tell_metadata = FALSE;
        virTorrentFakeTell(t, VIR_TORRENT_EVENT_METADATA, NULL);
    }
    if (t->engine && t->tell_complete) {
        t->tell_complete = FALSE;
        virTorrentFakeTell(t, VIR_TORRENT_EVENT_COMPLETE, NULL);
    }
    if (t->engine && t->tell_error) {
        t->tell_error = FALSE;
        virTorrentFakeTell(t, VIR_TORRENT_EVENT_FAILED, NULL);
    }
    if (t->engine && t->resume_wanted) {
        g_autoptr(GBytes) data = virTorrentFakeResumeData(t);

        t->resume_wanted = FALSE;
        virTorrentFakeTell(t, VIR_TORRENT_EVENT_RESUME_DATA, data);
    }
}

static void
virTorrentFakeStep(virTorrentFake *t)
{
    g_autoptr(GPtrArray) sources = NULL;

    if (!t->engine)
        return;
    sources = virTorrentFakeSources(t);
    t->sources = sources->len;
    if (t->state == VIR_TORRENT_METADATA)
        virTorrentFakeStepMetadata(t, sources);
    else if (t->state == VIR_TORRENT_CHECKING)
        virTorrentFakeStepCheck(t);
    else if (t->state == VIR_TORRENT_DOWNLOADING)
        virTorrentFakeStepDownload(t, sources);
    virTorrentFakeStepEvents(t);
}

/* Without a limit a step moves one piece. */
static gint64
virTorrentFakeBudget(gint64 budget, guint64 limit, gint64 elapsed)
{
    guint64 rate = limit ? limit : default_speed;

    if (rate == 0)
        return G_MAXINT64 / 2;
    if (budget >= G_MAXINT64 / 4)
        budget = 0;
    return MIN(budget + (gint64)(rate * elapsed / G_USEC_PER_SEC), (gint64)rate);
}

static void
virTorrentFakeMeasure(VirTorrentEngine *e, gint64 now)
{
    if (now - e->rate_since < G_USEC_PER_SEC / 4)
        return;
    e->rate_down = e->moved_down * G_USEC_PER_SEC / (now - e->rate_since);
    e->rate_up = e->moved_up * G_USEC_PER_SEC / (now - e->rate_since);
    e->moved_down = e->moved_up = 0;
    e->rate_since = now;
}

static void
virTorrentFakeEngineUnref(VirTorrentEngine *e)
{
    if (!g_atomic_ref_count_dec(&e->refs))
        return;
    g_hash_table_unref(e->torrents);
    g_strfreev(e->bootstrap);
    g_strfreev(e->allow);
    g_free(e->address);
    virTorrentQueueFree(e->queue);
    g_free(e);
}

static gboolean
virTorrentFakeTick(gpointer opaque)
{
    VirTorrentEngine *e = opaque;
    gint64 now = g_get_monotonic_time();
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(virTorrentFakeUnref);
    GHashTableIter iter;
    gpointer value;
    guint i;

    e->down_budget = virTorrentFakeBudget(e->down_budget, e->download_limit, now - e->last_step);
    e->up_budget = virTorrentFakeBudget(e->up_budget, e->upload_limit, now - e->last_step);
    e->last_step = now;
    virTorrentFakeMeasure(e, now);

    g_hash_table_iter_init(&iter, e->torrents);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(list, g_atomic_rc_box_acquire(value));
    g_atomic_ref_count_inc(&e->refs);
    for (i = 0; i < list->len && !e->freed; i++)
        virTorrentFakeStep(list->pdata[i]);
    virTorrentFakeEngineUnref(e);
    return G_SOURCE_CONTINUE;
}

/* --- engine.h ------------------------------------------------------------- */

static gboolean
virTorrentFakePortIsFree(VirTorrentEngine *self, const char *address, guint16 port)
{
    guint i;

    for (i = 0; i < engines->len; i++) {
        VirTorrentEngine *e = engines->pdata[i];

        if (e != self && e->port == port &&
            (!address || !e->address || strcmp(address, e->address) == 0))
            return FALSE;
    }
    return TRUE;
}

static gboolean
virTorrentFakeListen(VirTorrentEngine *e, const VirTorrentEngineSettings *s, GError **error)
{
    guint16 port = s->listen_port ? s->listen_port : VIR_TORRENT_DEFAULT_PORT;

    while (!s->listen_port && !virTorrentFakePortIsFree(e, s->listen_address, port))
        port++;
    if (virTorrentFakeHits("listen") || !virTorrentFakePortIsFree(e, s->listen_address, port)) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                    "cannot listen on %s port %u: Address already in use",
                    s->listen_address ? s->listen_address : "any address", port);
        return FALSE;
    }
    g_free(e->address);
    e->address = g_strdup(s->listen_address);
    e->port = port;
    return TRUE;
}

gboolean
virTorrentEngineReconfigure(VirTorrentEngine *e,
                            const VirTorrentEngineSettings *s,
                            GError **error)
{
    if (!virTorrentSettingsCheck(s, error))
        return FALSE;
    /* "any" keeps what there is */
    if (!e->port || g_strcmp0(e->address, s->listen_address) != 0 ||
        (s->listen_port && s->listen_port != e->port)) {
        if (!virTorrentFakeListen(e, s, error))
            return FALSE;
    }
    g_strfreev(e->bootstrap);
    e->bootstrap = g_strdupv((char **)s->bootstrap);
    g_strfreev(e->allow);
    e->allow = g_strdupv((char **)s->allow);
    e->upload_limit = s->upload_limit;
    e->download_limit = s->download_limit;
    e->dht = s->dht;
    e->lsd = s->lsd;
    return TRUE;
}

VirTorrentEngine *
virTorrentEngineNew(const VirTorrentEngineSettings *settings,
                    VirTorrentEventFunc func,
                    gpointer opaque,
                    GError **error)
{
    VirTorrentEngine *e = g_new0(VirTorrentEngine, 1);
    g_autoptr(GMainContext) context = g_main_context_ref_thread_default();

    virTorrentFakeSetup();
    g_atomic_ref_count_init(&e->refs);
    e->func = func;
    e->opaque = opaque;
    e->queue = virTorrentQueueNew();
    e->torrents = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, virTorrentFakeDetach);
    e->last_step = e->rate_since = g_get_monotonic_time();
    if (!virTorrentEngineReconfigure(e, settings, error)) {
        virTorrentFakeEngineUnref(e);
        return NULL;
    }
    e->timer = g_timeout_source_new(STEP_MS);
    g_source_set_callback(e->timer, virTorrentFakeTick, e, NULL);
    g_source_attach(e->timer, context);
    g_ptr_array_add(engines, e);
    return e;
}

void
virTorrentEngineFree(VirTorrentEngine *e)
{
    if (!e)
        return;
    e->freed = TRUE;
    g_source_destroy(e->timer);
    g_source_unref(e->timer);
    g_ptr_array_remove(engines, e);
    g_hash_table_remove_all(e->torrents);
    virTorrentFakeEngineUnref(e);
}

guint16
virTorrentEngineGetPort(VirTorrentEngine *e)
{
    return e->port;
}

GBytes *
virTorrentEngineSaveState(VirTorrentEngine *e)
{
    g_autofree char *state = g_strdup_printf("fake-state %u", e->port);

    return g_bytes_new(state, strlen(state));
}

/* What resume data says; damaged data says nothing. */
static gboolean
virTorrentFakeResume(virTorrentFake *t, GBytes *resume, gboolean metainfo_too)
{
    gsize len, magic = strlen(RESUME_MAGIC);
    const guint8 *p = g_bytes_get_data(resume, &len);
    const guint8 *end = p + len;
    guint32 key_len, pieces, i;
    g_autofree char *key = NULL;

    if (virTorrentFakeHits("resume-lost") ||
        len < magic + sizeof(key_len) || memcmp(p, RESUME_MAGIC, magic) != 0)
        return FALSE;
    p += magic;
    memcpy(&key_len, p, sizeof(key_len));
    p += sizeof(key_len);
    if (key_len + sizeof(pieces) > (gsize)(end - p))
        return FALSE;
    key = g_strndup((const char *)p, key_len);
    memcpy(&pieces, p + key_len, sizeof(pieces));
    p += key_len + sizeof(pieces);
    if (pieces > (gsize)(end - p) || (t->key && strcmp(t->key, key) != 0))
        return FALSE;
    if (metainfo_too && pieces > 0) {
        g_autoptr(GBytes) metainfo = g_bytes_new(p + pieces, end - p - pieces);

        if (!virTorrentFakeSetMetainfo(t, metainfo, NULL))
            return FALSE;
        t->tell_metadata = TRUE;
    }
    if (!t->key)
        t->key = g_steal_pointer(&key);
    if (!t->metainfo || pieces != t->raw.pieces)
        return pieces == 0;
    for (i = 0; i < pieces; i++) {
        if (p[i])
            virTorrentFakeSetHave(t, i);
    }
    return TRUE;
}

static gboolean
virTorrentFakeIdentify(virTorrentFake *t, GBytes *metainfo, const char *magnet, GError **error)
{
    g_auto(VirTorrentMagnet) parts = { 0 };
    gsize i;

    if (metainfo)
        return virTorrentFakeSetMetainfo(t, metainfo, error);
    if (!magnet)
        return TRUE;
    if (!virTorrentMagnetRead(magnet, &parts, error))
        return FALSE;
    t->key = virTorrentMagnetKey(&parts);
    for (i = 0; parts.peers[i]; i++)
        g_ptr_array_add(t->peers, g_strdup(parts.peers[i]));
    return TRUE;
}

static void
virTorrentFakeBegin(virTorrentFake *t, VirTorrentAddFlags flags, gboolean resumed)
{
    g_autofree char *path = virTorrentFakePath(t);

    t->master = flags & VIR_TORRENT_ADD_SEED;
    if (!t->metainfo) {
        t->state = VIR_TORRENT_METADATA;
    } else if ((flags & VIR_TORRENT_ADD_SEED) && !(flags & VIR_TORRENT_ADD_CHECK)) {
        memset(t->have, 1, t->raw.pieces);
        t->have_count = t->raw.pieces;
        virTorrentFakeMaybeComplete(t);
    } else if (resumed && !(flags & VIR_TORRENT_ADD_CHECK) &&
               g_file_test(path, G_FILE_TEST_IS_REGULAR)) {
        virTorrentFakeMaybeComplete(t);
    } else {
        memset(t->have, 0, t->raw.pieces);
        t->have_count = 0;
        t->state = VIR_TORRENT_CHECKING;
    }
    t->changed = TRUE;
}

gboolean
virTorrentEngineAdd(VirTorrentEngine *e,
                    const char *id,
                    GBytes *metainfo,
                    const char *magnet,
                    GBytes *resume,
                    const char *dir,
                    const char *file,
                    VirTorrentAddFlags flags,
                    GError **error)
{
    virTorrentFake *t;
    gboolean resumed = FALSE;

    if (!virTorrentAddCheck(id, metainfo, magnet, resume, dir, file, error))
        return FALSE;
    if (virTorrentFakeHits("add")) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                    "cannot add '%s': fault", id);
        return FALSE;
    }
    t = g_atomic_rc_box_new0(virTorrentFake);
    t->peers = g_ptr_array_new_with_free_func(g_free);
    t->id = g_strdup(id);
    t->dir = g_strdup(dir);
    t->file = g_strdup(file);
    if (!virTorrentFakeIdentify(t, metainfo, magnet, error)) {
        virTorrentFakeUnref(t);
        return FALSE;
    }
    if (resume)
        resumed = virTorrentFakeResume(t, resume, !metainfo);
    if (!t->key) {
        virTorrentFakeUnref(t);
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                    "the resume data of '%s' is damaged", id);
        return FALSE;
    }
    if (g_hash_table_contains(e->torrents, id) || virTorrentFakeByKey(e, t->key)) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_EXISTS,
                    "'%s' is there already", id);
        virTorrentFakeUnref(t);
        return FALSE;
    }
    t->engine = e;
    virTorrentFakeBegin(t, flags, resumed);
    g_hash_table_insert(e->torrents, t->id, t);
    return TRUE;
}

static virTorrentFake *
virTorrentFakeFind(VirTorrentEngine *e, const char *id, GError **error)
{
    virTorrentFake *t = g_hash_table_lookup(e->torrents, id);

    if (!t)
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_NOT_FOUND,
                    "there is no torrent '%s'", id);
    return t;
}

gboolean
virTorrentEngineRelocate(VirTorrentEngine *e,
                         const char *id,
                         const char *dir,
                         const char *file,
                         GError **error)
{
    virTorrentFake *t = virTorrentFakeFind(e, id, error);

    if (!t)
        return FALSE;
    if (virTorrentFakeHits("relocate")) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                    "cannot relocate '%s': fault", id);
        return FALSE;
    }
    g_free(t->dir);
    t->dir = g_strdup(dir);
    g_free(t->file);
    t->file = g_strdup(file);
    return TRUE;
}

void
virTorrentEngineRemove(VirTorrentEngine *e, const char *id)
{
    virTorrentQueueRemove(e->queue, id);
    g_hash_table_remove(e->torrents, id);
}

gboolean
virTorrentEngineGetStatus(VirTorrentEngine *e,
                          const char *id,
                          VirTorrentStatus *status)
{
    virTorrentFake *t = virTorrentFakeFind(e, id, NULL);
    guint i;

    memset(status, 0, sizeof(*status));
    if (!t)
        return FALSE;
    status->state = t->state;
    status->downloaded = t->downloaded;
    status->uploaded = t->uploaded;
    status->peers = t->sources;
    status->place = virTorrentQueueGetPlace(e->queue, id);
    status->error = t->state == VIR_TORRENT_FAILED ? t->error : NULL;
    status->download_rate = t->state == VIR_TORRENT_DOWNLOADING ? e->rate_down : 0;
    status->upload_rate = t->uploaded ? e->rate_up : 0;
    if (!t->metainfo)
        return TRUE;
    status->size = t->raw.info->size;
    if (t->state == VIR_TORRENT_CHECKING) {
        status->done = MIN((guint64)t->check_next * t->raw.info->piece_length, status->size);
        return TRUE;
    }
    for (i = 0; i < t->raw.pieces; i++) {
        if (t->have[i])
            status->done += virTorrentFakePieceSize(t, i);
    }
    return TRUE;
}

gboolean
virTorrentEngineGetMetainfo(VirTorrentEngine *e,
                            const char *id,
                            GBytes **metainfo,
                            VirTorrentMetainfo **info)
{
    virTorrentFake *t = virTorrentFakeFind(e, id, NULL);

    if (!t || !t->metainfo)
        return FALSE;
    if (info)
        *info = virTorrentMetainfoParse(t->metainfo, NULL);
    if (metainfo)
        *metainfo = g_bytes_ref(t->metainfo);
    return TRUE;
}

gboolean
virTorrentEngineAddPeer(VirTorrentEngine *e,
                        const char *id,
                        const char *peer,
                        GError **error)
{
    virTorrentFake *t = virTorrentFakeFind(e, id, error);

    if (!t)
        return FALSE;
    if (!virTorrentAddressParse(peer, NULL, NULL)) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_INVALID_OPTION,
                    "'%s' is not an address and a port", peer);
        return FALSE;
    }
    g_ptr_array_add(t->peers, g_strdup(peer));
    return TRUE;
}

void
virTorrentEnginePrioritize(VirTorrentEngine *e, const char *id)
{
    if (g_hash_table_contains(e->torrents, id))
        virTorrentQueuePush(e->queue, id, g_get_monotonic_time());
}

void
virTorrentEngineRequestResumeData(VirTorrentEngine *e)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, e->torrents);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        virTorrentFake *t = value;

        t->resume_wanted = t->resume_wanted || t->changed;
        t->changed = FALSE;
    }
}
