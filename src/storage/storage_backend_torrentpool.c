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
 * The rooms: storage_torrentpool_def.c (XML), _client.c (virttorrentd),
 * _state.c (what is remembered of a running pool), _file.c (files), _vol.c
 * (definitions of volumes), _build.c (new volumes).
 *
 * Locks: all of this is called with the pool locked, but for buildVol,
 * buildVolFrom, uploadVol, downloadVol and wipeVol.
 */

#include <config.h>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage_backend_torrentpool.h"
#include "storage_torrentpool_build.h"
#include "storage_torrentpool_client.h"
#include "storage_torrentpool_def.h"
#include "storage_torrentpool_file.h"
#include "storage_torrentpool_state.h"
#include "storage_torrentpool_vol.h"
#include "storage_util.h"
#include "viralloc.h"
#include "virerror.h"
#include "virfile.h"
#include "virhash.h"
#include "virlog.h"
#include "virstring.h"
#include "virutil.h"
#include "viruuid.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_backend_torrentpool");

#define METAINFO_SUFFIX ".torrent"
#define METAINFO_MAX (64 * 1024 * 1024)
/* How many of the clones of a master an error names */
#define CLONES_MAX 3


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


/* Publishes a master that virttorrentd does not know yet. Returns what it knows
 * of it then, or NULL. */
static virStorageTorrentVolume *
virStorageBackendTorrentpoolPublish(virStoragePoolDef *def,
                                    const char *name,
                                    const char *path)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(VirImageInfo) info = NULL;
    virStorageTorrentVolume *known = NULL;
    g_autoptr(GError) err = NULL;
    VIR_AUTOCLOSE fd = -1;

    virUUIDFormat(def->uuid, uuid);

    if ((fd = virStorageTorrentPoolFileOpen(path)) < 0 ||
        !(info = virStorageTorrentPoolFileProbe(fd, path)))
        return NULL;

    /* a read-only overlay is no master */
    if (!virImageIsStandalone(info) ||
        virStorageTorrentPoolFileFreeze(fd, path) < 0)
        return NULL;

    if (!virStorageTorrentClientPublishVolume(uuid, name, info->format,
                                              info->capacity, &err) ||
        !virStorageTorrentClientGetVolume(uuid, name, &known, &err))
        VIR_WARN("cannot publish '%s': %s", path, err->message);

    return known;
}


/* Lists a file of the pool. One that cannot be read is not worth the pool. */
static void
virStorageBackendTorrentpoolRefreshFile(virStoragePoolObj *pool,
                                        const char *name,
                                        const virStorageTorrentVolume *known,
                                        bool online)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autoptr(virStorageVolDef) vol = virStorageTorrentPoolVolNew(def, name);
    g_autoptr(virStorageTorrentVolume) published = NULL;
    g_autofree char *reason = NULL;
    struct stat sb;

    if (lstat(vol->target.path, &sb) < 0 || !S_ISREG(sb.st_mode))
        return;

    if (known) {
        virStorageTorrentPoolFileReclaim(vol->target.path);
    } else if (online && virStorageTorrentPoolFileIsMaster(vol->target.path)) {
        published = virStorageBackendTorrentpoolPublish(def, name, vol->target.path);
        known = published;
    }

    if (virStorageBackendRefreshVolTargetUpdate(vol) < 0) {
        VIR_WARN("ignoring '%s': %s", vol->target.path, virGetLastErrorMessage());
        return;
    }

    virStorageTorrentPoolVolSetTorrent(vol, known);

    if ((reason = virStorageTorrentPoolStateGetRefused(def, name, &sb)))
        virStorageTorrentPoolVolSetRefused(vol, reason);

    virStorageTorrentPoolVolAdd(pool, g_steal_pointer(&vol), known);
}


/* Whether the file may be metainfo that was not looked at yet; fills @data and
 * @sb. While a volume is made and not uploaded into, it is all zero. */
static bool
virStorageBackendTorrentpoolReadMetainfo(virStoragePoolDef *def,
                                         const char *name,
                                         const char *path,
                                         struct stat *sb,
                                         char **data)
{
    g_autofree char *reason = NULL;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0 ||
        fstat(fd, sb) < 0 || !S_ISREG(sb->st_mode) || sb->st_size == 0 ||
        (reason = virStorageTorrentPoolStateGetRefused(def, name, sb)))
        return false;

    if (sb->st_size > METAINFO_MAX) {
        VIR_WARN("'%s' is too large to be a .torrent file", path);
        virStorageTorrentPoolStateAddRefused(def, name, sb,
                                             _("too large to be a .torrent file"));
        return false;
    }

    *data = g_malloc(sb->st_size);

    return saferead(fd, *data, sb->st_size) == sb->st_size && **data != '\0';
}


