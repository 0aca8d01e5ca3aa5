/*
 * test-engine.c: the contract of engine.h
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Built twice: test-engine-fake with tests/engine-fake.c (FAKE defined) and
 * test-engine with the real one.  Hosts are engines on loopback addresses.  Where a
 * test needs the usual port, root has a network of its own for it, so that several of us
 * and a virttorrentd of this machine may run side by side.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"
#ifdef FAKE
# include "engine-fake.h"
#endif

#define KIB 1024
#define MIB (1024 * KIB)

/* --- a host --------------------------------------------------------------- */

typedef struct {
    char *dir;
    VirTorrentEngine *engine;
    GHashTable *complete, *metadata, *failed;   /* id -> how often, messages */
    GHashTable *resume;                         /* id -> GBytes */
    guint events;
} Host;

static void
onEvent(const VirTorrentEvent *event, gpointer opaque)
{
    Host *host = opaque;
    char *id = g_strdup(event->id);

    host->events++;
    switch (event->type) {
    case VIR_TORRENT_EVENT_COMPLETE:
        g_hash_table_insert(host->complete, id, GINT_TO_POINTER(
            GPOINTER_TO_INT(g_hash_table_lookup(host->complete, id)) + 1));
        break;
    case VIR_TORRENT_EVENT_METADATA:
        g_hash_table_insert(host->metadata, id, GINT_TO_POINTER(1));
        break;
    case VIR_TORRENT_EVENT_FAILED:
        g_assert_nonnull(event->message);
        g_hash_table_insert(host->failed, id, g_strdup(event->message));
        break;
    case VIR_TORRENT_EVENT_LEAVES: {
        g_autofree char *name = g_strdup_printf("%s.leaves", event->id);
        g_autofree char *path = g_build_filename(host->dir, name, NULL);
        gsize len;
        const char *data = g_bytes_get_data(event->data, &len);

        g_assert_true(g_file_set_contents(path, data, len, NULL));
        g_free(id);
        break;
    }
    case VIR_TORRENT_EVENT_RESUME_DATA:
        g_assert_nonnull(event->data);
        g_hash_table_insert(host->resume, id, g_bytes_ref(event->data));
        break;
    }
}

static VirTorrentEngineSettings
defaults(void)
{
    return (VirTorrentEngineSettings){ .listen_address = "127.0.0.1" };
}

static void
hostStart(Host *host, const VirTorrentEngineSettings *settings)
{
    g_autoptr(GError) error = NULL;

    host->engine = virTorrentEngineNew(settings, onEvent, host, &error);
    g_assert_no_error(error);
    g_assert_nonnull(host->engine);
}

static Host *
hostNew(const VirTorrentEngineSettings *settings)
{
    Host *host = g_new0(Host, 1);
    VirTorrentEngineSettings s = defaults();

    host->dir = g_dir_make_tmp("test-engine-XXXXXX", NULL);
    g_assert_nonnull(host->dir);
    host->complete = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    host->metadata = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    host->failed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    host->resume = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                         (GDestroyNotify)g_bytes_unref);
    hostStart(host, settings ? settings : &s);
    return host;
}

static void
removeDir(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    g_assert_nonnull(strstr(path, "/test-engine-"));    /* nobody else's */
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        if (g_unlink(child) < 0)
            removeDir(child);
    }
    if (dir)
        g_dir_close(dir);
    g_rmdir(path);
}

static void
hostFree(Host *host)
{
    virTorrentEngineFree(host->engine);
    removeDir(host->dir);
    g_hash_table_unref(host->complete);
    g_hash_table_unref(host->metadata);
    g_hash_table_unref(host->failed);
    g_hash_table_unref(host->resume);
    g_free(host->dir);
    g_free(host);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Host, hostFree)

static char *
hostPath(Host *host, const char *name)
{
    return g_build_filename(host->dir, name, NULL);
}

static char *
hostEndpoint(Host *host, const char *address)
{
    return g_strdup_printf("%s:%u", address, virTorrentEngineGetPort(host->engine));
}

static VirTorrentStatus
hostStatus(Host *host, const char *id)
{
    VirTorrentStatus status;

    g_assert_true(virTorrentEngineGetStatus(host->engine, id, &status));
    return status;
}

/* --- waiting --------------------------------------------------------------- */

static gboolean
wakeUp(gpointer opaque G_GNUC_UNUSED)
{
    return G_SOURCE_CONTINUE;
}

static gint64
deadline(double seconds)
{
    return g_get_monotonic_time() + (gint64)(seconds * G_USEC_PER_SEC);
}

/* One turn of the main loop; an end to the wait that cannot be missed. */
static void
turn(gint64 until, const char *what)
{
    if (g_get_monotonic_time() > until)
        g_error("timed out: %s", what);
    g_main_context_iteration(NULL, TRUE);
}

static void
runFor(double seconds)
{
    gint64 until = deadline(seconds);

    while (g_get_monotonic_time() < until)
        g_main_context_iteration(NULL, TRUE);
}

static void
waitFor(GHashTable *table, const char *id, const char *what)
{
    gint64 until = deadline(30);

    while (!g_hash_table_contains(table, id))
        turn(until, what);
}

static void
waitComplete(Host *host, const char *id)
{
    gint64 until = deadline(30);

    while (!g_hash_table_contains(host->complete, id)) {
        const char *failed = g_hash_table_lookup(host->failed, id);

        if (failed)
            g_error("%s failed: %s", id, failed);
        turn(until, "complete");
    }
}

static GBytes *
hostResumeData(Host *host, const char *id)
{
    g_hash_table_remove(host->resume, id);
    virTorrentEngineRequestResumeData(host->engine);
    waitFor(host->resume, id, "resume data");
    return g_bytes_ref(g_hash_table_lookup(host->resume, id));
}

/* --- files ------------------------------------------------------------------ */

static void
writeFile(const char *path, gsize size, guint32 seed)
{
    g_autofree guint32 *data = g_malloc(size + 4);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    gsize i;

    for (i = 0; i < size / 4 + 1; i++)
        data[i] = g_rand_int(rand);
    g_assert_true(g_file_set_contents(path, (char *)data, size, NULL));
}

static void
assertSameFile(const char *a, const char *b)
{
    g_autofree char *data_a = NULL;
    g_autofree char *data_b = NULL;
    gsize len_a, len_b;

    g_assert_true(g_file_get_contents(a, &data_a, &len_a, NULL));
    g_assert_true(g_file_get_contents(b, &data_b, &len_b, NULL));
    g_assert_cmpmem(data_a, len_a, data_b, len_b);
}

static void
flipByte(const char *path, goffset at)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    guint8 byte;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, &byte, 1, at), ==, 1);
    byte ^= 0xff;
    g_assert_cmpint(pwrite(fd, &byte, 1, at), ==, 1);
    close(fd);
}

static GBytes *hashedLeaves;        /* of the file that was hashed last */

static void
onHashed(VirTorrentHash *hash, GBytes *metainfo, const GError *error, gpointer opaque)
{
    g_assert_no_error(error);
    *(GBytes **)opaque = g_bytes_ref(metainfo);
    g_clear_pointer(&hashedLeaves, g_bytes_unref);
    hashedLeaves = virTorrentHashTakeLeaves(hash);
}

static GBytes *
hashFile(const char *path, const char *name)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    GBytes *metainfo = NULL;
    g_autoptr(GError) error = NULL;
    gint64 until = deadline(30);
    VirTorrentHash *hash = virTorrentHashStart(fd, name, "qcow2", 10 * MIB, 0, NULL,
                                               onHashed, &metainfo, &error);

    g_assert_no_error(error);
    close(fd);
    while (!metainfo)
        turn(until, "hash");
    g_assert_cmpuint(virTorrentHashGetDone(hash), ==, virTorrentHashGetSize(hash));
    virTorrentHashFree(hash);
    return metainfo;
}

