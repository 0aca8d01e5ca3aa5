/*
 * storage_torrentpool_build.c: how the volumes of a torrent pool are made
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is asked for, and what is made of it:
 *
 *   vol-create with a magnet link           virttorrentd fetches it
 *   vol-create with a backing store         overlay
 *   vol-create                              ordinary volume
 *   vol-create-from or vol-clone of
 *     anything, mode without write bits     copy, frozen and published
 *     a master, format qcow2                overlay
 *     a master, its own format              copy
 *     an overlay of a master of the pool    copy of the overlay
 *     a private qcow2 volume of the pool    split, overlay
 *     anything else                         copy, converted where asked for
 *
 * Invariants: what has overlays is a master, that is frozen before the overlay
 * is there; nothing existing is replaced; half of a volume never stands under
 * its name, it is built in the private directory and linked when it is whole.
 *
 * A split makes a master of a private volume without changing what those see
 * who use it: its content gets a new name and is frozen, and its old name
 * becomes an overlay of that. storage_torrentpool_file.c tells the order.
 *
 * Locks: the pool is not locked when one of these is called, its asyncjobs
 * counter keeps it from being refreshed and stopped. splitLock keeps two clones
 * of one private volume from splitting it both; the pool is locked under it.
 */

#include <config.h>

#include <fcntl.h>
#include <unistd.h>

#include "storage_torrentpool_build.h"
#include "storage_torrentpool_client.h"
#include "storage_torrentpool_file.h"
#include "storage_torrentpool_state.h"
#include "storage_torrentpool_vol.h"
#include "storage_util.h"
#include "viralloc.h"
#include "virbitmap.h"
#include "virerror.h"
#include "virfile.h"
#include "virlog.h"
#include "virstring.h"
#include "virthread.h"
#include "virutil.h"
#include "viruuid.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_build");

#define MAGNET_PREFIX "magnet:?"
#define WRITE_BITS (S_IWUSR | S_IWGRP | S_IWOTH)
/* Of an info-hash, in the name of a master that nobody named */
#define HASH_NAME_LEN 16
/* How many names are tried for the master of a split */
#define SPLIT_MAX_NAMES 1000

static virMutex splitLock = VIR_MUTEX_INITIALIZER;

/* What an overlay is made on */
typedef struct _virStorageTorrentPoolBacking virStorageTorrentPoolBacking;
struct _virStorageTorrentPoolBacking {
    char *path;                  /* as the overlay stores it */
    char *format;
    unsigned long long capacity; /* bytes; 0: not known yet */
};