/* Gives a .torrent file to virttorrentd. Returns whether it is gone. */
static bool
virStorageBackendTorrentpoolTakeMetainfo(virStoragePoolDef *def,
                                         const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s", def->target.path, name);
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autofree char *data = NULL;
    g_autofree char *volume = NULL;
    g_autofree char *reason = NULL;
    g_autoptr(GError) err = NULL;
    struct stat sb;

    if (!virStorageBackendTorrentpoolReadMetainfo(def, name, path, &sb, &data))
        return false;

    virUUIDFormat(def->uuid, uuid);

    if (virStorageTorrentClientFetchMetainfo(uuid, data, sb.st_size, &volume, &err)) {
        VIR_INFO("'%s' is taken, volume '%s' is being fetched", path, volume);
        if (unlink(path) == 0)
            return true;

        VIR_WARN("cannot remove '%s': %s", path, g_strerror(errno));
        return false;
    }

    reason = virStorageTorrentClientErrorMessage(err);
    VIR_WARN("'%s' is not taken: %s", path, reason);

    if (virStorageTorrentClientIsRefusal(err))
        virStorageTorrentPoolStateAddRefused(def, name, &sb, reason);

    return false;
}


/* The names of what may be volumes, NULL on error */
static GPtrArray *
virStorageBackendTorrentpoolReadDir(virStoragePoolDef *def)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(DIR) dir = NULL;
    struct dirent *ent;
    int rc;

    if (virDirOpen(&dir, def->target.path) < 0)
        return NULL;

    while ((rc = virDirRead(dir, &ent, def->target.path)) > 0) {
        if (ent->d_name[0] == '.')
            continue;

        if (virStringHasControlChars(ent->d_name)) {
            VIR_WARN("Ignoring file '%s' with control characters under '%s'",
                     ent->d_name, def->target.path);
            continue;
        }

        g_ptr_array_add(names, g_strdup(ent->d_name));
    }

    if (rc < 0)
        return NULL;

    return g_steal_pointer(&names);
}


/* Gives .torrent files among @names to virttorrentd, and returns what it knows
 * of the pool's volumes, by name; NULL with a warning where it does not answer. */
static GHashTable *
virStorageBackendTorrentpoolAsk(virStoragePoolDef *def,
                                GPtrArray *names)
{
    g_autoptr(GHashTable) known = NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(GPtrArray) vols = NULL;
    g_autoptr(GError) err = NULL;
    size_t i;

    virUUIDFormat(def->uuid, uuid);

    if (!virStorageTorrentPoolStateOpen(def, false, &err))
        goto error;

    for (i = names->len; i > 0; i--) {
        const char *name = g_ptr_array_index(names, i - 1);

        if (g_str_has_suffix(name, METAINFO_SUFFIX) &&
            virStorageBackendTorrentpoolTakeMetainfo(def, name))
            g_ptr_array_remove_index(names, i - 1);
    }

    if (!virStorageTorrentClientListVolumes(uuid, &vols, &err)) {
        /* somebody else may have closed it */
        if (!virStorageTorrentClientIsUnknown(err))
            goto error;

        g_clear_error(&err);

        if (!virStorageTorrentPoolStateOpen(def, true, &err) ||
            !virStorageTorrentClientListVolumes(uuid, &vols, &err))
            goto error;
    }

    known = virHashNew((GDestroyNotify)virStorageTorrentVolumeFree);
    g_ptr_array_set_free_func(vols, NULL);

    for (i = 0; i < vols->len; i++) {
        virStorageTorrentVolume *vol = g_ptr_array_index(vols, i);

        g_hash_table_insert(known, g_strdup(vol->name), vol);
    }

    return g_steal_pointer(&known);

 error:
    VIR_WARN("pool '%s' lists only what is on disk: %s", def->name, err->message);
    virStorageTorrentPoolStateAwait(def);
    return NULL;
}