static gboolean
add(Host *host, const char *id, GBytes *metainfo, const char *magnet, GBytes *resume,
    VirTorrentAddFlags flags)
{
    g_autoptr(GError) error = NULL;
    gboolean ok = virTorrentEngineAdd(host->engine, id, metainfo, magnet, resume,
                                      host->dir, id, flags, &error);

    g_assert_no_error(error);
    return ok;
}

/* A file on @host, hashed and seeded. */
static GBytes *
publish(Host *host, const char *id, gsize size)
{
    g_autofree char *path = hostPath(host, id);
    GBytes *metainfo;

    writeFile(path, size, size);
    metainfo = hashFile(path, id);
    g_assert_true(add(host, id, metainfo, NULL, NULL, VIR_TORRENT_ADD_SEED));
    return metainfo;
}

static void
addPeer(Host *host, const char *id, Host *peer)
{
    g_autofree char *endpoint = hostEndpoint(peer, "127.0.0.1");
    g_autoptr(GError) error = NULL;

    virTorrentEngineAddPeer(host->engine, id, endpoint, &error);
    g_assert_no_error(error);
}

static void
assertFetched(Host *from, Host *to, const char *id)
{
    g_autofree char *a = hostPath(from, id);
    g_autofree char *b = hostPath(to, id);
    VirTorrentStatus status = hostStatus(to, id);

    assertSameFile(a, b);
    g_assert_cmpint(status.state, ==, VIR_TORRENT_COMPLETE);
    g_assert_cmpuint(status.done, ==, status.size);
    g_assert_cmpint(GPOINTER_TO_INT(g_hash_table_lookup(to->complete, id)), ==, 1);
}

static char *
magnetOf(GBytes *metainfo, Host *peer)
{
    g_autoptr(VirTorrentMetainfo) info = virTorrentMetainfoParse(metainfo, NULL);
    g_autofree char *endpoint = peer ? hostEndpoint(peer, "127.0.0.1") : NULL;

    return g_strdup_printf("magnet:?xt=%s&dn=%s%s%s", info->key, info->name,
                           endpoint ? "&x.pe=" : "", endpoint ? endpoint : "");
}

/* Descriptors of this process that are open for writing on @path. */
static guint
openForWriting(const char *path)
{
    GDir *dir = g_dir_open("/proc/self/fd", 0, NULL);
    const char *name;
    guint n = 0;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *link = g_build_filename("/proc/self/fd", name, NULL);
        g_autofree char *target = g_file_read_link(link, NULL);
        int flags = fcntl(atoi(name), F_GETFL);

        if (g_strcmp0(target, path) == 0 && (flags & O_ACCMODE) != O_RDONLY)
            n++;
    }
    g_dir_close(dir);
    return n;
}

/* --- promises ---------------------------------------------------------------- */

static void
testListen(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    VirTorrentEngineSettings s = defaults();
    g_autoptr(GError) error = NULL;

    g_assert_cmpuint(virTorrentEngineGetPort(a->engine), !=, 0);
    g_assert_cmpuint(virTorrentEngineGetPort(b->engine), !=, 0);
    g_assert_cmpuint(virTorrentEngineGetPort(a->engine), !=, virTorrentEngineGetPort(b->engine));

    s.listen_port = virTorrentEngineGetPort(a->engine);
    g_assert_null(virTorrentEngineNew(&s, onEvent, a, &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED);
}

static void
assertBadSettings(const VirTorrentEngineSettings *s)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(virTorrentEngineNew(s, onEvent, NULL, &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_INVALID_OPTION);
}

static void
testBadSettings(void)
{
    const char *const bad_host[] = { "no-port", NULL };
    const char *const bad_url[] = { "ftp://x/announce", NULL };
    const char *const bad_cidr[] = { "10.0.0.0/16", "10.0.0.0/64", NULL };
    VirTorrentEngineSettings s = defaults();

    s.listen_address = "localhost";
    assertBadSettings(&s);
    s = defaults();
    s.bootstrap = bad_host;
    assertBadSettings(&s);
    s = defaults();
    s.trackers = bad_url;
    assertBadSettings(&s);
    s = defaults();
    s.allow = bad_cidr;
    assertBadSettings(&s);
}

static void
testFetchMetainfo(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m.qcow2", 6 * MIB + 12345);
    g_autofree char *path = hostPath(b, "m.qcow2");
    VirTorrentStatus status;
    guint64 before = 0;
    gint64 until = deadline(30);

    waitComplete(a, "m.qcow2");
    g_assert_true(add(b, "m.qcow2", metainfo, NULL, NULL, 0));
    g_assert_cmpuint(b->events, ==, 0);     /* never from inside a call */
    addPeer(b, "m.qcow2", a);
    while (!g_hash_table_contains(b->complete, "m.qcow2")) {
        status = hostStatus(b, "m.qcow2");
        g_assert_cmpuint(status.size, ==, 6 * MIB + 12345);
        if (status.state == VIR_TORRENT_DOWNLOADING) {
            g_assert_cmpuint(status.done, >=, before);
            before = status.done;
        }
        turn(until, "fetch");
    }
    g_assert_cmpuint(openForWriting(path), ==, 0);
    assertFetched(a, b, "m.qcow2");
    g_assert_cmpuint(hostStatus(b, "m.qcow2").downloaded, >=, 6 * MIB + 12345);
    while (hostStatus(a, "m.qcow2").uploaded < 6 * MIB + 12345)
        turn(until, "upload count");
    g_assert_false(g_hash_table_contains(b->metadata, "m.qcow2"));
}

static void
checkAddresses(const char *listen_a, const char *listen_b, const char *reach)
{
    VirTorrentEngineSettings s = { .listen_address = listen_a };
    g_autoptr(Host) a = hostNew(&s);
    g_autoptr(Host) b = NULL;
    g_autoptr(GBytes) metainfo = publish(a, "m", 300 * KIB);
    g_autofree char *endpoint = hostEndpoint(a, reach);

    s.listen_address = listen_b;
    b = hostNew(&s);
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    g_assert_true(virTorrentEngineAddPeer(b->engine, "m", endpoint, NULL));
    waitComplete(b, "m");
    assertFetched(a, b, "m");
}

#ifndef FAKE
static gboolean
hasIPv6(void)
{
    g_autofree char *disabled = NULL;

    return g_file_test("/proc/sys/net/ipv6", G_FILE_TEST_IS_DIR) &&
        g_file_get_contents("/proc/sys/net/ipv6/conf/lo/disable_ipv6", &disabled, NULL, NULL) &&
        *disabled == '0';
}
#endif

/* One address of each family, and all of them. */
static void
testAddresses(void)
{
    checkAddresses("127.0.0.1", "127.0.0.1", "127.0.0.1");
#ifndef FAKE
    checkAddresses(NULL, NULL, "127.0.0.1");
    if (!hasIPv6()) {
        g_test_message("this machine has no IPv6");
        return;
    }
    checkAddresses(NULL, "::1", "[::1]");
#endif
    checkAddresses("::1", "::1", "[::1]");
}

/* Sizes around the edges of blocks, pieces and trees. */
static void
testSizes(void)
{
    static const gsize sizes[] = {
        1, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 48 * KIB, 32 * KIB - 1, 32 * KIB,
        32 * KIB + 1, 3 * 32 * KIB + 16 * KIB, 5 * 32 * KIB, 8 * 32 * KIB + 7,
        8 * 256 * KIB + 7,
    };
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *id = g_strdup_printf("s%zu", i);
        g_autoptr(GBytes) metainfo = publish(a, id, sizes[i]);

        /* the engine's own reading of the file agrees with our hashes */
        virTorrentEngineRemove(a->engine, id);
        g_assert_true(add(a, id, metainfo, NULL, NULL, VIR_TORRENT_ADD_CHECK));
        waitComplete(a, id);
        g_assert_true(add(b, id, metainfo, NULL, NULL, 0));
        addPeer(b, id, a);
    }
    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *id = g_strdup_printf("s%zu", i);

        waitComplete(b, id);
        assertFetched(a, b, id);
    }
}

