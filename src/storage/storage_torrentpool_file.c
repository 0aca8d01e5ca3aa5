/*
 * storage_torrentpool_file.c: files and directories of a torrent pool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 *     TARGET/NAME                   volumes; a regular file without write
 *                                   permission for anybody is a master
 *     TARGET/.torrentpool           root's, 0755; its presence tells the
 *                                   privileged half of virttorrentd that root
 *                                   wants a torrent pool here
 *     TARGET/.torrentpool/build     root's, 0700; volumes while they are built
 *     TARGET/.torrentpool/volumes   root's, 0600; see storage_torrentpool_cache.c
 *     TARGET/.torrentpool/elsewhere root's, 0600; see storage_torrentpool_elsewhere.c
 *     TARGET/.torrentpool/...       virttorrentd's own
 *
 * virttorrentd's unprivileged half owns directories below .torrentpool, and a
 * volume is written to by guests: nothing is followed that might be a symbolic
 * link, and nothing existing is ever replaced but by a split (below).
 *
 * In the session daemon "root" is the user.
 *
 * A split makes a master of a private volume and leaves an overlay under its
 * name (see storage_torrentpool_build.c): BUILD/NAME is written, TARGET/NAME
 * frozen, linked as TARGET/MASTER, and BUILD/NAME renamed to TARGET/NAME.
 * After a crash BUILD/NAME tells how far it was, and the sweep finishes it.
 */

#include <config.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>
#ifdef __linux__
# include <linux/fs.h>
#endif

#include "storage_torrentpool_file.h"
#include "storage_torrentpool_state.h"
#include "viralloc.h"
#include "virerror.h"
#include "virfile.h"
#include "virlog.h"
#include "virstring.h"
#include "virutil.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_file");

#define COPY_BUFFER_SIZE (1024 * 1024)
/* virttorrentd keeps nothing deeper. */
#define PRIVATE_MAX_DEPTH 4
#define WRITE_BITS (S_IWUSR | S_IWGRP | S_IWOTH)


/* Returns 0 if a volume may have the name, -1 with an error reported if not. */
int
virStorageTorrentPoolFileCheckName(const char *name)
{
    if (*name == '\0' || *name == '.' || strchr(name, '/') ||
        virStringHasControlChars(name)) {
        virReportError(VIR_ERR_INVALID_ARG,
                       _("volume name '%1$s' is empty, begins with '.' or contains '/' or control characters"),
                       name);
        return -1;
    }

    if (strlen(name) > VIR_STORAGE_TORRENT_POOL_NAME_MAX) {
        virReportError(VIR_ERR_INVALID_ARG,
                       _("volume name '%1$s' is longer than %2$d bytes"),
                       name, VIR_STORAGE_TORRENT_POOL_NAME_MAX);
        return -1;
    }

    return 0;
}


