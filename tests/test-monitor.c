/*
 * test-monitor.c: what the privileged process does, and what it does not
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Each promise of monitor.c.  As root the engine's part is played by user
 * 65534, so that ownership is real; otherwise by ourselves, and what needs two
 * users is left out.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dir-util.h"
#include "monitor.h"
#include "seal.h"

#define ENGINE_UID 65534

typedef struct {
    char *dir;                   /* the pool */
    char *partial;
    VirTorrentMonitorPolicy policy;
    VirTorrentMonitorReply reply;
} Fixture;

static gboolean
isRoot(void)
{
    return geteuid() == 0;
}

static int
ask(Fixture *f, VirTorrentMonitorVerb verb, const char *target, const char *name)
{
    VirTorrentMonitorRequest request;

    memset(&request, 0, sizeof(request));
    request.verb = verb;
    g_strlcpy(request.target, target, sizeof(request.target));
    g_strlcpy(request.name, name, sizeof(request.name));
    virTorrentMonitorHandle(&f->policy, &request, &f->reply);
    g_test_message("%s", f->reply.message);
    return f->reply.failed;
}

static int
adopt(Fixture *f, const char *name)
{
    return ask(f, VIR_TORRENT_MONITOR_ADOPT, f->dir, name);
}

static void
setup(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *mark = NULL;

    f->dir = g_dir_make_tmp("monitor-XXXXXX", NULL);
    g_assert_cmpint(chmod(f->dir, 0755), ==, 0);
    f->partial = g_build_filename(f->dir, ".torrentpool", "partial", NULL);
    f->policy.owner_uid = f->policy.engine_uid = geteuid();
    f->policy.owner_gid = f->policy.engine_gid = getegid();
    if (isRoot()) {
        f->policy.engine_uid = f->policy.engine_gid = ENGINE_UID;
        f->policy.marked = TRUE;
        mark = g_build_filename(f->dir, ".torrentpool", NULL);
        g_assert_cmpint(g_mkdir(mark, 0755), ==, 0);
    }
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, f->dir, ""), ==, 0);
}

static void
teardown(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    removeTree(f->dir);
    g_free(f->dir);
    g_free(f->partial);
}

/* partial/@name, the engine's, mode 0600 */
static char *
makePartial(Fixture *f, const char *name)
{
    char *path = g_build_filename(f->partial, name, NULL);

    g_assert_true(g_file_set_contents(path, "content", -1, NULL));
    g_assert_cmpint(chmod(path, 0600), ==, 0);
    g_assert_cmpint(chown(path, f->policy.engine_uid, f->policy.engine_gid), ==, 0);
    return path;
}

static gboolean
has(Fixture *f, const char *name)
{
    g_autofree char *path = g_build_filename(f->dir, name, NULL);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* It is the engine's as before. */
static void
assertUntouched(Fixture *f, const char *path)
{
    struct stat st;

    g_assert_cmpint(lstat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, ==, f->policy.engine_uid);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
}

static void
testPrepare(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    static const char *const names[] = { "meta", "partial", "resume" };
    g_autofree char *priv = g_build_filename(f->dir, ".torrentpool", NULL);
    struct stat st;
    gsize i;

    g_assert_cmpint(stat(priv, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, ==, f->policy.owner_uid);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0755);
    for (i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(priv, names[i], NULL);

        g_assert_cmpint(stat(path, &st), ==, 0);
        g_assert_cmpuint(st.st_uid, ==, f->policy.engine_uid);
        g_assert_cmpuint(st.st_mode & 07777, ==, 0700);
    }
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, f->dir, ""), ==, 0);
    if (isRoot()) {              /* what another engine's user left is not handed over */
        g_autofree char *meta = g_build_filename(priv, "meta", NULL);

        g_assert_cmpint(chown(meta, 4711, 4711), ==, 0);
        g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, f->dir, ""), ==, EPERM);
        g_assert_nonnull(strstr(f->reply.message, "chown -R"));
        g_assert_cmpint(stat(meta, &st), ==, 0);
        g_assert_cmpuint(st.st_uid, ==, 4711);
        g_assert_cmpint(chown(meta, ENGINE_UID, ENGINE_UID), ==, 0);
    }
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, "relative", ""), ==, EINVAL);
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, "/nonexistent", ""), ==, ENOENT);
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, "/etc/passwd", ""), ==, ENOTDIR);
}

