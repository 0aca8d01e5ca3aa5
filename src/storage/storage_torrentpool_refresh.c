/*
 * storage_torrentpool_refresh.c: lists the volumes of a torrent pool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A refresh reads the directory and asks virttorrentd what it knows. It also
 * takes what was put there for it: a file that nobody may write to is published,
 * and a .torrent file is given to virttorrentd and removed.
 *
 * Files that have not changed are not opened, see storage_torrentpool_cache.c:
 * the pool is locked meanwhile, and may have thousands. Nor are their volumes
 * made anew, where libvirt has not dropped them before.
 *
 * It never waits for a network, and neither a file that cannot be read nor a
 * virttorrentd that does not answer makes it fail.
 */

#include <config.h>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage_torrentpool_cache.h"
#include "storage_torrentpool_client.h"
#include "storage_torrentpool_elsewhere.h"
#include "storage_torrentpool_file.h"
#include "storage_torrentpool_refresh.h"
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

VIR_LOG_INIT("storage.storage_torrentpool_refresh");

#define METAINFO_SUFFIX ".torrent"
#define METAINFO_MAX (64 * 1024 * 1024)
#define WRITE_BITS (S_IWUSR | S_IWGRP | S_IWOTH)


/* Publishes a master that virttorrentd does not know yet. Returns what it knows
 * of it then, or NULL. */
static virStorageTorrentVolume *
virStorageTorrentPoolRefreshPublish(virStoragePoolDef *def,
                                    const char *name,
                                    const char *path)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(VirImageInfo) info = NULL;
    virStorageTorrentVolume *known = NULL;
    g_autoptr(GError) err = NULL;
    VIR_AUTOCLOSE fd = -1;

    virUUIDFormat(def->uuid, uuid);

    if ((fd = virStorageTorrentPoolFileOpen(path, false)) < 0 ||
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


/* What the volume is made on may lie in another pool, which has to know. @seen:
 * directories of which it does */
static void
virStorageTorrentPoolRefreshElsewhere(virStoragePoolDef *def,
                                      const virStorageVolDef *vol,
                                      GHashTable *seen)
{
    const virStorageSource *backing = vol->target.backingStore;
    g_autofree char *dir = NULL;
    const char *name;

    if (!backing || !backing->path || *backing->path != '/' ||
        ((name = STRSKIP(backing->path, def->target.path)) &&
         *name == '/' && !strchr(name + 1, '/')))
        return;

    dir = g_path_get_dirname(backing->path);
    if (g_hash_table_contains(seen, dir))
        return;

    if (virStorageTorrentPoolElsewhereNote(backing->path, def->target.path) < 0)
        VIR_WARN("'%s' is not protected: %s", backing->path, virGetLastErrorMessage());

    g_hash_table_add(seen, g_steal_pointer(&dir));
}


/* Publishes or takes back what nobody may write to; tells @sb anew. Returns what
 * virttorrentd knows if that changed. */
static virStorageTorrentVolume *
virStorageTorrentPoolRefreshMaster(virStoragePoolDef *def,
                                   int dirfd,
                                   const char *name,
                                   bool known,
                                   struct stat *sb)
{
    g_autofree char *path = NULL;
    virStorageTorrentVolume *published = NULL;

    if ((sb->st_mode & WRITE_BITS) ||
        (known && sb->st_uid == geteuid() && sb->st_gid == getegid()))
        return NULL;

    path = g_strdup_printf("%s/%s", def->target.path, name);

    if (known)
        virStorageTorrentPoolFileReclaim(path);
    else
        published = virStorageTorrentPoolRefreshPublish(def, name, path);

    ignore_value(fstatat(dirfd, name, sb, AT_SYMLINK_NOFOLLOW));
    return published;
}


/* The volume as it is listed if its file is what it was then, or else NULL, and
 * it is listed no more. libvirt finds a volume by its key. */
static virStorageVolDef *
virStorageTorrentPoolRefreshKeep(virStoragePoolObj *pool,
                                 const char *name,
                                 const virStorageTorrentVolume *known,
                                 const struct stat *sb)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    virStorageVolDef *vol = virStorageVolDefFindByName(pool, name);

    if (!vol)
        return NULL;

    if (STREQ(vol->key, known && known->key ? known->key : vol->target.path) &&
        virStorageTorrentPoolCacheKeep(def, vol, sb))
        return vol;

    virStoragePoolObjRemoveVol(pool, vol);
    return NULL;
}


/* Lists a file of the pool. One that cannot be read is not worth the pool.
 * Returns whether it is listed. */
