/*
 * kill-at.c: kills the program that it is preloaded into at its N-th change of a file system
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * KILL_AT names a file.  While that exists, each call below is counted and noted
 * by name in KILL_AT.log, and before the one whose number stands in the file the program is
 * killed as by kill -9.  While it does not exist the count is zero.
 * Only programs named KILL_NAME are concerned, and not their children.
 *
 * Each call is passed on with as many arguments as any of them has.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long self;
static const char *at;
static char log_path[4096];
static int count;

static __attribute__((constructor)) void
begin(void)
{
    const char *name = getenv("KILL_NAME");

    at = getenv("KILL_AT");
    if (!at || !name || strcmp(program_invocation_short_name, name) != 0)
        return;
    snprintf(log_path, sizeof(log_path), "%s.log", at);
    self = syscall(SYS_getpid);
}

static void
note(const char *name, int number)
{
    char line[80];
    int len = snprintf(line, sizeof(line), "%d %s\n", number, name);
    long fd = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    syscall(SYS_write, fd, line, len);
    syscall(SYS_close, fd);
}

static void
step(const char *name)
{
    char text[16] = "";
    int saved = errno, number;
    long fd;

    if (!self || syscall(SYS_getpid) != self)
        return;
    fd = syscall(SYS_openat, AT_FDCWD, at, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) {
        __atomic_store_n(&count, 0, __ATOMIC_SEQ_CST);
    } else {
        syscall(SYS_read, fd, text, sizeof(text) - 1);
        syscall(SYS_close, fd);
        number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
        note(name, number);
        if (number == atoi(text))
            syscall(SYS_kill, self, SIGKILL);
    }
    errno = saved;
}

#define PASS(name, condition) \
    long killAt_##name(long a, long b, long c, long d, long e) __asm__(#name); \
    long killAt_##name(long a, long b, long c, long d, long e) \
    { \
        static long (*next)(long, long, long, long, long); \
        if (!next) \
            next = (long (*)(long, long, long, long, long)) dlsym(RTLD_NEXT, #name); \
        if (condition) \
            step(#name); \
        return next(a, b, c, d, e); \
    }

PASS(open, b & O_CREAT)
PASS(open64, b & O_CREAT)
PASS(openat, c & O_CREAT)
PASS(openat64, c & O_CREAT)
PASS(creat64, 1)
PASS(link, 1)
PASS(linkat, 1)
PASS(symlink, 1)
PASS(symlinkat, 1)
PASS(renameat, 1)
PASS(renameat2, 1)
PASS(unlink, 1)
PASS(unlinkat, 1)
PASS(mkdir, 1)
PASS(mkdirat, 1)
PASS(rmdir, 1)
PASS(fchmod, 1)
PASS(fchmodat, 1)
PASS(fchown, 1)
PASS(fchownat, 1)
PASS(ftruncate64, 1)
PASS(fallocate64, 1)
PASS(fsync, 1)
PASS(fdatasync, 1)
PASS(sync_file_range, 1)
PASS(pwrite64, 1)
PASS(copy_file_range, 1)
