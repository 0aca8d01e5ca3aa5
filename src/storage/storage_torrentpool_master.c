/*
 * storage_torrentpool_master.c: how volumes become masters
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What gets an overlay becomes a master before, in one of two ways. A volume
 * that is named as a backing store is frozen as it is. A volume that is cloned
 * is split, so that those who use it do not see a change: its content gets a
 * new name and is frozen, and its old name becomes an overlay of that; the head
 * of storage_torrentpool_file.c tells in which order.
 *
 * Locks: masterLock keeps two threads from making a master of one volume. It
 * is taken with no pool locked, and a pool is locked under it.
 */

#include <config.h>

#include <fcntl.h>
#include <unistd.h>

#include "storage_torrentpool_client.h"
#include "storage_torrentpool_def.h"
#include "storage_torrentpool_file.h"
#include "storage_torrentpool_master.h"
#include "storage_torrentpool_state.h"
#include "storage_torrentpool_vol.h"
#include "storage_util.h"
#include "viralloc.h"
#include "virerror.h"
#include "virfile.h"
#include "virlog.h"
#include "virthread.h"
#include "viruuid.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_master");

/* How many names are tried for the master of a split */
#define SPLIT_MAX_NAMES 1000

static virMutex masterLock = VIR_MUTEX_INITIALIZER;


void
virStorageTorrentPoolMasterPublish(virStoragePoolDef *def,
                                   const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s", def->target.path, name);
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(VirImageInfo) info = NULL;
    g_autoptr(GError) err = NULL;
    VIR_AUTOCLOSE fd = -1;

    virUUIDFormat(def->uuid, uuid);

    if ((fd = virStorageTorrentPoolFileOpen(path, false)) < 0 ||
        !(info = virStorageTorrentPoolFileProbe(fd, path))) {
        virResetLastError();
        return;
    }

    if (!virStorageTorrentPoolStateOpen(def, false, &err) ||
        !virStorageTorrentClientPublishVolume(uuid, name, info->format,
                                              info->capacity, &err))
        VIR_WARN("volume '%s' is not published until the pool is refreshed: %s",
                 path, err->message);
}


/* Whether clones in the pool can stand on the master @name, which has @format.
 * The parent of a VHD is a VHD. Returns 0 if so, -1 with an error reported if not */
int
virStorageTorrentPoolMasterCheckFormat(virStoragePoolDef *def,
                                       const char *name,
                                       const char *format)
{
    if (virStorageTorrentPoolDefGetCloneFormat(def->namespaceData) == VIR_STORAGE_FILE_VPC &&
        STRNEQ(format, "vpc")) {
        virReportError(VIR_ERR_CONFIG_UNSUPPORTED,
                       _("clones in pool '%1$s' are VHDs and need a VHD as their master, '%2$s' is '%3$s': make a volume of format 'vpc' from it (vol-create-from)"),
                       def->name, name, format);
        return -1;
    }

    return 0;
}


/**
 * virStorageTorrentPoolMasterEnsure:
 * @def: the pool
 * @name: a volume of it that is to be a backing store
 * @info: filled with what the volume contains
 *
 * Freezes and publishes the volume unless it is a master.
 *
 * Returns 0 on success, -1 on error
 */
int
virStorageTorrentPoolMasterEnsure(virStoragePoolDef *def,
                                  const char *name,
                                  VirImageInfo **info)
{
    g_autofree char *path = g_strdup_printf("%s/%s", def->target.path, name);
    VIR_LOCK_GUARD lock = virLockGuardLock(&masterLock);
    g_autoptr(VirImageInfo) found = NULL;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = virStorageTorrentPoolFileOpen(path, false)) < 0 ||
        !(found = virStorageTorrentPoolFileProbe(fd, path)))
        return -1;

    if (!virImageIsStandalone(found)) {
        virReportError(VIR_ERR_OPERATION_UNSUPPORTED,
                       _("volume '%1$s' is itself an overlay and cannot be a backing store in a torrent pool, clone it instead"),
                       name);
        return -1;
    }

    if (virStorageTorrentPoolMasterCheckFormat(def, name, found->format) < 0)
        return -1;

    if (!virStorageTorrentPoolFileIsMaster(path)) {
        if (virStorageTorrentPoolFileFreeze(fd, path) < 0)
            return -1;

        virStorageTorrentPoolMasterPublish(def, name);
    }

    *info = g_steal_pointer(&found);
    return 0;
}


/* The @n-th name to try for the master of volume @name: debian.qcow2 gives
 * debian-base.qcow2, debian-base2.qcow2, ... */
static char *
virStorageTorrentPoolSplitName(const char *name,
                               unsigned int n)
{
    const char *dot = strrchr(name, '.');
    int stem = dot && dot != name ? dot - name : strlen(name);
    g_autofree char *number = n > 1 ? g_strdup_printf("%u", n) : g_strdup("");

    return g_strdup_printf("%.*s-base%s%s", stem, name, number, name + stem);
}


