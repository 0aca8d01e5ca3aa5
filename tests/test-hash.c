/*
 * test-hash.c: hashing files, what it costs not to and what may go wrong
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * That the hashes are those of BEP 52 is shown twice: here against a plain
 * rendering of the specification, and by test-engine, where libtorrent itself
 * verifies files with them.
 */

#include <config.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "merkle.h"
#include "metainfo.h"

#define KIB ((gsize)1024)
#define MIB (1024 * KIB)
#define HASH VIR_TORRENT_HASH_SIZE

typedef struct {
    gboolean called;
    GBytes *metainfo;
    GError *error;
} Result;

static void
onHashed(VirTorrentHash *hash G_GNUC_UNUSED, GBytes *metainfo, const GError *error, gpointer opaque)
{
    Result *r = opaque;

    g_assert_false(r->called);
    r->called = TRUE;
    r->metainfo = metainfo ? g_bytes_ref(metainfo) : NULL;
    r->error = error ? g_error_copy(error) : NULL;
}

static void
wait(const gboolean *flag)
{
    gint64 until = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;

    while (!*flag) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(200);
        g_assert_cmpint(g_get_monotonic_time(), <, until);
    }
}

/* An unlinked file. */
static int
tempFile(void)
{
    g_autofree char *name = NULL;
    int fd = g_file_open_tmp("test-hash-XXXXXX", &name, NULL);

    g_assert_cmpint(fd, >=, 0);
    unlink(name);
    return fd;
}

static void
fill(int fd, gsize begin, gsize end, guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autofree guint8 *data = g_malloc(end - begin);
    gsize i;

    for (i = 0; i < end - begin; i++)
        data[i] = g_rand_int(rand);
    g_assert_cmpint(pwrite(fd, data, end - begin, begin), ==, end - begin);
}

static GBytes *
hashFd(int fd, guint threads)
{
    Result r = { 0 };
    g_autoptr(GError) error = NULL;
    VirTorrentHash *hash = virTorrentHashStart(fd, "x", "raw", 0, threads, NULL, onHashed, &r, &error);

    g_assert_no_error(error);
    g_assert_false(r.called);
    wait(&r.called);
    g_assert_no_error(r.error);
    g_assert_cmpuint(virTorrentHashGetDone(hash), ==, virTorrentHashGetSize(hash));
    virTorrentHashFree(hash);
    return r.metainfo;
}

/* BEP 52 as it is told, for any file: leaves up to a power of two, level by level. */
static void
plainRoot(const guint8 *data, gsize size, guint8 *out)
{
    gsize leaves = (size + 16 * KIB - 1) / (16 * KIB), width = 1, i;
    g_autofree guint8 *nodes = NULL;

    while (width < leaves)
        width *= 2;
    nodes = g_malloc0(width * HASH);
    for (i = 0; i < leaves; i++) {
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
        gsize len = HASH;

        g_checksum_update(sum, data + i * 16 * KIB, MIN(16 * KIB, size - i * 16 * KIB));
        g_checksum_get_digest(sum, nodes + i * HASH, &len);
    }
    for (; width > 1; width /= 2) {
        for (i = 0; i < width / 2; i++) {
            g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
            guint8 node[HASH];
            gsize len = HASH;

            g_checksum_update(sum, nodes + 2 * i * HASH, 2 * HASH);
            g_checksum_get_digest(sum, node, &len);
            memcpy(nodes + i * HASH, node, HASH);
        }
    }
    memcpy(out, nodes, HASH);
}

