/*
 * test-pool.c: what becomes of volumes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The volume state machine and what lies around it, on the fake engine.
 */

#include <config.h>

#include <errno.h>

#include "daemon-util.h"
#include "image.h"
#include "state.h"

#define assertPoolError(err, code) \
    g_assert_error(err, VIR_TORRENT_POOL_ERROR, VIR_TORRENT_POOL_ERROR_ ## code)

/* Publishes @name in @pool and waits until it is seeded; returns its magnet. */
static char *
publish(Daemon *d, VirTorrentPool *pool, const char *dir, const char *name, guint32 seed)
{
    g_autoptr(VirTorrentVolumeInfo) info = NULL;
    g_autoptr(GError) err = NULL;

    (void) d;
    makeFile(dir, name, 300000, seed, 0444);
    virTorrentPoolPublish(pool, name, NULL, 0, &err);
    g_assert_no_error(err);
    waitState(pool, name, "seeding");
    info = virTorrentPoolGetVolume(pool, name, &err);
    g_assert_no_error(err);
    return g_steal_pointer(&info->magnet);
}

static gboolean
exists(const char *dir, const char *file)
{
    g_autofree char *path = g_build_filename(dir, file, NULL);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void
testPublish(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *pool = daemonOpen(d, UUID_A, d->a);
    g_autofree char *magnet = publish(d, pool, d->a, "m.img", 1);
    g_autoptr(VirTorrentVolumeInfo) info = virTorrentPoolGetVolume(pool, "m.img", NULL);
    g_autoptr(VirTorrentMetainfo) parsed = NULL;
    g_autoptr(GBytes) metainfo = NULL;
    g_autoptr(GError) err = NULL;

    g_assert_cmpstr(info->format, ==, "raw");
    g_assert_cmpuint(info->capacity, ==, 300000);
    g_assert_cmpuint(info->size, ==, 300000);
    g_assert_cmpuint(info->done, ==, 300000);
    g_assert_cmpfloat(info->progress, ==, 100.0);
    g_assert_true(g_str_has_prefix(info->key, "urn:btmh:1220"));
    g_assert_true(g_str_has_prefix(magnet, "magnet:?xt=urn:btmh:1220"));
    g_assert_nonnull(strstr(magnet, "&dn=m.img"));
    g_assert_nonnull(strstr(magnet, "&xl=300000"));
    g_assert_nonnull(strstr(magnet, "&x.pe=127.0.0.1:"));
    metainfo = virTorrentPoolGetMetainfo(pool, "m.img", &err);
    g_assert_no_error(err);
    parsed = virTorrentMetainfoParse(metainfo, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(parsed->key, ==, info->key);
    g_assert_cmpstr(d->log->str, ==, "m.img:hashing m.img:seeding ");
    /* again: nothing happens */
    g_assert_true(virTorrentPoolPublish(pool, "m.img", NULL, 0, NULL));
    g_assert_cmpstr(d->log->str, ==, "m.img:hashing m.img:seeding ");
}

/* How far a publication is can be seen while it goes on: 64 MiB are hashed in some
 * milliseconds, and asked for every few microseconds. */
static void
testPublishProgress(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *pool = daemonOpen(d, UUID_A, d->a);
    g_autoptr(GError) err = NULL;
    double last = 0;
    guint between = 0;
    gboolean hashing = TRUE;

    makeFile(d->a, "m.img", 64 << 20, 1, 0444);
    g_assert_true(virTorrentPoolPublish(pool, "m.img", NULL, 0, &err));
    g_assert_no_error(err);
    while (hashing) {
        g_autoptr(VirTorrentVolumeInfo) info = NULL;

        g_main_context_iteration(NULL, FALSE);
        info = virTorrentPoolGetVolume(pool, "m.img", NULL);
        g_assert_nonnull(info);
        hashing = g_str_equal(info->state, "hashing");
        g_assert_cmpfloat(info->progress, >=, last);
        g_assert_cmpfloat(info->progress, <=, 100.0);
        between += hashing && info->progress > last && info->progress < 100.0;
        last = info->progress;
    }
    g_assert_cmpuint(between, >, 1);
    g_assert_cmpfloat(last, ==, 100.0);
}

static void
testPublishRefused(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *pool = daemonOpen(d, UUID_A, d->a);
    g_autofree char *link = g_build_filename(d->a, "link", NULL);
    VirImageOverlayOptions overlay = {
        .capacity = 1 << 20, .backing_file = "/etc/passwd", .backing_format = "raw",
        .mode = 0444, .uid = -1, .gid = -1,
    };
    g_autoptr(GPtrArray) list = NULL;
    int dirfd = open(d->a, O_RDONLY | O_DIRECTORY);
    GError *err = NULL;

    makeFile(d->a, "soft", 1000, 1, 0644);
    makeFile(d->a, "empty", 0, 1, 0444);
    g_assert_cmpint(symlink("soft", link), ==, 0);
    g_assert_true(virImageOverlayCreate(dirfd, "overlay", &overlay, NULL));
    close(dirfd);

    g_assert_false(virTorrentPoolPublish(pool, "soft", NULL, 0, &err));
    assertPoolError(err, FAILED);
    g_assert_nonnull(strstr(err->message, "chmod a-w"));
    g_clear_error(&err);
    g_assert_false(virTorrentPoolPublish(pool, "empty", NULL, 0, &err));
    assertPoolError(err, FAILED);
    g_clear_error(&err);
    g_assert_false(virTorrentPoolPublish(pool, "link", NULL, 0, &err));
    assertPoolError(err, FAILED);
    g_assert_nonnull(strstr(err->message, "symbolic link"));
    g_clear_error(&err);
    g_assert_false(virTorrentPoolPublish(pool, "overlay", NULL, 0, &err));
    assertPoolError(err, NOT_STANDALONE);
    g_assert_nonnull(strstr(err->message, "/etc/passwd"));
    g_clear_error(&err);
    makeFile(d->a, "raw", 1000, 1, 0444);
    g_assert_false(virTorrentPoolPublish(pool, "raw", "qcow2", 0, &err));
    assertPoolError(err, FAILED);
    g_assert_nonnull(strstr(err->message, "qcow2"));
    g_clear_error(&err);
    g_assert_false(virTorrentPoolPublish(pool, "nothing", NULL, 0, &err));
    assertPoolError(err, NO_VOLUME);
    g_clear_error(&err);
    g_assert_false(virTorrentPoolPublish(pool, "../a/soft", NULL, 0, &err));
    assertPoolError(err, INVALID_NAME);
    g_clear_error(&err);
    list = virTorrentPoolListVolumes(pool);
    g_assert_cmpuint(list->len, ==, 0);
}

/* A writer sneaks in while the file is hashed. */
static void
testPublishChanged(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *pool = daemonOpen(d, UUID_A, d->a);
    g_autofree char *path = g_build_filename(d->a, "m", NULL);
    g_autoptr(VirTorrentVolumeInfo) info = NULL;
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    makeFile(d->a, "m", 64 * 1024 * 1024, 1, 0444);
    g_assert_true(virTorrentPoolPublish(pool, "m", NULL, 0, NULL));
    do {                         /* until the hash has begun */
        g_main_context_iteration(NULL, TRUE);
        virTorrentVolumeInfoFree(info);
        info = virTorrentPoolGetVolume(pool, "m", NULL);
    } while (info->size == 0 && g_get_monotonic_time() < end);
    g_assert_cmpint(chmod(path, 0644) | truncate(path, 1000) | chmod(path, 0444), ==, 0);
    waitState(pool, "m", "failed");
}

static void
testFetch(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);
    g_autofree char *path = g_build_filename(d->b, "m", NULL);
    g_autoptr(VirTorrentVolumeInfo) info = NULL;
    g_autoptr(GError) err = NULL;
    struct stat st;

    virTorrentPoolFetchMagnet(b, "m", magnet, "raw", 4711, &err);
    g_assert_no_error(err);
    info = virTorrentPoolGetVolume(b, "m", NULL);
    g_assert_cmpstr(info->state, ==, "fetching");
    g_assert_cmpuint(info->capacity, ==, 4711);      /* the hint, until it is known */
    waitState(b, "m", "seeding");
    g_assert_true(sameFile(d->a, d->b, "m"));
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0444);
    virTorrentVolumeInfoFree(info);
    info = virTorrentPoolGetVolume(b, "m", NULL);
    g_assert_cmpuint(info->capacity, ==, 300000);
    g_assert_cmpstr(d->log->str, ==, "m:hashing m:seeding m:fetching m:seeding ");
}

static void
testFetchMetainfo(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);
    g_autoptr(GBytes) metainfo = virTorrentPoolGetMetainfo(a, "m", NULL);
    g_autoptr(GBytes) junk = g_bytes_new_static("d4:junke", 8);
    GError *err = NULL;

    g_assert_null(virTorrentPoolFetchMetainfo(b, "x", junk, &err));
    assertPoolError(err, INVALID_METAINFO);
    g_clear_error(&err);
    g_assert_cmpstr(virTorrentPoolFetchMetainfo(b, "", metainfo, &err), ==, "m");
    g_assert_no_error(err);
    g_assert_null(virTorrentPoolFetchMetainfo(b, "other", metainfo, &err));
    assertPoolError(err, EXISTS);
    g_assert_nonnull(strstr(err->message, "'m'"));
    g_clear_error(&err);
    g_assert_null(virTorrentPoolFetchMetainfo(b, "m", metainfo, &err));
    assertPoolError(err, EXISTS);
    g_clear_error(&err);
}

