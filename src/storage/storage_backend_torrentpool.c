/*
 * storage_backend_torrentpool.c: storage backend for pools shared by BitTorrent
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A torrent pool is a directory. Its volumes are masters, which never change
 * and are shared with other hosts, overlays of them, and private volumes. What
 * is in the directory is the truth, and the mode of a file tells a master:
 * nobody may write to it. virttorrentd adds what is not there yet, and how far
 * it is.
 *
 * Nothing here speaks to a network or waits for one; virttorrentd answers at
 * once. Where it does not, the pool stays active and lists what is on disk:
 * guests have their disks whether masters are shared or not.
 *
 * The rooms: storage_torrentpool_def.c (XML), _conn.c and _client.c
 * (virttorrentd), _state.c (what is remembered of a running pool), _cache.c (and
 * of its files), _file.c (files), _elsewhere.c (clones in other pools), _vol.c (definitions of
 * volumes), _refresh.c (what is there), _build.c (new volumes), _backing.c (what
 * overlays are made on), _chain.c (what images from elsewhere stand on), _master.c (how volumes become masters).
 *
 * Locks: all of this is called with the pool locked, but for buildVol,
 * buildVolFrom, uploadVol, downloadVol and wipeVol.
 */

#include <config.h>

#include <fcntl.h>
#include <unistd.h>

#include "storage_backend_torrentpool.h"
#include "storage_torrentpool_build.h"
#include "storage_torrentpool_cache.h"
#include "storage_torrentpool_client.h"
#include "storage_torrentpool_def.h"
#include "storage_torrentpool_elsewhere.h"
#include "storage_torrentpool_file.h"
#include "storage_torrentpool_refresh.h"
#include "storage_torrentpool_state.h"
#include "storage_torrentpool_vol.h"
#include "storage_util.h"
#include "viralloc.h"
#include "virerror.h"
#include "virfile.h"
#include "virlog.h"
#include "virstring.h"
#include "virutil.h"
#include "viruuid.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_backend_torrentpool");

/* How many of the clones of a master an error names */
#define CLONES_MAX 3
#define WRITE_BITS (S_IWUSR | S_IWGRP | S_IWOTH)


static int
virStorageBackendTorrentpoolBuildPool(virStoragePoolObj *pool,
                                      unsigned int flags)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);

    virCheckFlags(0, -1);

    /* The helper is content with whatever bears the name already. */
    if (virFileExists(def->target.path) && !virFileIsDir(def->target.path)) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("target '%1$s' of pool '%2$s' is not a directory"),
                       def->target.path, def->name);
        return -1;
    }

    return virStorageBackendBuildLocal(pool);
}


static int
virStorageBackendTorrentpoolCheckTarget(virStoragePoolDef *def)
{
    if (!virFileExists(def->target.path)) {
        virReportError(VIR_ERR_OPERATION_FAILED,
                       _("directory '%1$s' of pool '%2$s' does not exist, build the pool first"),
                       def->target.path, def->name);
        return -1;
    }

    if (!virFileIsDir(def->target.path)) {
        virReportError(VIR_ERR_OPERATION_FAILED,
                       _("target '%1$s' of pool '%2$s' is not a directory"),
                       def->target.path, def->name);
        return -1;
    }

    return 0;
}


static int
virStorageBackendTorrentpoolStartPool(virStoragePoolObj *pool)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autoptr(GError) err = NULL;

    if (virStorageBackendTorrentpoolCheckTarget(def) < 0 ||
        virStorageTorrentPoolFileMakePrivate(def->target.path) < 0)
        return -1;

    if (!virStorageTorrentPoolStateOpen(def, true, &err)) {
        virStorageTorrentClientReportError(err);
        return -1;
    }

    return virStorageTorrentPoolStateMark(def);
}


/* The directory being there does not make the pool active: without the mark it
 * was stopped, or the machine was. */
static int
virStorageBackendTorrentpoolCheckPool(virStoragePoolObj *pool,
                                      bool *isActive)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);

    *isActive = virStorageTorrentPoolStateIsMarked(def) &&
                virFileIsDir(def->target.path);

    return 0;
}