static void
assertRoot(GBytes *metainfo, const guint8 *root)
{
    g_auto(VirTorrentMetainfoRaw) raw = { 0 };
    gsize len;
    const guint8 *data = g_bytes_get_data(metainfo, &len);
    g_autoptr(GError) error = NULL;

    virTorrentMetainfoRead(data, len, &raw, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(raw.length, ==, len);
    g_assert_cmpmem(raw.root, HASH, root, HASH);
}

static void
testSpecification(void)
{
    static const gsize sizes[] = {
        1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 3 * 16 * 1024, 256 * 1024 - 1, 256 * 1024,
        256 * 1024 + 1, 512 * 1024, 512 * 1024 + 1, 5 * 256 * 1024 + 33 * 1024, 8 * 256 * 1024,
        13 * 256 * 1024 - 5,
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        int fd = tempFile();
        g_autofree guint8 *data = g_malloc(sizes[i]);
        g_autoptr(GBytes) one = NULL;
        g_autoptr(GBytes) three = NULL;
        guint8 root[HASH];

        fill(fd, 0, sizes[i], i);
        g_assert_cmpint(pread(fd, data, sizes[i], 0), ==, sizes[i]);
        plainRoot(data, sizes[i], root);
        one = hashFd(fd, 1);
        assertRoot(one, root);
        three = hashFd(fd, 3);
        g_assert_true(g_bytes_equal(one, three));
        close(fd);
    }
}

/* The same bytes with and without holes give the same metainfo. */
static void
testHoles(void)
{
    const gsize size = 40 * MIB + 12345;
    static const struct { gsize begin, end; } parts[] = {
        { 0, 1 }, { 5 * MIB, 5 * MIB + 3 }, { 6 * MIB - 1, 7 * MIB + 1 }, { 39 * MIB, 39 * MIB + 16 * KIB },
    };
    int sparse = tempFile(), dense = tempFile();
    g_autofree guint8 *data = g_malloc(size);
    g_autoptr(GBytes) a = NULL;
    g_autoptr(GBytes) b = NULL;
    struct stat st;
    gsize i;

    g_assert_cmpint(ftruncate(sparse, size), ==, 0);
    for (i = 0; i < G_N_ELEMENTS(parts); i++)
        fill(sparse, parts[i].begin, parts[i].end, i);
    g_assert_cmpint(pread(sparse, data, size, 0), ==, size);
    g_assert_cmpint(pwrite(dense, data, size, 0), ==, size);
    g_assert_cmpint(fstat(sparse, &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <, 4 * MIB);    /* or this tests nothing */
    a = hashFd(sparse, 2);
    b = hashFd(dense, 2);
    g_assert_true(g_bytes_equal(a, b));
    close(sparse);
    close(dense);
}

/* A file of holes alone costs (next to) nothing: 4 TiB in a test. */
static void
testHuge(void)
{
    int fd = tempFile();
    gint64 begin = g_get_monotonic_time();
    g_autoptr(GBytes) metainfo = NULL;
    g_autoptr(VirTorrentMetainfo) info = NULL;

    if (ftruncate(fd, 4 * MIB * MIB) < 0) {
        g_test_message("the file system takes no file of 4 TiB; 1 TiB then");
        g_assert_cmpint(ftruncate(fd, MIB * MIB), ==, 0);
    }
    metainfo = hashFd(fd, 0);
    info = virTorrentMetainfoParse(metainfo, NULL);
    g_assert_nonnull(info);
    g_test_message("%.1f s", (g_get_monotonic_time() - begin) / 1e6);
    close(fd);
}

static void
assertRefused(int fd, const char *name, const char *format, int code, const char *word)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(virTorrentHashStart(fd, name, format, 0, 1, NULL, onHashed, NULL, &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, code);
    if (!strstr(error->message, word))
        g_error("'%s' does not say '%s'", error->message, word);
}

static void
testRefused(void)
{
    int fd = tempFile();
    int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assertRefused(fd, "x", "raw", VIR_TORRENT_ENGINE_ERROR_FAILED, "empty");
    assertRefused(dir, "x", "raw", VIR_TORRENT_ENGINE_ERROR_FAILED, "regular");
    assertRefused(-1, "x", "raw", VIR_TORRENT_ENGINE_ERROR_FAILED, "x");
    fill(fd, 0, 10, 1);
    assertRefused(fd, "../x", "raw", VIR_TORRENT_ENGINE_ERROR_INVALID_NAME, "other hosts");
    assertRefused(fd, "x", "a format", VIR_TORRENT_ENGINE_ERROR_FAILED, "format");
    assertRefused(fd, "x", "", VIR_TORRENT_ENGINE_ERROR_FAILED, "format");
    close(fd);
    close(dir);
}

static void
checkChanged(gsize from, gsize to, gboolean write)
{
    int fd = tempFile();
    Result r = { 0 };
    VirTorrentHash *hash;
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000 } };

    fill(fd, 0, from, 1);
    g_assert_cmpint(futimens(fd, times), ==, 0);
    hash = virTorrentHashStart(fd, "x", NULL, 0, 2, NULL, onHashed, &r, NULL);
    g_assert_nonnull(hash);
    if (write)
        fill(fd, 5, 6, 99);
    else
        g_assert_cmpint(ftruncate(fd, to), ==, 0);
    wait(&r.called);
    g_assert_null(r.metainfo);
    g_assert_error(r.error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED);
    g_assert_nonnull(strstr(r.error->message, "changed"));
    g_error_free(r.error);
    virTorrentHashFree(hash);
    close(fd);
}