static void
virStorageTorrentPoolBackingClear(virStorageTorrentPoolBacking *backing)
{
    g_free(backing->path);
    g_free(backing->format);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(virStorageTorrentPoolBacking,
                                 virStorageTorrentPoolBackingClear);


/* Opens the pool at virttorrentd. Returns 0 on success, -1 on error */
static int
virStorageTorrentPoolBuildOpen(virStoragePoolDef *def,
                               char *uuid)
{
    g_autoptr(GError) err = NULL;

    virUUIDFormat(def->uuid, uuid);

    if (!virStorageTorrentPoolStateOpen(def, false, &err)) {
        virStorageTorrentClientReportError(err);
        return -1;
    }

    return 0;
}


void
virStorageTorrentPoolBuildPublish(virStoragePoolDef *def,
                                  const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s", def->target.path, name);
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(VirImageInfo) info = NULL;
    g_autoptr(GError) err = NULL;
    VIR_AUTOCLOSE fd = -1;

    virUUIDFormat(def->uuid, uuid);

    if ((fd = virStorageTorrentPoolFileOpen(path)) < 0 ||
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


/* Freezes the private volume @fd of the pool, since it gets an overlay.
 * Returns 0 on success, -1 on error */
static int
virStorageTorrentPoolBuildFreeze(virStoragePoolDef *def,
                                 const char *name,
                                 int fd,
                                 const char *path)
{
    if (virStorageTorrentPoolFileFreeze(fd, path) < 0)
        return -1;

    virStorageTorrentPoolBuildPublish(def, name);
    return 0;
}


/* vol-create with a magnet link */
static int
virStorageTorrentPoolBuildFetch(virStoragePoolDef *def,
                                virStorageVolDef *vol)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    const char *format = NULL;
    g_autoptr(GError) err = NULL;

    if (virStorageTorrentPoolBuildOpen(def, uuid) < 0)
        return -1;

    /* raw may also mean that the XML does not tell */
    if (vol->target.format > VIR_STORAGE_FILE_RAW)
        format = virStorageFileFormatTypeToString(vol->target.format);

    if (!virStorageTorrentClientFetchMagnet(uuid, vol->name, vol->torrent->magnet,
                                            format, vol->target.capacity, &err)) {
        virStorageTorrentClientReportError(err);
        return -1;
    }

    return 0;
}


static void
virStorageTorrentPoolBuildOverlayOptions(virStorageVolDef *vol,
                                         const virStorageTorrentPoolBacking *backing,
                                         VirImageOverlayOptions *options)
{
    virStoragePerms *perms = vol->target.perms;

    options->capacity = MAX(vol->target.capacity, backing->capacity);
    options->backing_file = backing->path;
    options->backing_format = backing->format;

    if (vol->target.clusterSize > 0)
        options->cluster_bits = g_bit_storage(vol->target.clusterSize) - 1;

    if (vol->target.features)
        options->extended_l2 = virBitmapIsBitSet(vol->target.features,
                                                 VIR_STORAGE_FILE_FEATURE_EXTENDED_L2);

    /* A clone is there to be written to, and the XML may be the master's. */
    options->mode = VIR_STORAGE_DEFAULT_VOL_PERM_MODE;
    options->uid = -1;
    options->gid = -1;

    if (perms && perms->mode != (mode_t)-1 && (perms->mode & WRITE_BITS))
        options->mode = perms->mode;
    if (perms && perms->uid != (uid_t)-1)
        options->uid = perms->uid;
    if (perms && perms->gid != (gid_t)-1)
        options->gid = perms->gid;
}


static int
virStorageTorrentPoolBuildOverlay(virStoragePoolDef *def,
                                  virStorageVolDef *vol,
                                  const virStorageTorrentPoolBacking *backing)
{
    VirImageOverlayOptions options = { 0 };
    g_autoptr(GError) err = NULL;
    VIR_AUTOCLOSE dirfd = -1;

    if (vol->target.encryption) {
        virReportError(VIR_ERR_CONFIG_UNSUPPORTED,
                       _("volume '%1$s' cannot be both encrypted and an overlay in a torrent pool"),
                       vol->name);
        return -1;
    }

    virStorageTorrentPoolBuildOverlayOptions(vol, backing, &options);

    if (options.capacity == 0) {
        virReportError(VIR_ERR_XML_ERROR,
                       _("the capacity of '%1$s' is not known yet, give one for volume '%2$s'"),
                       backing->path, vol->name);
        return -1;
    }

    if ((dirfd = virStorageTorrentPoolFileOpenTarget(def->target.path)) < 0)
        return -1;

    if (!virImageOverlayCreate(dirfd, vol->name, &options, &err)) {
        virReportError(VIR_ERR_OPERATION_FAILED,
                       _("cannot create volume '%1$s' as an overlay of '%2$s': %3$s"),
                       vol->name, backing->path, err->message);
        return -1;
    }

    return 0;
}


/* A master that is still to come: what virttorrentd knows of it, and what the
 * XML says of it where that does not know. Returns 0 on success, -1 on error */
static int
virStorageTorrentPoolBackingFetched(virStoragePoolDef *def,
                                    virStorageVolDef *vol,
                                    const char *name,
                                    virStorageTorrentPoolBacking *backing)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(virStorageTorrentVolume) fetched = NULL;
    int told = VIR_STORAGE_FILE_NONE;
    g_autoptr(GError) err = NULL;

    if (virStorageTorrentPoolBuildOpen(def, uuid) < 0)
        return -1;

    if (!virStorageTorrentClientGetVolume(uuid, name, &fetched, &err)) {
        if (virStorageTorrentClientIsUnknown(err))
            virReportError(VIR_ERR_NO_STORAGE_VOL,
                           _("there is no volume '%1$s' in pool '%2$s' that could be a backing store"),
                           name, def->name);
        else
            virStorageTorrentClientReportError(err);
        return -1;
    }

    if (fetched->state == VIR_STORAGE_VOL_TORRENT_STATE_FAILED) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("volume '%1$s' cannot be a backing store, it could not be fetched: %2$s"),
                       name, NULLSTR(fetched->error));
        return -1;
    }

    if (vol->target.backingStore)
        told = vol->target.backingStore->format;

    if (fetched->format)
        backing->format = g_strdup(fetched->format);
    else if (told > VIR_STORAGE_FILE_RAW)
        backing->format = g_strdup(virStorageFileFormatTypeToString(told));
    else if (g_str_has_suffix(name, ".qcow2"))
        backing->format = g_strdup("qcow2");
    else
        backing->format = g_strdup("raw");

    backing->path = g_strdup(name);
    backing->capacity = fetched->capacity;

    return 0;
}


