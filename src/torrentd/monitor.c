/*
 * monitor.c: the few verbs that need root
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * In system scope this runs as root and answers an engine that may be in an
 * attacker's hands.  What such an engine must not achieve:
 *
 *  - a file of root's making in a directory that is no pool.  So a pool is
 *    marked by a directory .torrentpool that belongs to root and that nobody
 *    else may write to; the monitor never makes that mark in system scope.
 *  - root's rights on a file that is not the engine's: a symlink, a hard link
 *    to somebody's file, a device.  So files are opened once with O_NOFOLLOW,
 *    checked through the descriptor (regular, the engine's, one link), and the
 *    descriptor, not the name, is linked into the pool.
 *  - a master that can still change.  So the file is taken away from the engine
 *    first (owner, mode), and then a read lease, which the kernel refuses while
 *    anybody has the file open or mapped for writing, proves that no descriptor
 *    from before is left.
 *  - the loss of a volume: names are never replaced, but by REPLACE, which a
 *    damaged master is healed with, by a file that root has read and found to
 *    have the content that the master had when it became one (seal.h).
 *
 * Nothing here parses what came from a network; names are checked by names.c.
 */

#include <config.h>

#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "i18n.h"
#include "seal.h"

#define PRIVATE_DIR ".torrentpool"

/* Time given to a descriptor that is just being closed: 40 times 50 ms. */
#define LEASE_TRIES 40
#define LEASE_PAUSE (50 * 1000)

typedef struct {
    int target;
    int priv;
    int partial;
    int file;
} VirTorrentMonitorFds;

static void
virTorrentMonitorFdsClose(VirTorrentMonitorFds *fds)
{
    if (fds->file >= 0)
        close(fds->file);
    if (fds->partial >= 0)
        close(fds->partial);
    if (fds->priv >= 0)
        close(fds->priv);
    if (fds->target >= 0)
        close(fds->target);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VirTorrentMonitorFds, virTorrentMonitorFdsClose)

/* The monitor is one thread, and does one of these at a time. */
static VirTorrentSealer sealer;

/* Always FALSE. */
static gboolean G_GNUC_PRINTF(3, 4)
virTorrentMonitorRefuse(VirTorrentMonitorReply *reply, int errnum, const char *fmt, ...)
{
    va_list ap;

    reply->failed = errnum ? errnum : EIO;
    va_start(ap, fmt);
    g_vsnprintf(reply->message, sizeof(reply->message), fmt, ap);
    va_end(ap);
    return FALSE;
}

static int
virTorrentOpenDirAt(int dirfd, const char *name)
{
    return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Opens the pool directory and its mark, and checks whose the mark is. */
static gboolean
virTorrentMonitorOpenPool(const VirTorrentMonitorPolicy *policy,
                          const char *target,
                          VirTorrentMonitorFds *fds,
                          VirTorrentMonitorReply *reply)
{
    struct stat st;

    if (*target != '/')
        return virTorrentMonitorRefuse(reply, EINVAL,
                                       _("pool directory '%s' is not an absolute path"), target);
    fds->target = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fds->target < 0)
        return virTorrentMonitorRefuse(reply, errno, _("cannot open pool directory '%s': %s"),
                                       target, g_strerror(errno));
    if (!policy->marked && mkdirat(fds->target, PRIVATE_DIR, 0755) < 0 && errno != EEXIST)
        return virTorrentMonitorRefuse(reply, errno, _("cannot make directory '%s/%s': %s"),
                                       target, PRIVATE_DIR, g_strerror(errno));
    fds->priv = virTorrentOpenDirAt(fds->target, PRIVATE_DIR);
    if (fds->priv < 0 && errno == ENOENT)
        return virTorrentMonitorRefuse(reply, ENOENT,
                                       _("directory '%s' is not marked as a torrentpool: "
                                         "'%s/%s' does not exist, root makes it with mode 0755"),
                                       target, target, PRIVATE_DIR);
    if (fds->priv < 0 || fstat(fds->priv, &st) < 0)
        return virTorrentMonitorRefuse(reply, errno, _("cannot open directory '%s/%s': %s"),
                                       target, PRIVATE_DIR, g_strerror(errno));
    if (st.st_uid != policy->owner_uid || (st.st_mode & (S_IWGRP | S_IWOTH)))
        return virTorrentMonitorRefuse(reply, EPERM,
                                       _("directory '%s/%s' must belong to user %u and "
                                         "be writable by nobody else"),
                                       target, PRIVATE_DIR, (unsigned) policy->owner_uid);
    return TRUE;
}

