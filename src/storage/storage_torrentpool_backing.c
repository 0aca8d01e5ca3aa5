/*
 * storage_torrentpool_backing.c: what overlays are made on
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A backing store is named in the XML of a new volume in one of four ways: the
 * name or path of a volume of the same pool, which becomes a master if it is
 * none; the same of a volume that is still being fetched; a magnet link, which
 * is looked for in the pool and fetched if it is not there; and the path of a
 * file elsewhere.
 *
 * Overlays name what is in the same directory by its name alone, so that the
 * directory can move, and always record its format.
 */

#include <config.h>

#include <unistd.h>

#include "image.h"
#include "storage_torrentpool_backing.h"
#include "storage_torrentpool_chain.h"
#include "storage_torrentpool_client.h"
#include "storage_torrentpool_def.h"
#include "storage_torrentpool_elsewhere.h"
#include "storage_torrentpool_file.h"
#include "storage_torrentpool_master.h"
#include "storage_torrentpool_state.h"
#include "storage_torrentpool_vol.h"
#include "storage_util.h"
#include "viralloc.h"
#include "virbitmap.h"
#include "virerror.h"
#include "virfile.h"
#include "virlog.h"
#include "virstring.h"
#include "viruuid.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_backing");

#define MAGNET_PREFIX "magnet:?"
#define WRITE_BITS (S_IWUSR | S_IWGRP | S_IWOTH)
/* Of an info-hash, in the name of a master that nobody named */
#define HASH_NAME_LEN 16


void
virStorageTorrentPoolBackingClear(virStorageTorrentPoolBacking *backing)
{
    g_clear_pointer(&backing->path, g_free);
    g_clear_pointer(&backing->format, g_free);

    if (backing->held)
        virStorageTorrentPoolStateRelease(backing->held);
    g_clear_pointer(&backing->held, g_free);
}


/* To be called before it is looked at. Returns 0 on success, -1 on error */
int
virStorageTorrentPoolBackingHold(virStorageTorrentPoolBacking *backing,
                                 const char *path)
{
    if (!virStorageTorrentPoolStateHold(path)) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("'%1$s' is being deleted"), path);
        return -1;
    }

    backing->held = g_strdup(path);
    return 0;
}


/* What the volume's XML asks for, and for what it leaves out the pool's. */
static int
virStorageTorrentPoolOverlayClusters(virStoragePoolDef *def,
                                     virStorageVolDef *vol,
                                     VirImageOverlayOptions *options)
{
    g_autoptr(GError) err = NULL;
    bool extended = vol->target.features &&
                    virBitmapIsBitSet(vol->target.features,
                                      VIR_STORAGE_FILE_FEATURE_EXTENDED_L2);

    virStorageTorrentPoolDefGetClone(def->namespaceData, options);

    if (vol->target.clusterSize > 0) {
        options->cluster_bits = g_bit_storage(vol->target.clusterSize) - 1;
        options->extended_l2 = VIR_IMAGE_EXTENDED_L2_DEFAULT;
    }

    if (extended)
        options->extended_l2 = VIR_IMAGE_EXTENDED_L2_ON;

    if (!virImageOverlayCheckClusters(vol->target.clusterSize,
                                      options->extended_l2, &err)) {
        virReportError(VIR_ERR_CONFIG_UNSUPPORTED,
                       _("volume '%1$s' cannot be an overlay: %2$s"),
                       vol->name, err->message);
        return -1;
    }

    return 0;
}


