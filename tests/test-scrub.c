/*
 * test-scrub.c: whether damage to a file is found, and what is good saved
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reading goes through a pread() of ours, which counts, notes whether it went
 * past the page cache, and fails where it is told to.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dir-util.h"
#include "engine.h"
#include "scrub.h"

#define SIZE (3 * 1024 * 1024 + 4711)
#define PIECE(info) ((info)->piece_length)

static struct {
    guint64 fail;                /* reading this byte gives EIO; G_MAXUINT64: none */
    gboolean noDirect;           /* O_DIRECT reads give EINVAL, as on some file systems */
    guint direct, buffered;      /* reads */
    guint64 bytes;
} disk;

ssize_t __real_pread(int fd, void *buffer, size_t len, off_t pos);
ssize_t __wrap_pread(int fd, void *buffer, size_t len, off_t pos);

ssize_t
__wrap_pread(int fd, void *buffer, size_t len, off_t pos)
{
    gboolean direct = (fcntl(fd, F_GETFL) & O_DIRECT) != 0;

    if (direct && disk.noDirect) {
        errno = EINVAL;
        return -1;
    }
    if (disk.fail >= (guint64) pos && disk.fail < (guint64) pos + len) {
        errno = EIO;
        return -1;
    }
    disk.direct += direct;
    disk.buffered += !direct;
    disk.bytes += len;
    return __real_pread(fd, buffer, len, pos);
}

typedef struct {
    char *dir, *path;
    GBytes *metainfo;
    VirTorrentMetainfo *info;
    GMainLoop *loop;
    GArray *damaged;             /* of the last scrub */
    guint unreadable;
    guint32 next;
} Fixture;

static void
onHashed(VirTorrentHash *hash, GBytes *metainfo, const GError *error, gpointer opaque)
{
    Fixture *f = opaque;

    g_assert_no_error(error);
    f->metainfo = g_bytes_ref(metainfo);
    virTorrentHashFree(hash);
    g_main_loop_quit(f->loop);
}

/* A file with a hole in its middle, and its metainfo. */
static void
setup(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree guint8 *data = g_malloc(SIZE);
    gsize i;
    int fd;

    memset(&disk, 0, sizeof(disk));
    disk.fail = G_MAXUINT64;
    f->dir = g_dir_make_tmp("scrub-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "m", NULL);
    f->loop = g_main_loop_new(NULL, FALSE);
    for (i = 0; i < SIZE; i++)
        data[i] = g_test_rand_int();
    fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    g_assert_cmpint(pwrite(fd, data, 1024 * 1024, 0), ==, 1024 * 1024);
    g_assert_cmpint(pwrite(fd, data, SIZE - 2 * 1024 * 1024, 2 * 1024 * 1024), ==, SIZE - 2 * 1024 * 1024);
    g_assert_nonnull(virTorrentHashStart(fd, "m", NULL, 0, 1, NULL, onHashed, f, NULL));
    close(fd);
    g_main_loop_run(f->loop);
    f->info = virTorrentMetainfoParse(f->metainfo, NULL);
    memset(&disk, 0, sizeof(disk));
    disk.fail = G_MAXUINT64;
}

static void
teardown(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_clear_pointer(&f->damaged, g_array_unref);
    g_main_loop_unref(f->loop);
    virTorrentMetainfoFree(f->info);
    g_bytes_unref(f->metainfo);
    removeTree(f->dir);
    g_free(f->dir);
    g_free(f->path);
}

static void
onScrubbed(VirTorrentScrub *scrub G_GNUC_UNUSED, const VirTorrentScrubResult *result, gpointer opaque)
{
    Fixture *f = opaque;

    g_clear_pointer(&f->damaged, g_array_unref);
    f->damaged = g_array_ref(result->damaged);
    f->unreadable = result->unreadable;
    f->next = result->next;
    g_main_loop_quit(f->loop);
}

static VirTorrentScrub *
start(Fixture *f, GBytes *metainfo, guint32 first, guint64 rate)
{
    g_autoptr(GError) err = NULL;
    VirTorrentScrub *scrub = virTorrentScrubStart(open(f->path, O_RDONLY | O_CLOEXEC), metainfo, first,
                                                  rate, onScrubbed, f, &err);

    g_assert_no_error(err);
    return scrub;
}

static void
scrub(Fixture *f, guint32 first, guint64 rate)
{
    VirTorrentScrub *running = start(f, f->metainfo, first, rate);

    g_main_loop_run(f->loop);
    virTorrentScrubFree(running);
}

static void
rot(const char *path, guint64 pos)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    guint8 byte;

    g_assert_cmpint(__real_pread(fd, &byte, 1, pos), ==, 1);
    byte ^= 1;
    g_assert_cmpint(pwrite(fd, &byte, 1, pos), ==, 1);
    close(fd);
}