/* Size and permissions of the pool itself */
static int
virStorageBackendTorrentpoolRefreshDir(virStoragePoolDef *def)
{
    g_autoptr(virStorageSource) target = virStorageSourceNew();
    struct statvfs vfs;
    struct stat sb;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = virStorageTorrentPoolFileOpenTarget(def->target.path)) < 0)
        return -1;

    if (fstat(fd, &sb) < 0 || fstatvfs(fd, &vfs) < 0) {
        virReportSystemError(errno, _("cannot stat path '%1$s'"),
                             def->target.path);
        return -1;
    }

    if (virStorageBackendUpdateVolTargetInfoFD(target, fd, &sb) < 0)
        return -1;

    def->capacity = (unsigned long long)vfs.f_frsize * vfs.f_blocks;
    def->available = (unsigned long long)vfs.f_frsize * vfs.f_bfree;
    def->allocation = def->capacity - def->available;

    def->target.perms.mode = target->perms->mode;
    def->target.perms.uid = target->perms->uid;
    def->target.perms.gid = target->perms->gid;
    VIR_FREE(def->target.perms.label);
    def->target.perms.label = g_strdup(target->perms->label);

    return 0;
}


/* Fails only where the directory cannot be read. */
static int
virStorageBackendTorrentpoolRefreshPool(virStoragePoolObj *pool)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autoptr(GPtrArray) names = NULL;
    g_autoptr(GHashTable) known = NULL;
    GHashTableIter iter;
    void *fetched;
    size_t i;

    /* nothing is being built during a refresh */
    virStorageTorrentPoolStateClearCreating(def);

    if (virStorageTorrentPoolStateIsFirst(def) &&
        virStorageTorrentPoolFileSweepBuild(def->target.path) < 0)
        VIR_WARN("pool '%s' may keep unfinished volumes: %s",
                 def->name, virGetLastErrorMessage());

    if (!(names = virStorageBackendTorrentpoolReadDir(def)))
        return -1;

    known = virStorageBackendTorrentpoolAsk(def, names);

    for (i = 0; i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        virStorageTorrentVolume *vol = NULL;

        if (known)
            vol = g_hash_table_lookup(known, name);

        virStorageBackendTorrentpoolRefreshFile(pool, name, vol, !!known);
    }

    if (known) {
        g_hash_table_iter_init(&iter, known);
        while (g_hash_table_iter_next(&iter, NULL, &fetched)) {
            virStorageTorrentVolume *vol = fetched;

            virStorageTorrentPoolVolAddFetched(pool, vol);
        }
    }

    virResetLastError();

    return virStorageBackendTorrentpoolRefreshDir(def);
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
                                            virStorageVolDef *vol)
{
    g_clear_pointer(&vol->target.backingStore, virObjectUnref);
    g_clear_pointer(&vol->target.encryption, virStorageEncryptionFree);

    if (virStorageBackendRefreshVolTargetUpdate(vol) == -1)
        return -1;

    return virStorageBackendVolRefreshLocal(pool, vol);
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
    if (STRNEQ(path, vol->target.path))
        return virStorageBackendVolRefreshLocal(pool, vol);

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

    if (virStorageBackendTorrentpoolRefreshLocalVol(pool, vol) < 0)
        return -1;

    if (virStorageTorrentPoolFileIsMaster(path))
        known = virStorageBackendTorrentpoolAskVol(def, vol->name, &answered);

    virStorageTorrentPoolVolSetTorrent(vol, known);

    if ((reason = virStorageTorrentPoolStateGetRefused(def, vol->name, &sb)))
        virStorageTorrentPoolVolSetRefused(vol, reason);

    return 0;
}


/* Masters may have clones in this pool and in others on this host. */
static int
virStorageBackendTorrentpoolCheckClones(virStoragePoolDef *def,
                                        virStorageVolDef *vol)
{
    g_auto(GStrv) targets = NULL;
    size_t i;

    virStorageTorrentClientListTargets(&targets, NULL);

    for (i = 0; i == 0 || (targets && targets[i - 1]); i++) {
        const char *dir = i == 0 ? def->target.path : targets[i - 1];
        g_auto(GStrv) clones = NULL;
        g_autofree char *list = NULL;

        if (i > 0 && STREQ(dir, def->target.path))
            continue;

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
    .refreshPool = virStorageBackendTorrentpoolRefreshPool,
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
    if (virStorageTorrentPoolStateInit() < 0)
        return -1;

    if (virStorageBackendRegister(&virStorageBackendTorrentpool) < 0)
        return -1;

    return virStorageBackendNamespaceInit(VIR_STORAGE_POOL_TORRENTPOOL,
                                          &virStorageTorrentPoolXMLNamespace);
}