/* A volume of the same pool, by name. It becomes a master if it is none. */
static int
virStorageTorrentPoolBackingLocal(virStoragePoolDef *def,
                                  virStorageVolDef *vol,
                                  const char *name,
                                  virStorageTorrentPoolBacking *backing)
{
    g_autofree char *path = g_strdup_printf("%s/%s", def->target.path, name);
    g_autoptr(VirImageInfo) info = NULL;
    VIR_AUTOCLOSE fd = -1;

    if (virStorageTorrentPoolFileCheckName(name) < 0)
        return -1;

    if (!virFileExists(path))
        return virStorageTorrentPoolBackingFetched(def, vol, name, backing);

    if ((fd = virStorageTorrentPoolFileOpen(path)) < 0 ||
        !(info = virStorageTorrentPoolFileProbe(fd, path)))
        return -1;

    if (!virImageIsStandalone(info)) {
        virReportError(VIR_ERR_OPERATION_UNSUPPORTED,
                       _("volume '%1$s' is itself an overlay and cannot be a backing store in a torrent pool, clone it instead"),
                       name);
        return -1;
    }

    VIR_WITH_MUTEX_LOCK_GUARD(&splitLock) {
        if (!virStorageTorrentPoolFileIsMaster(path) &&
            virStorageTorrentPoolBuildFreeze(def, name, fd, path) < 0)
            return -1;
    }

    backing->path = g_strdup(name);
    backing->format = g_strdup(info->format);
    backing->capacity = info->capacity;

    return 0;
}


/* A file outside of the pool. Its format is what the XML says, or raw; where
 * the content looks otherwise it is refused rather than believed, since it may
 * be a guest's. Masters of other torrent pools are no guest's. */
static int
virStorageTorrentPoolBackingOutside(virStorageVolDef *vol,
                                    const char *path,
                                    virStorageTorrentPoolBacking *backing)
{
    const char *told = virStorageFileFormatTypeToString(vol->target.backingStore->format);
    g_autoptr(VirImageInfo) info = NULL;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = virStorageTorrentPoolFileOpen(path)) < 0 ||
        !(info = virStorageTorrentPoolFileProbe(fd, path)))
        return -1;

    if (!virImageIsStandalone(info) && STRNEQ(info->format, "qcow2")) {
        virReportError(VIR_ERR_OPERATION_UNSUPPORTED,
                       _("backing store '%1$s' needs another file"), path);
        return -1;
    }

    if (vol->target.backingStore->format == VIR_STORAGE_FILE_ISO)
        told = "raw";

    if (STRNEQ_NULLABLE(info->format, told) &&
        !(virStorageTorrentPoolFileInPool(path) &&
          virStorageTorrentPoolFileIsMaster(path) &&
          virImageIsStandalone(info))) {
        virReportError(VIR_ERR_XML_ERROR,
                       _("backing store '%1$s' looks like '%2$s' and not like '%3$s', give its format"),
                       path, info->format, told);
        return -1;
    }

    backing->path = g_strdup(path);
    backing->format = g_strdup(info->format);
    backing->capacity = info->capacity;

    return 0;
}


/* The parameter @name of a magnet link, decoded, or NULL */
static char *
virStorageTorrentPoolMagnetGet(const char *magnet,
                               const char *name,
                               const char *prefix)
{
    g_auto(GStrv) params = g_strsplit(magnet + strlen(MAGNET_PREFIX), "&", 0);
    g_autofree char *start = g_strdup_printf("%s=%s", name, prefix);
    size_t i;

    for (i = 0; params[i]; i++) {
        if (STRPREFIX(params[i], start))
            return g_uri_unescape_string(params[i] + strlen(start), NULL);
    }

    return NULL;
}


/* The key of what a magnet link names, as virttorrentd writes it */
static char *
virStorageTorrentPoolMagnetKey(const char *magnet)
{
    const char *const prefixes[] = { "urn:btmh:", "urn:btih:" };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        g_autofree char *hash = virStorageTorrentPoolMagnetGet(magnet, "xt", prefixes[i]);
        g_autofree char *lower = NULL;

        if (!hash)
            continue;

        lower = g_ascii_strdown(hash, -1);
        return g_strdup_printf("%s%s", prefixes[i], lower);
    }

    return NULL;
}


