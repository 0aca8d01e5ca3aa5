/*
 * test-confine.c: what the daemon has forbidden itself
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"

/* In a child, since it cannot be taken back: its exit status. */
static int
runConfined(int (*func)(void))
{
    int status;
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        g_autoptr(GError) err = NULL;

        _exit(virTorrentConfineCalls(&err) ? func() : 99);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static gboolean
isForbidden(long rc)
{
    return rc == -1 && errno == EPERM;
}

static int
tryProgram(void)
{
    char *const argv[] = { (char *) "true", NULL };

    return isForbidden(execve("/bin/true", argv, argv + 1)) ? 0 : 1;
}

/* As root too. */
static int
tryOthers(void)
{
    return (isForbidden(ptrace(PTRACE_TRACEME, 0, NULL, NULL)) ? 0 : 1) |
        (isForbidden(mount("none", "/", NULL, MS_REMOUNT, NULL)) ? 0 : 2) |
        (isForbidden(unshare(CLONE_NEWUSER)) ? 0 : 4) |
        (isForbidden(mkfifo("test-confine-fifo", 0600)) ? 0 : 8) |
        (isForbidden(chroot("/")) ? 0 : 16);
}

static gpointer
threadMain(gpointer opaque)
{
    return opaque;
}

static int
tryNeeded(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    GThread *thread = g_thread_new("test", threadMain, &fd);

    return (fd >= 0 && write(fd, "x", 1) == 1 ? 0 : 1) | (sock >= 0 ? 0 : 2) |
        (g_thread_join(thread) == &fd ? 0 : 4);
}

static void
testProgram(void)
{
    g_assert_cmpint(runConfined(tryProgram), ==, 0);
}

static void
testOthers(void)
{
    g_assert_cmpint(runConfined(tryOthers), ==, 0);
}

static void
testNeeded(void)
{
    g_assert_cmpint(runConfined(tryNeeded), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/confine/program", testProgram);
    g_test_add_func("/confine/others", testOthers);
    g_test_add_func("/confine/needed", testNeeded);
    return g_test_run();
}