static void
virStorageTorrentPoolOverlayOptions(virStorageVolDef *vol,
                                    const virStorageTorrentPoolBacking *backing,
                                    VirImageOverlayOptions *options)
{
    virStoragePerms *perms = vol->target.perms;

    options->capacity = MAX(vol->target.capacity, backing->capacity);
    options->backing_file = backing->path;
    options->backing_format = backing->format;

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
virStorageTorrentPoolBackingCheckCapacity(virStorageVolDef *vol,
                                          const virStorageTorrentPoolBacking *backing)
{
    if (vol->target.capacity == 0 && backing->capacity == 0) {
        virReportError(VIR_ERR_XML_ERROR,
                       _("the capacity of '%1$s' is not known yet, give one for volume '%2$s'"),
                       backing->path, vol->name);
        return -1;
    }

    return 0;
}


/* No clone is on disk before its master is, if that is there already. */
static int
virStorageTorrentPoolBackingSync(virStoragePoolDef *def,
                                 const virStorageTorrentPoolBacking *backing)
{
    g_autofree char *path = virFileBuildPath(def->target.path, backing->path, NULL);
    const char *file = backing->path[0] == '/' ? backing->path : path;
    VIR_AUTOCLOSE fd = -1;

    if (!virFileExists(file))
        return 0;

    if ((fd = virStorageTorrentPoolFileOpen(file, true)) < 0)
        return -1;

    return virStorageTorrentPoolFileSync(fd, file);
}


int
virStorageTorrentPoolBackingOverlay(virStoragePoolDef *def,
                                    virStorageVolDef *vol,
                                    const virStorageTorrentPoolBacking *backing)
{
    VirImageOverlayOptions options = { 0 };
    g_autofree char *parent = NULL;
    g_autoptr(GError) err = NULL;
    VIR_AUTOCLOSE parentfd = -1;
    VIR_AUTOCLOSE dirfd = -1;

    if (vol->target.encryption) {
        virReportError(VIR_ERR_CONFIG_UNSUPPORTED,
                       _("volume '%1$s' cannot be both encrypted and an overlay in a torrent pool"),
                       vol->name);
        return -1;
    }

    if (virStorageTorrentPoolMasterCheckFormat(def, backing->path, backing->format) < 0 ||
        virStorageTorrentPoolBackingCheckCapacity(vol, backing) < 0 ||
        virStorageTorrentPoolOverlayClusters(def, vol, &options) < 0 ||
        virStorageTorrentPoolBackingSync(def, backing) < 0)
        return -1;

    if (backing->path[0] == '/' &&
        virStorageTorrentPoolElsewhereNote(backing->path, def->target.path) < 0)
        return -1;

    virStorageTorrentPoolOverlayOptions(vol, backing, &options);

    /* it has the parent's identity in it */
    if (options.format == VIR_IMAGE_OVERLAY_VHD) {
        parent = backing->path[0] == '/' ? g_strdup(backing->path) :
            g_build_filename(def->target.path, backing->path, NULL);

        if ((parentfd = virStorageTorrentPoolFileOpen(parent, true)) < 0)
            return -1;

        options.backing_fd = parentfd;
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
int
virStorageTorrentPoolBackingFetched(virStoragePoolDef *def,
                                    virStorageVolDef *vol,
                                    const char *name,
                                    virStorageTorrentPoolBacking *backing)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(virStorageTorrentVolume) fetched = NULL;
    const char *told = NULL;
    g_autoptr(GError) err = NULL;

    if (virStorageTorrentPoolStateOpenReport(def, uuid) < 0)
        return -1;

    if (virStorageTorrentPoolDefGetCloneFormat(def->namespaceData) == VIR_STORAGE_FILE_VPC) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("volume '%1$s' is not here yet: clones in pool '%2$s' are VHDs, which have the identity of their master in them, wait until it is complete"),
                       name, def->name);
        return -1;
    }

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
        told = virStorageTorrentPoolVolFormatHint(vol->target.backingStore->format);

    if (fetched->format)
        backing->format = g_strdup(fetched->format);
    else if (told)
        backing->format = g_strdup(told);
    else if (g_str_has_suffix(name, ".qcow2"))
        backing->format = g_strdup("qcow2");
    else
        backing->format = g_strdup("raw");

    backing->path = g_strdup(name);
    backing->capacity = fetched->capacity;

    return 0;
}


