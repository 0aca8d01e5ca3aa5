/*
 * image_sync.c: content on the disk before the name that leads to it
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A clone must be whole or not there after a crash; whether one that was made
 * in the last seconds is there is less: it holds nothing yet.  fsync() of file
 * and directory promises both and waits for two commits of the file system's
 * journal, several milliseconds each, which is all that making a clone takes.
 *
 * Where the journal keeps the order of changes, the first needs no commit: once
 * the bytes are written out and their blocks belong to the file, a name given
 * to it later is committed with them or after them, and before each commit the
 * file system flushes what the device may hold back.  That is so with ext4 and
 * XFS, where sync_file_range() ends after the blocks were added to the file.
 * It is not with btrfs, which adds them afterwards, and nothing is known of
 * others: there it is fsync().
 *
 * The name itself is on disk with the journal's next commit, some seconds later,
 * or with the first flush of the guest that uses the clone, whichever is first.
 */

#include <config.h>

#include "image_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXT4_MAGIC 0xef53       /* ext2 and ext3 as well, if no ext4 driver mounts them */
#define XFS_MAGIC 0x58465342


static gboolean
virImageKeepsOrder(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 && (fs.f_type == EXT4_MAGIC || fs.f_type == XFS_MAGIC);
}


/**
 * virImageSyncContent:
 * @fd: a new file without a name, all written
 * @sync_name: set to whether its directory has to be synced when it has its name
 *
 * Returns 0 when what comes next comes after the content, -1 with errno set.
 */
int
virImageSyncContent(int fd, gboolean *sync_name)
{
    *sync_name = TRUE;

    if (virImageKeepsOrder(fd)) {
        if (sync_file_range(fd, 0, 0,
                            SYNC_FILE_RANGE_WAIT_BEFORE |
                            SYNC_FILE_RANGE_WRITE |
                            SYNC_FILE_RANGE_WAIT_AFTER) == 0) {
            *sync_name = FALSE;
            return 0;
        }
        if (errno != ENOSYS)
            return -1;
    }

    return fsync(fd);
}
