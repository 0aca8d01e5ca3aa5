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
 * Where the journal keeps the order of changes, the first needs no commit.  What
 * may be lost otherwise is delayed: ext4 and XFS give a file its blocks when it
 * is written back, long after a name that it got may be on disk, and unlike for
 * a rename over an existing file nothing makes them do that for a new name.
 * sync_file_range() with all three flags writes back now and waits until no page
 * is under writeback.  In both file systems that is after the transactions that
 * add the blocks to the file and mark them as written, which run before a
 * page's writeback ends; the name comes in a later one.  Transactions become
 * valid in their order, and before each of them the file system flushes what
 * the device holds back, so that the bytes are there too.
 *
 * tests/e2e/power-cut.sh cuts the power; without sync_file_range() it finds
 * clones that are empty on both.
 *
 * It is not so with btrfs, which adds blocks after the pages' writeback ended,
 * nor with ext4 without a journal, and nothing is known of others: there it is
 * fsync().  Whoever mounts ext4 with barrier=0 vouches for the device's cache.
 *
 * The name itself is on disk with the journal's next commit, some seconds later,
 * or with the first flush of the guest that uses the clone, whichever is first.
 */

#include <config.h>

#include "image_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXT4_MAGIC 0xef53       /* ext2 and ext3 as well */
#define XFS_MAGIC 0x58465342


/* The kernel tells below /sys/fs/ext4/DEVICE which process writes the journal,
 * "<none>" without one.  Not remembered: it takes microseconds, and another may be
 * mounted there any time. */
static gboolean
virImageHasJournal(int fd)
{
    g_autofree char *device = NULL;
    g_autofree char *dev = NULL;
    g_autofree char *name = NULL;
    g_autofree char *path = NULL;
    g_autofree char *task = NULL;
    struct stat sb;

    if (fstat(fd, &sb) < 0)
        return FALSE;

    dev = g_strdup_printf("/sys/dev/block/%u:%u", major(sb.st_dev), minor(sb.st_dev));
    if (!(device = g_file_read_link(dev, NULL)))
        return FALSE;

    name = g_path_get_basename(device);
    path = g_strdup_printf("/sys/fs/ext4/%s/journal_task", name);
    return g_file_get_contents(path, &task, NULL, NULL) && g_ascii_isdigit(*task);
}


static gboolean
virImageKeepsOrder(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return FALSE;
    return fs.f_type == XFS_MAGIC || (fs.f_type == EXT4_MAGIC && virImageHasJournal(fd));
}


/**
 * virImageSyncContent:
 * @fd: a file, all written
 * @sync_name: set to whether the directory of what gets a name next has to be
 *     synced then
 *
 * Returns 0 when what happens next on the same file system comes after the
 * content, -1 with errno set.  It takes no time if the content is on disk already.
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