static char *
virStorageTorrentPoolSplitFreeName(int dirfd,
                                   const char *name)
{
    unsigned int n;

    for (n = 1; n < SPLIT_MAX_NAMES; n++) {
        g_autofree char *master = virStorageTorrentPoolSplitName(name, n);

        if (strlen(master) <= VIR_STORAGE_TORRENT_POOL_NAME_MAX &&
            faccessat(dirfd, master, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
            errno == ENOENT)
            return g_steal_pointer(&master);
    }

    virReportError(VIR_ERR_OPERATION_FAILED,
                   _("there is no name left for the master of volume '%1$s'"),
                   name);
    return NULL;
}


/* Lists the master that a split made, as the next refresh would. */
static void
virStorageTorrentPoolSplitList(virStoragePoolObj *pool,
                               const char *name)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autoptr(virStorageVolDef) vol = virStorageTorrentPoolVolNew(def, name);
    VIR_LOCK_GUARD lock = virObjectLockGuard(pool);

    if (virStorageBackendRefreshVolTargetUpdate(vol) < 0)
        return;

    virStorageTorrentPoolVolFillVhd(def, vol);
    virStorageTorrentPoolVolAdd(pool, g_steal_pointer(&vol), NULL);
}


/* Makes the private volume @name, which is @fd and @path, the master @master
 * and an overlay of it. */
static int
virStorageTorrentPoolSplitFile(virStoragePoolDef *def,
                               int dirfd,
                               int buildfd,
                               int fd,
                               const char *name,
                               const char *path,
                               const VirImageInfo *info,
                               const char *master)
{
    VirImageOverlayOptions options = {
        .capacity = info->capacity,
        .backing_file = master,
        .backing_format = info->format,
    };
    g_autoptr(GError) err = NULL;
    struct stat sb;

    virStorageTorrentPoolDefGetClone(def->namespaceData, &options);
    options.backing_fd = fd;

    if (fstat(fd, &sb) < 0) {
        virReportSystemError(errno, _("cannot stat '%1$s'"), path);
        return -1;
    }

    options.mode = sb.st_mode & 0777;
    options.uid = sb.st_uid;
    options.gid = sb.st_gid;

    unlinkat(buildfd, name, 0);

    if (!virImageOverlayCreate(buildfd, name, &options, &err)) {
        virReportError(VIR_ERR_OPERATION_FAILED,
                       _("cannot make an overlay for volume '%1$s': %2$s"),
                       name, err->message);
        return -1;
    }

    if (virStorageTorrentPoolFileFreeze(fd, path) < 0) {
        unlinkat(buildfd, name, 0);
        return -1;
    }

    /* From here on a sweep would finish it. */
    if (linkat(dirfd, name, dirfd, master, 0) < 0 ||
        renameat(buildfd, name, dirfd, name) < 0 ||
        fsync(dirfd) < 0) {
        virReportSystemError(errno,
                             _("cannot give the content of volume '%1$s' the name '%2$s'"),
                             name, master);
        return -1;
    }

    return 0;
}


/**
 * virStorageTorrentPoolMasterSplit:
 * @pool: the pool
 * @name: a private qcow2 volume of it that is to be cloned
 * @master: filled with the name that its content has from now on
 * @info: filled with what that is
 *
 * Returns 0 on success, 1 if there is nothing to be split because another
 * thread did so, -1 on error
 */
int
virStorageTorrentPoolMasterSplit(virStoragePoolObj *pool,
                                 const char *name,
                                 char **master,
                                 VirImageInfo **info)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autofree char *path = g_strdup_printf("%s/%s", def->target.path, name);
    VIR_LOCK_GUARD lock = virLockGuardLock(&masterLock);
    g_autoptr(VirImageInfo) found = NULL;
    g_autofree char *base = NULL;
    VIR_AUTOCLOSE dirfd = -1;
    VIR_AUTOCLOSE buildfd = -1;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = virStorageTorrentPoolFileOpen(path, false)) < 0 ||
        !(found = virStorageTorrentPoolFileProbe(fd, path)))
        return -1;

    if (virStorageTorrentPoolFileIsMaster(path) || !virImageIsStandalone(found))
        return 1;

    if ((dirfd = virStorageTorrentPoolFileOpenTarget(def->target.path)) < 0 ||
        (buildfd = virStorageTorrentPoolFileOpenBuild(def->target.path)) < 0 ||
        !(base = virStorageTorrentPoolSplitFreeName(dirfd, name)) ||
        virStorageTorrentPoolFileSync(fd, path) < 0 ||
        virStorageTorrentPoolSplitFile(def, dirfd, buildfd, fd, name, path, found, base) < 0)
        return -1;

    virStorageTorrentPoolSplitList(pool, base);
    virStorageTorrentPoolMasterPublish(def, base);

    *master = g_steal_pointer(&base);
    *info = g_steal_pointer(&found);
    return 0;
}