static void
testFetchRefused(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);
    g_autoptr(GPtrArray) list = NULL;
    GError *err = NULL;

    makeFile(d->b, "taken", 10, 1, 0644);
    g_assert_false(virTorrentPoolFetchMagnet(b, "taken", magnet, NULL, 0, &err));
    assertPoolError(err, EXISTS);
    g_clear_error(&err);
    g_assert_false(virTorrentPoolFetchMagnet(b, "a/b", magnet, NULL, 0, &err));
    assertPoolError(err, INVALID_NAME);
    g_clear_error(&err);
    g_assert_false(virTorrentPoolFetchMagnet(b, "m", "magnet:?xt=urn:btih:zz", NULL, 0, &err));
    assertPoolError(err, INVALID_MAGNET);
    g_clear_error(&err);
    virTorrentFakeFault("add", 1);
    g_assert_false(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, &err));
    g_assert_cmpuint(virTorrentFakeFired("add"), ==, 1);
    assertPoolError(err, FAILED);
    g_clear_error(&err);
    list = virTorrentPoolListVolumes(b);
    g_assert_cmpuint(list->len, ==, 0);
}

typedef struct {
    GMainLoop *loop;
    GBytes *metainfo;
} HashNow;

static void
hashNowDone(VirTorrentHash *hash, GBytes *metainfo, const GError *error, gpointer opaque)
{
    HashNow *now = opaque;

    (void) hash;
    g_assert_no_error(error);
    now->metainfo = g_bytes_ref(metainfo);
    g_main_loop_quit(now->loop);
}