/* A name for what a magnet link names, to be freed by the caller */
static char *
virStorageTorrentPoolMagnetName(virStoragePoolDef *def,
                                const char *magnet,
                                const char *key,
                                GPtrArray *vols)
{
    g_autofree char *name = virStorageTorrentPoolMagnetGet(magnet, "dn", "");
    g_autofree char *path = NULL;
    size_t len = strlen(key);
    bool taken = false;
    size_t i;

    if (name && virStorageTorrentPoolFileIsSafeName(name)) {
        path = g_strdup_printf("%s/%s", def->target.path, name);
        taken = virFileExists(path);

        for (i = 0; i < vols->len; i++) {
            const virStorageTorrentVolume *known = g_ptr_array_index(vols, i);

            taken |= STREQ(known->name, name);
        }

        if (!taken)
            return g_steal_pointer(&name);
    }

    return g_strdup_printf("master-%s", key + len - MIN(len, HASH_NAME_LEN));
}


/* Finds the master that a magnet link names in the pool or starts to fetch it.
 * Returns its name, to be freed by the caller, or NULL on error. */
static char *
virStorageTorrentPoolMagnetFetch(virStoragePoolDef *def,
                                 virStorageVolDef *vol,
                                 const char *magnet,
                                 bool *started)
{
    g_autofree char *key = virStorageTorrentPoolMagnetKey(magnet);
    int told = vol->target.backingStore->format;
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(GPtrArray) vols = NULL;
    g_autofree char *name = NULL;
    g_autoptr(GError) err = NULL;
    size_t i;

    if (!key) {
        virReportError(VIR_ERR_INVALID_ARG,
                       _("magnet link '%1$s' has no info-hash"), magnet);
        return NULL;
    }

    if (virStorageTorrentPoolBuildOpen(def, uuid) < 0)
        return NULL;

    if (!virStorageTorrentClientListVolumes(uuid, &vols, &err))
        goto error;

    for (i = 0; i < vols->len; i++) {
        const virStorageTorrentVolume *known = g_ptr_array_index(vols, i);

        if (STREQ_NULLABLE(known->key, key))
            return g_strdup(known->name);
    }

    name = virStorageTorrentPoolMagnetName(def, magnet, key, vols);

    if (!virStorageTorrentClientFetchMagnet(uuid, name, magnet,
                                            told > VIR_STORAGE_FILE_RAW ?
                                            virStorageFileFormatTypeToString(told) : NULL,
                                            0, &err))
        goto error;

    *started = true;
    return g_steal_pointer(&name);

 error:
    virStorageTorrentClientReportError(err);
    return NULL;
}


/* Lists a master that was not asked for as a volume, as the next refresh would. */
static void
virStorageTorrentPoolMagnetList(virStoragePoolObj *pool,
                                const char *name)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autoptr(virStorageTorrentVolume) known = NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];

    virUUIDFormat(def->uuid, uuid);

    if (!virStorageTorrentClientGetVolume(uuid, name, &known, NULL))
        return;

    VIR_WITH_OBJECT_LOCK_GUARD(pool) {
        virStorageTorrentPoolVolAddFetched(pool, known);
    }
}


static int
virStorageTorrentPoolBuildOnMagnet(virStoragePoolObj *pool,
                                   virStorageVolDef *vol,
                                   const char *magnet)
{
    g_auto(virStorageTorrentPoolBacking) backing = { 0 };
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autofree char *name = NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];
    virErrorPtr orig_err;
    bool started = false;

    if (!(name = virStorageTorrentPoolMagnetFetch(def, vol, magnet, &started)))
        return -1;

    if (virStorageTorrentPoolBackingLocal(def, vol, name, &backing) == 0 &&
        virStorageTorrentPoolBuildOverlay(def, vol, &backing) == 0) {
        virStorageTorrentPoolMagnetList(pool, name);
        return 0;
    }

    if (started) {
        virErrorPreserveLast(&orig_err);
        virUUIDFormat(def->uuid, uuid);
        virStorageTorrentClientRemoveVolume(uuid, name, NULL);
        virErrorRestore(&orig_err);
    }

    return -1;
}