/* An engine in hostile hands cannot declare /etc a pool. */
static void
testNoMark(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *other = g_dir_make_tmp("monitor-XXXXXX", NULL);
    g_autofree char *priv = g_build_filename(other, ".torrentpool", NULL);

    f->policy.marked = TRUE;
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, other, ""), ==, ENOENT);
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_ADOPT, other, "x"), ==, ENOENT);
    g_assert_false(g_file_test(priv, G_FILE_TEST_EXISTS));
    /* a symlink is no mark */
    g_assert_cmpint(symlink(f->dir, priv), ==, 0);
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, other, ""), !=, 0);
    unlink(priv);
    /* one that others may write to is none either */
    g_assert_cmpint(g_mkdir(priv, 0700), ==, 0);
    g_assert_cmpint(chmod(priv, 0775), ==, 0);
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, other, ""), ==, EPERM);
    g_assert_cmpint(chmod(priv, 0755), ==, 0);
    if (isRoot()) {
        g_assert_cmpint(chown(priv, ENGINE_UID, ENGINE_UID), ==, 0);
        g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, other, ""), ==, EPERM);
    }
    removeTree(other);
}

static void
testAdopt(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = makePartial(f, "m");
    g_autofree char *final = g_build_filename(f->dir, "m", NULL);
    g_autofree char *content = NULL;
    struct stat st;

    g_assert_cmpint(adopt(f, "m"), ==, 0);
    g_assert_cmpint(lstat(final, &st), ==, 0);
    g_assert_true(S_ISREG(st.st_mode));
    g_assert_cmpuint(st.st_mode & 07777, ==, 0444);
    g_assert_cmpuint(st.st_uid, ==, f->policy.owner_uid);
    g_assert_cmpuint(st.st_gid, ==, f->policy.owner_gid);
    g_assert_true(g_file_get_contents(final, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "content");
}

static void
testAdoptByRename(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = makePartial(f, "m");
    g_autofree char *final = g_build_filename(f->dir, "m", NULL);
    g_autofree char *taken = makePartial(f, "taken");
    g_autofree char *file = g_build_filename(f->dir, "taken", NULL);
    struct stat st;

    f->policy.no_links = TRUE;
    g_assert_cmpint(adopt(f, "m"), ==, 0);
    g_assert_cmpint(lstat(final, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0444);
    g_assert_false(g_file_test(partial, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_set_contents(file, "mine", -1, NULL));
    g_assert_cmpint(adopt(f, "taken"), ==, EEXIST);
    assertUntouched(f, taken);
}

static void
testNameTaken(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = makePartial(f, "m");
    g_autofree char *final = g_build_filename(f->dir, "m", NULL);
    g_autofree char *content = NULL;

    g_assert_true(g_file_set_contents(final, "mine", -1, NULL));
    g_assert_cmpint(adopt(f, "m"), ==, EEXIST);
    g_assert_true(g_file_get_contents(final, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "mine");
    assertUntouched(f, partial);
    /* a dangling symlink takes a name, too */
    unlink(final);
    g_assert_cmpint(symlink("nowhere", final), ==, 0);
    g_assert_cmpint(adopt(f, "m"), ==, EEXIST);
    assertUntouched(f, partial);
}

static void
testSymlink(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = g_build_filename(f->partial, "m", NULL);
    g_autofree char *victim = g_build_filename(f->dir, "victim", NULL);
    struct stat before;
    struct stat after;

    g_assert_true(g_file_set_contents(victim, "secret", -1, NULL));
    g_assert_cmpint(chmod(victim, 0600), ==, 0);
    g_assert_cmpint(stat(victim, &before), ==, 0);
    g_assert_cmpint(symlink(victim, partial), ==, 0);
    g_assert_cmpint(adopt(f, "m"), ==, ELOOP);
    g_assert_cmpint(stat(victim, &after), ==, 0);
    g_assert_cmpuint(before.st_mode, ==, after.st_mode);
    g_assert_cmpuint(after.st_nlink, ==, 1);
    g_assert_false(has(f, "m"));
}

/* partial/ itself is exchanged for a symlink: only root could do that, still. */
static void
testSymlinkedDirectory(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *real = g_build_filename(f->dir, ".torrentpool", "real", NULL);
    g_autofree char *partial = makePartial(f, "m");

    g_assert_cmpint(rename(f->partial, real), ==, 0);
    g_assert_cmpint(symlink("real", f->partial), ==, 0);
    g_assert_cmpint(adopt(f, "m"), !=, 0);
    g_assert_cmpint(ask(f, VIR_TORRENT_MONITOR_PREPARE, f->dir, ""), !=, 0);
    g_assert_false(has(f, "m"));
}

static void
testHardLink(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = makePartial(f, "m");
    g_autofree char *other = g_build_filename(f->partial, "other", NULL);

    g_assert_cmpint(link(partial, other), ==, 0);
    g_assert_cmpint(adopt(f, "m"), ==, EPERM);
    assertUntouched(f, partial);
    g_assert_false(has(f, "m"));
}

/* A file of root's in the engine's directory stays what it is. */
static void
testForeignFile(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = NULL;
    struct stat st;

    if (!isRoot()) {
        g_test_message("left out: needs root");
        return;
    }
    partial = makePartial(f, "m");
    g_assert_cmpint(chown(partial, 0, 0), ==, 0);
    g_assert_cmpint(adopt(f, "m"), ==, EPERM);
    g_assert_cmpint(stat(partial, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
    g_assert_false(has(f, "m"));
}

static void
testNotRegular(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *fifo = g_build_filename(f->partial, "fifo", NULL);
    g_autofree char *dir = g_build_filename(f->partial, "dir", NULL);

    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    g_assert_cmpint(g_mkdir(dir, 0700), ==, 0);
    g_assert_cmpint(chown(fifo, f->policy.engine_uid, f->policy.engine_gid), ==, 0);
    g_assert_cmpint(chown(dir, f->policy.engine_uid, f->policy.engine_gid), ==, 0);
    g_assert_cmpint(adopt(f, "fifo"), ==, EPERM);
    g_assert_cmpint(adopt(f, "dir"), ==, EPERM);
    g_assert_cmpint(adopt(f, "missing"), ==, ENOENT);
    g_assert_false(has(f, "fifo"));
    g_assert_false(has(f, "dir"));
}

/* Whoever has it open for writing could change it after it became a master. */
static void
testOpenForWriting(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *partial = makePartial(f, "m");
    int fd = open(partial, O_RDWR | O_CLOEXEC);

    g_assert_cmpint(adopt(f, "m"), ==, EBUSY);
    assertUntouched(f, partial);
    g_assert_false(has(f, "m"));
    close(fd);
    g_assert_cmpint(adopt(f, "m"), ==, 0);
}

static void
testNames(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    static const char *const names[] = {
        "", ".", "..", "../m", "/etc/passwd", "a/b", ".torrentpool", ".hidden", "line\nbreak",
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(names); i++)
        g_assert_cmpint(adopt(f, names[i]), ==, EINVAL);
}

static void
testMalformed(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentMonitorRequest request;
    int i;

    memset(&request, 'x', sizeof(request));
    request.verb = VIR_TORRENT_MONITOR_PREPARE;
    virTorrentMonitorHandle(&f->policy, &request, &f->reply);
    g_assert_cmpint(f->reply.failed, ==, EINVAL);
    for (i = 0; i < 2000; i++) {
        guint32 *words = (guint32 *) (void *) &request;
        gsize n;

        for (n = 0; n < sizeof(request) / sizeof(*words); n++)
            words[n] = g_test_rand_int() | (i % 2 ? 0 : 0x01010101);
        request.verb = i % 6;
        request.target[0] = '/';
        virTorrentMonitorHandle(&f->policy, &request, &f->reply);
        g_assert_cmpint(f->reply.failed, !=, 0);
        g_assert_nonnull(memchr(f->reply.message, '\0', sizeof(f->reply.message)));
    }
    memset(&request, 0, sizeof(request));
    request.verb = 4711;
    virTorrentMonitorHandle(&f->policy, &request, &f->reply);
    g_assert_cmpint(f->reply.failed, ==, EINVAL);
}

/* As the engine does it: asks again until it is done. */
static int
askLong(Fixture *f, VirTorrentMonitorVerb verb, const char *name)
{
    while (ask(f, verb, f->dir, name) == EAGAIN)
        g_usleep(1000);
    return f->reply.failed;
}

/* A master @name with @content, sealed if @seal. */
static char *
makeMaster(Fixture *f, const char *name, const char *content, gboolean seal)
{
    char *path = g_build_filename(f->dir, name, NULL);

    g_assert_true(g_file_set_contents(path, content, -1, NULL));
    g_assert_cmpint(chmod(path, 0444), ==, 0);
    if (seal)
        g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_SEAL, name), ==, 0);
    return path;
}

/* Other bytes in the same file. */
static void
rot(const char *path)
{
    int fd;

    g_assert_cmpint(chmod(path, 0644), ==, 0);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, "rotten", 6, 0), ==, 6);
    close(fd);
    g_assert_cmpint(chmod(path, 0444), ==, 0);
}

static void
assertContent(const char *path, const char *expected)
{
    g_autofree char *content = NULL;

    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, expected);
}

/* A damaged master is replaced by what it was: another inode, root's, and sealed. */
static void
testHeal(Fixture *f, gconstpointer noLinks)
{
    g_autofree char *master = makeMaster(f, "m", "content", TRUE);
    g_autofree char *partial = NULL;
    guint8 root[VIR_TORRENT_SEAL_SIZE];
    struct stat before;
    struct stat st;
    int old = open(master, O_RDONLY | O_CLOEXEC);
    char content[7];
    int fd;

    f->policy.no_links = noLinks != NULL;
    rot(master);
    g_assert_cmpint(stat(master, &before), ==, 0);
    partial = makePartial(f, "m");
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "m"), ==, 0);
    assertContent(master, "content");
    g_assert_cmpint(stat(master, &st), ==, 0);
    g_assert_cmpuint(st.st_ino, !=, before.st_ino);
    g_assert_cmpuint(st.st_uid, ==, f->policy.owner_uid);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0444);
    g_assert_false(has(f, ".torrentpool/.healing"));
    /* who has it open goes on with what he has */
    g_assert_cmpint(pread(old, content, sizeof(content), 0), ==, sizeof(content));
    g_assert_cmpmem(content, sizeof(content), "rottent", 7);
    close(old);
    if (isRoot()) {
        fd = open(master, O_RDONLY | O_CLOEXEC);
        g_assert_true(virTorrentSealRead(fd, root));
        close(fd);
    }
}