static void
testChanged(void)
{
    checkChanged(64 * MIB, 64 * MIB - 1, FALSE);
    checkChanged(64 * MIB, 64 * MIB + 1, FALSE);
    checkChanged(64 * MIB, 0, FALSE);
    checkChanged(64 * MIB, 0, TRUE);
}

static void
never(VirTorrentHash *hash G_GNUC_UNUSED, GBytes *metainfo G_GNUC_UNUSED,
      const GError *error G_GNUC_UNUSED, gpointer opaque G_GNUC_UNUSED)
{
    g_assert_not_reached();
}

/* Freed while it runs, and freed when its result is on its way. */
static void
testCancel(void)
{
    int fd = tempFile();
    gsize i;

    fill(fd, 0, 64 * MIB, 1);
    for (i = 0; i < 20; i++) {
        gint64 begin;
        VirTorrentHash *hash = virTorrentHashStart(fd, "x", NULL, 0, 2, NULL, never, NULL, NULL);

        g_usleep(i * 3000);
        begin = g_get_monotonic_time();
        virTorrentHashFree(hash);
        g_assert_cmpint(g_get_monotonic_time() - begin, <, G_USEC_PER_SEC / 5);
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
    g_usleep(300000);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    close(fd);
}

static void
freeIt(VirTorrentHash *hash, GBytes *metainfo, const GError *error G_GNUC_UNUSED, gpointer opaque)
{
    g_assert_nonnull(metainfo);
    virTorrentHashFree(hash);
    *(gboolean *)opaque = TRUE;
}

static void
testFreeInCallback(void)
{
    int fd = tempFile();
    gboolean called = FALSE;

    fill(fd, 0, MIB, 1);
    g_assert_nonnull(virTorrentHashStart(fd, "x", NULL, 0, 0, NULL, freeIt, &called, NULL));
    wait(&called);
    close(fd);
}

static void
testPieceLength(void)
{
    guint64 size;

    g_assert_cmpuint(virTorrentPieceLength(1), ==, 32 * KIB);
    g_assert_cmpuint(virTorrentPieceLength(200 * MIB), ==, 64 * KIB);
    g_assert_cmpuint(virTorrentPieceLength(KIB * MIB), ==, 256 * KIB);
    g_assert_cmpuint(virTorrentPieceLength(10 * KIB * MIB), ==, 2 * MIB);
    for (size = 1; size <= VIR_TORRENT_SIZE_MAX; size = size * 3 / 2 + 1) {
        guint32 length = virTorrentPieceLength(size);

        g_assert_cmpuint(length & (length - 1), ==, 0);
        g_assert_cmpuint(length, >=, 32 * KIB);
        g_assert_cmpuint(length, <=, VIR_TORRENT_PIECE_LENGTH_MAX);
        g_assert_cmpuint((size + length - 1) / length, <=, VIR_TORRENT_PIECES_MAX);
    }
    g_assert_cmpuint(virTorrentPieceLength(VIR_TORRENT_SIZE_MAX), <=, VIR_TORRENT_PIECE_LENGTH_MAX);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hash/specification", testSpecification);
    g_test_add_func("/hash/holes", testHoles);
    g_test_add_func("/hash/huge", testHuge);
    g_test_add_func("/hash/refused", testRefused);
    g_test_add_func("/hash/changed", testChanged);
    g_test_add_func("/hash/cancel", testCancel);
    g_test_add_func("/hash/free-in-callback", testFreeInCallback);
    g_test_add_func("/hash/piece-length", testPieceLength);
    return g_test_run();
}