/* vol-create with a backing store */
static int
virStorageTorrentPoolBuildOnBacking(virStoragePoolObj *pool,
                                    virStorageVolDef *vol)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    const char *path = vol->target.backingStore->path;
    g_auto(virStorageTorrentPoolBacking) backing = { 0 };
    g_autofree char *dir = NULL;
    g_autofree char *name = NULL;
    int rc;

    /* raw may also mean that the XML does not tell */
    if (vol->target.format != VIR_STORAGE_FILE_RAW &&
        vol->target.format != VIR_STORAGE_FILE_QCOW2) {
        virReportError(VIR_ERR_CONFIG_UNSUPPORTED,
                       _("volume '%1$s' cannot be an overlay of format '%2$s': only qcow2 is read right by every hypervisor"),
                       vol->name,
                       virStorageFileFormatTypeToString(vol->target.format));
        return -1;
    }

    if (STRPREFIX(path, MAGNET_PREFIX)) {
        /* The storage driver tells the path of what a magnet link names with
         * ';' for '&', as virsh puts it into XML without escaping it. */
        g_autofree char *magnet = g_strdelimit(g_strdup(path), ";", '&');

        return virStorageTorrentPoolBuildOnMagnet(pool, vol, magnet);
    }

    dir = g_path_get_dirname(path);
    name = g_path_get_basename(path);

    if (!strchr(path, '/') || virFileComparePaths(dir, def->target.path) == 1) {
        rc = virStorageTorrentPoolBackingLocal(def, vol, name, &backing);
    } else if (path[0] == '/') {
        rc = virStorageTorrentPoolBackingOutside(vol, path, &backing);
    } else {
        virReportError(VIR_ERR_INVALID_ARG,
                       _("backing store '%1$s' is neither the name of a volume of pool '%2$s' nor an absolute path"),
                       path, def->name);
        rc = -1;
    }

    if (rc < 0)
        return -1;

    return virStorageTorrentPoolBuildOverlay(def, vol, &backing);
}


/* A volume that is being built under another name */
typedef struct _virStorageTorrentPoolDraft virStorageTorrentPoolDraft;
struct _virStorageTorrentPoolDraft {
    int dirfd;            /* where it is */
    char *path;
    virStorageVolDef vol; /* shallow copy, with that path */
    virStoragePerms perms;
};

static void
virStorageTorrentPoolDraftClear(virStorageTorrentPoolDraft *draft)
{
    if (!draft->path)
        return;

    unlinkat(draft->dirfd, draft->vol.name, 0);
    VIR_FORCE_CLOSE(draft->dirfd);
    g_free(draft->path);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(virStorageTorrentPoolDraft,
                                 virStorageTorrentPoolDraftClear);


/* The name is ours: libvirt lists it as being built. */
static int
virStorageTorrentPoolDraftInit(virStorageTorrentPoolDraft *draft,
                               virStoragePoolDef *def,
                               virStorageVolDef *vol)
{
    if ((draft->dirfd = virStorageTorrentPoolFileOpenBuild(def->target.path)) < 0)
        return -1;

    draft->path = g_strdup_printf("%s/%s/%s/%s", def->target.path,
                                  VIR_STORAGE_TORRENT_POOL_PRIVATE,
                                  VIR_STORAGE_TORRENT_POOL_BUILD, vol->name);
    draft->vol = *vol;
    draft->vol.target.path = draft->path;
    draft->perms = *vol->target.perms;
    draft->vol.target.perms = &draft->perms;

    if (draft->perms.mode == (mode_t)-1 || !(draft->perms.mode & WRITE_BITS))
        draft->perms.mode = VIR_STORAGE_DEFAULT_VOL_PERM_MODE;

    unlinkat(draft->dirfd, vol->name, 0);
    return 0;
}


/* The draft is whole: it becomes the volume. */
static int
virStorageTorrentPoolDraftFinish(virStorageTorrentPoolDraft *draft,
                                 virStoragePoolDef *def,
                                 bool master)
{
    const char *name = draft->vol.name;
    VIR_AUTOCLOSE dirfd = -1;
    VIR_AUTOCLOSE fd = -1;

    if (master &&
        ((fd = virStorageTorrentPoolFileOpen(draft->path)) < 0 ||
         virStorageTorrentPoolFileFreeze(fd, draft->path) < 0))
        return -1;

    if ((dirfd = virStorageTorrentPoolFileOpenTarget(def->target.path)) < 0 ||
        virStorageTorrentPoolFileLink(draft->dirfd, name, dirfd, name) < 0)
        return -1;

    if (master)
        virStorageTorrentPoolBuildPublish(def, name);

    return 0;
}


/* vol-create of an ordinary volume */
static int
virStorageTorrentPoolBuildPlain(virStoragePoolObj *pool,
                                virStorageVolDef *vol,
                                unsigned int flags)
{
    g_auto(virStorageTorrentPoolDraft) draft = { 0 };
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);

    if (virStorageTorrentPoolDraftInit(&draft, def, vol) < 0 ||
        virStorageBackendVolBuildLocal(pool, &draft.vol, flags) < 0)
        return -1;

    return virStorageTorrentPoolDraftFinish(&draft, def, false);
}


