/*
 * test-state.c: what outlives the process
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "dir-util.h"
#include "state.h"

typedef struct {
    char *dir;
    VirTorrentStore *store;
} Fixture;

/* What the writer asks of the disk, in order (linked with --wrap). */
static GString *trace;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_renameat(int olddir, const char *old, int newdir, const char *new);
int __wrap_renameat(int olddir, const char *old, int newdir, const char *new);

static const char *broken;      /* the file that the disk does not take */

int
__wrap_fsync(int fd)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *path = g_file_read_link(link, NULL);
    g_autofree char *name = path ? g_path_get_basename(path) : NULL;

    if (trace)
        g_string_append_printf(trace, "fsync(%s) ", name && *name == '.' ? "temp" : name);
    if (broken && g_strcmp0(name, broken) == 0) {
        errno = EIO;
        return -1;
    }
    return __real_fsync(fd);
}

int
__wrap_renameat(int olddir, const char *old, int newdir, const char *new)
{
    if (trace)
        g_string_append_printf(trace, "rename(%s) ", new);
    return __real_renameat(olddir, old, newdir, new);
}

static char *
file(Fixture *f, const char *name)
{
    return g_build_filename(f->dir, ".torrentpool", name, NULL);
}

static void
setup(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    static const char *const names[] = { "meta", "partial", "resume" };
    gsize i;

    f->dir = g_dir_make_tmp("state-XXXXXX", NULL);
    for (i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = file(f, names[i]);

        g_assert_cmpint(g_mkdir_with_parents(path, 0700), ==, 0);
    }
    f->store = virTorrentStoreOpen(f->dir, NULL);
    g_assert_nonnull(f->store);
    virTorrentStoreFlush(f->store);
}

static void
teardown(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    virTorrentStoreFree(f->store);
    removeTree(f->dir);
    g_free(f->dir);
}

static void
save(Fixture *f, VirTorrentStoreKind kind, const char *name, const char *text)
{
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));

    virTorrentStoreSave(f->store, kind, name, bytes, NULL, NULL, NULL);
}