static GBytes *
hashNow(int fd, const char *name, const char *format)
{
    HashNow now = { g_main_loop_new(NULL, FALSE), NULL };
    VirTorrentHash *hash = virTorrentHashStart(fd, name, format, 0, 1, NULL, hashNowDone, &now, NULL);

    g_main_loop_run(now.loop);
    virTorrentHashFree(hash);
    g_main_loop_unref(now.loop);
    return now.metainfo;
}

/* Makes @name in d->a a master behind the daemon's back, as somebody hostile
 * would: nobody's own daemon publishes such a thing.  Returns its magnet. */
static char *
plant(Daemon *d, const char *name, const char *format)
{
    static const char *const dirs[] = { "meta", "partial", "resume" };
    g_autofree char *path = g_build_filename(d->a, name, NULL);
    g_autoptr(VirTorrentVolumeInfo) info = NULL;
    g_autoptr(GBytes) metainfo = NULL;
    g_autoptr(GBytes) stamp = NULL;
    VirTorrentStore *store;
    VirTorrentPool *a;
    struct stat st;
    gsize i;
    int fd = open(path, O_RDONLY);

    g_assert_cmpint(fstat(fd, &st), ==, 0);
    metainfo = hashNow(fd, name, format);
    close(fd);
    for (i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *dir = g_build_filename(d->a, ".torrentpool", dirs[i], NULL);

        g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
    }
    store = virTorrentStoreOpen(d->a, NULL);
    stamp = virTorrentStampMake(&st);
    virTorrentStoreSave(store, VIR_TORRENT_STORE_METAINFO, name, metainfo, NULL, NULL, NULL);
    virTorrentStoreSave(store, VIR_TORRENT_STORE_STAT, name, stamp, NULL, NULL, NULL);
    virTorrentStoreFree(store);
    a = daemonOpen(d, UUID_A, d->a);
    waitState(a, name, "seeding");
    info = virTorrentPoolGetVolume(a, name, NULL);
    return g_steal_pointer(&info->magnet);
}