/* virttorrentd keeps which pools are open, so it is told even if it has to be
 * started for that. */
static void
virStorageBackendTorrentpoolClose(virStoragePoolDef *def,
                                  bool purge)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(GError) err = NULL;

    virUUIDFormat(def->uuid, uuid);

    if (!virStorageTorrentClientClosePool(uuid, purge, &err) &&
        !virStorageTorrentClientIsUnknown(err)) {
        VIR_WARN("virttorrentd was not told to close pool '%s': %s",
                 def->name, err->message);
    }
}


static int
virStorageBackendTorrentpoolStopPool(virStoragePoolObj *pool)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);

    virStorageBackendTorrentpoolClose(def, false);
    virStorageTorrentPoolStateForget(def);
    virStorageTorrentPoolCacheForget(def);

    return 0;
}


static int
virStorageBackendTorrentpoolCheckEmpty(virStoragePoolDef *def)
{
    g_autoptr(DIR) dir = NULL;
    struct dirent *ent;
    int rc;

    if (virDirOpen(&dir, def->target.path) < 0)
        return -1;

    while ((rc = virDirRead(dir, &ent, def->target.path)) > 0) {
        if (STREQ(ent->d_name, VIR_STORAGE_TORRENT_POOL_PRIVATE))
            continue;

        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("directory '%1$s' of pool '%2$s' is not empty, delete '%3$s' first"),
                       def->target.path, def->name, ent->d_name);
        return -1;
    }

    return rc;
}


static int
virStorageBackendTorrentpoolDeletePool(virStoragePoolObj *pool,
                                       unsigned int flags)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);

    virCheckFlags(0, -1);

    if (virStorageBackendTorrentpoolCheckEmpty(def) < 0)
        return -1;

    virStorageBackendTorrentpoolClose(def, true);
    virStorageTorrentPoolStateForget(def);

    if (virStorageTorrentPoolFileRemovePrivate(def->target.path) < 0)
        return -1;

    return virStorageBackendDeleteLocal(pool, flags);
}


/* Sets up the definition; nothing is made. The name stays noted until a file is
 * there, so that deleteVol does not remove what is not ours when building the
 * volume failed because of it. */
static int
virStorageBackendTorrentpoolCreateVol(virStoragePoolObj *pool,
                                      virStorageVolDef *vol)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    struct stat sb;

    if (virStorageTorrentPoolFileCheckName(vol->name) < 0)
        return -1;

    if (vol->target.format == VIR_STORAGE_FILE_DIR ||
        vol->target.format == VIR_STORAGE_FILE_PLOOP) {
        virReportError(VIR_ERR_CONFIG_UNSUPPORTED,
                       _("volume '%1$s' cannot be a directory in a torrent pool"),
                       vol->name);
        return -1;
    }

    vol->type = VIR_STORAGE_VOL_FILE;

    VIR_FREE(vol->target.path);
    vol->target.path = g_strdup_printf("%s/%s", def->target.path, vol->name);

    if (lstat(vol->target.path, &sb) == 0) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("volume target path '%1$s' already exists"),
                       vol->target.path);
        return -1;
    }

    VIR_FREE(vol->key);
    vol->key = g_strdup(vol->target.path);

    virStorageTorrentPoolStateAddCreating(def, vol->name);

    return 0;
}


/* Describes a volume of which a file is there. The definition may be the one it
 * was created from, so all of it is found out anew. */
static int
virStorageBackendTorrentpoolRefreshLocalVol(virStoragePoolObj *pool,
                                            virStorageVolDef *vol,
                                            const struct stat *sb)
{
    g_clear_pointer(&vol->target.backingStore, virObjectUnref);
    g_clear_pointer(&vol->target.encryption, virStorageEncryptionFree);

    if (virStorageTorrentPoolCacheProbe(virStoragePoolObjGetDef(pool), vol, sb) == -1)
        return -1;

    /* its secret may be known by now */
    if (vol->target.encryption)
        return virStorageBackendVolRefreshLocal(pool, vol);

    return 0;
}


