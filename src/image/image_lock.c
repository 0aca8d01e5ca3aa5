/*
 * image_lock.c: whether somebody has an image open for writing
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Two witnesses, each of which can only prove use, not idleness:
 *  - a read lease is refused by the kernel while any descriptor or shared
 *    mapping of this host can write to the file.  It takes root or the file's
 *    owner, and a local file system;
 *  - QEMU marks what it does with byte-range locks (block/file-posix.c): byte
 *    100 + N is locked while a QEMU uses permission N of enum BlockPermission.
 *    These reach across hosts where the file system's locks do.
 */

#include <config.h>

#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#define QEMU_LOCK_PERM_BASE 100
#define QEMU_PERM_WRITE 1
#define QEMU_PERM_RESIZE 3


static gboolean
virImageLeaseRefused(int fd)
{
    /* Who opens the file for writing while we hold the lease makes the kernel
     * send SIGIO, whose default is death; SIGURG's is nothing. */
    if (fcntl(fd, F_SETSIG, SIGURG) < 0)
        return FALSE;

    /* held for no longer than it takes to give it back: who opens the file in
     * between waits that long */
    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        fcntl(fd, F_SETLEASE, F_UNLCK);
        return FALSE;
    }

    return errno == EAGAIN;
}


static gboolean
virImageByteLocked(int fd, off_t offset)
{
    struct flock lock = {
        .l_type = F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = offset,
        .l_len = 1,
    };

    /* F_OFD_GETLK and not F_GETLK: QEMU's are locks of open file descriptions,
     * and our own other descriptors must not be taken for strangers' */
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}


/**
 * virImageIsInUse:
 * @fd: descriptor of the file, open for reading only
 *
 * Returns TRUE when it is sure that somebody can write to the file now.  On a
 * file system without leases, or as a stranger to the file, FALSE is only
 * "no QEMU has it open for writing".
 */
gboolean
virImageIsInUse(int fd)
{
    return virImageLeaseRefused(fd) ||
        virImageByteLocked(fd, QEMU_LOCK_PERM_BASE + QEMU_PERM_WRITE) ||
        virImageByteLocked(fd, QEMU_LOCK_PERM_BASE + QEMU_PERM_RESIZE);
}