/**
 * virStorageTorrentPoolBuildVol:
 *
 * Returns 0 on success, -1 on error with nothing left of the volume
 */
int
virStorageTorrentPoolBuildVol(virStoragePoolObj *pool,
                              virStorageVolDef *vol,
                              unsigned int flags)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    int rc;

    if (virStorageSourceHasBacking(&vol->target))
        rc = virStorageTorrentPoolBuildOnBacking(pool, vol);
    else if (vol->torrent && vol->torrent->magnet)
        rc = virStorageTorrentPoolBuildFetch(def, vol);
    else
        rc = virStorageTorrentPoolBuildPlain(pool, vol, flags);

    /* libvirt does not delete what could not be built */
    virStorageTorrentPoolStateRemoveCreating(def, vol->name);

    return rc;
}


/* What vol-create-from and vol-clone start from */
typedef struct _virStorageTorrentPoolInput virStorageTorrentPoolInput;
struct _virStorageTorrentPoolInput {
    virStorageVolDef *vol;
    char *dir;
    char *name;
    bool local;         /* a volume of the same pool */
    bool master;
    bool fetching;      /* nothing is there yet, @fd is -1 */
    int fd;             /* open for reading, or -1: not a regular file */
    VirImageInfo *info; /* NULL without @fd */
};

static void
virStorageTorrentPoolInputClear(virStorageTorrentPoolInput *input)
{
    g_free(input->dir);
    g_free(input->name);
    VIR_FORCE_CLOSE(input->fd);
    virImageInfoFree(input->info);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(virStorageTorrentPoolInput,
                                 virStorageTorrentPoolInputClear);


static int
virStorageTorrentPoolInputInit(virStorageTorrentPoolInput *input,
                               virStoragePoolDef *def,
                               virStorageVolDef *inputvol)
{
    const char *path = inputvol->target.path;
    struct stat sb;

    input->vol = inputvol;
    input->fd = -1;

    if (inputvol->type != VIR_STORAGE_VOL_FILE)
        return 0;

    input->dir = g_path_get_dirname(path);
    input->name = g_path_get_basename(path);
    input->local = STREQ(input->dir, def->target.path);

    if (stat(path, &sb) < 0) {
        input->fetching = input->local && errno == ENOENT;
        return 0;
    }

    if (!S_ISREG(sb.st_mode))
        return 0;

    input->master = virStorageTorrentPoolFileInPool(path) &&
                    virStorageTorrentPoolFileIsMaster(path);

    if ((input->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
        virReportSystemError(errno, _("cannot open '%1$s'"), path);
        return -1;
    }

    if (!(input->info = virStorageTorrentPoolFileProbe(input->fd, path)))
        return -1;

    return 0;
}


/* Whether a copy byte by byte is what was asked for */
static bool
virStorageTorrentPoolInputIsCopy(const virStorageTorrentPoolInput *input,
                                 virStorageVolDef *vol)
{
    int format = vol->target.format;

    if (!input->info || !virImageIsStandalone(input->info) ||
        vol->target.encryption || input->vol->target.encryption)
        return false;

    if (format == VIR_STORAGE_FILE_ISO)
        format = VIR_STORAGE_FILE_RAW;

    return STREQ_NULLABLE(virStorageFileFormatTypeToString(format),
                          input->info->format) &&
           (vol->target.clusterSize == 0 || input->info->cluster_bits == 0 ||
            vol->target.clusterSize == 1ULL << input->info->cluster_bits);
}


static int
virStorageTorrentPoolDraftCopy(virStorageTorrentPoolDraft *draft,
                               virStoragePoolObj *pool,
                               const virStorageTorrentPoolInput *input)
{
    virStorageVolDef *vol = &draft->vol;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = openat(draft->dirfd, vol->name,
                     O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0) {
        virReportSystemError(errno, _("cannot create file '%1$s'"), draft->path);
        return -1;
    }

    if (vol->target.nocow &&
        virFileSetCOW(draft->path, VIR_TRISTATE_BOOL_NO) < 0)
        return -1;

    if (virStorageTorrentPoolFileCopy(input->fd, fd, input->vol->target.path) < 0)
        return -1;

    if (fchown(fd, draft->perms.uid, draft->perms.gid) < 0 ||
        fchmod(fd, draft->perms.mode) < 0) {
        virReportSystemError(errno,
                             _("cannot set owner and mode of '%1$s'"),
                             draft->path);
        return -1;
    }

    if (VIR_CLOSE(fd) < 0) {
        virReportSystemError(errno, _("cannot close file '%1$s'"), draft->path);
        return -1;
    }

    if (vol->target.capacity <= input->info->capacity)
        return 0;

    return virStorageBackendVolResizeLocal(pool, vol, vol->target.capacity, 0);
}


/* A copy: byte by byte where that is the same, or else by qemu-img, which also
 * leaves the backing store of what is copied behind. */
static int
virStorageTorrentPoolBuildCopy(virStoragePoolObj *pool,
                               virStorageVolDef *vol,
                               const virStorageTorrentPoolInput *input,
                               bool overlay,
                               bool master,
                               unsigned int flags)
{
    g_auto(virStorageTorrentPoolDraft) draft = { 0 };
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    int rc;

    if (virStorageTorrentPoolDraftInit(&draft, def, vol) < 0)
        return -1;

    if (overlay || virStorageTorrentPoolInputIsCopy(input, vol)) {
        rc = virStorageTorrentPoolDraftCopy(&draft, pool, input);
    } else {
        draft.vol.target.backingStore = NULL;
        rc = virStorageBackendVolBuildFromLocal(pool, &draft.vol, input->vol,
                                                flags & ~VIR_STORAGE_VOL_CREATE_REFLINK);
    }

    if (rc < 0)
        return -1;

    return virStorageTorrentPoolDraftFinish(&draft, def, master);
}


static int
virStorageTorrentPoolBuildOnMaster(virStoragePoolDef *def,
                                   virStorageVolDef *vol,
                                   const virStorageTorrentPoolInput *input)
{
    g_auto(virStorageTorrentPoolBacking) backing = {
        .path = g_strdup(input->local ? input->name : input->vol->target.path),
        .format = g_strdup(input->info->format),
        .capacity = input->info->capacity,
    };

    return virStorageTorrentPoolBuildOverlay(def, vol, &backing);
}


static int
virStorageTorrentPoolBuildOnFetched(virStoragePoolDef *def,
                                    virStorageVolDef *vol,
                                    const virStorageTorrentPoolInput *input)
{
    g_auto(virStorageTorrentPoolBacking) backing = { 0 };

    if (vol->target.format != VIR_STORAGE_FILE_QCOW2) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("volume '%1$s' is not complete, ask for format qcow2 or wait until it can be copied"),
                       input->name);
        return -1;
    }

    if (virStorageTorrentPoolBackingFetched(def, vol, input->name, &backing) < 0)
        return -1;

    return virStorageTorrentPoolBuildOverlay(def, vol, &backing);
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

    if (virStorageBackendRefreshVolTargetUpdate(vol) == 0)
        virStorageTorrentPoolVolAdd(pool, g_steal_pointer(&vol), NULL);
}