static bool
virStorageTorrentPoolRefreshFile(virStoragePoolObj *pool,
                                 int dirfd,
                                 const char *name,
                                 const virStorageTorrentVolume *known,
                                 bool online,
                                 GHashTable *seen)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autoptr(virStorageTorrentVolume) published = NULL;
    g_autoptr(virStorageVolDef) added = NULL;
    virStorageVolDef *vol;
    g_autofree char *reason = NULL;
    struct stat sb;

    if (fstatat(dirfd, name, &sb, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(sb.st_mode))
        return false;

    if ((known || online) &&
        (published = virStorageTorrentPoolRefreshMaster(def, dirfd, name, !!known, &sb)))
        known = published;

    if (!(vol = virStorageTorrentPoolRefreshKeep(pool, name, known, &sb))) {
        vol = added = virStorageTorrentPoolVolNew(def, name);

        if (virStorageTorrentPoolCacheProbe(def, vol, &sb) < 0) {
            VIR_WARN("ignoring '%s': %s", vol->target.path, virGetLastErrorMessage());
            return false;
        }
    }

    virStorageTorrentPoolRefreshElsewhere(def, vol, seen);
    virStorageTorrentPoolVolSetTorrent(vol, known);
    virStorageTorrentPoolStateSetSettled(def, name, known);

    if (g_str_has_suffix(name, METAINFO_SUFFIX) &&
        (reason = virStorageTorrentPoolStateGetRefused(def, name, &sb)))
        virStorageTorrentPoolVolSetRefused(vol, reason);

    return !added || virStorageTorrentPoolVolAdd(pool, g_steal_pointer(&added), known);
}


static int
virStorageTorrentPoolRefreshCollect(virStorageVolDef *vol,
                                    const void *opaque)
{
    GHashTable *gone = (GHashTable *)opaque;

    g_hash_table_add(gone, g_strdup(vol->name));
    return 0;
}


/* Lists no more what is not among @listed, which is as many as are there. */
static void
virStorageTorrentPoolRefreshSweep(virStoragePoolObj *pool,
                                  GPtrArray *listed)
{
    g_autoptr(GHashTable) gone = NULL;
    GHashTableIter iter;
    void *name;
    size_t i;

    if (virStoragePoolObjGetVolumesCount(pool) == listed->len)
        return;

    gone = virHashNew(NULL);
    virStoragePoolObjForEachVolume(pool, virStorageTorrentPoolRefreshCollect, gone);

    for (i = 0; i < listed->len; i++)
        g_hash_table_remove(gone, g_ptr_array_index(listed, i));

    g_hash_table_iter_init(&iter, gone);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        virStoragePoolObjRemoveVol(pool, virStorageVolDefFindByName(pool, name));
}


/* Whether the file may be metainfo that was not looked at yet; fills @data and
 * @sb. While a volume is made and not uploaded into, it is all zero. */
static bool
virStorageTorrentPoolRefreshReadMetainfo(virStoragePoolDef *def,
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

    *data = g_malloc0(sb->st_size);

    return saferead(fd, *data, sb->st_size) == sb->st_size && **data != '\0';
}


/* Gives a .torrent file to virttorrentd. Returns whether it is gone. */
static bool
virStorageTorrentPoolRefreshTakeMetainfo(virStoragePoolDef *def,
                                         const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s", def->target.path, name);
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autofree char *data = NULL;
    g_autofree char *volume = NULL;
    g_autofree char *reason = NULL;
    g_autoptr(GError) err = NULL;
    struct stat sb;

    if (!virStorageTorrentPoolRefreshReadMetainfo(def, name, path, &sb, &data))
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
virStorageTorrentPoolRefreshReadDir(virStoragePoolDef *def)
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
virStorageTorrentPoolRefreshAsk(virStoragePoolDef *def,
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
            virStorageTorrentPoolRefreshTakeMetainfo(def, name))
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
virStorageTorrentPoolRefreshDir(virStoragePoolDef *def)
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


/**
 * virStorageTorrentPoolRefresh:
 *
 * Lists the volumes of the pool. Fails only where the directory cannot be read.
 *
 * Returns 0 on success, -1 on error
 */
int
virStorageTorrentPoolRefresh(virStoragePoolObj *pool)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autoptr(GPtrArray) names = NULL;
    g_autoptr(GHashTable) known = NULL;
    g_autoptr(GHashTable) seen = virHashNew(NULL);
    g_autoptr(GPtrArray) listed = g_ptr_array_new();
    GHashTableIter iter;
    VIR_AUTOCLOSE dirfd = -1;
    void *fetched;
    size_t i;

    /* nothing is being built during a refresh */
    virStorageTorrentPoolStateClearCreating(def);

    if (virStorageTorrentPoolStateIsFirst(def) &&
        virStorageTorrentPoolFileSweepBuild(def->target.path) < 0)
        VIR_WARN("pool '%s' may keep unfinished volumes: %s",
                 def->name, virGetLastErrorMessage());

    if ((dirfd = virStorageTorrentPoolFileOpenTarget(def->target.path)) < 0 ||
        !(names = virStorageTorrentPoolRefreshReadDir(def)))
        return -1;

    virStorageTorrentPoolCacheBegin(def);
    known = virStorageTorrentPoolRefreshAsk(def, names);

    for (i = 0; i < names->len; i++) {
        char *name = g_ptr_array_index(names, i);
        virStorageTorrentVolume *vol = NULL;

        if (known)
            vol = g_hash_table_lookup(known, name);

        if (virStorageTorrentPoolRefreshFile(pool, dirfd, name, vol, !!known, seen))
            g_ptr_array_add(listed, name);
    }

    virStorageTorrentPoolRefreshSweep(pool, listed);

    if (known) {
        g_hash_table_iter_init(&iter, known);
        while (g_hash_table_iter_next(&iter, NULL, &fetched)) {
            virStorageTorrentVolume *vol = fetched;

            virStorageTorrentPoolVolAddFetched(pool, vol);
        }
    }

    virStorageTorrentPoolCacheEnd(def);
    virResetLastError();

    return virStorageTorrentPoolRefreshDir(def);
}
