/*
 * hash.c: makes the metainfo of a file in worker threads
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Workers take piece after piece from a common counter, so that they stay
 * close together and the disk sees one forward sweep; the last one to finish
 * builds the tree above the pieces and hands the result to the owner's main
 * context.
 *
 * The descriptor is duplicated and read by pread; looking for holes moves its
 * file offset, which nobody uses.
 *
 * Locks: what workers share is atomic (next, done, cancelled, running) or
 * written by one thread per element (layer).  'lock' covers source, error and
 * the decision whether the owner is still there.  A VirTorrentHash is counted:
 * one reference is the owner's, one each worker's, one the source's, so that
 * virTorrentHashFree() never waits for a disk.
 */

#include <config.h>

#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "i18n.h"
#include "merkle.h"
#include "metainfo.h"
#include "names.h"

#define HASH VIR_TORRENT_HASH_SIZE
/* The largest file whose leaves are kept: 128 MiB of them. */
#define LEAVES_SIZE_MAX (G_GUINT64_CONSTANT(64) << 30)

struct _VirTorrentHash {
    gatomicrefcount refs;
    int fd;
    struct stat st;             /* when it began */
    char *name, *format;
    guint64 capacity;
    guint32 piece_length;
    guint64 pieces;
    guint8 *layer;
    guint8 *leaves;             /* one hash per block; NULL: too large */

    guint64 next;               /* atomic: the piece that is taken next */
    guint64 done;               /* atomic: bytes */
    gint cancelled;             /* atomic: stop, for whatever reason */
    gint running;               /* atomic: workers */

    GMutex lock;
    gboolean freed;             /* the owner is gone */
    GSource *source;
    GError *error;
    GBytes *authority;          /* of a private swarm, or NULL */
    GBytes *metainfo;
    GMainContext *context;
    VirTorrentHashFunc func;
    gpointer opaque;
};

static void
virTorrentHashUnref(gpointer opaque)
{
    VirTorrentHash *hash = opaque;

    if (!g_atomic_ref_count_dec(&hash->refs))
        return;
    if (hash->fd >= 0)
        close(hash->fd);
    g_clear_error(&hash->error);
    g_clear_pointer(&hash->metainfo, g_bytes_unref);
    g_clear_pointer(&hash->authority, g_bytes_unref);
    g_clear_pointer(&hash->source, g_source_unref);
    g_clear_pointer(&hash->context, g_main_context_unref);
    g_mutex_clear(&hash->lock);
    g_free(hash->layer);
    g_free(hash->leaves);
    g_free(hash->name);
    g_free(hash->format);
    g_free(hash);
}

static VirTorrentHash *
virTorrentHashRef(VirTorrentHash *hash)
{
    g_atomic_ref_count_inc(&hash->refs);
    return hash;
}

/* The first error is kept; everybody stops. */
static void
virTorrentHashFail(VirTorrentHash *hash, GError *error)
{
    g_mutex_lock(&hash->lock);
    if (hash->error)
        g_error_free(error);
    else
        hash->error = error;
    g_mutex_unlock(&hash->lock);
    g_atomic_int_set(&hash->cancelled, TRUE);
}

static void
virTorrentHashFailErrno(VirTorrentHash *hash, int err)
{
    if (err == ECANCELED)
        return;
    if (err == ENODATA)
        virTorrentHashFail(hash, g_error_new(VIR_TORRENT_ENGINE_ERROR,
                                             VIR_TORRENT_ENGINE_ERROR_FAILED,
                                             _("'%s' was changed while it was being hashed"),
                                             hash->name));
    else
        virTorrentHashFail(hash, g_error_new(VIR_TORRENT_ENGINE_ERROR,
                                             VIR_TORRENT_ENGINE_ERROR_FAILED,
                                             _("cannot read '%s': %s"),
                                             hash->name, g_strerror(err)));
}