/* A hostile master that leads to a file of the host is not adopted. */
static void
testFetchNotStandalone(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirImageOverlayOptions overlay = {
        .capacity = 1 << 20, .backing_file = "/etc/passwd", .backing_format = "raw",
        .mode = 0444, .uid = -1, .gid = -1,
    };
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autoptr(VirTorrentVolumeInfo) info = NULL;
    g_autofree char *magnet = NULL;
    int dirfd = open(d->a, O_RDONLY | O_DIRECTORY);

    g_assert_true(virImageOverlayCreate(dirfd, "evil", &overlay, NULL));
    close(dirfd);
    magnet = plant(d, "evil", "raw");
    g_assert_true(virTorrentPoolFetchMagnet(b, "evil", magnet, NULL, 0, NULL));
    waitState(b, "evil", "failed");
    info = virTorrentPoolGetVolume(b, "evil", NULL);
    g_assert_nonnull(strstr(info->error, "/etc/passwd"));
    g_assert_false(exists(d->b, "evil"));
}

/* One that is not what it says it is. */
static void
testFetchOtherFormat(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autoptr(VirTorrentVolumeInfo) info = NULL;
    g_autofree char *magnet = NULL;

    makeFile(d->a, "m", 100000, 1, 0444);
    magnet = plant(d, "m", "qcow2");
    g_assert_true(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, NULL));
    waitState(b, "m", "failed");
    info = virTorrentPoolGetVolume(b, "m", NULL);
    g_assert_nonnull(strstr(info->error, "qcow2"));
    g_assert_false(exists(d->b, "m"));
}

/* Failing, then going on: what is there is not thrown away. */
static void
testFetchNoSpace(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);
    g_autoptr(VirTorrentVolumeInfo) info = NULL;
    g_autoptr(GError) err = NULL;

    virTorrentFakeFault("enospc", 1);
    g_assert_true(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, NULL));
    waitState(b, "m", "failed");
    g_assert_cmpuint(virTorrentFakeFired("enospc"), ==, 1);
    info = virTorrentPoolGetVolume(b, "m", NULL);
    g_assert_nonnull(info->error);
    virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, &err);
    g_assert_no_error(err);
    waitState(b, "m", "seeding");
    g_assert_true(sameFile(d->a, d->b, "m"));
}

