/*
 * faults.c: faults on demand, preloaded into a program
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The file $FAULTS_DIR/order says what is wrong at the moment, one line:
 *
 *   read INODE BEGIN END    reading these bytes of that file gives EIO
 *   write WORD              writing to a file whose path has WORD in it gives EIO
 *   clock SECONDS           the wall clock is that far off; other clocks are right
 *
 * and $FAULTS_DIR/log has a line for each time that one was felt, so that a test
 * can tell whether there was a fault.
 */

#define _GNU_SOURCE 1

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

/* By system calls, as those of the library are ours. */
static int
order(char *text, size_t size)
{
    const char *dir = getenv("FAULTS_DIR");
    char path[4096];
    ssize_t n;
    int fd;

    if (!dir)
        return 0;
    snprintf(path, sizeof(path), "%s/order", dir);
    fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = syscall(SYS_read, fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static void
felt(const char *what)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/log", getenv("FAULTS_DIR"));
    fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        return;
    syscall(SYS_write, fd, what, strlen(what));
    close(fd);
}

static int
badRead(int fd, off_t pos, size_t len)
{
    unsigned long long inode, begin, end;
    char text[256];
    struct stat st;

    if (!order(text, sizeof(text)) || sscanf(text, "read %llu %llu %llu", &inode, &begin, &end) != 3 ||
        fstat(fd, &st) < 0 || st.st_ino != inode || pos + len <= begin || (unsigned long long) pos >= end)
        return 0;
    felt("read\n");
    errno = EIO;
    return 1;
}

static int
badWrite(int fd)
{
    char text[256], word[200], link[64], path[4096];
    ssize_t n;

    if (!order(text, sizeof(text)) || sscanf(text, "write %199s", word) != 1)
        return 0;
    snprintf(link, sizeof(link), "/proc/thread-self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    if (!strstr(path, word))
        return 0;
    felt("write\n");
    errno = EIO;
    return 1;
}

static size_t
total(const struct iovec *iov, int count)
{
    size_t sum = 0;
    int i;

    for (i = 0; i < count; i++)
        sum += iov[i].iov_len;
    return sum;
}

ssize_t
pread(int fd, void *buffer, size_t len, off_t pos)
{
    return badRead(fd, pos, len) ? -1 : REAL(pread)(fd, buffer, len, pos);
}

ssize_t
pread64(int fd, void *buffer, size_t len, off64_t pos)
{
    return badRead(fd, pos, len) ? -1 : REAL(pread64)(fd, buffer, len, pos);
}

ssize_t
preadv2(int fd, const struct iovec *iov, int count, off_t pos, int flags)
{
    return badRead(fd, pos, total(iov, count)) ? -1 : REAL(preadv2)(fd, iov, count, pos, flags);
}

ssize_t
preadv64v2(int fd, const struct iovec *iov, int count, off64_t pos, int flags)
{
    return badRead(fd, pos, total(iov, count)) ? -1 : REAL(preadv64v2)(fd, iov, count, pos, flags);
}

ssize_t
copy_file_range(int in, off64_t *at, int out, off64_t *pos, size_t len, unsigned int flags)
{
    if ((at && badRead(in, *at, len)) || badWrite(out))
        return -1;
    return REAL(copy_file_range)(in, at, out, pos, len, flags);
}

ssize_t
pwrite(int fd, const void *buffer, size_t len, off_t pos)
{
    return badWrite(fd) ? -1 : REAL(pwrite)(fd, buffer, len, pos);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
    return badWrite(fd) ? -1 : REAL(pwritev)(fd, iov, count, pos);
}

ssize_t
pwritev64(int fd, const struct iovec *iov, int count, off64_t pos)
{
    return badWrite(fd) ? -1 : REAL(pwritev64)(fd, iov, count, pos);
}

static long
clockError(void)
{
    char text[256];
    long seconds;

    if (!order(text, sizeof(text)) || sscanf(text, "clock %ld", &seconds) != 1)
        return 0;
    felt("clock\n");
    return seconds;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    int rc = syscall(SYS_clock_gettime, clock, now);

    if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += clockError();
    return rc;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec t;
    int rc = clock_gettime(CLOCK_REALTIME, &t);

    (void) zone;
    now->tv_sec = t.tv_sec;
    now->tv_usec = t.tv_nsec / 1000;
    return rc;
}

time_t
time(time_t *out)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}