/* What virttorrentd knows of a volume, NULL: nothing, or it does not answer */
static virStorageTorrentVolume *
virStorageBackendTorrentpoolAskVol(virStoragePoolDef *def,
                                   const char *name,
                                   bool *answered)
{
    virStorageTorrentVolume *known = NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(GError) err = NULL;

    virUUIDFormat(def->uuid, uuid);

    if (virStorageTorrentPoolStateOpen(def, false, &err))
        virStorageTorrentClientGetVolume(uuid, name, &known, &err);

    *answered = known || virStorageTorrentClientIsRefusal(err);

    if (!*answered)
        VIR_WARN("state of volume '%s' is not known: %s", name, err->message);

    return known;
}


static int
virStorageBackendTorrentpoolRefreshVol(virStoragePoolObj *pool,
                                       virStorageVolDef *vol)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autofree char *path = g_strdup_printf("%s/%s", def->target.path, vol->name);
    g_autoptr(virStorageTorrentVolume) known = NULL;
    g_autofree char *reason = NULL;
    bool answered = true;
    struct stat sb;

    if (vol->building)
        return 0;

    /* what a volume is created from may be of another pool */
    if (STRNEQ(path, vol->target.path)) {
        if (!virFileExists(vol->target.path) &&
            virStorageTorrentPoolFileInPool(vol->target.path)) {
            virReportError(VIR_ERR_OPERATION_INVALID,
                           _("'%1$s' is still being fetched, wait until it is complete"),
                           vol->target.path);
            return -1;
        }

        return virStorageBackendVolRefreshLocal(pool, vol);
    }

    if (lstat(path, &sb) < 0) {
        if ((known = virStorageBackendTorrentpoolAskVol(def, vol->name, &answered))) {
            g_clear_pointer(&vol->target.backingStore, virObjectUnref);
            virStorageTorrentPoolVolFillFetched(vol, known);
            return 0;
        }

        if (!answered && vol->torrent)
            return 0;

        virReportError(VIR_ERR_NO_STORAGE_VOL,
                       _("volume '%1$s' is gone from pool '%2$s'"),
                       vol->name, def->name);
        return -1;
    }

    if (virStorageBackendTorrentpoolRefreshLocalVol(pool, vol, &sb) < 0)
        return -1;

    if (!(S_ISREG(sb.st_mode) && !(sb.st_mode & WRITE_BITS))) {
        virStorageTorrentPoolVolSetTorrent(vol, NULL);
    } else if (!vol->torrent || !virStorageTorrentPoolStateIsSettled(def, vol->name)) {
        known = virStorageBackendTorrentpoolAskVol(def, vol->name, &answered);
        virStorageTorrentPoolVolSetTorrent(vol, known);
        virStorageTorrentPoolStateSetSettled(def, vol->name, known);
    }

    if ((reason = virStorageTorrentPoolStateGetRefused(def, vol->name, &sb)))
        virStorageTorrentPoolVolSetRefused(vol, reason);

    return 0;
}


/* Adds the directories to those in @dirs, each once. */
static void
virStorageBackendTorrentpoolAddDirs(GPtrArray *dirs,
                                    char **more)
{
    size_t i;

    for (i = 0; more && more[i]; i++) {
        if (*more[i] &&
            !g_ptr_array_find_with_equal_func(dirs, more[i], g_str_equal, NULL))
            g_ptr_array_add(dirs, g_strdup(more[i]));
    }
}


/* Where clones of masters of the pool may be: in it, in other pools where some
 * were made, whatever became of these, and in those that are active. NULL with
 * an error reported where that is not known. */