/* Makes one of the engine's directories.  Only root writes to the private
 * directory, so that nobody can exchange it between the steps. */
static gboolean
virTorrentMonitorMakeDir(const VirTorrentMonitorPolicy *policy,
                         const VirTorrentMonitorFds *fds,
                         const char *target,
                         const char *name,
                         VirTorrentMonitorReply *reply)
{
    gboolean made = mkdirat(fds->priv, name, 0700) == 0;
    struct stat st;
    int fd = -1;
    gboolean ok = FALSE;

    if (!made && errno != EEXIST) {
        virTorrentMonitorRefuse(reply, errno, _("cannot make directory '%s/%s/%s': %s"),
                                target, PRIVATE_DIR, name, g_strerror(errno));
    } else if ((fd = virTorrentOpenDirAt(fds->priv, name)) < 0 || fstat(fd, &st) < 0) {
        virTorrentMonitorRefuse(reply, errno, _("cannot open directory '%s/%s/%s': %s"),
                                target, PRIVATE_DIR, name, g_strerror(errno));
    } else if ((made || st.st_uid == policy->owner_uid) &&
               (fchown(fd, policy->engine_uid, policy->engine_gid) < 0 ||
                fchmod(fd, 0700) < 0)) {
        virTorrentMonitorRefuse(reply, errno, _("cannot hand over directory '%s/%s/%s': %s"),
                                target, PRIVATE_DIR, name, g_strerror(errno));
    } else if (!made && st.st_uid != policy->owner_uid && st.st_uid != policy->engine_uid) {
        virTorrentMonitorRefuse(reply, EPERM,
                                _("directory '%s/%s/%s' belongs to user %u, but the engine "
                                  "runs as user %u: 'chown -R' it"),
                                target, PRIVATE_DIR, name, (unsigned) st.st_uid,
                                (unsigned) policy->engine_uid);
    } else {
        ok = TRUE;
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

static gboolean
virTorrentMonitorPrepareDirs(const VirTorrentMonitorPolicy *policy,
                             const char *target,
                             VirTorrentMonitorReply *reply)
{
    static const char *const names[] = { "meta", "partial", "resume" };
    g_auto(VirTorrentMonitorFds) fds = { -1, -1, -1, -1 };
    gsize i;

    if (!virTorrentMonitorOpenPool(policy, target, &fds, reply))
        return FALSE;
    for (i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!virTorrentMonitorMakeDir(policy, &fds, target, names[i], reply))
            return FALSE;
    }
    return TRUE;
}

/* Opens partial/@name and checks that it is what the engine may give away.  @frozen: that may
 * have been done already; tells. */
static gboolean
virTorrentMonitorOpenPartial(const VirTorrentMonitorPolicy *policy,
                             const char *name,
                             VirTorrentMonitorFds *fds,
                             gboolean *frozen,
                             VirTorrentMonitorReply *reply)
{
    struct stat st;

    fds->partial = virTorrentOpenDirAt(fds->priv, "partial");
    if (fds->partial >= 0)
        fds->file = openat(fds->partial, name,
                           O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fds->file < 0 || fstat(fds->file, &st) < 0)
        return virTorrentMonitorRefuse(reply, errno, _("cannot open partial file of '%s': %s"),
                                       name, g_strerror(errno));
    if (!S_ISREG(st.st_mode))
        return virTorrentMonitorRefuse(reply, EPERM,
                                       _("partial file of '%s' is not a regular file"), name);
    if (frozen)
        *frozen = st.st_uid == policy->owner_uid && (st.st_mode & 07777) == 0444;
    if (st.st_uid != policy->engine_uid && !(frozen && *frozen))
        return virTorrentMonitorRefuse(reply, EPERM,
                                       _("partial file of '%s' does not belong to the engine"),
                                       name);
    if (st.st_nlink != 1)
        return virTorrentMonitorRefuse(reply, EPERM,
                                       _("partial file of '%s' has other names"), name);
    return TRUE;
}

/* Takes the file from the engine, then proves that it cannot change any more. */
static gboolean
virTorrentMonitorFreeze(const VirTorrentMonitorPolicy *policy,
                        const char *name,
                        int fd,
                        VirTorrentMonitorReply *reply)
{
    int i;

    /* what is known may be of another file that had this inode */
    sealer.known = FALSE;
    if (fchown(fd, policy->owner_uid, policy->owner_gid) < 0 || fchmod(fd, 0444) < 0)
        return virTorrentMonitorRefuse(reply, errno, _("cannot freeze '%s': %s"),
                                       name, g_strerror(errno));
    /* root alone says what a master contains */
    fremovexattr(fd, VIR_TORRENT_SEAL_XATTR);
    for (i = 0; fcntl(fd, F_SETLEASE, F_RDLCK) < 0; i++) {
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return virTorrentMonitorRefuse(reply, errno,
                                           _("cannot make sure that nobody writes to '%s', the "
                                             "file system grants no leases: %s"),
                                           name, g_strerror(errno));
        if (i == LEASE_TRIES)
            return virTorrentMonitorRefuse(reply, EBUSY, _("'%s' is open for writing"), name);
        g_usleep(LEASE_PAUSE);
    }
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return TRUE;
}

/* linkat() on the descriptor: there is no name an attacker could exchange. */
static int
virTorrentLinkFd(int fd, int dirfd, const char *name)
{
    char path[64];

    if (linkat(fd, "", dirfd, name, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno != ENOENT && errno != EPERM)
        return -1;
    /* without CAP_DAC_READ_SEARCH */
    g_snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW);
}

/* Where there are no hard links: into the private directory, where the engine
 * cannot reach it, and it is known to be the same file. */
static int
virTorrentTakeFd(const VirTorrentMonitorFds *fds, const char *name, const char *temp)
{
    struct stat want;
    struct stat have;

    if (renameat(fds->partial, name, fds->priv, temp) < 0)
        return -1;
    if (fstat(fds->file, &want) < 0 ||
        fstatat(fds->priv, temp, &have, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (want.st_ino != have.st_ino || want.st_dev != have.st_dev) {
        unlinkat(fds->priv, temp, 0);
        errno = EPERM;
        return -1;
    }
    return 0;
}

/* Then to its name. */
static int
virTorrentMoveFd(const VirTorrentMonitorFds *fds, const char *name)
{
    const char *temp = ".adopting";

    if (virTorrentTakeFd(fds, name, temp) < 0)
        return -1;
    if (renameat2(fds->priv, temp, fds->target, name, RENAME_NOREPLACE) < 0) {
        int saved = errno;

        if (renameat(fds->priv, temp, fds->partial, name) < 0)
            unlinkat(fds->priv, temp, 0);
        errno = saved;
        return -1;
    }
    return 0;
}

static gboolean
virTorrentMonitorPlace(const VirTorrentMonitorPolicy *policy,
                       const VirTorrentMonitorFds *fds,
                       const char *target,
                       const char *name,
                       VirTorrentMonitorReply *reply)
{
    int rc = -1;

    errno = EOPNOTSUPP;
    if (!policy->no_links)
        rc = virTorrentLinkFd(fds->file, fds->target, name);
    if (rc < 0 && (errno == EOPNOTSUPP || errno == EPERM || errno == EMLINK || errno == ENOSYS))
        rc = virTorrentMoveFd(fds, name);
    if (rc < 0 && errno == EEXIST)
        return virTorrentMonitorRefuse(reply, EEXIST, _("the name '%s' is taken in '%s'"),
                                       name, target);
    if (rc < 0 || fsync(fds->target) < 0)
        return virTorrentMonitorRefuse(reply, errno, _("cannot put '%s' into '%s': %s"),
                                       name, target, g_strerror(errno));
    return TRUE;
}

/* The engine's again, for a later try. */
static void
virTorrentMonitorHandBack(const VirTorrentMonitorPolicy *policy, int fd, const char *name)
{
    if (fchmod(fd, 0600) < 0 || fchown(fd, policy->engine_uid, policy->engine_gid) < 0)
        g_warning("Cannot hand back '%s': %s", name, g_strerror(errno));
}

static gboolean
virTorrentMonitorAdoptFile(const VirTorrentMonitorPolicy *policy,
                           const char *target,
                           const char *name,
                           VirTorrentMonitorReply *reply)
{
    g_auto(VirTorrentMonitorFds) fds = { -1, -1, -1, -1 };
    g_autoptr(GError) err = NULL;

    if (!virTorrentNameCheckLocal(name, &err))
        return virTorrentMonitorRefuse(reply, EINVAL, "%s", err->message);
    if (!virTorrentMonitorOpenPool(policy, target, &fds, reply) ||
        !virTorrentMonitorOpenPartial(policy, name, &fds, NULL, reply))
        return FALSE;
    if (virTorrentMonitorFreeze(policy, name, fds.file, reply)) {
        if (fsync(fds.file) < 0)
            virTorrentMonitorRefuse(reply, errno, _("cannot write '%s' to the disk: %s"),
                                    name, g_strerror(errno));
        else if (virTorrentMonitorPlace(policy, &fds, target, name, reply))
            return TRUE;
    }
    virTorrentMonitorHandBack(policy, fds.file, name);
    return FALSE;
}

/* Opens the master @name as it stands in the pool. */
static int
virTorrentMonitorOpenMaster(const VirTorrentMonitorFds *fds,
                            const char *name,
                            struct stat *st,
                            VirTorrentMonitorReply *reply)
{
    int fd = openat(fds->target, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, st) < 0) {
        virTorrentMonitorRefuse(reply, errno, _("cannot open master '%s': %s"), name, g_strerror(errno));
    } else if (!S_ISREG(st->st_mode) || (st->st_mode & 0222)) {
        virTorrentMonitorRefuse(reply, EPERM, _("'%s' is no master: it is not a regular file that nobody may write to"),
                                name);
    } else {
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Notes what a master contains, so that it can be healed. */
static gboolean
virTorrentMonitorSealFile(const VirTorrentMonitorPolicy *policy,
                          const char *target,
                          const char *name,
                          VirTorrentMonitorReply *reply)
{
    g_auto(VirTorrentMonitorFds) fds = { -1, -1, -1, -1 };
    g_autoptr(GError) err = NULL;
    struct stat st;
    int rc;

    if (!virTorrentNameCheckLocal(name, &err))
        return virTorrentMonitorRefuse(reply, EINVAL, "%s", err->message);
    if (!virTorrentMonitorOpenPool(policy, target, &fds, reply))
        return FALSE;
    if (policy->owner_uid == policy->engine_uid)
        return TRUE;
    if ((fds.file = virTorrentMonitorOpenMaster(&fds, name, &st, reply)) < 0)
        return FALSE;
    /* libvirt gives a master to QEMU's user while a guest runs */
    if (st.st_uid != policy->owner_uid)
        return virTorrentMonitorRefuse(reply, EPERM, _("master '%s' does not belong to user %u"), name,
                                       (unsigned) policy->owner_uid);
    if (fcntl(fds.file, F_SETLEASE, F_RDLCK) < 0)
        return virTorrentMonitorRefuse(reply, EPERM, _("somebody may be writing to '%s': %s"), name,
                                       g_strerror(errno));
    fcntl(fds.file, F_SETLEASE, F_UNLCK);
    rc = virTorrentSealerSeal(&sealer, fds.file, policy->verity);
    return rc == 0 || virTorrentMonitorRefuse(reply, rc, _("cannot note what '%s' contains: %s"), name,
                                              g_strerror(rc));
}

/* Whether the frozen @fds->file has the content that the master @old had. */
static gboolean
virTorrentMonitorProve(const VirTorrentMonitorPolicy *policy,
                       const VirTorrentMonitorFds *fds,
                       int old,
                       const char *target,
                       const char *name,
                       VirTorrentMonitorReply *reply)
{
    guint8 root[VIR_TORRENT_SEAL_SIZE];
    int rc;

    if (policy->owner_uid == policy->engine_uid)
        return TRUE;
    if (!virTorrentSealRead(old, root))
        return virTorrentMonitorRefuse(reply, errno,
                                       _("what '%s' contained was not noted when it became a master, so root has to put "
                                         "the healed file into its place: mv '%s/%s/partial/%s' '%s/'"),
                                       name, target, PRIVATE_DIR, name, target);
    rc = virTorrentSealerAsk(&sealer, fds->file);
    if (rc != 0)
        return virTorrentMonitorRefuse(reply, rc, _("cannot read '%s': %s"), name, g_strerror(rc));
    if (memcmp(root, sealer.root, sizeof(root)) != 0)
        return virTorrentMonitorRefuse(reply, EBADMSG,
                                       _("what is to replace '%s' is not what that contained"), name);
    virTorrentSealWrite(fds->file, root);
    return TRUE;
}

/* Puts @fds->file into the place of what is there; never where nothing is. */
static gboolean
virTorrentMonitorExchange(const VirTorrentMonitorPolicy *policy,
                          const VirTorrentMonitorFds *fds,
                          const char *name,
                          VirTorrentMonitorReply *reply)
{
    const char *temp = ".healing";
    int rc = -1;

    unlinkat(fds->priv, temp, 0);
    errno = EOPNOTSUPP;
    if (!policy->no_links)
        rc = virTorrentLinkFd(fds->file, fds->priv, temp);
    if (rc < 0 && (errno == EOPNOTSUPP || errno == EPERM || errno == EMLINK || errno == ENOSYS))
        rc = virTorrentTakeFd(fds, name, temp);
    if (rc == 0 && (rc = renameat2(fds->priv, temp, fds->target, name, RENAME_EXCHANGE)) < 0 &&
        errno == EINVAL)
        rc = renameat(fds->priv, temp, fds->target, name);
    if (rc < 0 || fsync(fds->target) < 0)
        virTorrentMonitorRefuse(reply, errno, _("cannot replace '%s': %s"), name, g_strerror(errno));
    /* the old file, or what is left of an attempt */
    if (unlinkat(fds->priv, temp, 0) < 0 && errno != ENOENT)
        g_warning("Cannot remove what '%s' was: %s", name, g_strerror(errno));
    return rc == 0 && !reply->failed;
}

static gboolean
virTorrentMonitorReplaceFile(const VirTorrentMonitorPolicy *policy,
                             const char *target,
                             const char *name,
                             VirTorrentMonitorReply *reply)
{
    g_auto(VirTorrentMonitorFds) fds = { -1, -1, -1, -1 };
    g_autoptr(GError) err = NULL;
    gboolean frozen;
    struct stat st;
    int old;

    if (!virTorrentNameCheckLocal(name, &err))
        return virTorrentMonitorRefuse(reply, EINVAL, "%s", err->message);
    if (!virTorrentMonitorOpenPool(policy, target, &fds, reply) ||
        (old = virTorrentMonitorOpenMaster(&fds, name, &st, reply)) < 0)
        return FALSE;
    if (virTorrentMonitorOpenPartial(policy, name, &fds, &frozen, reply)) {
        if ((frozen || virTorrentMonitorFreeze(policy, name, fds.file, reply)) &&
            virTorrentMonitorProve(policy, &fds, old, target, name, reply)) {
            if (fsync(fds.file) < 0)
                virTorrentMonitorRefuse(reply, errno, _("cannot write '%s' to the disk: %s"),
                                        name, g_strerror(errno));
            else
                virTorrentMonitorExchange(policy, &fds, name, reply);
        }
        if (reply->failed && reply->failed != EAGAIN)
            virTorrentMonitorHandBack(policy, fds.file, name);
    }
    close(old);
    return !reply->failed;
}

void
virTorrentMonitorHandle(const VirTorrentMonitorPolicy *policy,
                        const VirTorrentMonitorRequest *request,
                        VirTorrentMonitorReply *reply)
{
    memset(reply, 0, sizeof(*reply));
    if (!memchr(request->target, '\0', sizeof(request->target)) ||
        !memchr(request->name, '\0', sizeof(request->name))) {
        virTorrentMonitorRefuse(reply, EINVAL, _("malformed request"));
        return;
    }
    switch (request->verb) {
    case VIR_TORRENT_MONITOR_PREPARE:
        virTorrentMonitorPrepareDirs(policy, request->target, reply);
        break;
    case VIR_TORRENT_MONITOR_ADOPT:
        virTorrentMonitorAdoptFile(policy, request->target, request->name, reply);
        break;
    case VIR_TORRENT_MONITOR_SEAL:
        virTorrentMonitorSealFile(policy, request->target, request->name, reply);
        break;
    case VIR_TORRENT_MONITOR_REPLACE:
        virTorrentMonitorReplaceFile(policy, request->target, request->name, reply);
        break;
    default:
        virTorrentMonitorRefuse(reply, EINVAL, _("unknown request"));
        break;
    }
}

gboolean
virTorrentMonitorServe(int fd, const VirTorrentMonitorPolicy *policy, gboolean *ready)
{
    VirTorrentMonitorRequest request;
    VirTorrentMonitorReply reply;
    ssize_t n;

    /* No room for control data: descriptors that somebody passes are dropped. */
    do {
        n = recv(fd, &request, sizeof(request), MSG_TRUNC);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t) sizeof(request)) {
        if (n > 0)
            g_warning("The engine sent a message of %zd bytes", n);
        return FALSE;
    }
    if (request.verb == VIR_TORRENT_MONITOR_READY) {
        memset(&reply, 0, sizeof(reply));
        *ready = TRUE;
    } else {
        virTorrentMonitorHandle(policy, &request, &reply);
    }
    do {
        n = send(fd, &reply, sizeof(reply), MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t) sizeof(reply);
}
