/*
 * storage_torrentpool_elsewhere.c: clones of a pool's masters in other pools
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A master may have clones in other torrent pools of this host, and has to stay
 * while it has, whether these pools are active or not, and whoever was
 * restarted meanwhile. So the pool of the master knows in which directories to
 * look: TARGET/.torrentpool/elsewhere, root's, 0600, one per line. One is
 * noted before the first clone is made there and whenever a pool with such
 * clones is listed (it may have been moved), and stays noted: that costs a look
 * into a directory when a master is deleted.
 *
 * In a session the pools of the user know of each other; a pool of the system
 * cannot be told.
 */

#include <config.h>

#include <fcntl.h>
#include <unistd.h>

#include "storage_torrentpool_elsewhere.h"
#include "storage_torrentpool_file.h"
#include "storage_torrentpool_state.h"
#include "viralloc.h"
#include "virerror.h"
#include "virfile.h"
#include "virlog.h"
#include "virstring.h"
#include "virthread.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_elsewhere");

#define ELSEWHERE_FILE "elsewhere"
#define ELSEWHERE_MAX (1024 * 1024)

/* Nobody notes while another does; no other lock is taken under it. */
static virMutex elsewhereLock = VIR_MUTEX_INITIALIZER;


/* The lines of the file behind @fd, NULL with errno set on error */
static char **
virStorageTorrentPoolElsewhereRead(int fd)
{
    g_autofree char *text = NULL;

    if (virFileReadLimFD(fd, ELSEWHERE_MAX, &text) < 0)
        return NULL;

    return g_strsplit(text, "\n", 0);
}


static int
virStorageTorrentPoolElsewhereAdd(int dirfd,
                                  const char *dir)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&elsewhereLock);
    g_autofree char *line = g_strdup_printf("%s\n", dir);
    g_auto(GStrv) lines = NULL;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = openat(dirfd, ELSEWHERE_FILE,
                     O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                     0600)) < 0)
        return -1;

    if (!(lines = virStorageTorrentPoolElsewhereRead(fd)))
        return -1;

    if (g_strv_contains((const char *const *)lines, dir))
        return 0;

    /* on disk before the clone is */
    if (safewrite(fd, line, strlen(line)) < 0 ||
        fsync(fd) < 0 || fsync(dirfd) < 0)
        return -1;

    return 0;
}


int
virStorageTorrentPoolElsewhereNote(const char *master,
                                   const char *dir)
{
    g_autofree char *target = g_path_get_dirname(master);
    g_autofree char *private = virFileBuildPath(target, VIR_STORAGE_TORRENT_POOL_PRIVATE, NULL);
    VIR_AUTOCLOSE dirfd = -1;
    struct stat sb;

    if (STREQ(target, dir) || lstat(private, &sb) < 0 || !S_ISDIR(sb.st_mode))
        return 0;

    if (sb.st_uid != geteuid()) {
        VIR_WARN("'%s' gets clones in '%s', of which its pool does not know", master, dir);
        return 0;
    }

    if (strchr(dir, '\n')) {
        virReportError(VIR_ERR_OPERATION_UNSUPPORTED,
                       _("'%1$s' cannot have clones in a directory with a line feed in its name"),
                       master);
        return -1;
    }

    if ((dirfd = virStorageTorrentPoolFileOpenPrivate(target)) < 0)
        return -1;

    if (virStorageTorrentPoolElsewhereAdd(dirfd, dir) < 0) {
        virReportSystemError(errno,
                             _("cannot note in '%1$s' that '%2$s' holds clones"),
                             private, dir);
        return -1;
    }

    return 0;
}


/* Returns NULL with an error reported where that is not known. */
char **
virStorageTorrentPoolElsewhereGet(const char *target)
{
    VIR_AUTOCLOSE dirfd = virStorageTorrentPoolFileOpenPrivate(target);
    VIR_AUTOCLOSE fd = -1;
    char **dirs;

    if (dirfd < 0)
        return NULL;

    if ((fd = openat(dirfd, ELSEWHERE_FILE,
                     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) < 0 &&
        errno == ENOENT)
        return g_new0(char *, 1);

    if (fd < 0 || !(dirs = virStorageTorrentPoolElsewhereRead(fd))) {
        virReportSystemError(errno,
                             _("cannot tell which other directories hold clones of masters of '%1$s'"),
                             target);
        return NULL;
    }

    return dirs;
}