/* Somebody puts a file under the name while the fetch goes on. */
static void
testAdoptNameTaken(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);
    g_autoptr(VirTorrentVolumeInfo) info = NULL;

    g_assert_true(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, NULL));
    makeFile(d->b, "m", 10, 1, 0644);
    waitState(b, "m", "failed");
    info = virTorrentPoolGetVolume(b, "m", NULL);
    g_assert_nonnull(strstr(info->error, "taken"));
    g_assert_true(exists(d->b, ".torrentpool/partial/m"));
    g_assert_false(sameFile(d->a, d->b, "m"));
}

/* Somebody waits for a master whose file was removed, while we were there or not. */
static void
testPrioritizeGone(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);
    g_autofree char *path = g_build_filename(d->b, "m", NULL);

    g_assert_true(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, NULL));
    waitState(b, "m", "seeding");
    g_assert_true(virTorrentPoolPrioritize(b, "m", NULL));
    g_assert_null(strstr(d->log->str, "m failed"));

    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_true(virTorrentPoolPrioritize(b, "m", NULL));
    waitState(b, "m", "seeding");
    g_assert_true(sameFile(d->a, d->b, "m"));

    daemonStop(d);
    g_assert_cmpint(g_unlink(path), ==, 0);
    daemonStart(d);
    virTorrentManagerRestore(d->manager);
    b = virTorrentManagerFindPool(d->manager, UUID_B, NULL);
    waitState(b, "m", "failed");
    g_assert_true(virTorrentPoolPrioritize(b, "m", NULL));
    /* where from, nobody tells it here */
    waitState(b, "m", "fetching");

    /* what failed for another reason is not tried again and again */
    virTorrentPoolRemove(b, "m", NULL);
    virTorrentFakeFault("enospc", 1);
    g_assert_true(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, NULL));
    waitState(b, "m", "failed");
    g_assert_true(virTorrentPoolPrioritize(b, "m", NULL));
    waitState(b, "m", "failed");
}

static void
testRelocateFails(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);

    virTorrentFakeFault("relocate", 1);
    g_assert_true(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, NULL));
    waitState(b, "m", "seeding");
    g_assert_cmpuint(virTorrentFakeFired("relocate"), ==, 1);
    g_assert_true(sameFile(d->a, d->b, "m"));
}

static void
testRestart(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);
    g_autofree char *other = publish(d, a, d->a, "n", 2);

    g_assert_true(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, NULL));
    waitState(b, "m", "seeding");
    virTorrentFakeFault("metadata-never", G_MAXUINT);
    g_assert_true(virTorrentPoolFetchMagnet(b, "n", other, "qcow2", 99, NULL));
    daemonStop(d);
    virTorrentFakeReset();

    daemonStart(d);
    virTorrentManagerRestore(d->manager);
    g_assert_cmpuint(virTorrentManagerCountPools(d->manager), ==, 2);
    a = virTorrentManagerFindPool(d->manager, UUID_A, NULL);
    b = virTorrentManagerFindPool(d->manager, UUID_B, NULL);
    waitState(a, "m", "seeding");
    waitState(b, "m", "seeding");
    waitState(b, "n", "seeding");
    /* nothing was verified again, and the hard link of the adoption is gone */
    g_assert_null(strstr(d->log->str, "hashing"));
    daemonStop(d);
    g_assert_false(exists(d->b, ".torrentpool/partial/m"));
    g_assert_false(exists(d->b, ".torrentpool/meta/n.magnet"));
    g_assert_true(exists(d->b, ".torrentpool/meta/n.torrent"));
}