/* What an engine in hostile hands may try. */
static void
testReplaceRefused(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *master = makeMaster(f, "m", "the master", TRUE);
    g_autofree char *unsealed = makeMaster(f, "unsealed", "content", FALSE);
    g_autofree char *partial = makePartial(f, "m");
    g_autofree char *other = makePartial(f, "unsealed");
    g_autofree char *third = makePartial(f, "none");
    g_autofree char *second = g_build_filename(f->partial, "second", NULL);
    int fd;

    /* a name that no master has */
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "none"), ==, ENOENT);
    g_assert_false(has(f, "none"));
    if (!isRoot()) {
        g_test_message("the rest is left out: needs root");
        return;
    }
    /* other content */
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "m"), ==, EBADMSG);
    assertContent(master, "the master");
    assertUntouched(f, partial);
    /* with a seal that the engine made */
    fd = open(partial, O_RDWR | O_CLOEXEC);
    g_assert_true(virTorrentSealWrite(fd, (const guint8 *) "01234567890123456789012345678901"));
    close(fd);
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "m"), ==, EBADMSG);
    /* what is known of one file is not believed of another with its inode: a
     * good one is read, then something else is adopted from there */
    g_assert_true(g_file_set_contents(partial, "the master", -1, NULL));
    g_assert_cmpint(chown(partial, ENGINE_UID, ENGINE_UID), ==, 0);
    fd = open(partial, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "m"), ==, EBUSY);
    close(fd);
    /* a second name */
    g_assert_cmpint(link(partial, second), ==, 0);
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "m"), ==, EPERM);
    unlink(second);
    /* what it was is not known */
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "unsealed"), ==, ENODATA);
    g_assert_nonnull(strstr(f->reply.message, "mv '"));
    assertContent(unsealed, "content");
    /* a master that can be written to is none */
    g_assert_cmpint(chmod(master, 0644), ==, 0);
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "m"), ==, EPERM);
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_SEAL, "m"), ==, EPERM);
    g_assert_cmpint(chmod(master, 0444), ==, 0);
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "m"), ==, 0);
    assertContent(master, "the master");
}