static bool
virStorageTorrentPoolFileIsBidi(gunichar c)
{
    return c == 0x061c || c == 0x200e || c == 0x200f ||
           (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}


/* Whether a volume may get the name although a stranger thought of it */
bool
virStorageTorrentPoolFileIsSafeName(const char *name)
{
    const char *p;

    if (*name == '\0' || *name == '.' || *name == '-' ||
        strlen(name) > VIR_STORAGE_TORRENT_POOL_NAME_MAX ||
        !g_utf8_validate(name, -1, NULL))
        return false;

    for (p = name; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (c == '/' || g_unichar_iscntrl(c) ||
            virStorageTorrentPoolFileIsBidi(c))
            return false;
    }

    return true;
}


/* Returns a descriptor of the pool's directory, -1 on error */
int
virStorageTorrentPoolFileOpenTarget(const char *target)
{
    int fd;

    if ((fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        virReportSystemError(errno,
                             _("cannot open directory '%1$s' of the pool"),
                             target);
    }

    return fd;
}


/* Makes the directory @name in @dirfd unless it is there, and opens it. It has
 * to be ours, and nobody else may write to it. */
static int
virStorageTorrentPoolFileOpenOwn(int dirfd,
                                 const char *name,
                                 mode_t mode,
                                 const char *target)
{
    VIR_AUTOCLOSE fd = -1;
    struct stat sb;
    int ret;

    if (mkdirat(dirfd, name, mode) < 0 && errno != EEXIST) {
        virReportSystemError(errno,
                             _("cannot make directory '%1$s' for pool '%2$s'"),
                             name, target);
        return -1;
    }

    if ((fd = openat(dirfd, name,
                     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 ||
        fstat(fd, &sb) < 0) {
        virReportSystemError(errno,
                             _("cannot open directory '%1$s' of pool '%2$s'"),
                             name, target);
        return -1;
    }

    if (sb.st_uid != geteuid() || (sb.st_mode & (S_IWGRP | S_IWOTH))) {
        virReportError(VIR_ERR_OPERATION_FAILED,
                       _("directory '%1$s' of pool '%2$s' can be written to by others, remove it"),
                       name, target);
        return -1;
    }

    /* whatever the umask was */
    if ((sb.st_mode & 0777) != mode && fchmod(fd, mode) < 0) {
        virReportSystemError(errno,
                             _("cannot set mode of directory '%1$s' of pool '%2$s'"),
                             name, target);
        return -1;
    }

    ret = fd;
    fd = -1;
    return ret;
}


/* Returns a descriptor of the private directory, which is ours alone */
int
virStorageTorrentPoolFileOpenPrivate(const char *target)
{
    VIR_AUTOCLOSE dirfd = -1;

    if ((dirfd = virStorageTorrentPoolFileOpenTarget(target)) < 0)
        return -1;

    return virStorageTorrentPoolFileOpenOwn(dirfd,
                                            VIR_STORAGE_TORRENT_POOL_PRIVATE,
                                            0755, target);
}


/* Makes the directory that says: this is a torrent pool. */
int
virStorageTorrentPoolFileMakePrivate(const char *target)
{
    VIR_AUTOCLOSE fd = virStorageTorrentPoolFileOpenPrivate(target);

    return fd < 0 ? -1 : 0;
}


/* Returns a descriptor of the directory in which volumes are built */
int
virStorageTorrentPoolFileOpenBuild(const char *target)
{
    VIR_AUTOCLOSE fd = -1;

    if ((fd = virStorageTorrentPoolFileOpenPrivate(target)) < 0)
        return -1;

    return virStorageTorrentPoolFileOpenOwn(fd, VIR_STORAGE_TORRENT_POOL_BUILD,
                                            0700, target);
}


/* Removes what is in the directory behind @fd, which is closed. */
static int
virStorageTorrentPoolFileEmpty(int fd,
                               unsigned int depth)
{
    g_autoptr(DIR) dir = NULL;
    struct dirent *ent;
    int rc;

    if (!(dir = fdopendir(fd))) {
        VIR_FORCE_CLOSE(fd);
        return -1;
    }

    while ((rc = virDirRead(dir, &ent, NULL)) > 0) {
        int subfd;

        if (unlinkat(dirfd(dir), ent->d_name, 0) == 0)
            continue;

        if (errno != EISDIR && errno != EPERM)
            return -1;

        if (depth == 0) {
            errno = ENOTEMPTY;
            return -1;
        }

        if ((subfd = openat(dirfd(dir), ent->d_name,
                            O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 ||
            virStorageTorrentPoolFileEmpty(subfd, depth - 1) < 0 ||
            unlinkat(dirfd(dir), ent->d_name, AT_REMOVEDIR) < 0)
            return -1;
    }

    return rc;
}


/* Removes the private directory with all that is in it, following no link. */
int
virStorageTorrentPoolFileRemovePrivate(const char *target)
{
    VIR_AUTOCLOSE targetfd = -1;
    int fd;

    if ((targetfd = virStorageTorrentPoolFileOpenTarget(target)) < 0)
        return -1;

    if ((fd = openat(targetfd, VIR_STORAGE_TORRENT_POOL_PRIVATE,
                     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0) {
        if (errno == ENOENT)
            return 0;
    } else if (virStorageTorrentPoolFileEmpty(fd, PRIVATE_MAX_DEPTH) == 0 &&
               unlinkat(targetfd, VIR_STORAGE_TORRENT_POOL_PRIVATE,
                        AT_REMOVEDIR) == 0) {
        return 0;
    }

    virReportSystemError(errno,
                         _("cannot remove directory '%1$s/%2$s'"),
                         target, VIR_STORAGE_TORRENT_POOL_PRIVATE);
    return -1;
}


/* Whether the file lies in a torrent pool, this one or another */
bool
virStorageTorrentPoolFileInPool(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *private = NULL;
    struct stat sb;

    private = g_strdup_printf("%s/%s", dir, VIR_STORAGE_TORRENT_POOL_PRIVATE);

    return lstat(private, &sb) == 0 && S_ISDIR(sb.st_mode);
}


/* Whether the file of a torrent pool is frozen */
bool
virStorageTorrentPoolFileIsMaster(const char *path)
{
    struct stat sb;

    return lstat(path, &sb) == 0 &&
           S_ISREG(sb.st_mode) &&
           !(sb.st_mode & WRITE_BITS);
}


/* Returns a descriptor of a regular file, open for reading; @follow: the path
 * may be a symbolic link, it is the administrator's */
int
virStorageTorrentPoolFileOpen(const char *path,
                              bool follow)
{
    int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    VIR_AUTOCLOSE fd = -1;
    struct stat sb;
    int ret;

    if (!follow)
        flags |= O_NOFOLLOW;

    if ((fd = open(path, flags)) < 0 ||
        fstat(fd, &sb) < 0) {
        virReportSystemError(errno, _("cannot open '%1$s'"), path);
        return -1;
    }

    if (!S_ISREG(sb.st_mode)) {
        virReportError(VIR_ERR_INVALID_ARG,
                       _("'%1$s' is no regular file"), path);
        return -1;
    }

    ret = fd;
    fd = -1;
    return ret;
}


VirImageInfo *
virStorageTorrentPoolFileProbe(int fd,
                               const char *path)
{
    g_autoptr(GError) err = NULL;
    VirImageInfo *info;

    if (!(info = virImageProbe(fd, &err))) {
        virReportError(VIR_ERR_OPERATION_FAILED,
                       _("cannot tell what '%1$s' contains: %2$s"),
                       path, err->message);
    }

    return info;
}


char *
virStorageTorrentPoolFileBackingPath(const char *path,
                                     const VirImageInfo *info)
{
    g_autofree char *dir = NULL;

    if (info->backing_file[0] == '/')
        return g_strdup(info->backing_file);

    dir = g_path_get_dirname(path);
    return g_build_filename(dir, info->backing_file, NULL);
}


/* Returns -1 with an error reported if somebody may write to the file now. */
int
virStorageTorrentPoolFileCheckUnused(int fd,
                                     const char *path)
{
    if (virImageIsInUse(fd)) {
        virReportError(VIR_ERR_RESOURCE_BUSY,
                       _("'%1$s' is open for writing, shut down the guest that uses it"),
                       path);
        return -1;
    }

    return 0;
}


/* Guests are started with their disks in the hands of QEMU's user, and backing
 * files stay there. Masters do not: everybody may read them, nobody needs more. */
void
virStorageTorrentPoolFileReclaim(const char *path)
{
    VIR_AUTOCLOSE fd = -1;
    struct stat sb;

    if (geteuid() != 0 ||
        (fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0 ||
        fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode) || (sb.st_mode & WRITE_BITS) ||
        (sb.st_uid == 0 && sb.st_gid == 0))
        return;

    if (fchown(fd, 0, 0) < 0)
        VIR_WARN("cannot make '%s' root's again: %s", path, g_strerror(errno));
}


/**
 * virStorageTorrentPoolFileFreeze:
 * @fd: the file, open for reading
 * @path: its path, for messages
 *
 * Makes a master of the file: from now on nobody can write to it. Refused for
 * what somebody has open for writing and for what leads to another file.
 *
 * Returns 0 on success, -1 on error with nothing changed
 */
int
virStorageTorrentPoolFileFreeze(int fd,
                                const char *path)
{
    g_autoptr(VirImageInfo) info = NULL;
    struct stat sb;

    if (!(info = virStorageTorrentPoolFileProbe(fd, path)))
        return -1;

    if (!virImageIsStandalone(info)) {
        virReportError(VIR_ERR_OPERATION_UNSUPPORTED,
                       _("'%1$s' needs another file, so that it cannot become a master"),
                       path);
        return -1;
    }

    if (virStorageTorrentPoolFileCheckUnused(fd, path) < 0)
        return -1;

    if (fstat(fd, &sb) < 0 ||
        (geteuid() == 0 && fchown(fd, 0, 0) < 0) ||
        fchmod(fd, 0444) < 0) {
        virReportSystemError(errno, _("cannot make '%1$s' a master"), path);
        return -1;
    }

    /* somebody may have opened it in between */
    if (virStorageTorrentPoolFileCheckUnused(fd, path) < 0) {
        if (fchown(fd, sb.st_uid, sb.st_gid) < 0 ||
            fchmod(fd, sb.st_mode & 07777) < 0)
            VIR_WARN("cannot give back owner and mode of '%s'", path);
        return -1;
    }

    return 0;
}


/* What is made on the file from now on is not there after a power failure unless
 * its content is. It was copied here a moment ago, perhaps. */
int
virStorageTorrentPoolFileSync(int fd,
                              const char *path)
{
    gboolean sync_name;

    if (virImageSyncContent(fd, &sync_name) < 0) {
        virReportSystemError(errno, _("cannot write '%1$s' to disk"), path);
        return -1;
    }

    return 0;
}


static int
virStorageTorrentPoolFileCopyRange(int from,
                                   int to,
                                   off_t start,
                                   off_t end,
                                   char *buf)
{
    while (start < end) {
        size_t len = MIN(end - start, COPY_BUFFER_SIZE);
        ssize_t done;

        if ((done = copy_file_range(from, &start, to, NULL, len, 0)) > 0)
            continue;

        if ((done = pread(from, buf, len, start)) < 0 && errno == EINTR)
            continue;

        if (done == 0)
            errno = EIO; /* it was truncated meanwhile */

        if (done <= 0 || safewrite(to, buf, done) != done)
            return -1;

        start += done;
    }

    return 0;
}


/**
 * virStorageTorrentPoolFileCopy:
 * @from: what is copied, open for reading
 * @to: a new file, open for writing
 * @path: of @from, for messages
 *
 * Copies byte by byte: as a reflink where the file system can, without the
 * holes where it cannot. Refused for what somebody has open for writing.
 */
int
virStorageTorrentPoolFileCopy(int from,
                              int to,
                              const char *path)
{
    g_autofree char *buf = g_new0(char, COPY_BUFFER_SIZE);
    struct stat sb;
    off_t data;
    off_t hole = 0;

    if (virStorageTorrentPoolFileCheckUnused(from, path) < 0)
        return -1;

#ifdef FICLONE
    if (ioctl(to, FICLONE, from) == 0) {
        if (fsync(to) == 0)
            return 0;
        goto error;
    }
#endif

    if (fstat(from, &sb) < 0 || ftruncate(to, sb.st_size) < 0)
        goto error;

    while ((data = lseek(from, hole, SEEK_DATA)) >= 0) {
        if ((hole = lseek(from, data, SEEK_HOLE)) < 0 ||
            lseek(to, data, SEEK_SET) < 0 ||
            virStorageTorrentPoolFileCopyRange(from, to, data, hole, buf) < 0)
            goto error;
    }

    /* there is no data after the last hole */
    if (errno == ENXIO && fsync(to) == 0)
        return 0;

 error:
    virReportSystemError(errno, _("cannot copy '%1$s'"), path);
    return -1;
}


/* Gives the file its final name, unless that is taken. */
int
virStorageTorrentPoolFileLink(int fromdir,
                              const char *from,
                              int todir,
                              const char *to)
{
    if (linkat(fromdir, from, todir, to, 0) == 0) {
        unlinkat(fromdir, from, 0);
    } else if ((errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK) ||
               renameat2(fromdir, from, todir, to, RENAME_NOREPLACE) < 0) {
        virReportSystemError(errno,
                             _("cannot give the new volume its name '%1$s'"), to);
        return -1;
    }

    if (fsync(todir) < 0)
        VIR_WARN("cannot sync the directory of '%s': %s", to, g_strerror(errno));

    return 0;
}


/* Whether the file @name in @dirfd, which is @dir, is an overlay of @master */
static bool
virStorageTorrentPoolFileIsClone(int dirfd,
                                 const char *dir,
                                 const char *name,
                                 const char *master,
                                 const struct stat *mastersb)
{
    g_autoptr(VirImageInfo) info = NULL;
    g_autofree char *self = NULL;
    g_autofree char *path = NULL;
    struct stat sb;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = openat(dirfd, name,
                     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0 ||
        fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode) ||
        !(info = virImageProbe(fd, NULL)) || !info->backing_file)
        return false;

    self = g_build_filename(dir, name, NULL);
    path = virStorageTorrentPoolFileBackingPath(self, info);

    if (STREQ(path, master))
        return true;

    return mastersb && stat(path, &sb) == 0 &&
           sb.st_dev == mastersb->st_dev && sb.st_ino == mastersb->st_ino;
}


/**
 * virStorageTorrentPoolFileFindClones:
 * @dir: directory to look into
 * @master: path of the master
 * @max: how many to find
 *
 * Returns the names of up to @max overlays of the master in @dir, NULL
 * terminated; a directory that cannot be read has none.
 */
char **
virStorageTorrentPoolFileFindClones(const char *dir,
                                    const char *master,
                                    size_t max)
{
    char **names = g_new0(char *, max + 1);
    g_autoptr(DIR) handle = NULL;
    struct dirent *ent;
    struct stat sb;
    bool exists = stat(master, &sb) == 0;
    size_t n = 0;

    if (virDirOpenQuiet(&handle, dir) < 0)
        return names;

    while (n < max && virDirRead(handle, &ent, NULL) > 0) {
        if (virStorageTorrentPoolFileIsClone(dirfd(handle), dir, ent->d_name,
                                             master, exists ? &sb : NULL))
            names[n++] = g_strdup(ent->d_name);
    }

    return names;
}


/* The name that the overlay @name in @dirfd has as its backing file if that is
 * a name in the same directory, to be freed by the caller */
static char *
virStorageTorrentPoolFileOverlayOf(int dirfd,
                                   const char *name)
{
    g_autoptr(VirImageInfo) info = NULL;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = openat(dirfd, name,
                     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0 ||
        !(info = virImageProbe(fd, NULL)) ||
        !info->backing_file || strchr(info->backing_file, '/'))
        return NULL;

    return g_strdup(info->backing_file);
}


/* Finishes the split of which the overlay @name was left in @buildfd. Returns
 * whether it was one. */
static bool
virStorageTorrentPoolFileFinishSplit(int buildfd,
                                     int targetfd,
                                     const char *name)
{
    g_autofree char *master = virStorageTorrentPoolFileOverlayOf(buildfd, name);
    struct stat sb;
    struct stat mastersb;

    if (!master ||
        fstatat(targetfd, name, &sb, AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISREG(sb.st_mode) || (sb.st_mode & WRITE_BITS))
        return false;

    if (linkat(targetfd, name, targetfd, master, 0) < 0 &&
        (errno != EEXIST ||
         fstatat(targetfd, master, &mastersb, AT_SYMLINK_NOFOLLOW) < 0 ||
         mastersb.st_dev != sb.st_dev || mastersb.st_ino != sb.st_ino))
        return false;

    if (renameat(buildfd, name, targetfd, name) < 0)
        return false;

    VIR_INFO("finished making '%s' an overlay of '%s'", name, master);
    return true;
}


/**
 * virStorageTorrentPoolFileSweepBuild:
 * @target: the pool's directory
 *
 * Removes what a crash left of volumes that were being built, and finishes
 * splits. To be called while no volume is being built.
 */
int
virStorageTorrentPoolFileSweepBuild(const char *target)
{
    g_autoptr(DIR) dir = NULL;
    struct dirent *ent;
    VIR_AUTOCLOSE targetfd = -1;
    int buildfd;
    int rc;

    if ((targetfd = virStorageTorrentPoolFileOpenTarget(target)) < 0 ||
        (buildfd = virStorageTorrentPoolFileOpenBuild(target)) < 0)
        return -1;

    if (!(dir = fdopendir(buildfd))) {
        virReportSystemError(errno,
                             _("cannot read the build directory of pool '%1$s'"),
                             target);
        VIR_FORCE_CLOSE(buildfd);
        return -1;
    }

    while ((rc = virDirRead(dir, &ent, target)) > 0) {
        if (virStorageTorrentPoolFileFinishSplit(dirfd(dir), targetfd, ent->d_name))
            continue;

        VIR_INFO("removing '%s', which was not finished", ent->d_name);
        if (unlinkat(dirfd(dir), ent->d_name, 0) < 0)
            VIR_WARN("cannot remove unfinished volume '%s': %s",
                     ent->d_name, g_strerror(errno));
    }

    return rc;
}