static void
testFetchMagnet(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(Host) c = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m.qcow2", 3 * MIB + 1);
    g_autoptr(VirTorrentMetainfo) original = virTorrentMetainfoParse(metainfo, NULL);
    g_autoptr(VirTorrentMetainfo) info = NULL;
    g_autoptr(VirTorrentMetainfo) reparsed = NULL;
    g_autoptr(GBytes) got = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *magnet = magnetOf(metainfo, a);

    g_assert_true(add(b, "m.qcow2", NULL, magnet, NULL, 0));
    g_assert_cmpint(hostStatus(b, "m.qcow2").state, ==, VIR_TORRENT_METADATA);
    g_assert_false(virTorrentEngineGetMetainfo(b->engine, "m.qcow2", NULL, NULL));
    waitFor(b->metadata, "m.qcow2", "metadata");
    g_assert_true(virTorrentEngineGetMetainfo(b->engine, "m.qcow2", NULL, &info));
    g_assert_cmpstr(info->name, ==, "m.qcow2");
    g_assert_cmpstr(info->format, ==, "qcow2");
    g_assert_cmpuint(info->capacity, ==, 10 * MIB);
    g_assert_cmpuint(info->size, ==, 3 * MIB + 1);
    g_assert_cmpstr(info->key, ==, original->key);
    waitComplete(b, "m.qcow2");
    assertFetched(a, b, "m.qcow2");

    /* the whole .torrent, good enough for another host to begin with */
    g_assert_true(virTorrentEngineGetMetainfo(b->engine, "m.qcow2", &got, NULL));
    reparsed = virTorrentMetainfoParse(got, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(reparsed->key, ==, original->key);
    g_assert_true(add(c, "m.qcow2", got, NULL, NULL, 0));
    addPeer(c, "m.qcow2", b);
    waitComplete(c, "m.qcow2");
    assertFetched(a, c, "m.qcow2");
}

/* The file's name on disk is the caller's, whatever the metainfo says. */
static void
testOwnName(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "theirs.qcow2", 300 * KIB);
    g_autofree char *magnet = magnetOf(metainfo, a);
    g_autofree char *here = hostPath(b, "mine.img");
    g_autofree char *there = hostPath(a, "theirs.qcow2");
    g_autofree char *wrong = hostPath(b, "theirs.qcow2");

    g_assert_true(add(b, "mine.img", NULL, magnet, NULL, 0));
    waitComplete(b, "mine.img");
    assertSameFile(here, there);
    g_assert_false(g_file_test(wrong, G_FILE_TEST_EXISTS));
}

/* --- resume, check, remove ------------------------------------------------------- */

/* @with_magnet: as after a restart before the metainfo was stored. */
static void
checkResume(gboolean with_magnet)
{
    VirTorrentEngineSettings slow = defaults(), fast = defaults();
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = NULL;
    g_autoptr(GBytes) metainfo = publish(a, "m", 16 * MIB);
    g_autoptr(GBytes) resume = NULL;
    g_autoptr(GBytes) again = NULL;
    g_autofree char *magnet = magnetOf(metainfo, a);
    gint64 until = deadline(30);
    guint64 done;

    slow.download_limit = 6 * MIB;
    b = hostNew(&slow);
    g_assert_true(add(b, "m", NULL, magnet, NULL, 0));
    while (hostStatus(b, "m").done < 5 * MIB)
        turn(until, "first part");
    g_clear_pointer(&resume, g_bytes_unref);
    resume = hostResumeData(b, "m");
    done = hostStatus(b, "m").done;
    g_assert_cmpuint(done, <, 16 * MIB);
    virTorrentEngineFree(b->engine);

    /* only the resume data is given: it knows the torrent */
    hostStart(b, &fast);
    g_hash_table_remove_all(b->metadata);
    g_assert_true(add(b, "m", NULL, with_magnet ? magnet : NULL, resume, 0));
    addPeer(b, "m", a);
    waitComplete(b, "m");
    g_assert_true(g_hash_table_contains(b->metadata, "m"));
    g_assert_true(virTorrentEngineGetMetainfo(b->engine, "m", &again, NULL));
    g_assert_true(g_bytes_equal(again, metainfo));
    assertFetched(a, b, "m");
    /* pieces finished between the request and the snapshot may come again */
    g_assert_cmpuint(hostStatus(b, "m").downloaded, <=, 16 * MIB - 4 * MIB);

    /* complete: with resume data it is a seed at once, nothing is fetched */
    g_clear_pointer(&resume, g_bytes_unref);
    resume = hostResumeData(b, "m");
    virTorrentEngineFree(b->engine);
    g_hash_table_remove_all(b->complete);
    hostStart(b, &fast);
    g_assert_true(add(b, "m", metainfo, NULL, resume, 0));
    waitComplete(b, "m");
    g_assert_cmpuint(hostStatus(b, "m").downloaded, ==, 0);
}

static void
testResume(void)
{
    checkResume(FALSE);
    checkResume(TRUE);
}

static void
testResumeDamaged(void)
{
    static const char *const junk[] = { "", "x", "d", "de", "i5e", "l4:infoe" };
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", 600 * KIB);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(junk); i++) {
        g_autoptr(GBytes) bytes = g_bytes_new(junk[i], strlen(junk[i]));
        g_autoptr(GError) error = NULL;

        g_assert_false(virTorrentEngineAdd(b->engine, "m", NULL, NULL, bytes, b->dir, "m", 0, &error));
        g_assert_nonnull(error);
        /* with metainfo, damaged resume data is as good as none */
        g_assert_true(add(b, "m", metainfo, NULL, bytes, 0));
        virTorrentEngineRemove(b->engine, "m");
    }
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    waitComplete(b, "m");
    assertFetched(a, b, "m");
}

static guint32
pieceLength(GBytes *metainfo)
{
    g_autoptr(VirTorrentMetainfo) info = virTorrentMetainfoParse(metainfo, NULL);

    g_assert_nonnull(info);
    return info->piece_length;
}

static void
testCheckCorrupt(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", 2 * MIB);
    g_autofree char *from = hostPath(a, "m");
    g_autofree char *to = hostPath(b, "m");
    g_autofree char *data = NULL;
    gsize len;
    gint64 until = deadline(30);

    g_assert_true(g_file_get_contents(from, &data, &len, NULL));
    g_assert_true(g_file_set_contents(to, data, len, NULL));
    flipByte(to, MIB + 5);
    g_assert_true(add(b, "m", metainfo, NULL, NULL, VIR_TORRENT_ADD_CHECK));
    while (hostStatus(b, "m").state == VIR_TORRENT_CHECKING)
        turn(until, "check");
    g_assert_cmpint(hostStatus(b, "m").state, ==, VIR_TORRENT_DOWNLOADING);
    g_assert_cmpuint(hostStatus(b, "m").done, ==, 2 * MIB - pieceLength(metainfo));

    /* and only that piece comes from the swarm */
    addPeer(b, "m", a);
    waitComplete(b, "m");
    assertFetched(a, b, "m");
    g_assert_cmpuint(hostStatus(b, "m").downloaded, <=, 512 * KIB);
}