static GPtrArray *
virStorageBackendTorrentpoolCloneDirs(virStoragePoolDef *def)
{
    g_autoptr(GPtrArray) dirs = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) elsewhere = NULL;
    g_auto(GStrv) targets = NULL;
    char *own[] = { def->target.path, NULL };

    if (!(elsewhere = virStorageTorrentPoolElsewhereGet(def->target.path)))
        return NULL;

    virStorageTorrentClientListTargets(&targets, NULL);

    virStorageBackendTorrentpoolAddDirs(dirs, own);
    virStorageBackendTorrentpoolAddDirs(dirs, elsewhere);
    virStorageBackendTorrentpoolAddDirs(dirs, targets);

    return g_steal_pointer(&dirs);
}


/* A directory that is gone went with its clones. One that is there, and no
 * torrent pool, is where a file system should be mounted. */
static int
virStorageBackendTorrentpoolCheckMounted(const char *dir,
                                         virStorageVolDef *vol)
{
    g_autofree char *private = virFileBuildPath(dir, VIR_STORAGE_TORRENT_POOL_PRIVATE, NULL);

    if (!virFileExists(dir) || virFileIsDir(private))
        return 0;

    virReportError(VIR_ERR_OPERATION_INVALID,
                   _("volume '%1$s' may have clones in '%2$s', where no pool is to be seen now: mount its file system, or remove the directory"),
                   vol->name, dir);
    return -1;
}


static int
virStorageBackendTorrentpoolCheckClones(virStoragePoolDef *def,
                                        virStorageVolDef *vol)
{
    g_autoptr(GPtrArray) dirs = virStorageBackendTorrentpoolCloneDirs(def);
    size_t i;

    if (!dirs)
        return -1;

    for (i = 0; i < dirs->len; i++) {
        const char *dir = g_ptr_array_index(dirs, i);
        g_auto(GStrv) clones = NULL;
        g_autofree char *list = NULL;

        if (virStorageBackendTorrentpoolCheckMounted(dir, vol) < 0)
            return -1;

        clones = virStorageTorrentPoolFileFindClones(dir, vol->target.path, CLONES_MAX);
        if (!clones[0])
            continue;

        list = g_strjoinv(", ", clones);
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("volume '%1$s' has clones in '%2$s', delete these first: %3$s"),
                       vol->name, dir, list);
        return -1;
    }

    return 0;
}


static int
virStorageBackendTorrentpoolForgetVol(virStoragePoolDef *def,
                                      const char *name)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(GError) err = NULL;

    virUUIDFormat(def->uuid, uuid);

    if ((virStorageTorrentPoolStateOpen(def, false, &err) &&
         virStorageTorrentClientRemoveVolume(uuid, name, &err)) ||
        virStorageTorrentClientIsUnknown(err))
        return 0;

    virStorageTorrentClientReportError(err);
    return -1;
}


static int
virStorageBackendTorrentpoolDeleteMaster(virStoragePoolObj *pool,
                                         virStorageVolDef *vol,
                                         unsigned int flags)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);

    if (virStorageBackendTorrentpoolCheckClones(def, vol) < 0 ||
        virStorageBackendTorrentpoolForgetVol(def, vol->name) < 0)
        return -1;

    /* what was being fetched may have become complete meanwhile */
    return virStorageBackendVolDeleteLocal(pool, vol, flags);
}


static int
virStorageBackendTorrentpoolDeleteVol(virStoragePoolObj *pool,
                                      virStorageVolDef *vol,
                                      unsigned int flags)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autofree char *path = g_strdup(vol->target.path);
    int rc;

    virCheckFlags(0, -1);

    /* it could not be built, and what may be there is not ours */
    if (virStorageTorrentPoolStateRemoveCreating(def, vol->name))
        return 0;

    if (!virStorageTorrentPoolStateHoldAlone(path)) {
        virReportError(VIR_ERR_RESOURCE_BUSY,
                       _("volume '%1$s' is being cloned"), vol->name);
        return -1;
    }

    if (!virFileExists(path) || virStorageTorrentPoolFileIsMaster(path))
        rc = virStorageBackendTorrentpoolDeleteMaster(pool, vol, flags);
    else
        rc = virStorageBackendVolDeleteLocal(pool, vol, flags);

    virStorageTorrentPoolStateRelease(path);

    return rc;
}