static guint32
pieces(Fixture *f)
{
    return (SIZE + PIECE(f->info) - 1) / PIECE(f->info);
}

static void
testGood(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, ==, 0);
    g_assert_cmpuint(f->next, ==, pieces(f));
    /* the hole was not read, and where the file system can, not the page cache */
    g_assert_cmpuint(disk.bytes, <, SIZE - 900 * 1024);
    g_test_message("%u reads past the page cache, %u through it", disk.direct, disk.buffered);
    disk.noDirect = TRUE;
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, ==, 0);
    g_assert_cmpuint(disk.buffered, >, 0);
}

/* Single bits, in the first and last byte, and in the hole. */
static void
testDamage(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    guint32 wrong[] = { 0, 1536 * 1024 / PIECE(f->info), pieces(f) - 1 };
    guint i;

    rot(f->path, 0);
    rot(f->path, 1536 * 1024);
    rot(f->path, SIZE - 1);
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, ==, 3);
    for (i = 0; i < 3; i++)
        g_assert_cmpuint(g_array_index(f->damaged, guint32, i), ==, wrong[i]);
    g_assert_cmpuint(f->unreadable, ==, 0);
    /* at a rate: ends at the first one, and goes on after it */
    scrub(f, 0, G_MAXINT64);
    g_assert_cmpuint(f->damaged->len, ==, 1);
    g_assert_cmpuint(f->next, ==, 1);
    scrub(f, f->next, G_MAXINT64);
    g_assert_cmpuint(g_array_index(f->damaged, guint32, 0), ==, wrong[1]);
}

static void
testUnreadable(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    disk.fail = 700000;
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, >=, 1);
    g_assert_cmpuint(f->unreadable, ==, f->damaged->len);
    g_assert_cmpuint(g_array_index(f->damaged, guint32, 0), <=, 700000 / PIECE(f->info));
}

/* Cut, or grown. */
static void
testSize(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_assert_cmpint(truncate(f->path, SIZE - 1), ==, 0);
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, ==, 1);
    g_assert_cmpint(truncate(f->path, SIZE), ==, 0);
    rot(f->path, SIZE - 1);
    g_assert_cmpint(truncate(f->path, SIZE + 1), ==, 0);
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, ==, 1);
    g_assert_cmpint(truncate(f->path, 5), ==, 0);
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, >, pieces(f) / 2);
}

static void
testGrown(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_assert_cmpint(truncate(f->path, SIZE + 1), ==, 0);
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, ==, 1);
}