/* A master that was changed while nobody looked is verified, and found out. */
static void
testChangedMaster(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    g_autofree char *rot = publish(d, a, d->a, "rot", 1);
    g_autofree char *touched = publish(d, a, d->a, "touched", 2);
    g_autofree char *gone = publish(d, a, d->a, "gone", 3);
    g_autofree char *soft = publish(d, a, d->a, "soft", 4);
    g_autofree char *softpath = g_build_filename(d->a, "soft", NULL);
    g_autofree char *rotpath = g_build_filename(d->a, "rot", NULL);
    g_autofree char *touchpath = g_build_filename(d->a, "touched", NULL);
    g_autofree char *gonepath = g_build_filename(d->a, "gone", NULL);
    g_autoptr(VirTorrentVolumeInfo) info = NULL;
    g_autoptr(GError) err = NULL;
    const char *verified;
    int fd;

    daemonStop(d);
    g_assert_cmpint(chmod(rotpath, 0644), ==, 0);
    fd = open(rotpath, O_WRONLY);
    g_assert_cmpint(pwrite(fd, "rot", 3, 100000), ==, 3);
    close(fd);
    g_assert_cmpint(chmod(rotpath, 0444), ==, 0);
    g_assert_cmpint(utimensat(AT_FDCWD, touchpath, NULL, 0), ==, 0);
    unlink(gonepath);
    g_assert_cmpint(chmod(softpath, 0644), ==, 0);

    daemonStart(d);
    virTorrentManagerRestore(d->manager);
    a = virTorrentManagerFindPool(d->manager, UUID_A, NULL);
    waitState(a, "touched", "seeding");
    waitState(a, "rot", "healing");
    waitState(a, "gone", "failed");
    waitState(a, "soft", "failed");
    verified = strstr(d->log->str, "touched:hashing ");
    g_assert_nonnull(verified);
    g_assert_nonnull(strstr(verified, "touched:seeding "));
    g_assert_false(exists(d->a, "gone"));
    info = virTorrentPoolGetVolume(a, "gone", NULL);
    g_assert_nonnull(strstr(info->error, "gone"));

    /* Restored and published again, they are the masters that they were. */
    g_assert_cmpint(chmod(softpath, 0444), ==, 0);
    g_assert_true(virTorrentPoolPublish(a, "soft", NULL, 0, NULL));
    waitState(a, "soft", "seeding");
    unlink(rotpath);
    makeFile(d->a, "rot", 300000, 1, 0444);
    virTorrentPoolPublish(a, "rot", NULL, 0, &err);
    g_assert_no_error(err);
    waitState(a, "rot", "seeding");
}

static void
testRemove(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    VirTorrentPool *b = daemonOpen(d, UUID_B, d->b);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);
    g_autofree char *other = publish(d, a, d->a, "n", 2);
    g_autofree char *final = g_build_filename(d->b, "m", NULL);
    GError *err = NULL;

    g_assert_false(virTorrentPoolRemove(b, "m", &err));
    assertPoolError(err, NO_VOLUME);
    g_clear_error(&err);
    g_assert_true(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, NULL));
    waitState(b, "m", "seeding");
    g_assert_true(exists(d->b, ".torrentpool/partial/m"));
    g_assert_true(virTorrentPoolRemove(b, "m", &err));
    g_assert_no_error(err);
    g_assert_false(exists(d->b, ".torrentpool/partial/m"));
    g_assert_true(exists(d->b, "m"));        /* the caller unlinks it */
    unlinkat(AT_FDCWD, final, 0);
    /* while it is fetched */
    g_assert_true(virTorrentPoolFetchMagnet(b, "m", magnet, NULL, 0, NULL));
    g_assert_true(virTorrentPoolRemove(b, "m", &err));
    g_assert_no_error(err);
    /* another master of the same name, at once */
    g_assert_true(virTorrentPoolFetchMagnet(b, "m", other, NULL, 0, &err));
    g_assert_no_error(err);
    waitState(b, "m", "seeding");
    g_assert_true(virTorrentPoolRemove(a, "m", NULL));
    g_assert_true(virTorrentManagerClosePool(d->manager, UUID_A, FALSE, NULL));
    g_assert_true(exists(d->a, "m"));
    g_assert_false(exists(d->a, ".torrentpool/meta/m.torrent"));
    g_assert_true(exists(d->a, ".torrentpool/meta/n.torrent"));
}