/* A volume of the same pool, by name */
static int
virStorageTorrentPoolBackingLocal(virStoragePoolDef *def,
                                  virStorageVolDef *vol,
                                  const char *name,
                                  virStorageTorrentPoolBacking *backing)
{
    g_autofree char *path = g_strdup_printf("%s/%s", def->target.path, name);
    g_autoptr(VirImageInfo) info = NULL;

    if (virStorageTorrentPoolFileCheckName(name) < 0 ||
        virStorageTorrentPoolBackingHold(backing, path) < 0)
        return -1;

    if (!virFileExists(path))
        return virStorageTorrentPoolBackingFetched(def, vol, name, backing);

    if (virStorageTorrentPoolMasterEnsure(def, name, &info) < 0)
        return -1;

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
    bool pooled = virStorageTorrentPoolFileInPool(path);

    if (virStorageTorrentPoolBackingHold(backing, path) < 0 ||
        !(info = virStorageTorrentPoolChainCheck(path)))
        return -1;

    if (pooled && !virStorageTorrentPoolFileIsMaster(path)) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("backing store '%1$s' is no master of its pool and may change, clone it there first"),
                       path);
        return -1;
    }

    if (!virImageIsStandalone(info) && STRNEQ(info->format, "qcow2")) {
        virReportError(VIR_ERR_OPERATION_UNSUPPORTED,
                       _("backing store '%1$s' needs another file"), path);
        return -1;
    }

    if (vol->target.backingStore->format == VIR_STORAGE_FILE_ISO)
        told = "raw";

    if (STRNEQ_NULLABLE(info->format, told) &&
        !(pooled && virImageIsStandalone(info))) {
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
    const char *told = virStorageTorrentPoolVolFormatHint(vol->target.backingStore->format);
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

    if (virStorageTorrentPoolStateOpenReport(def, uuid) < 0)
        return NULL;

    if (!virStorageTorrentClientListVolumes(uuid, &vols, &err))
        goto error;

    for (i = 0; i < vols->len; i++) {
        const virStorageTorrentVolume *known = g_ptr_array_index(vols, i);

        if (STREQ_NULLABLE(known->key, key))
            return g_strdup(known->name);
    }

    name = virStorageTorrentPoolMagnetName(def, magnet, key, vols);

    if (!virStorageTorrentClientFetchMagnet(uuid, name, magnet, told, 0, &err))
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


/* What a magnet link names; where the overlay could not be made of it, it is
 * not fetched either. */
static int
virStorageTorrentPoolBackingMagnet(virStoragePoolObj *pool,
                                   virStorageVolDef *vol,
                                   const char *magnet,
                                   virStorageTorrentPoolBacking *backing)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    g_autofree char *name = NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];
    virErrorPtr orig_err;
    bool started = false;

    if (!(name = virStorageTorrentPoolMagnetFetch(def, vol, magnet, &started)))
        return -1;

    if (virStorageTorrentPoolBackingLocal(def, vol, name, backing) == 0 &&
        virStorageTorrentPoolBackingCheckCapacity(vol, backing) == 0) {
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


/**
 * virStorageTorrentPoolBackingFind:
 * @pool: the pool
 * @vol: a new volume with a backing store
 * @backing: filled with what that is
 *
 * Returns 0 on success, -1 on error
 */
int
virStorageTorrentPoolBackingFind(virStoragePoolObj *pool,
                                 virStorageVolDef *vol,
                                 virStorageTorrentPoolBacking *backing)
{
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    const char *path = vol->target.backingStore->path;
    g_autofree char *dir = NULL;
    g_autofree char *name = NULL;

    if (STRPREFIX(path, MAGNET_PREFIX)) {
        /* The storage driver tells the path of what a magnet link names with
         * ';' for '&', as virsh puts it into XML without escaping it. */
        g_autofree char *magnet = g_strdelimit(g_strdup(path), ";", '&');

        return virStorageTorrentPoolBackingMagnet(pool, vol, magnet, backing);
    }

    dir = g_path_get_dirname(path);
    name = g_path_get_basename(path);

    if (!strchr(path, '/') || virFileComparePaths(dir, def->target.path) == 1)
        return virStorageTorrentPoolBackingLocal(def, vol, name, backing);

    if (path[0] == '/')
        return virStorageTorrentPoolBackingOutside(vol, path, backing);

    virReportError(VIR_ERR_INVALID_ARG,
                   _("backing store '%1$s' is neither the name of a volume of pool '%2$s' nor an absolute path"),
                   path, def->name);
    return -1;
}