/* What a torrent of others' with SHA-1 sums says, too. */
static void
testSha1(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    const guint32 length = 512 * 1024;
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *data = NULL;
    g_autoptr(GBytes) metainfo = NULL;
    VirTorrentScrub *running;
    gsize len;
    gsize pos;

    g_assert_true(g_file_get_contents(f->path, &data, &len, NULL));
    g_string_append_printf(text, "d4:infod6:lengthi%d" "e4:name1:m12:piece lengthi%u" "e6:pieces%d:", SIZE,
                           length, (int) ((SIZE + length - 1) / length) * 20);
    for (pos = 0; pos < len; pos += length) {
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
        guint8 digest[20];
        gsize n = sizeof(digest);

        g_checksum_update(sum, (guchar *) data + pos, MIN(length, len - pos));
        g_checksum_get_digest(sum, digest, &n);
        g_string_append_len(text, (char *) digest, n);
    }
    g_string_append(text, "ee");
    metainfo = g_bytes_new(text->str, text->len);
    running = start(f, metainfo, 0, 0);
    g_main_loop_run(f->loop);
    virTorrentScrubFree(running);
    g_assert_cmpuint(f->damaged->len, ==, 0);
    rot(f->path, SIZE - 1);
    running = start(f, metainfo, 0, 0);
    g_main_loop_run(f->loop);
    virTorrentScrubFree(running);
    g_assert_cmpuint(f->damaged->len, ==, 1);
    g_assert_cmpuint(g_array_index(f->damaged, guint32, 0), ==, 6);
}

/* It may be ended at any time, and takes at least as long as its rate asks for. */
static void
testRate(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    gint64 begin = g_get_monotonic_time();
    VirTorrentScrub *running;

    scrub(f, 0, 8 * 1024 * 1024);
    g_assert_cmpint(g_get_monotonic_time() - begin, >=, 200 * 1000);
    running = start(f, f->metainfo, 0, 1);
    g_usleep(10 * 1000);
    virTorrentScrubFree(running);
    running = start(f, f->metainfo, 0, 0);
    virTorrentScrubFree(running);
}

/* The good pieces get a new file, holes stay holes, and what cannot be read is left out. */
static void
testCopy(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *path = g_build_filename(f->dir, "copy", NULL);
    g_autofree char *old = g_strdup(f->path);
    static const guint8 zeros[64];
    guint8 damaged[64];
    const gint go = FALSE;
    const gint stop = TRUE;
    struct stat st;
    int from;
    int to;

    rot(f->path, 100);
    rot(f->path, 2500000);
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, ==, 2);
    from = open(f->path, O_RDONLY | O_CLOEXEC);
    to = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_false(virTorrentCopyGood(from, to, SIZE, PIECE(f->info), f->damaged, &stop));
    g_assert_cmpint(errno, ==, ECANCELED);
    g_assert_true(virTorrentCopyGood(from, to, SIZE, PIECE(f->info), f->damaged, &go));
    g_assert_cmpint(fstat(to, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, SIZE);
    g_assert_cmpint(st.st_blocks * 512, <, SIZE - 900 * 1024);
    g_assert_cmpint(__real_pread(to, damaged, sizeof(damaged), 100), ==, sizeof(damaged));
    g_assert_cmpmem(damaged, sizeof(damaged), zeros, sizeof(zeros));
    close(from);
    close(to);
    /* what is missing now is what was wrong */
    g_free(f->path);
    f->path = g_strdup(path);
    scrub(f, 0, 0);
    g_assert_cmpuint(f->damaged->len, ==, 2);
    rot(old, 100);
    rot(old, 2500000);
    from = open(old, O_RDONLY | O_CLOEXEC);
    to = open("/dev/full", O_WRONLY | O_CLOEXEC);
    g_assert_false(virTorrentCopyGood(from, to, SIZE, PIECE(f->info), f->damaged, &go));
    close(from);
    close(to);
}

static void
testNonsense(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GBytes) metainfo = g_bytes_new_static("d4:infode", 9);
    g_autoptr(GError) err = NULL;

    g_assert_null(virTorrentScrubStart(open(f->path, O_RDONLY | O_CLOEXEC), metainfo, 0, 0, onScrubbed, f, &err));
    g_assert_nonnull(err);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add("/scrub/" path, Fixture, NULL, setup, func, teardown)
    ADD("good", testGood);
    ADD("damage", testDamage);
    ADD("unreadable", testUnreadable);
    ADD("cut", testSize);
    ADD("grown", testGrown);
    ADD("sha1", testSha1);
    ADD("rate", testRate);
    ADD("copy", testCopy);
    ADD("nonsense", testNonsense);
    return g_test_run();
}