static void
testPurge(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    g_autofree char *magnet = publish(d, a, d->a, "m", 1);
    static const char *const dirs[] = { "meta", "partial", "resume" };
    GError *err = NULL;
    gsize i;

    g_assert_true(virTorrentManagerClosePool(d->manager, UUID_A, TRUE, NULL));
    for (i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = g_build_filename(d->a, ".torrentpool", dirs[i], NULL);

        g_assert_cmpint(g_rmdir(path), ==, 0);       /* empty */
    }
    g_assert_true(exists(d->a, "m"));
    g_assert_null(virTorrentManagerFindPool(d->manager, UUID_A, &err));
    assertPoolError(err, NO_POOL);
    g_clear_error(&err);
}

static void
testOptions(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    static const struct {
        const char *options;
        gboolean ok;
    } cases[] = {
        { "{'upload-limit': <uint64 1000>, 'seed': <'always'>}", TRUE },
        { "{'bootstrap': <['10.0.0.1:6881', '[fd00::1]:6881', 'host.example:1']>}", TRUE },
        { "{'allow': <['10.0.0.0/8', 'fd00::/8']>}", TRUE },
        { "{'trackers': <['http://10.0.0.1:6969/announce']>}", TRUE },
        { "{'webseeds': <['http://10.0.0.1/images/', 'https://host.example/a.img']>}", TRUE },
        { "{'webseeds': <['udp://10.0.0.1/']>}", FALSE },
        { "{'listen-address': <'nonsense'>}", FALSE },
        { "{'listen-port': <6881>}", FALSE },        /* an int32 */
        { "{'bootstrap': <['10.0.0.1']>}", FALSE },
        { "{'bootstrap': <['10.0.0.1:0']>}", FALSE },
        { "{'bootstrap': <['[fd00::1:6881']>}", FALSE },
        { "{'bootstrap': <['a b:1']>}", FALSE },
        { "{'allow': <['10.0.0.0/33']>}", FALSE },
        { "{'trackers': <['file:///etc/passwd']>}", FALSE },
        { "{'seed': <'never'>}", FALSE },
        { "{'colour': <'blue'>}", FALSE },
    };
    VirTorrentPool *pool = daemonOpen(d, UUID_A, d->a);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GVariant) options = g_variant_parse(G_VARIANT_TYPE_VARDICT, cases[i].options,
                                                      NULL, NULL, NULL);
        g_autoptr(GVariant) before =
            g_variant_ref_sink(virTorrentOptionsFormat(virTorrentPoolGetOptions(pool)));
        g_autoptr(GVariant) after = NULL;
        g_autoptr(GError) err = NULL;

        g_assert_nonnull(options);
        if (virTorrentManagerOpenPool(d->manager, UUID_A, "a", d->a, options, &err) !=
            cases[i].ok)
            g_error("%s: %s", cases[i].options, err ? err->message : "accepted");
        after = g_variant_ref_sink(virTorrentOptionsFormat(virTorrentPoolGetOptions(pool)));
        if (!cases[i].ok) {
            assertPoolError(err, INVALID_OPTION);
            g_assert_true(g_variant_equal(before, after));
        }
    }
}