static void
testSeedIsNotRead(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autofree char *path = hostPath(a, "m");
    g_autoptr(GBytes) metainfo = publish(a, "m", MIB);

    virTorrentEngineRemove(a->engine, "m");
    g_hash_table_remove_all(a->complete);
    flipByte(path, 1000);
    g_assert_true(add(a, "m", metainfo, NULL, NULL, VIR_TORRENT_ADD_SEED));
    waitComplete(a, "m");
    runFor(0.2);
    g_assert_cmpint(hostStatus(a, "m").state, ==, VIR_TORRENT_COMPLETE);
    g_assert_cmpuint(hostStatus(a, "m").done, ==, MIB);
}

/* Whatever its state: a master is checked, but never mended. */
static void
testSeedIsNotWritten(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autofree char *from = hostPath(a, "m");
    g_autofree char *to = hostPath(b, "m");
    g_autoptr(GBytes) metainfo = publish(a, "m", MIB);
    g_autofree char *data = NULL;
    g_autofree char *after = NULL;
    gsize len, len_after;

    g_assert_true(g_file_get_contents(from, &data, &len, NULL));
    g_assert_true(g_file_set_contents(to, data, len, NULL));
    g_assert_true(add(b, "m", metainfo, NULL, NULL, VIR_TORRENT_ADD_SEED | VIR_TORRENT_ADD_CHECK));
    waitComplete(b, "m");
    virTorrentEngineRemove(b->engine, "m");
    g_hash_table_remove_all(b->complete);

    flipByte(to, 700 * KIB);
    g_assert_true(add(b, "m", metainfo, NULL, NULL, VIR_TORRENT_ADD_SEED | VIR_TORRENT_ADD_CHECK));
    addPeer(b, "m", a);
    waitFor(b->failed, "m", "failure");
    runFor(0.3);
    g_assert_cmpuint(g_hash_table_size(b->complete), ==, 0);
    flipByte(to, 700 * KIB);
    g_assert_true(g_file_get_contents(to, &after, &len_after, NULL));
    g_assert_cmpmem(data, len, after, len_after);
}

static void
testRemoveWhileFetching(void)
{
    VirTorrentEngineSettings slow = defaults();
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = NULL;
    g_autoptr(GBytes) metainfo = publish(a, "m", 8 * MIB);
    g_autofree char *path = hostPath(b ? b : a, "m");
    VirTorrentStatus status;
    gint64 until = deadline(30);
    guint events;

    slow.download_limit = MIB;
    b = hostNew(&slow);
    g_free(path);
    path = hostPath(b, "m");
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    while (hostStatus(b, "m").done == 0)
        turn(until, "first piece");
    virTorrentEngineRemove(b->engine, "m");
    events = b->events;
    g_assert_false(virTorrentEngineGetStatus(b->engine, "m", &status));
    g_unlink(path);
    runFor(0.5);
    /* nobody writes any more, nobody speaks of it, and the name is free */
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    g_assert_cmpuint(b->events, ==, events);
    virTorrentEngineRemove(b->engine, "m");
    virTorrentEngineRemove(b->engine, "never-there");
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
}

/* --- errors ------------------------------------------------------------------------ */

static void
assertAddFails(Host *host, const char *id, GBytes *metainfo, const char *magnet, int code)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(virTorrentEngineAdd(host->engine, id, metainfo, magnet, NULL, host->dir, id, 0,
                                       &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, code);
}

static void
testAddErrors(void)
{
    static const char hostile[] =
        "d4:infod6:lengthi5e4:name9:../passwd12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", 300 * KIB);
    g_autoptr(GBytes) other = publish(a, "n", 400 * KIB);
    g_autoptr(GBytes) broken = g_bytes_new_static("d4:infode", 9);
    g_autoptr(GBytes) evil = g_bytes_new_static(hostile, sizeof(hostile) - 1);
    g_autofree char *magnet = magnetOf(metainfo, NULL);
    g_autoptr(GError) error = NULL;

    assertAddFails(a, "x", broken, NULL, VIR_TORRENT_ENGINE_ERROR_INVALID_METAINFO);
    assertAddFails(a, "x", evil, NULL, VIR_TORRENT_ENGINE_ERROR_INVALID_NAME);
    assertAddFails(a, "x", NULL, "magnet:?dn=x", VIR_TORRENT_ENGINE_ERROR_INVALID_MAGNET);
    assertAddFails(a, "x", metainfo, NULL, VIR_TORRENT_ENGINE_ERROR_EXISTS);
    assertAddFails(a, "x", NULL, magnet, VIR_TORRENT_ENGINE_ERROR_EXISTS);
    virTorrentEngineRemove(a->engine, "m");
    assertAddFails(a, "n", metainfo, NULL, VIR_TORRENT_ENGINE_ERROR_EXISTS);
    /* a refused one leaves no trace */
    g_assert_true(add(a, "m", metainfo, NULL, NULL, VIR_TORRENT_ADD_SEED));

    g_assert_false(virTorrentEngineAddPeer(a->engine, "m", "nonsense", &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_INVALID_OPTION);
    g_clear_error(&error);
    g_assert_false(virTorrentEngineAddPeer(a->engine, "q", "127.0.0.1:1", &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_NOT_FOUND);
}

static void
testUnwritable(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", 300 * KIB);
    g_autofree char *not_dir = hostPath(b, "file");
    g_autoptr(GError) error = NULL;

    writeFile(not_dir, 10, 1);
    g_assert_true(virTorrentEngineAdd(b->engine, "m", metainfo, NULL, NULL, not_dir, "m", 0, &error));
    addPeer(b, "m", a);
    waitFor(b->failed, "m", "failure");
    g_assert_cmpint(hostStatus(b, "m").state, ==, VIR_TORRENT_FAILED);
    g_assert_nonnull(hostStatus(b, "m").error);
    g_assert_false(g_hash_table_contains(b->complete, "m"));
    /* it stays, stopped, and can be removed */
    virTorrentEngineRemove(b->engine, "m");
}

/* --- the rest ------------------------------------------------------------------------ */

static void
testSilentAfterFree(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", 4 * MIB);
    gint64 until = deadline(30);
    guint events;

    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    while (hostStatus(b, "m").done == 0)
        turn(until, "first piece");
    virTorrentEngineRequestResumeData(b->engine);
    events = b->events;
    virTorrentEngineFree(b->engine);
    b->engine = NULL;
    runFor(0.5);
    g_assert_cmpuint(b->events, ==, events);
}

static void
freeOnEvent(const VirTorrentEvent *event G_GNUC_UNUSED, gpointer opaque)
{
    VirTorrentEngine **engine = opaque;

    g_assert_nonnull(*engine);
    virTorrentEngineFree(g_steal_pointer(engine));
}

/* A callback may end the engine that calls it. */
static void
testFreeInCallback(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(GBytes) one = publish(a, "one", MIB);
    g_autoptr(GBytes) two = publish(a, "two", 2 * MIB);
    VirTorrentEngineSettings s = defaults();
    VirTorrentEngine *engine = NULL;
    gint64 until = deadline(30);

    engine = virTorrentEngineNew(&s, freeOnEvent, &engine, NULL);
    g_assert_true(virTorrentEngineAdd(engine, "one", one, NULL, NULL, a->dir, "one",
                                      VIR_TORRENT_ADD_SEED, NULL));
    g_assert_true(virTorrentEngineAdd(engine, "two", two, NULL, NULL, a->dir, "two",
                                      VIR_TORRENT_ADD_SEED, NULL));
    while (engine)
        turn(until, "event");
    runFor(0.1);
}

/* @link: the file is at both places, as after an adoption. */
static void
checkRelocate(gboolean link_it)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", MIB);
    g_autofree char *sub = hostPath(a, "sub");
    g_autofree char *from = hostPath(a, "m");
    g_autofree char *to = g_build_filename(sub, "moved", NULL);
    g_autofree char *fetched = hostPath(b, "m");
    g_autoptr(GError) error = NULL;

    waitComplete(a, "m");
    g_assert_cmpint(g_mkdir(sub, 0755), ==, 0);
    g_assert_cmpint(link_it ? link(from, to) : rename(from, to), ==, 0);
    if (!virTorrentEngineRelocate(a->engine, "m", sub, "moved", &error)) {
        /* the way out that engine.h names */
        g_assert_nonnull(error);
        virTorrentEngineRemove(a->engine, "m");
        g_assert_true(virTorrentEngineAdd(a->engine, "m", metainfo, NULL, NULL, sub, "moved",
                                          VIR_TORRENT_ADD_SEED, NULL));
    }
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    waitComplete(b, "m");
    assertSameFile(to, fetched);
    g_assert_cmpint(g_file_test(from, G_FILE_TEST_EXISTS), ==, link_it);
    g_unlink(to);
    g_rmdir(sub);
}