/* Makes @fd, the private volume input->name, the master @master. */
static int
virStorageTorrentPoolSplitFile(int dirfd,
                               int buildfd,
                               const virStorageTorrentPoolInput *input,
                               const char *master)
{
    VirImageOverlayOptions options = {
        .capacity = input->info->capacity,
        .backing_file = master,
        .backing_format = input->info->format,
    };
    g_autoptr(GError) err = NULL;
    struct stat sb;

    if (fstat(input->fd, &sb) < 0) {
        virReportSystemError(errno, _("cannot stat '%1$s'"), input->vol->target.path);
        return -1;
    }

    options.mode = sb.st_mode & 0777;
    options.uid = sb.st_uid;
    options.gid = sb.st_gid;

    unlinkat(buildfd, input->name, 0);

    if (!virImageOverlayCreate(buildfd, input->name, &options, &err)) {
        virReportError(VIR_ERR_OPERATION_FAILED,
                       _("cannot make an overlay for volume '%1$s': %2$s"),
                       input->name, err->message);
        return -1;
    }

    if (virStorageTorrentPoolFileFreeze(input->fd, input->vol->target.path) < 0) {
        unlinkat(buildfd, input->name, 0);
        return -1;
    }

    /* From here on a sweep would finish it. */
    if (linkat(dirfd, input->name, dirfd, master, 0) < 0 ||
        renameat(buildfd, input->name, dirfd, input->name) < 0 ||
        fsync(dirfd) < 0) {
        virReportSystemError(errno,
                             _("cannot give the content of volume '%1$s' the name '%2$s'"),
                             input->name, master);
        return -1;
    }

    return 0;
}