static void
testOpenRefused(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GVariant) none = g_variant_ref_sink(g_variant_new("a{sv}", NULL));
    g_autofree char *missing = g_build_filename(d->dir, "missing", NULL);
    VirTorrentManager *m = d->manager;
    GError *err = NULL;

    g_assert_false(virTorrentManagerOpenPool(m, "no-uuid", "x", d->a, none, &err));
    assertPoolError(err, INVALID_OPTION);
    g_clear_error(&err);
    g_assert_false(virTorrentManagerOpenPool(m, UUID_A, "x", "relative", none, &err));
    assertPoolError(err, INVALID_OPTION);
    g_clear_error(&err);
    g_assert_false(virTorrentManagerOpenPool(m, UUID_A, "x", missing, none, &err));
    assertPoolError(err, FAILED);
    g_assert_nonnull(strstr(err->message, missing));
    g_clear_error(&err);
    virTorrentFakeFault("listen", 1);
    g_assert_false(virTorrentManagerOpenPool(m, UUID_A, "x", d->a, none, &err));
    g_assert_cmpuint(virTorrentFakeFired("listen"), ==, 1);
    g_clear_error(&err);
    daemonOpen(d, UUID_A, d->a);
    g_assert_false(virTorrentManagerOpenPool(m, UUID_B, "x", d->a, none, &err));
    assertPoolError(err, EXISTS);
    g_clear_error(&err);
    g_assert_false(virTorrentManagerOpenPool(m, UUID_A, "x", d->b, none, &err));
    assertPoolError(err, BUSY);
    g_clear_error(&err);
    g_assert_cmpuint(virTorrentManagerCountPools(m), ==, 1);
}

/* A thousand masters are loaded in slices. */
static void
testManyMasters(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentPool *a = daemonOpen(d, UUID_A, d->a);
    gint64 longest = 0;
    guint tick;
    int i;

    for (i = 0; i < 1000; i++) {
        g_autofree char *name = g_strdup_printf("m%03d", i);

        makeFile(d->a, name, 1000, i, 0444);
        g_assert_true(virTorrentPoolPublish(a, name, NULL, 0, NULL));
    }
    for (i = 0; i < 1000; i++) {
        g_autofree char *name = g_strdup_printf("m%03d", i);

        waitState(a, name, "seeding");
    }
    daemonStop(d);
    daemonStart(d);
    a = daemonOpen(d, UUID_A, d->a);
    tick = g_timeout_add(20, daemonTick, NULL);
    for (;;) {
        g_autoptr(VirTorrentVolumeInfo) info = virTorrentPoolGetVolume(a, "m000", NULL);
        g_autoptr(VirTorrentVolumeInfo) last = virTorrentPoolGetVolume(a, "m999", NULL);
        gint64 start = g_get_monotonic_time();

        if (strcmp(info->state, "seeding") == 0 && strcmp(last->state, "seeding") == 0)
            break;
        g_main_context_iteration(NULL, FALSE);
        longest = MAX(longest, g_get_monotonic_time() - start);
    }
    g_source_remove(tick);
    g_test_message("longest turn of the main loop: %d us", (int) longest);
    g_assert_cmpint(longest, <, G_USEC_PER_SEC / 2);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* warnings are part of what is tested: volumes fail */
    g_log_set_always_fatal(G_LOG_LEVEL_ERROR);   /* damage is logged as an error */
#define ADD(path, func) \
    g_test_add("/pool/" path, Daemon, NULL, daemonSetup, func, daemonTeardown)
    ADD("publish", testPublish);
    ADD("publish-progress", testPublishProgress);
    ADD("publish-refused", testPublishRefused);
    ADD("publish-changed-meanwhile", testPublishChanged);
    ADD("fetch-magnet", testFetch);
    ADD("fetch-metainfo", testFetchMetainfo);
    ADD("fetch-refused", testFetchRefused);
    ADD("fetch-not-standalone", testFetchNotStandalone);
    ADD("fetch-other-format", testFetchOtherFormat);
    ADD("fetch-no-space-then-again", testFetchNoSpace);
    ADD("adopt-name-taken", testAdoptNameTaken);
    ADD("prioritize-gone", testPrioritizeGone);
    ADD("relocate-fails", testRelocateFails);
    ADD("restart", testRestart);
    ADD("changed-master", testChangedMaster);
    ADD("remove", testRemove);
    ADD("purge", testPurge);
    ADD("options", testOptions);
    ADD("open-refused", testOpenRefused);
    ADD("many-masters", testManyMasters);
    return g_test_run();
}