/* Root has read a good file; the engine removes it and has another one adopted, which may get the
 * same inode: it must be read itself. */
static void
testReplaceInode(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *master = makeMaster(f, "m", "content", TRUE);
    g_autofree char *wanted = makeMaster(f, "other", "something else", TRUE);
    g_autofree char *partial = NULL;
    g_autofree char *evil = NULL;
    guint i;

    if (!isRoot()) {
        g_test_message("left out: needs root");
        return;
    }
    for (i = 0; i < 20; i++) {
        g_autofree char *name = g_strdup_printf("evil%u", i);
        g_autofree char *final = g_build_filename(f->dir, name, NULL);

        /* "content" is read and found to be no "something else", */
        partial = makePartial(f, "other");
        g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "other"), ==, EBADMSG);
        unlink(partial);
        g_clear_pointer(&partial, g_free);
        /* but "evil" in its inode is no "content" */
        evil = g_build_filename(f->partial, name, NULL);
        g_assert_true(g_file_set_contents(evil, "evil", -1, NULL));
        g_assert_cmpint(chown(evil, ENGINE_UID, ENGINE_UID), ==, 0);
        f->policy.no_links = FALSE;
        g_assert_cmpint(adopt(f, name), ==, 0);
        unlink(final);
        partial = g_build_filename(f->partial, "m", NULL);
        g_assert_cmpint(rename(evil, partial), ==, 0);
        g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_REPLACE, "m"), ==, EBADMSG);
        assertContent(master, "content");
        unlink(partial);
        g_clear_pointer(&partial, g_free);
        g_clear_pointer(&evil, g_free);
    }
}