/* Size and modification time are those it began with. */
static gboolean
virTorrentHashIsUnchanged(VirTorrentHash *hash)
{
    struct stat st;

    return fstat(hash->fd, &st) == 0 &&
        st.st_size == hash->st.st_size &&
        st.st_mtim.tv_sec == hash->st.st_mtim.tv_sec &&
        st.st_mtim.tv_nsec == hash->st.st_mtim.tv_nsec;
}

static gboolean
virTorrentHashDispatch(gpointer opaque)
{
    VirTorrentHash *hash = opaque;

    /* The owner lives in this context: it is not freed by another thread now,
     * though it may be by func. */
    if (!hash->freed)
        hash->func(hash, hash->metainfo, hash->error, hash->opaque);
    return G_SOURCE_REMOVE;
}

static void
virTorrentHashFinish(VirTorrentHash *hash)
{
    if (!g_atomic_int_get(&hash->cancelled) && !virTorrentHashIsUnchanged(hash))
        virTorrentHashFailErrno(hash, ENODATA);
    if (!g_atomic_int_get(&hash->cancelled))
        hash->metainfo = virTorrentMetainfoWrite(hash->name, hash->format, hash->capacity,
                                                 hash->st.st_size, hash->piece_length,
                                                 hash->layer, hash->pieces, hash->authority);

    g_mutex_lock(&hash->lock);
    if (!hash->freed) {
        hash->source = g_idle_source_new();
        g_source_set_priority(hash->source, G_PRIORITY_DEFAULT);
        g_source_set_callback(hash->source, virTorrentHashDispatch,
                              virTorrentHashRef(hash), virTorrentHashUnref);
        g_source_attach(hash->source, hash->context);
    }
    g_mutex_unlock(&hash->lock);
}

static gboolean
virTorrentHashPiece(VirTorrentHash *hash, VirTorrentHasher *hasher, guint64 piece, guint8 *buffer)
{
    guint64 block = piece * (hash->piece_length / VIR_TORRENT_BLOCK_SIZE);

    if (!hash->leaves)
        return virTorrentHasherPiece(hasher, hash->fd, hash->st.st_size, hash->piece_length, piece,
                                     buffer, &hash->cancelled, &hash->done, hash->layer + piece * HASH);
    return virTorrentHasherLeaves(hasher, hash->fd, hash->st.st_size, hash->piece_length, piece,
                                  buffer, &hash->cancelled, &hash->done,
                                  hash->leaves + block * HASH, hash->layer + piece * HASH);
}

static gpointer
virTorrentHashWork(gpointer opaque)
{
    VirTorrentHash *hash = opaque;
    g_autoptr(VirTorrentHasher) hasher = virTorrentHasherNew();
    g_autofree guint8 *buffer = g_malloc(VIR_TORRENT_READ_SIZE);

    if (!hasher)
        virTorrentHashFail(hash, g_error_new_literal(VIR_TORRENT_ENGINE_ERROR,
                                                     VIR_TORRENT_ENGINE_ERROR_FAILED,
                                                     _("the crypto library offers no SHA-256")));
    while (!g_atomic_int_get(&hash->cancelled)) {
        guint64 piece = __atomic_fetch_add(&hash->next, 1, __ATOMIC_RELAXED);

        if (piece >= hash->pieces)
            break;
        if (!virTorrentHashPiece(hash, hasher, piece, buffer))
            virTorrentHashFailErrno(hash, errno);
    }
    if (g_atomic_int_dec_and_test(&hash->running))
        virTorrentHashFinish(hash);
    virTorrentHashUnref(hash);
    return NULL;
}

static gboolean
virTorrentHashCheck(VirTorrentHash *hash, int fd, GError **error)
{
    if (!virTorrentNameCheckRemote(hash->name, error)) {
        g_prefix_error(error, "%s", _("other hosts would refuse it: "));
        return FALSE;
    }
    if (hash->format && !virTorrentFormatIsValid(hash->format, strlen(hash->format))) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                    _("the format of '%s' is not a word"), hash->name);
        return FALSE;
    }
    hash->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (hash->fd < 0 || fstat(hash->fd, &hash->st) < 0) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                    _("cannot look at '%s': %s"), hash->name, g_strerror(errno));
        return FALSE;
    }
    if (!S_ISREG(hash->st.st_mode)) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                    _("'%s' is not a regular file"), hash->name);
        return FALSE;
    }
    if (hash->st.st_size == 0) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                    _("'%s' is empty: there is nothing to publish"), hash->name);
        return FALSE;
    }
    if ((guint64)hash->st.st_size > VIR_TORRENT_SIZE_MAX) {
        g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                    _("'%s' is larger than 64 TiB"), hash->name);
        return FALSE;
    }
    return TRUE;
}