/* Splits the private volume, and makes @vol an overlay of the master. */
static int
virStorageTorrentPoolBuildSplit(virStoragePoolObj *pool,
                                virStorageVolDef *vol,
                                const virStorageTorrentPoolInput *input)
{
    g_auto(virStorageTorrentPoolBacking) backing = { 0 };
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    VIR_AUTOCLOSE dirfd = -1;
    VIR_AUTOCLOSE buildfd = -1;

    if ((dirfd = virStorageTorrentPoolFileOpenTarget(def->target.path)) < 0 ||
        (buildfd = virStorageTorrentPoolFileOpenBuild(def->target.path)) < 0 ||
        !(backing.path = virStorageTorrentPoolSplitFreeName(dirfd, input->name)))
        return -1;

    if (virStorageTorrentPoolSplitFile(dirfd, buildfd, input, backing.path) < 0)
        return -1;

    virStorageTorrentPoolSplitList(pool, backing.path);
    virStorageTorrentPoolBuildPublish(def, backing.path);

    backing.format = g_strdup(input->info->format);
    backing.capacity = input->info->capacity;

    return virStorageTorrentPoolBuildOverlay(def, vol, &backing);
}


/* Whether the input is an overlay of a master of the same pool */
static bool
virStorageTorrentPoolInputIsClone(const virStorageTorrentPoolInput *input)
{
    const char *backing = input->info->backing_file;
    g_autofree char *path = NULL;

    if (!backing || input->info->external)
        return false;

    if (backing[0] == '/')
        path = g_strdup(backing);
    else
        path = g_build_filename(input->dir, backing, NULL);

    return virStorageTorrentPoolFileInPool(path) &&
           (virStorageTorrentPoolFileIsMaster(path) || !virFileExists(path));
}


/* A private volume of the same pool. Called with splitLock held. Returns 1
 * where it has to be copied, with @overlay set where that copies an overlay. */
static int
virStorageTorrentPoolBuildFromPrivate(virStoragePoolObj *pool,
                                      virStorageVolDef *vol,
                                      const virStorageTorrentPoolInput *input,
                                      bool *overlay)
{
    bool qcow2 = vol->target.format == VIR_STORAGE_FILE_QCOW2 &&
                 STREQ(input->info->format, "qcow2") &&
                 !vol->target.encryption && !input->vol->target.encryption;

    if (qcow2 && virImageIsStandalone(input->info))
        return virStorageTorrentPoolBuildSplit(pool, vol, input);

    *overlay = qcow2 && virStorageTorrentPoolInputIsClone(input);

    return 1;
}


static int
virStorageTorrentPoolBuildFrom(virStoragePoolObj *pool,
                               virStorageVolDef *vol,
                               virStorageVolDef *inputvol,
                               unsigned int flags)
{
    g_auto(virStorageTorrentPoolInput) input = { .fd = -1 };
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    mode_t mode = vol->target.perms->mode;
    bool master = mode != (mode_t)-1 && !(mode & WRITE_BITS);
    bool overlay = false;
    int rc = 1;

    VIR_WITH_MUTEX_LOCK_GUARD(&splitLock) {
        if (virStorageTorrentPoolInputInit(&input, def, inputvol) < 0)
            return -1;

        if (input.fetching)
            return virStorageTorrentPoolBuildOnFetched(def, vol, &input);

        if (input.master) {
            /* the mode came along with the master's XML */
            master = false;

            if (vol->target.format == VIR_STORAGE_FILE_QCOW2)
                return virStorageTorrentPoolBuildOnMaster(def, vol, &input);
        } else if (!master && input.local && input.info) {
            rc = virStorageTorrentPoolBuildFromPrivate(pool, vol, &input, &overlay);
        }
    }

    if (rc <= 0)
        return rc;

    return virStorageTorrentPoolBuildCopy(pool, vol, &input, overlay, master, flags);
}


/**
 * virStorageTorrentPoolBuildVolFrom:
 *
 * Returns 0 on success, -1 on error; libvirt calls deleteVol then
 */
int
virStorageTorrentPoolBuildVolFrom(virStoragePoolObj *pool,
                                  virStorageVolDef *vol,
                                  virStorageVolDef *inputvol,
                                  unsigned int flags)
{
    if (virStorageTorrentPoolBuildFrom(pool, vol, inputvol, flags) < 0)
        return -1;

    virStorageTorrentPoolStateRemoveCreating(virStoragePoolObjGetDef(pool), vol->name);

    return 0;
}