/* Where kernel and file system have fs-verity a sealed master has it; where not, that is no error. */
static void
testVerity(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *master = NULL;
    int fd;
    int rc;

    if (!isRoot()) {
        g_test_message("left out: needs root");
        return;
    }
    f->policy.verity = TRUE;
    master = makeMaster(f, "m", "content", TRUE);
    fd = open(master, O_RDONLY | O_CLOEXEC);
    rc = virTorrentSealEnableVerity(fd);
    g_test_message("fs-verity: %s", g_strerror(rc));
    g_assert_true(rc == 0 || rc == EOPNOTSUPP || rc == ENOTTY);
    g_assert_cmpint(virTorrentSealHasVerity(fd), ==, rc == 0);
    close(fd);
    fd = open(master, O_RDWR | O_CLOEXEC);
    if (rc == 0)
        g_assert_cmpint(fd, ==, -1);
    else
        close(fd);
    /* and again, when it has it */
    g_assert_cmpint(askLong(f, VIR_TORRENT_MONITOR_SEAL, "m"), ==, 0);
    unlink(master);
}

static gpointer
serveOnce(gpointer opaque)
{
    int *fd = opaque;
    VirTorrentMonitorPolicy policy = { .owner_uid = geteuid(), .engine_uid = geteuid() };
    gboolean ready = FALSE;

    return GINT_TO_POINTER(virTorrentMonitorServe(*fd, &policy, &ready) + 2 * ready);
}

static void
testWire(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    VirTorrentMonitor *monitor;
    g_autofree char *longname = g_strnfill(5000, 'x');
    GError *err = NULL;
    GThread *thread;
    int pair[2];

    (void) f;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
    monitor = virTorrentMonitorNew(pair[1]);
    thread = g_thread_new("monitor", serveOnce, &pair[0]);
    g_assert_true(virTorrentMonitorReady(monitor, &err));
    g_assert_no_error(err);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 3);
    thread = g_thread_new("monitor", serveOnce, &pair[0]);
    g_assert_false(virTorrentMonitorAdopt(monitor, "/nonexistent", "m", &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    g_clear_error(&err);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 1);
    g_assert_false(virTorrentMonitorAdopt(monitor, longname, "m", &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_NAMETOOLONG);
    g_clear_error(&err);
    /* a message of another size ends it */
    thread = g_thread_new("monitor", serveOnce, &pair[0]);
    g_assert_cmpint(send(pair[1], "short", 5, 0), ==, 5);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 0);
    close(pair[0]);
    g_assert_false(virTorrentMonitorPrepare(monitor, "/tmp", &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_PIPE);
    g_clear_error(&err);
    virTorrentMonitorFree(monitor);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR);
#define ADD(path, func) g_test_add("/monitor/" path, Fixture, NULL, setup, func, teardown)
    ADD("prepare", testPrepare);
    ADD("no-mark-no-pool", testNoMark);
    ADD("adopt", testAdopt);
    ADD("adopt-by-rename", testAdoptByRename);
    ADD("name-taken", testNameTaken);
    ADD("symlink-leads-nowhere", testSymlink);
    ADD("symlinked-directory", testSymlinkedDirectory);
    ADD("hard-link", testHardLink);
    ADD("foreign-file", testForeignFile);
    ADD("not-a-regular-file", testNotRegular);
    ADD("open-for-writing", testOpenForWriting);
    ADD("names", testNames);
    ADD("heal", testHeal);
    g_test_add("/monitor/heal-by-rename", Fixture, "", setup, testHeal, teardown);
    ADD("replace-refused", testReplaceRefused);
    ADD("replace-inode-reused", testReplaceInode);
    ADD("verity", testVerity);
    ADD("malformed", testMalformed);
    ADD("wire", testWire);
    return g_test_run();
}
