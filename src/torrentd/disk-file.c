/*
 * disk-file.c: descriptors, bytes and holes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Part of disk.h.  Nothing here is shared but the count of a descriptor's
 * users.  The directory is opened for each file anew, since it may be another
 * one by then, and the file below it: a link in its place leads nowhere.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "disk-priv.h"

VirTorrentDiskFd *
virTorrentDiskFdRef(VirTorrentDiskFd *fd)
{
    g_atomic_ref_count_inc(&fd->refs);
    return fd;
}

void
virTorrentDiskFdUnref(VirTorrentDiskFd *fd)
{
    if (!g_atomic_ref_count_dec(&fd->refs))
        return;
    close(fd->fd);
    g_free(fd);
}

static int
virTorrentDiskOpenDir(const char *dir)
{
    return open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* 0 or an errno.  A second name may be a master's. */
static int
virTorrentDiskCheckFd(int fd, gboolean writable, guint64 size)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    if (!writable)
        return 0;
    if (st.st_nlink != 1)
        return EMLINK;
    /* holes are all that is not written, up to its end */
    if ((guint64)st.st_size != size && ftruncate(fd, size) < 0)
        return errno;
    return 0;
}

/* tmpfs knows no RWF_NOWAIT, though it has all there is in memory (what was
 * swapped out is waited for). */
static gboolean
virTorrentDiskIsMemory(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

VirTorrentDiskFd *
virTorrentDiskFdOpen(const char *dir, const char *name, gboolean writable, guint64 size)
{
    /* O_NONBLOCK: a FIFO would wait for somebody at its other end */
    int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (writable ? O_RDWR | O_CREAT : O_RDONLY);
    int dirfd = virTorrentDiskOpenDir(dir);
    int fd = dirfd < 0 ? -1 : openat(dirfd, name, flags, 0600);
    int err = fd < 0 ? errno : virTorrentDiskCheckFd(fd, writable, size);
    VirTorrentDiskFd *out;

    if (dirfd >= 0)
        close(dirfd);
    if (err) {
        if (fd >= 0)
            close(fd);
        errno = err;
        return NULL;
    }
    out = g_new0(VirTorrentDiskFd, 1);
    g_atomic_ref_count_init(&out->refs);
    out->fd = fd;
    out->memory = virTorrentDiskIsMemory(fd);
    return out;
}

int
virTorrentDiskFdStat(const char *dir, const char *name, guint64 *size)
{
    int dirfd = virTorrentDiskOpenDir(dir);
    struct stat st;
    int err = 0;

    if (dirfd < 0)
        return errno;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        err = errno;
    else if (!S_ISREG(st.st_mode))
        err = EINVAL;
    else
        *size = st.st_size;
    close(dirfd);
    return err;
}

int
virTorrentDiskPread(int fd, guint8 *data, gsize len, guint64 pos)
{
    while (len > 0) {
        ssize_t got = pread(fd, data, len, pos);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        if (got == 0)
            return ENODATA;
        data += got;
        pos += got;
        len -= got;
    }
    return 0;
}

/* Other file systems that cannot tell say EOPNOTSUPP: then it is not. */
gboolean
virTorrentDiskPreadCached(VirTorrentDiskFd *fd, guint8 *data, gsize len, guint64 pos)
{
    struct iovec iov = { .iov_base = data, .iov_len = len };

    return preadv2(fd->fd, &iov, 1, pos, fd->memory ? 0 : RWF_NOWAIT) == (ssize_t)len;
}

int
virTorrentDiskPwritev(int fd, struct iovec *iov, int count, guint64 pos)
{
    while (count > 0) {
        ssize_t put = pwritev(fd, iov, count, pos);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno;
        if (put == 0)
            return EIO;
        pos += put;
        while (count > 0 && (gsize)put >= iov->iov_len) {
            put -= iov->iov_len;
            iov++;
            count--;
        }
        if (count > 0) {
            iov->iov_base = (guint8 *)iov->iov_base + put;
            iov->iov_len -= put;
        }
    }
    return 0;
}

int
virTorrentDiskPutZeros(int fd, guint64 pos, gsize len)
{
    static guint8 zeros[VIR_TORRENT_BLOCK_SIZE];
    off_t data = lseek(fd, pos, SEEK_DATA);

    if ((data < 0 && errno == ENXIO) || (data >= 0 && (guint64)data >= pos + len))
        return 0;
    /* what is left of an earlier try */
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, len) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return errno;
    while (len > 0) {
        struct iovec iov = { .iov_base = zeros, .iov_len = MIN(len, sizeof(zeros)) };
        gsize now = iov.iov_len;
        int err = virTorrentDiskPwritev(fd, &iov, 1, pos);

        if (err)
            return err;
        pos += now;
        len -= now;
    }
    return 0;
}