static void
virTorrentHashStartWorkers(VirTorrentHash *hash, guint threads)
{
    guint i;

    if (threads == 0)
        threads = g_get_num_processors();
    threads = CLAMP(threads, 1, MIN(hash->pieces, 64));

    hash->running = threads;
    for (i = 0; i < threads; i++) {
        g_autoptr(GError) error = NULL;
        GThread *thread = g_thread_try_new("hash", virTorrentHashWork,
                                           virTorrentHashRef(hash), &error);

        if (thread) {
            g_thread_unref(thread);
            continue;
        }
        /* Those that did start do the work; with none there is none. */
        if (i == 0)
            virTorrentHashFail(hash, g_steal_pointer(&error));
        if (g_atomic_int_dec_and_test(&hash->running))
            virTorrentHashFinish(hash);
        virTorrentHashUnref(hash);
    }
}

static gsize
virTorrentHashCountLeaves(VirTorrentHash *hash)
{
    return (hash->st.st_size + VIR_TORRENT_BLOCK_SIZE - 1) / VIR_TORRENT_BLOCK_SIZE;
}

VirTorrentHash *
virTorrentHashStart(int fd,
                    const char *name,
                    const char *format,
                    guint64 capacity,
                    guint threads,
                    GBytes *authority,
                    VirTorrentHashFunc func,
                    gpointer opaque,
                    GError **error)
{
    VirTorrentHash *hash = g_new0(VirTorrentHash, 1);

    g_atomic_ref_count_init(&hash->refs);
    g_mutex_init(&hash->lock);
    hash->fd = -1;
    hash->name = g_strdup(name);
    hash->format = g_strdup(format);
    hash->capacity = capacity;
    hash->authority = authority ? g_bytes_ref(authority) : NULL;
    hash->func = func;
    hash->opaque = opaque;
    hash->context = g_main_context_ref_thread_default();

    if (!virTorrentHashCheck(hash, fd, error)) {
        virTorrentHashUnref(hash);
        return NULL;
    }
    hash->piece_length = virTorrentPieceLength(hash->st.st_size);
    hash->pieces = (hash->st.st_size + hash->piece_length - 1) / hash->piece_length;
    hash->layer = g_malloc(hash->pieces * HASH);
    if ((guint64)hash->st.st_size <= LEAVES_SIZE_MAX)
        hash->leaves = g_malloc(virTorrentHashCountLeaves(hash) * HASH);
    virTorrentHashStartWorkers(hash, threads);
    return hash;
}

guint64
virTorrentHashGetDone(VirTorrentHash *hash)
{
    return __atomic_load_n(&hash->done, __ATOMIC_RELAXED);
}

guint64
virTorrentHashGetSize(VirTorrentHash *hash)
{
    return hash->st.st_size;
}

GBytes *
virTorrentHashTakeLeaves(VirTorrentHash *hash)
{
    if (!hash->leaves)
        return NULL;
    return g_bytes_new_take(g_steal_pointer(&hash->leaves), virTorrentHashCountLeaves(hash) * HASH);
}

void
virTorrentHashFree(VirTorrentHash *hash)
{
    if (!hash)
        return;
    g_atomic_int_set(&hash->cancelled, TRUE);
    g_mutex_lock(&hash->lock);
    hash->freed = TRUE;
    if (hash->source)
        g_source_destroy(hash->source);
    g_mutex_unlock(&hash->lock);
    virTorrentHashUnref(hash);
}