static void
testRelocate(void)
{
    checkRelocate(FALSE);
    checkRelocate(TRUE);
}

/* A file that is not ours must not be moved over, nor another one taken for it. */
static void
testRelocateWrong(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", MIB);
    g_autofree char *other = hostPath(a, "other");
    g_autofree char *data = NULL;
    g_autoptr(GError) error = NULL;

    waitComplete(a, "m");
    writeFile(other, 10, 5);
#ifdef FAKE
    virTorrentFakeFault("relocate", 2);
#endif
    g_assert_false(virTorrentEngineRelocate(a->engine, "m", a->dir, "other", &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED);
    g_clear_error(&error);
    g_assert_false(virTorrentEngineRelocate(a->engine, "m", a->dir, "missing", &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED);
    g_clear_error(&error);
    g_assert_false(virTorrentEngineRelocate(a->engine, "unknown", a->dir, "m", &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_NOT_FOUND);
}

/* The one that somebody waits for comes before what began earlier. */
static void
testPrioritize(void)
{
    VirTorrentEngineSettings slow = defaults();
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = NULL;
    g_autoptr(GBytes) one = publish(a, "one", 6 * MIB);
    g_autoptr(GBytes) two = publish(a, "two", 6 * MIB + 1);
    g_autoptr(GBytes) three = publish(a, "three", 6 * MIB + 2);

    slow.download_limit = 4 * MIB;
    b = hostNew(&slow);
    g_assert_true(add(b, "one", one, NULL, NULL, 0));
    g_assert_true(add(b, "two", two, NULL, NULL, 0));
    virTorrentEnginePrioritize(b->engine, "two");
    virTorrentEnginePrioritize(b->engine, "unknown");
    /* and the last of them goes first */
    g_assert_true(add(b, "three", three, NULL, NULL, 0));
    virTorrentEnginePrioritize(b->engine, "three");
    g_assert_cmpuint(hostStatus(b, "one").place, ==, 0);
    g_assert_cmpuint(hostStatus(b, "two").place, ==, 2);
    g_assert_cmpuint(hostStatus(b, "three").place, ==, 1);
    addPeer(b, "one", a);
    addPeer(b, "two", a);
    addPeer(b, "three", a);
    waitComplete(b, "three");
    g_assert_cmpuint(hostStatus(b, "two").done, <, 3 * MIB);
    waitComplete(b, "two");
    g_assert_cmpint(hostStatus(b, "one").state, ==, VIR_TORRENT_DOWNLOADING);
    g_assert_cmpuint(hostStatus(b, "one").done, <, 3 * MIB);
    /* and then it goes on at full speed: 16 KiB/s would take minutes */
    waitComplete(b, "one");
    g_assert_cmpuint(hostStatus(b, "two").place, ==, 0);
    virTorrentEnginePrioritize(b->engine, "one");
}

/* A pool that is closed and opened again gets its port back. */
static void
testSamePort(void)
{
    VirTorrentEngineSettings s = defaults();
    g_autoptr(Host) a = hostNew(NULL);
    guint i;

    s.listen_port = virTorrentEngineGetPort(a->engine);
    for (i = 0; i < 5; i++) {
        virTorrentEngineFree(a->engine);
        hostStart(a, &s);
        g_assert_cmpuint(virTorrentEngineGetPort(a->engine), ==, s.listen_port);
    }
}

/* Many masters: each is told of, and adding them takes no time. */
static void
testMany(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    gint64 begin;
    guint i;

    begin = g_get_monotonic_time();
    for (i = 0; i < 200; i++) {
        g_autofree char *id = g_strdup_printf("m%u", i);
        g_autoptr(GBytes) metainfo = publish(a, id, 1000 + i);
    }
    for (i = 0; i < 200; i++) {
        g_autofree char *id = g_strdup_printf("m%u", i);

        waitComplete(a, id);
    }
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 15 * G_USEC_PER_SEC);
}

/* Three hosts that know only the first one: no LSD, no peer named. */
static void
testDht(void)
{
    VirTorrentEngineSettings s = { .listen_address = "127.0.0.1", .dht = TRUE };
    g_autoptr(Host) boot = hostNew(&s);
    g_autofree char *endpoint = hostEndpoint(boot, "127.0.0.1");
    const char *const bootstrap[] = { endpoint, NULL };
    g_autoptr(Host) a = NULL;
    g_autoptr(Host) b = NULL;
    g_autoptr(GBytes) metainfo = NULL;
    g_autofree char *magnet = NULL;

    s.bootstrap = bootstrap;
    s.listen_address = "127.0.0.2";
    a = hostNew(&s);
    s.listen_address = "127.0.0.3";
    b = hostNew(&s);
    metainfo = publish(a, "m", MIB);
    magnet = magnetOf(metainfo, NULL);
    g_assert_true(add(b, "m", NULL, magnet, NULL, 0));
    waitComplete(b, "m");
    assertFetched(a, b, "m");
}

/* The bootstrap host comes up last, as after a power failure. */
static void
testDhtLate(void)
{
    VirTorrentEngineSettings s = { .listen_address = "127.0.0.1", .dht = TRUE };
    VirTorrentEngineSettings first = s;
    g_autoptr(Host) boot = hostNew(&s);
    g_autofree char *endpoint = hostEndpoint(boot, "127.0.0.1");
    const char *const bootstrap[] = { endpoint, NULL };
    g_autoptr(Host) a = NULL;
    g_autoptr(Host) b = NULL;
    g_autoptr(GBytes) metainfo = NULL;
    g_autofree char *magnet = NULL;

    first.listen_port = virTorrentEngineGetPort(boot->engine);
    virTorrentEngineFree(g_steal_pointer(&boot->engine));
    s.bootstrap = bootstrap;
    s.listen_address = "127.0.0.2";
    a = hostNew(&s);
    s.listen_address = "127.0.0.3";
    b = hostNew(&s);
    metainfo = publish(a, "m", MIB);
    magnet = magnetOf(metainfo, NULL);
    g_assert_true(add(b, "m", NULL, magnet, NULL, 0));
    runFor(1.5);
    g_assert_cmpint(hostStatus(b, "m").state, ==, VIR_TORRENT_METADATA);
    hostStart(boot, &first);
    waitComplete(b, "m");
    assertFetched(a, b, "m");
}

static void
testAllow(void)
{
    const char *const near[] = { "127.0.0.1/32", NULL };
    VirTorrentEngineSettings s = defaults();
    g_autoptr(Host) a = NULL;
    g_autoptr(Host) b = NULL;
    g_autoptr(Host) stranger = NULL;
    g_autoptr(GBytes) metainfo = NULL;
    VirTorrentEngineSettings far = { .listen_address = "127.0.0.9" };

    s.allow = near;
    a = hostNew(&s);
    b = hostNew(&s);
    stranger = hostNew(&far);
    metainfo = publish(a, "m", MIB);
    g_assert_true(add(stranger, "m", metainfo, NULL, NULL, 0));
    addPeer(stranger, "m", a);
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    waitComplete(b, "m");
    runFor(1.0);
    g_assert_cmpuint(hostStatus(stranger, "m").done, ==, 0);
    g_assert_cmpint(hostStatus(stranger, "m").state, ==, VIR_TORRENT_DOWNLOADING);
}

/* Limits hold on loopback, which is a LAN to every client: 4 MiB at 2 MiB/s
 * take at least 1 s (one second's worth may be saved up). */
static void
checkLimit(guint64 upload, guint64 download)
{
    VirTorrentEngineSettings up = defaults(), down = defaults();
    g_autoptr(Host) a = NULL;
    g_autoptr(Host) b = NULL;
    g_autoptr(GBytes) metainfo = NULL;
    gint64 begin;
    double seconds;

    up.upload_limit = upload;
    down.download_limit = download;
    a = hostNew(&up);
    b = hostNew(&down);
    metainfo = publish(a, "m", 4 * MIB);
    begin = g_get_monotonic_time();
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    waitComplete(b, "m");
    seconds = (g_get_monotonic_time() - begin) / 1e6;
    g_assert_cmpfloat(seconds, >=, 0.95);
    g_assert_cmpfloat(seconds, <=, 10);
}

static void
testLimits(void)
{
    checkLimit(2 * MIB, 0);
    checkLimit(0, 2 * MIB);
}

static void
testReconfigure(void)
{
    VirTorrentEngineSettings s = defaults();
    const char *const bad[] = { "nonsense", NULL };
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = NULL;
    g_autoptr(GBytes) metainfo = publish(a, "m", 3 * MIB);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;
    guint16 port = virTorrentEngineGetPort(a->engine);
    gint64 until = deadline(30);

    s.download_limit = 256 * KIB;
    b = hostNew(&s);
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    while (hostStatus(b, "m").done == 0)
        turn(until, "first piece");
    /* without the limit it is there long before the 12 s of the limit are over */
    s.download_limit = 0;
    g_assert_true(virTorrentEngineReconfigure(b->engine, &s, &error));
    until = deadline(6);
    while (!g_hash_table_contains(b->complete, "m"))
        turn(until, "reconfigured limit");

    s = defaults();
    g_assert_true(virTorrentEngineReconfigure(a->engine, &s, &error));
    g_assert_cmpuint(virTorrentEngineGetPort(a->engine), ==, port);
    /* a place that is taken: everything stays as it was */
    s.listen_port = virTorrentEngineGetPort(b->engine);
    g_assert_false(virTorrentEngineReconfigure(a->engine, &s, &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED);
    g_clear_error(&error);
    g_assert_cmpuint(virTorrentEngineGetPort(a->engine), ==, port);
    virTorrentEngineRemove(b->engine, "m");
    g_hash_table_remove_all(b->complete);
    path = hostPath(b, "m");
    g_unlink(path);
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    waitComplete(b, "m");
    s.listen_port = 0;
    s.allow = bad;
    g_assert_false(virTorrentEngineReconfigure(a->engine, &s, &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_INVALID_OPTION);
    g_assert_cmpuint(virTorrentEngineGetPort(a->engine), ==, port);
}

static void
testState(void)
{
    VirTorrentEngineSettings s = { .listen_address = "127.0.0.1", .dht = TRUE };
    g_autoptr(GBytes) junk = g_bytes_new_static("d3:dht", 6);
    g_autoptr(GBytes) state = NULL;
    g_autoptr(Host) a = hostNew(&s);
    g_autoptr(Host) b = NULL;
    g_autoptr(Host) c = NULL;

    state = virTorrentEngineSaveState(a->engine);
    g_assert_nonnull(state);
    s.session_state = state;
    b = hostNew(&s);
    /* what is damaged is as good as none */
    s.session_state = junk;
    c = hostNew(&s);
}

#ifndef FAKE

/* --- strangers: only a real engine meets them --- */

/* What others publish: SHA-1 pieces, no capacity, no format. */
static void
testV1(void)
{
    enum { SIZE = 700 * KIB, PIECE = 256 * KIB };
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(Host) c = hostNew(NULL);
    g_autofree char *path = hostPath(a, "m");
    g_autofree char *data = NULL;
    g_autofree char *magnet = NULL;
    g_autoptr(GBytes) metainfo = NULL;
    GString *out = g_string_new("d4:infod6:lengthi716800e4:name4:v1.o12:piece lengthi262144e6:pieces60:");
    gsize len, at;

    writeFile(path, SIZE, 7);
    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    for (at = 0; at < SIZE; at += PIECE) {
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
        guint8 hash[20];
        gsize n = sizeof(hash);

        g_checksum_update(sum, (guchar *)data + at, MIN(PIECE, SIZE - at));
        g_checksum_get_digest(sum, hash, &n);
        g_string_append_len(out, (char *)hash, n);
    }
    g_string_append(out, "ee");
    metainfo = g_string_free_to_bytes(out);
    g_assert_true(add(a, "m", metainfo, NULL, NULL, VIR_TORRENT_ADD_CHECK));
    waitComplete(a, "m");
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    waitComplete(b, "m");
    assertFetched(a, b, "m");
    magnet = magnetOf(metainfo, a);
    g_assert_true(g_str_has_prefix(magnet, "magnet:?xt=urn:btih:"));
    g_assert_true(add(c, "m", NULL, magnet, NULL, 0));
    waitFor(c->metadata, "m", "metadata");
    waitComplete(c, "m");
    assertFetched(a, c, "m");
}

/* A peer that has an info dictionary to give, whatever stands in it. */
typedef struct {
    GSocketService *service;
    const char *dict;
    guint8 hash[20];
    gint given;
} Stranger;

static gboolean
strangerRead(GInputStream *in, void *buffer, gsize len)
{
    gsize got;

    return g_input_stream_read_all(in, buffer, len, &got, NULL, NULL) && got == len;
}

/* An extension message: BEP 10. */
static void
strangerSend(GOutputStream *out, guint8 id, const char *head, const char *data)
{
    gsize len = 2 + strlen(head) + strlen(data);
    guint32 size = g_htonl(len);
    guint8 ids[2] = { 20, id };

    g_output_stream_write_all(out, &size, 4, NULL, NULL, NULL);
    g_output_stream_write_all(out, ids, 2, NULL, NULL, NULL);
    g_output_stream_write_all(out, head, strlen(head), NULL, NULL, NULL);
    g_output_stream_write_all(out, data, strlen(data), NULL, NULL, NULL);
}

static void
strangerHello(Stranger *s, GOutputStream *out)
{
    g_autofree char *hello = g_strdup_printf("d1:md11:ut_metadatai1ee13:metadata_sizei%zuee",
                                             strlen(s->dict));
    guint8 handshake[68] = "\023BitTorrent protocol";

    handshake[25] = 0x10;
    memcpy(handshake + 28, s->hash, 20);
    memcpy(handshake + 48, "-XX0000-strangerpeer", 20);
    g_output_stream_write_all(out, handshake, sizeof(handshake), NULL, NULL, NULL);
    strangerSend(out, 0, hello, "");
}

static gboolean
strangerServe(GThreadedSocketService *service G_GNUC_UNUSED, GSocketConnection *connection,
              GObject *source G_GNUC_UNUSED, gpointer opaque)
{
    Stranger *s = opaque;
    GInputStream *in = g_io_stream_get_input_stream(G_IO_STREAM(connection));
    GOutputStream *out = g_io_stream_get_output_stream(G_IO_STREAM(connection));
    guint8 handshake[68];
    guint theirs = 0;

    if (!strangerRead(in, handshake, sizeof(handshake)))
        return TRUE;
    strangerHello(s, out);
    for (;;) {
        guint32 size;
        g_autofree char *msg = NULL;
        const char *at;

        if (!strangerRead(in, &size, 4))
            return TRUE;
        size = g_ntohl(size);
        if (size == 0)
            continue;
        msg = g_malloc0(size + 1);
        if (!strangerRead(in, msg, size))
            return TRUE;
        if (msg[0] != 20)
            continue;
        if (msg[1] == 0 && (at = g_strstr_len(msg + 2, size - 2, "11:ut_metadatai")))
            theirs = atoi(at + 15);
        if (msg[1] == 1 && g_strstr_len(msg + 2, size - 2, "8:msg_typei0e")) {
            g_autofree char *head = g_strdup_printf("d8:msg_typei1e5:piecei0e10:total_sizei%zuee",
                                                    strlen(s->dict));

            g_atomic_int_inc(&s->given);
            strangerSend(out, theirs, head, s->dict);
        }
    }
}

static void
testStranger(void)
{
    static const struct {
        const char *dict;
        const char *word;       /* in the message; NULL: it is honest */
    } cases[] = {
        { "d6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae", NULL },
        { "d5:filesld6:lengthi5e4:pathl1:aeed6:lengthi5e4:pathl1:beee4:name1:x12:piece lengthi16384e"
          "6:pieces20:aaaaaaaaaaaaaaaaaaaae", "several files" },
        { "d6:lengthi5e4:name10:../../evil12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae", "/" },
        { "d6:lengthi5e4:name7:.hidden12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae", "begin" },
        { "d4:attr1:l6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaa"
          "12:symlink pathl3:etc6:shadowee", "malformed" },
        { "d6:lengthi5e4:name1:a12:piece lengthi1e6:pieces100:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaae", "torrent" },
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Host) b = hostNew(NULL);
        Stranger s = { .dict = cases[i].dict };
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
        g_autofree char *magnet = NULL;
        const char *message;
        GDir *dir;
        gsize n = sizeof(s.hash);
        guint16 port;

        g_checksum_update(sum, (guchar *)s.dict, strlen(s.dict));
        s.service = g_threaded_socket_service_new(10);
        g_signal_connect(s.service, "run", G_CALLBACK(strangerServe), &s);
        port = g_socket_listener_add_any_inet_port(G_SOCKET_LISTENER(s.service), NULL, NULL);
        magnet = g_strdup_printf("magnet:?xt=urn:btih:%s&x.pe=127.0.0.1:%u",
                                 g_checksum_get_string(sum), port);
        g_checksum_free(g_steal_pointer(&sum));
        sum = g_checksum_new(G_CHECKSUM_SHA1);
        g_checksum_update(sum, (guchar *)s.dict, strlen(s.dict));
        g_checksum_get_digest(sum, s.hash, &n);

        g_assert_true(add(b, "m", NULL, magnet, NULL, 0));
        waitFor(cases[i].word ? b->failed : b->metadata, "m", cases[i].dict);
        g_assert_cmpint(g_atomic_int_get(&s.given), >=, 1);
        if (cases[i].word) {
            message = g_hash_table_lookup(b->failed, "m");
            if (!strstr(message, cases[i].word))
                g_error("'%s' does not say '%s'", message, cases[i].word);
            g_assert_cmpint(hostStatus(b, "m").state, ==, VIR_TORRENT_FAILED);
            runFor(0.1);
            dir = g_dir_open(b->dir, 0, NULL);
            g_assert_null(g_dir_read_name(dir));
            g_dir_close(dir);
            g_assert_false(g_hash_table_contains(b->metadata, "m"));
        }
        virTorrentEngineRemove(b->engine, "m");
        g_socket_service_stop(s.service);
        g_socket_listener_close(G_SOCKET_LISTENER(s.service));
        hostFree(g_steal_pointer(&b));      /* ends the connection, and so its thread */
        runFor(0.3);
        g_object_unref(s.service);
    }
}

#endif

#ifdef FAKE

static void
testFaultListen(void)
{
    VirTorrentEngineSettings s = defaults();
    g_autoptr(GError) error = NULL;

    virTorrentFakeFault("listen", 1);
    g_assert_null(virTorrentEngineNew(&s, onEvent, NULL, &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED);
    g_assert_cmpuint(virTorrentFakeFired("listen"), ==, 1);
}

static void
testFaultFetch(void)
{
    static const char *const deadly[] = { "enospc", "eio" };
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", 2 * MIB);
    gsize i;

    /* a piece that comes wrong comes again */
    virTorrentFakeFault("corrupt", 2);
    virTorrentFakeFault("stall", 3);
    g_assert_true(add(b, "m", metainfo, NULL, NULL, 0));
    addPeer(b, "m", a);
    waitComplete(b, "m");
    assertFetched(a, b, "m");
    g_assert_cmpuint(virTorrentFakeFired("corrupt"), ==, 2);
    g_assert_cmpuint(virTorrentFakeFired("stall"), ==, 3);
    g_assert_cmpuint(hostStatus(b, "m").downloaded, ==, 2 * MIB + 2 * pieceLength(metainfo));

    for (i = 0; i < G_N_ELEMENTS(deadly); i++) {
        g_autofree char *id = g_strdup(deadly[i]);
        g_autoptr(GBytes) other = publish(a, id, (3 + i) * MIB);
        Host *victim = i == 0 ? b : a;

        virTorrentFakeFault(id, 1);
        g_assert_true(add(b, id, other, NULL, NULL, 0));
        addPeer(b, id, a);
        waitFor(victim->failed, id, id);
        g_assert_cmpint(hostStatus(victim, id).state, ==, VIR_TORRENT_FAILED);
        g_assert_cmpuint(virTorrentFakeFired(id), ==, 1);
    }
}

static void
testFaultMetadata(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(Host) b = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", MIB);
    g_autofree char *magnet = magnetOf(metainfo, a);

    virTorrentFakeFault("metadata-never", G_MAXUINT);
    g_assert_true(add(b, "m", NULL, magnet, NULL, 0));
    runFor(0.1);
    g_assert_cmpint(hostStatus(b, "m").state, ==, VIR_TORRENT_METADATA);
    g_assert_cmpuint(virTorrentFakeFired("metadata-never"), >, 1);
    virTorrentFakeReset();
    waitComplete(b, "m");
}

static void
testFaultAdd(void)
{
    g_autoptr(Host) a = hostNew(NULL);
    g_autoptr(GBytes) metainfo = publish(a, "m", MIB);
    g_autoptr(GBytes) resume = NULL;
    g_autoptr(GError) error = NULL;

    virTorrentFakeFault("relocate", 1);
    g_assert_false(virTorrentEngineRelocate(a->engine, "m", a->dir, "n", &error));
    g_assert_cmpuint(virTorrentFakeFired("relocate"), ==, 1);

    resume = hostResumeData(a, "m");
    virTorrentEngineRemove(a->engine, "m");
    virTorrentFakeFault("add", 1);
    assertAddFails(a, "m", metainfo, NULL, VIR_TORRENT_ENGINE_ERROR_FAILED);
    g_assert_cmpuint(virTorrentFakeFired("add"), ==, 1);

    virTorrentFakeFault("resume-lost", 1);
    g_assert_true(add(a, "m", metainfo, NULL, resume, 0));
    g_assert_cmpint(hostStatus(a, "m").state, ==, VIR_TORRENT_CHECKING);
    g_assert_cmpuint(virTorrentFakeFired("resume-lost"), ==, 1);
    waitComplete(a, "m");
}

#endif

#ifndef FAKE
/* --- what need not be fetched ----------------------------------------------- */

static Host *
hostWithLeaves(void)
{
    VirTorrentEngineSettings s = defaults();
    Host *host = hostNew(NULL);

    virTorrentEngineFree(host->engine);
    s.leaves = host->dir;
    hostStart(host, &s);
    return host;
}

static char *
leavesPath(Host *host, const char *id)
{
    g_autofree char *name = g_strconcat(id, ".leaves", NULL);

    return hostPath(host, name);
}

/* The file @id of @host becomes a master, and its leaves are kept. */
static GBytes *
publishFile(Host *host, const char *id)
{
    g_autofree char *path = hostPath(host, id);
    g_autofree char *leaves = leavesPath(host, id);
    GBytes *metainfo = hashFile(path, id);

    g_assert_true(g_file_set_contents(leaves, g_bytes_get_data(hashedLeaves, NULL),
                                      g_bytes_get_size(hashedLeaves), NULL));
    g_assert_true(add(host, id, metainfo, NULL, NULL, VIR_TORRENT_ADD_SEED));
    waitComplete(host, id);
    return metainfo;
}

/* A file of @blocks, and one that differs from it in every 32nd of them. */
static void
writeVersions(Host *host, gsize blocks)
{
    g_autofree char *old = hostPath(host, "image-1.qcow2");
    g_autofree char *new = hostPath(host, "image-2.qcow2");
    gsize i;

    writeFile(old, blocks * 16 * KIB, 1);
    writeFile(new, blocks * 16 * KIB, 1);
    for (i = 7; i < blocks; i += 32)
        flipByte(new, i * 16 * KIB + 4711);
}

static void
fetchNewVersion(gboolean magnet, gboolean leaves)
{
    g_autoptr(Host) a = hostWithLeaves();
    g_autoptr(Host) b = hostWithLeaves();
    g_autoptr(GBytes) old = NULL;
    g_autoptr(GBytes) new = NULL;
    g_autofree char *link = NULL;
    g_autofree char *made = leavesPath(b, "image-1.qcow2");
    const gsize size = 2048 * 16 * KIB;
    gint64 until = deadline(30);

    writeVersions(a, 2048);
    old = publishFile(a, "image-1.qcow2");
    new = publishFile(a, "image-2.qcow2");
    if (!leaves) {
        g_autofree char *lost = leavesPath(a, "image-2.qcow2");

        g_unlink(lost);
    }
    g_assert_true(add(b, "image-1.qcow2", old, NULL, NULL, 0));
    addPeer(b, "image-1.qcow2", a);
    waitComplete(b, "image-1.qcow2");
    /* it knows the leaves of what it fetched */
    while (!g_file_test(made, G_FILE_TEST_EXISTS))
        turn(until, "leaves");

    link = magnetOf(new, a);
    g_assert_true(add(b, "image-2.qcow2", magnet ? NULL : new, magnet ? link : NULL, NULL, 0));
    if (!magnet)
        addPeer(b, "image-2.qcow2", a);
    waitComplete(b, "image-2.qcow2");
    assertFetched(a, b, "image-2.qcow2");
    g_test_message("downloaded %" G_GUINT64_FORMAT " of %" G_GSIZE_FORMAT,
                   hostStatus(b, "image-2.qcow2").downloaded, size);
    if (leaves)
        g_assert_cmpuint(hostStatus(b, "image-2.qcow2").downloaded, <=, size / 25);
    else
        g_assert_cmpuint(hostStatus(b, "image-2.qcow2").downloaded, >=, size / 2);
}

static void
testNewVersion(void)
{
    fetchNewVersion(FALSE, TRUE);
}

static void
testNewVersionMagnet(void)
{
    fetchNewVersion(TRUE, TRUE);
}

/* Who serves it lost the leaves: it is fetched like any other. */
static void
testNewVersionPlain(void)
{
    fetchNewVersion(TRUE, FALSE);
}

static void
fetchSparse(gboolean magnet)
{
    g_autoptr(Host) a = hostWithLeaves();
    g_autoptr(Host) b = hostWithLeaves();
    g_autofree char *path = hostPath(a, "sparse.img");
    g_autofree char *copy = hostPath(b, "sparse.img");
    g_autofree char *link = NULL;
    g_autoptr(GBytes) metainfo = NULL;
    struct stat st;

    /* 1 MiB of data at the beginning, 1 MiB in the middle */
    writeFile(path, MIB, 5);
    g_assert_cmpint(truncate(path, 256 * MIB), ==, 0);
    flipByte(path, 128 * MIB);
    metainfo = publishFile(a, "sparse.img");
    link = magnetOf(metainfo, a);
    g_assert_true(add(b, "sparse.img", magnet ? NULL : metainfo, magnet ? link : NULL, NULL, 0));
    if (!magnet)
        addPeer(b, "sparse.img", a);
    waitComplete(b, "sparse.img");
    assertFetched(a, b, "sparse.img");
    g_assert_cmpuint(hostStatus(b, "sparse.img").downloaded, <=, 4 * MIB);
    g_assert_cmpint(stat(copy, &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <=, 4 * MIB);
}

static void
testSparse(void)
{
    fetchSparse(FALSE);
}

static void
testSparseMagnet(void)
{
    fetchSparse(TRUE);
}
#endif

/* A loopback interface that nobody else uses; without root this machine's has to do. */
static void
ownNetwork(void)
{
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    int fd;

    if (unshare(CLONE_NEWNET) < 0)
        return;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(ioctl(fd, SIOCSIFFLAGS, &lo), ==, 0);
    close(fd);
}

int
main(int argc, char **argv)
{
    int rc;
    guint tick;

    ownNetwork();
    g_test_init(&argc, &argv, NULL);
    /* so that waits end on time even where nothing happens */
    tick = g_timeout_add(20, wakeUp, NULL);
#define ADD(name, func) g_test_add_func("/engine/" name, func)
#ifndef FAKE
    ADD("new-version", testNewVersion);
    ADD("new-version-magnet", testNewVersionMagnet);
    ADD("new-version-plain", testNewVersionPlain);
    ADD("sparse", testSparse);
    ADD("sparse-magnet", testSparseMagnet);
#endif
    ADD("listen", testListen);
    ADD("bad-settings", testBadSettings);
    ADD("fetch-metainfo", testFetchMetainfo);
    ADD("addresses", testAddresses);
    ADD("sizes", testSizes);
    ADD("fetch-magnet", testFetchMagnet);
    ADD("own-name", testOwnName);
    ADD("resume", testResume);
    ADD("resume-damaged", testResumeDamaged);
    ADD("check-corrupt", testCheckCorrupt);
    ADD("seed-is-not-read", testSeedIsNotRead);
    ADD("seed-is-not-written", testSeedIsNotWritten);
    ADD("remove-while-fetching", testRemoveWhileFetching);
    ADD("add-errors", testAddErrors);
    ADD("unwritable", testUnwritable);
    ADD("silent-after-free", testSilentAfterFree);
    ADD("free-in-callback", testFreeInCallback);
    ADD("relocate", testRelocate);
    ADD("relocate-wrong", testRelocateWrong);
    ADD("prioritize", testPrioritize);
    ADD("same-port", testSamePort);
    ADD("many", testMany);
    ADD("dht", testDht);
    ADD("dht-late", testDhtLate);
    ADD("allow", testAllow);
    ADD("limits", testLimits);
    ADD("reconfigure", testReconfigure);
    ADD("state", testState);
#ifndef FAKE
    ADD("v1", testV1);
    ADD("stranger", testStranger);
#else
    ADD("fault-listen", testFaultListen);
    ADD("fault-fetch", testFaultFetch);
    ADD("fault-metadata", testFaultMetadata);
    ADD("fault-add", testFaultAdd);
#endif
    rc = g_test_run();
    g_source_remove(tick);
    return rc;
}