static void
testSaveLoad(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *path = file(f, "meta/a.torrent");
    g_autoptr(GBytes) got = NULL;
    g_autoptr(GError) err = NULL;
    GStatBuf st;

    save(f, VIR_TORRENT_STORE_METAINFO, "a", "first");
    save(f, VIR_TORRENT_STORE_METAINFO, "a", "second");
    virTorrentStoreFlush(f->store);
    g_assert_cmpint(g_stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
    got = virTorrentStoreLoad(f->store, VIR_TORRENT_STORE_METAINFO, "a", 100, &err);
    g_assert_no_error(err);
    g_assert_cmpmem(g_bytes_get_data(got, NULL), g_bytes_get_size(got), "second", 6);
    /* bounded */
    g_assert_null(virTorrentStoreLoad(f->store, VIR_TORRENT_STORE_METAINFO, "a", 5, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    g_assert_null(virTorrentStoreLoad(f->store, VIR_TORRENT_STORE_STAT, "a", 100, &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    g_clear_error(&err);
}

/* In the order they were asked for, whatever they are. */
static void
testOrder(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GBytes) got = NULL;
    int i;

    for (i = 0; i < 20; i++) {
        save(f, VIR_TORRENT_STORE_RESUME, "a", "x");
        virTorrentStoreRemove(f->store, VIR_TORRENT_STORE_RESUME, "a");
        save(f, VIR_TORRENT_STORE_RESUME, "b", "x");
        virTorrentStoreRemove(f->store, VIR_TORRENT_STORE_RESUME, "b");
        save(f, VIR_TORRENT_STORE_RESUME, "b", "y");
    }
    virTorrentStoreFlush(f->store);
    g_assert_null(virTorrentStoreLoad(f->store, VIR_TORRENT_STORE_RESUME, "a", 10, NULL));
    got = virTorrentStoreLoad(f->store, VIR_TORRENT_STORE_RESUME, "b", 10, NULL);
    g_assert_cmpmem(g_bytes_get_data(got, NULL), g_bytes_get_size(got), "y", 1);
}

static void
saved(const GError *error, gpointer opaque)
{
    *(int *) opaque = error ? 2 : 1;
}

/* The caller learns that it could not be written. */
static void
testSaveFails(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *meta = file(f, "meta");
    g_autofree char *format = file(f, "meta/format");
    g_autoptr(GBytes) bytes = g_bytes_new_static("x", 1);
    int how = 0;

    virTorrentStoreSave(f->store, VIR_TORRENT_STORE_METAINFO, "a", bytes, saved, &how, NULL);
    while (!how)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(how, ==, 1);
    virTorrentStoreRemove(f->store, VIR_TORRENT_STORE_METAINFO, "a");
    virTorrentStoreFlush(f->store);
    g_assert_cmpint(unlink(format), ==, 0);
    g_assert_cmpint(g_rmdir(meta), ==, 0);
    how = 0;
    g_test_expect_message("virttorrentd", G_LOG_LEVEL_WARNING, "cannot write*");
    virTorrentStoreSave(f->store, VIR_TORRENT_STORE_METAINFO, "a", bytes, saved, &how, NULL);
    while (!how)
        g_main_context_iteration(NULL, TRUE);
    g_test_assert_expected_messages();
    g_assert_cmpint(how, ==, 2);
    g_assert_cmpint(g_mkdir(meta, 0700), ==, 0);
}

/* What a power loss may find: whole files, and none that vouches for content
 * which is not on the disk. */
static void
testDurable(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = file(f, "partial/a");

    g_assert_true(g_file_set_contents(partial, "x", -1, NULL));
    trace = g_string_new(NULL);
    save(f, VIR_TORRENT_STORE_METAINFO, "a", "x");
    virTorrentStoreFlush(f->store);
    g_assert_true(g_str_has_prefix(trace->str, "fsync(temp) rename(a.torrent) fsync(meta) "));
    g_string_truncate(trace, 0);
    virTorrentStoreSyncFile(f->store, open(partial, O_RDONLY | O_CLOEXEC));
    save(f, VIR_TORRENT_STORE_RESUME, "a", "x");
    virTorrentStoreFlush(f->store);
    g_assert_cmpstr(trace->str, ==, "fsync(a) rename(a.resume) ");
    g_string_free(trace, TRUE);
    trace = NULL;
}

static void
onFailed(const GError *error, gpointer opaque)
{
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_IO);
    (*(guint *)opaque)++;
}

/* What the disk has lost nobody claims to have. */
static void
testLost(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = file(f, "partial/a");
    g_autofree char *content = NULL;
    g_autofree char *resume = file(f, "resume/a.resume");
    g_autoptr(GBytes) claim = g_bytes_new_static("new", 3);
    guint failed = 0;

    g_assert_true(g_file_set_contents(partial, "x", -1, NULL));
    save(f, VIR_TORRENT_STORE_RESUME, "a", "old");
    virTorrentStoreFlush(f->store);
    broken = "a";
    trace = g_string_new(NULL);
    virTorrentStoreSyncFile(f->store, open(partial, O_RDONLY | O_CLOEXEC));
    virTorrentStoreSave(f->store, VIR_TORRENT_STORE_RESUME, "a", claim, onFailed, &failed, NULL);
    virTorrentStoreFlush(f->store);
    g_assert_cmpstr(trace->str, ==, "fsync(a) ");
    while (failed == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_true(g_file_get_contents(resume, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "old");
    g_string_free(g_steal_pointer(&trace), TRUE);
    broken = NULL;
    save(f, VIR_TORRENT_STORE_RESUME, "a", "new");
    virTorrentStoreFlush(f->store);
    g_clear_pointer(&content, g_free);
    g_assert_true(g_file_get_contents(resume, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "new");
}

static void
testList(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GPtrArray) list = NULL;

    save(f, VIR_TORRENT_STORE_METAINFO, "b", "x");
    save(f, VIR_TORRENT_STORE_MAGNET, "b", "x");
    save(f, VIR_TORRENT_STORE_PUBLISH, "a", "x");
    save(f, VIR_TORRENT_STORE_METAINFO, "c.magnet", "x");
    save(f, VIR_TORRENT_STORE_STAT, "not-in-meta", "x");
    virTorrentStoreFlush(f->store);
    list = virTorrentStoreList(f->store);
    g_assert_cmpuint(list->len, ==, 3);
    g_assert_cmpstr(g_ptr_array_index(list, 0), ==, "a");
    g_assert_cmpstr(g_ptr_array_index(list, 1), ==, "b");
    g_assert_cmpstr(g_ptr_array_index(list, 2), ==, "c.magnet");
}

/* What a crash left is swept away, and nothing else. */
static void
testSweep(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *temp = file(f, "meta/.tmp-1-1");
    g_autofree char *trash = file(f, "partial/.trash-1-1");
    g_autofree char *partial = file(f, "partial/a");

    g_assert_true(g_file_set_contents(temp, "x", -1, NULL));
    g_assert_true(g_file_set_contents(trash, "x", -1, NULL));
    g_assert_true(g_file_set_contents(partial, "x", -1, NULL));
    virTorrentStoreFree(f->store);
    f->store = virTorrentStoreOpen(f->dir, NULL);
    virTorrentStoreFlush(f->store);
    g_assert_false(g_file_test(temp, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(trash, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_test(partial, G_FILE_TEST_EXISTS));
}

static void
testPartialRemove(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = file(f, "partial/a");
    struct stat st;

    g_assert_true(g_file_set_contents(partial, "old", -1, NULL));
    virTorrentStorePartialRemove(f->store, "a");
    /* the name is free at once, and what is put there stays */
    g_assert_cmpint(virTorrentStorePartialStat(f->store, "a", &st), <, 0);
    g_assert_true(g_file_set_contents(partial, "new", -1, NULL));
    virTorrentStoreFlush(f->store);
    g_assert_cmpint(virTorrentStorePartialStat(f->store, "a", &st), ==, 0);
}

static void
testSymlinkedDirectory(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *meta = file(f, "meta");
    g_autofree char *format = file(f, "meta/format");
    g_autoptr(GError) err = NULL;

    g_clear_pointer(&f->store, virTorrentStoreFree);
    g_assert_cmpint(unlink(format), ==, 0);
    g_assert_cmpint(g_rmdir(meta), ==, 0);
    g_assert_cmpint(symlink("resume", meta), ==, 0);
    g_assert_null(virTorrentStoreOpen(f->dir, &err));
    g_assert_nonnull(err);
}

static void
testStamp(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *path = file(f, "partial/a");
    g_autofree char *other = file(f, "partial/b");
    g_autoptr(GBytes) stamp = NULL;
    struct timespec times[2] = { { 0, UTIME_OMIT }, { 1, 2 } };
    struct stat st;

    g_assert_true(g_file_set_contents(path, "x", -1, NULL));
    g_assert_cmpint(stat(path, &st), ==, 0);
    stamp = virTorrentStampMake(&st);
    g_assert_true(virTorrentStampMatches(stamp, &st));
    /* a link and another mode are no change of content */
    g_assert_cmpint(link(path, other) | chmod(path, 0444) | stat(path, &st), ==, 0);
    g_assert_true(virTorrentStampMatches(stamp, &st));
    g_assert_cmpint(utimensat(AT_FDCWD, path, times, 0) | stat(path, &st), ==, 0);
    g_assert_false(virTorrentStampMatches(stamp, &st));
}

static void
reopen(Fixture *f, const char *format, const char *complaint)
{
    g_autofree char *path = file(f, "meta/format");
    g_autoptr(GError) err = NULL;

    g_clear_pointer(&f->store, virTorrentStoreFree);
    if (format)
        g_assert_true(g_file_set_contents(path, format, -1, NULL));
    else
        g_assert_cmpint(unlink(path), ==, 0);
    f->store = virTorrentStoreOpen(f->dir, &err);
    if (!complaint) {
        g_assert_no_error(err);
        virTorrentStoreFlush(f->store);
        return;
    }
    g_assert_null(f->store);
    g_assert_nonnull(err);
    g_assert_nonnull(strstr(err->message, complaint));
    g_assert_nonnull(strstr(err->message, f->dir));
}

/* State of before there was a number is read and numbered; state of later is
 * refused, and nothing of it is touched. */
static void
testFormat(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *path = file(f, "meta/format");
    g_autofree char *temp = file(f, "meta/.tmp-1-1");
    g_autofree char *text = NULL;

    g_assert_true(g_file_set_contents(temp, "x", -1, NULL));
    reopen(f, "2\n", "newer virttorrentd");
    reopen(f, "4294967295\n", "newer virttorrentd");
    reopen(f, "9999999999\n", "does not hold a number");
    reopen(f, "x", "does not hold a number");
    reopen(f, "", "does not hold a number");
    g_assert_true(g_file_test(temp, G_FILE_TEST_EXISTS));
    reopen(f, "1\n", NULL);
    g_assert_false(g_file_test(temp, G_FILE_TEST_EXISTS));
    reopen(f, NULL, NULL);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "1\n");
}

/* The list of open pools does not outlive a boot. */
static void
testPoolList(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GKeyFile) record = g_key_file_new();
    g_autoptr(GHashTable) list = NULL;
    g_autofree char *path = g_build_filename(f->dir, "u-u-i-d.pool", NULL);
    g_autofree char *text = NULL;
    char *boot;

    g_key_file_set_string(record, "pool", "name", "p");
    g_assert_true(virTorrentPoolListSave(f->dir, "u-u-i-d", record, NULL));
    list = virTorrentPoolListLoad(f->dir);
    g_assert_cmpuint(g_hash_table_size(list), ==, 1);
    g_assert_nonnull(g_hash_table_lookup(list, "u-u-i-d"));
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    boot = strstr(text, "boot=");
    g_assert_nonnull(boot);
    boot[5] = boot[5] == '0' ? '1' : '0';
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_clear_pointer(&list, g_hash_table_unref);
    list = virTorrentPoolListLoad(f->dir);
    g_assert_cmpuint(g_hash_table_size(list), ==, 0);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    virTorrentPoolListRemove(f->dir, "u-u-i-d");     /* gone already: fine */
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add("/state/" path, Fixture, NULL, setup, func, teardown)
    ADD("save-load", testSaveLoad);
    ADD("order", testOrder);
    ADD("save-fails", testSaveFails);
    ADD("durable", testDurable);
    ADD("lost", testLost);
    ADD("list", testList);
    ADD("sweep", testSweep);
    ADD("partial-remove", testPartialRemove);
    ADD("symlinked-directory", testSymlinkedDirectory);
    ADD("stamp", testStamp);
    ADD("format", testFormat);
    ADD("pool-list", testPoolList);
    return g_test_run();
}