static int
virStorageBackendTorrentpoolCheckChange(virStorageVolDef *vol)
{
    if (virStorageTorrentPoolFileIsMaster(vol->target.path)) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("volume '%1$s' is a master and never changes, clone it and change the clone"),
                       vol->name);
        return -1;
    }

    if (!virFileExists(vol->target.path)) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("volume '%1$s' is a master that is still being fetched and never changes, clone it and change the clone"),
                       vol->name);
        return -1;
    }

    return 0;
}


static int
virStorageBackendTorrentpoolResizeVol(virStoragePoolObj *pool,
                                      virStorageVolDef *vol,
                                      unsigned long long capacity,
                                      unsigned int flags)
{
    if (virStorageBackendTorrentpoolCheckChange(vol) < 0)
        return -1;

    return virStorageBackendVolResizeLocal(pool, vol, capacity, flags);
}


static int
virStorageBackendTorrentpoolUploadVol(virStoragePoolObj *pool,
                                      virStorageVolDef *vol,
                                      virStreamPtr stream,
                                      unsigned long long offset,
                                      unsigned long long len,
                                      unsigned int flags)
{
    if (virStorageBackendTorrentpoolCheckChange(vol) < 0)
        return -1;

    return virStorageBackendVolUploadLocal(pool, vol, stream, offset, len, flags);
}


static int
virStorageBackendTorrentpoolDownloadVol(virStoragePoolObj *pool,
                                        virStorageVolDef *vol,
                                        virStreamPtr stream,
                                        unsigned long long offset,
                                        unsigned long long len,
                                        unsigned int flags)
{
    if (!virFileExists(vol->target.path)) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("volume '%1$s' is still being fetched, wait until it is complete"),
                       vol->name);
        return -1;
    }

    return virStorageBackendVolDownloadLocal(pool, vol, stream, offset, len, flags);
}


static int
virStorageBackendTorrentpoolWipeVol(virStoragePoolObj *pool,
                                    virStorageVolDef *vol,
                                    unsigned int algorithm,
                                    unsigned int flags)
{
    if (virStorageBackendTorrentpoolCheckChange(vol) < 0)
        return -1;

    return virStorageBackendVolWipeLocal(pool, vol, algorithm, flags);
}


static virStorageBackend virStorageBackendTorrentpool = {
    .type = VIR_STORAGE_POOL_TORRENTPOOL,

    .buildPool = virStorageBackendTorrentpoolBuildPool,
    .startPool = virStorageBackendTorrentpoolStartPool,
    .checkPool = virStorageBackendTorrentpoolCheckPool,
    .refreshPool = virStorageTorrentPoolRefresh,
    .stopPool = virStorageBackendTorrentpoolStopPool,
    .deletePool = virStorageBackendTorrentpoolDeletePool,
    .createVol = virStorageBackendTorrentpoolCreateVol,
    .buildVol = virStorageTorrentPoolBuildVol,
    .buildVolFrom = virStorageTorrentPoolBuildVolFrom,
    .refreshVol = virStorageBackendTorrentpoolRefreshVol,
    .deleteVol = virStorageBackendTorrentpoolDeleteVol,
    .resizeVol = virStorageBackendTorrentpoolResizeVol,
    .uploadVol = virStorageBackendTorrentpoolUploadVol,
    .downloadVol = virStorageBackendTorrentpoolDownloadVol,
    .wipeVol = virStorageBackendTorrentpoolWipeVol,
};


int
virStorageBackendTorrentpoolRegister(void)
{
    if (virStorageTorrentPoolStateInit() < 0 ||
        virStorageTorrentPoolCacheInit() < 0)
        return -1;

    if (virStorageBackendRegister(&virStorageBackendTorrentpool) < 0)
        return -1;

    return virStorageBackendNamespaceInit(VIR_STORAGE_POOL_TORRENTPOOL,
                                          &virStorageTorrentPoolXMLNamespace);
}
