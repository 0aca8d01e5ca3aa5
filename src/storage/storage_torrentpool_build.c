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
 * Where the pool's definition says that clones are VHDs, read "vpc" for qcow2; the
 * master has to be a VHD then.
 *
 * Invariants: what has overlays is a master, that is frozen before the overlay
 * is there; nothing existing is replaced; half of a volume never stands under
 * its name, it is built in the private directory and linked when it is whole.
 *
 * Locks: the pool is not locked when one of these is called, its asyncjobs
 * counter keeps it from being refreshed and stopped.
 */

#include <config.h>

#include <fcntl.h>
#include <unistd.h>

#include "storage_torrentpool_backing.h"
#include "storage_torrentpool_build.h"
#include "storage_torrentpool_chain.h"
#include "storage_torrentpool_client.h"
#include "storage_torrentpool_def.h"
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
#include "viruuid.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_build");

#define WRITE_BITS (S_IWUSR | S_IWGRP | S_IWOTH)


/* vol-create with a magnet link */
static int
virStorageTorrentPoolBuildFetch(virStoragePoolDef *def,
                                virStorageVolDef *vol)
{
    const char *format = virStorageTorrentPoolVolFormatHint(vol->target.format);
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(GError) err = NULL;

    if (virStorageTorrentPoolStateOpenReport(def, uuid) < 0)
        return -1;

    if (!virStorageTorrentClientFetchMagnet(uuid, vol->name, vol->torrent->magnet,
                                            format, vol->target.capacity, &err)) {
        virStorageTorrentClientReportError(err);
        return -1;
    }

    return 0;
}


/* Whether clones in the pool have the @format that is asked for. Returns 0 if
 * so, -1 with an error reported if not */
static int
virStorageTorrentPoolBuildCheckFormat(virStoragePoolDef *def,
                                      const char *name,
                                      int format)
{
    if (format == virStorageTorrentPoolDefGetCloneFormat(def->namespaceData))
        return 0;

    if (virStorageTorrentPoolDefGetCloneFormat(def->namespaceData) == VIR_STORAGE_FILE_VPC) {
        virReportError(VIR_ERR_CONFIG_UNSUPPORTED,
                       _("volume '%1$s' cannot be an overlay of format '%2$s': clones in pool '%3$s' are VHDs (vpc)"),
                       name, virStorageFileFormatTypeToString(format), def->name);
    } else if (format == VIR_STORAGE_FILE_VPC) {
        virReportError(VIR_ERR_CONFIG_UNSUPPORTED,
                       _("volume '%1$s' cannot be an overlay of format 'vpc': QEMU and Xen's qdisk read zeros from a differencing VHD where its parent has data; for hosts that read the parent, such as XCP-ng's, give pool '%2$s' a <torrent:clone format='vhd'/>"),
                       name, def->name);
    } else {
        virReportError(VIR_ERR_CONFIG_UNSUPPORTED,
                       _("volume '%1$s' cannot be an overlay of format '%2$s': only qcow2 is read right by every hypervisor"),
                       name, virStorageFileFormatTypeToString(format));
    }

    return -1;
}


/* vol-create with a backing store */
static int
virStorageTorrentPoolBuildOnBacking(virStoragePoolObj *pool,
                                    virStorageVolDef *vol)
{
    g_auto(virStorageTorrentPoolBacking) backing = { 0 };
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);

    /* raw may also mean that the XML does not tell */
    if (vol->target.format != VIR_STORAGE_FILE_RAW &&
        virStorageTorrentPoolBuildCheckFormat(def, vol->name, vol->target.format) < 0)
        return -1;

    if (virStorageTorrentPoolBackingFind(pool, vol, &backing) < 0)
        return -1;

    return virStorageTorrentPoolBackingOverlay(def, vol, &backing);
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

    if (master) {
        if ((fd = virStorageTorrentPoolFileOpen(draft->path, false)) < 0 ||
            virStorageTorrentPoolFileFreeze(fd, draft->path) < 0)
            return -1;

        if (fsync(fd) < 0) {
            virReportSystemError(errno, _("cannot sync file '%1$s'"), draft->path);
            return -1;
        }
    }

    if ((dirfd = virStorageTorrentPoolFileOpenTarget(def->target.path)) < 0 ||
        virStorageTorrentPoolFileLink(draft->dirfd, name, dirfd, name) < 0)
        return -1;

    if (master)
        virStorageTorrentPoolMasterPublish(def, name);

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
        if (errno != ENOENT || !input->local) {
            virReportSystemError(errno, _("cannot stat '%1$s'"), path);
            return -1;
        }

        input->fetching = true;
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


static bool
virStorageTorrentPoolInputIsVhdClone(const virStorageTorrentPoolInput *input)
{
    return input->info && STREQ(input->info->format, "vpc") &&
           !virImageIsStandalone(input->info);
}


/* Whether qemu-img may be given the input. It would take long to fail where that
 * is made on itself. */
static int
virStorageTorrentPoolInputCheckConvert(const virStorageTorrentPoolInput *input)
{
    const char *path = input->vol->target.path;
    g_autoptr(VirImageInfo) info = NULL;

    if (input->fd < 0)
        return 0;

    if (virStorageTorrentPoolFileCheckUnused(input->fd, path) < 0 ||
        !(info = virStorageTorrentPoolChainCheck(path)))
        return -1;

    return 0;
}


static int
virStorageTorrentPoolDraftCopy(virStorageTorrentPoolDraft *draft,
                               const virStorageTorrentPoolInput *input)
{
    virStorageVolDef *vol = &draft->vol;
    g_autoptr(GError) err = NULL;
    VIR_AUTOCLOSE fd = -1;

    if ((fd = openat(draft->dirfd, vol->name,
                     O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0) {
        virReportSystemError(errno, _("cannot create file '%1$s'"), draft->path);
        return -1;
    }

    if (vol->target.nocow &&
        virFileSetCOW(draft->path, VIR_TRISTATE_BOOL_NO) < 0)
        return -1;

    if (virStorageTorrentPoolFileCopy(input->fd, fd, input->vol->target.path) < 0)
        return -1;

    if (virStorageTorrentPoolInputIsVhdClone(input) && !virImageVhdRenew(fd, &err)) {
        virReportError(VIR_ERR_OPERATION_FAILED,
                       _("cannot clone '%1$s': %2$s"),
                       input->vol->target.path, err->message);
        return -1;
    }

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

    return 0;
}


static int
virStorageTorrentPoolBuildGrow(virStoragePoolObj *pool,
                               virStorageVolDef *vol,
                               const virStorageTorrentPoolInput *input)
{
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
    bool copy = virStorageTorrentPoolInputIsCopy(input, vol);
    int rc;

    if (virStorageTorrentPoolDraftInit(&draft, def, vol) < 0)
        return -1;

    if (overlay || copy) {
        rc = virStorageTorrentPoolDraftCopy(&draft, input);
    } else if (virStorageTorrentPoolInputIsVhdClone(input)) {
        virReportError(VIR_ERR_OPERATION_UNSUPPORTED,
                       _("'%1$s' is a differencing VHD and can only be cloned as one: QEMU's tools read zeros from it where its parent has data"),
                       input->vol->target.path);
        rc = -1;
    } else {
        if (virStorageTorrentPoolInputCheckConvert(input) < 0)
            return -1;

        draft.vol.target.backingStore = NULL;
        rc = virStorageBackendVolBuildFromLocal(pool, &draft.vol, input->vol,
                                                flags & ~VIR_STORAGE_VOL_CREATE_REFLINK);
    }

    if (rc < 0 ||
        (copy && virStorageTorrentPoolBuildGrow(pool, &draft.vol, input) < 0) ||
        virStorageTorrentPoolDraftFinish(&draft, def, master) < 0)
        return -1;

    /* an overlay finds what it is made on only where it belongs */
    if (overlay && virStorageTorrentPoolBuildGrow(pool, vol, input) < 0) {
        unlink(vol->target.path);
        return -1;
    }

    return 0;
}


/* The XML of a clone is that of its origin: cluster size and features that are
 * the origin's own were not asked for, and a clone has better ones of its own. */
static void
virStorageTorrentPoolBuildDropLayout(virStorageVolDef *vol,
                                     const virStorageVolDef *origin)
{
    if (vol->target.clusterSize != origin->target.clusterSize ||
        !virBitmapEqual(vol->target.features, origin->target.features))
        return;

    /* @vol is a shallow copy, and the bitmap is not its own */
    vol->target.clusterSize = 0;
    vol->target.features = NULL;
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

    if (virStorageTorrentPoolMasterCheckFormat(def, input->name, backing.format) < 0 ||
        virStorageTorrentPoolBuildCheckFormat(def, vol->name, vol->target.format) < 0)
        return -1;

    return virStorageTorrentPoolBackingOverlay(def, vol, &backing);
}


static int
virStorageTorrentPoolBuildOnFetched(virStoragePoolDef *def,
                                    virStorageVolDef *vol,
                                    const virStorageTorrentPoolInput *input)
{
    g_auto(virStorageTorrentPoolBacking) backing = { 0 };

    if (vol->target.format != VIR_STORAGE_FILE_QCOW2 &&
        virStorageTorrentPoolDefGetCloneFormat(def->namespaceData) == VIR_STORAGE_FILE_QCOW2) {
        virReportError(VIR_ERR_OPERATION_INVALID,
                       _("volume '%1$s' is not complete, ask for format qcow2 or wait until it can be copied"),
                       input->name);
        return -1;
    }

    if (virStorageTorrentPoolBackingFetched(def, vol, input->name, &backing) < 0)
        return -1;

    return virStorageTorrentPoolBackingOverlay(def, vol, &backing);
}


/* Whether the input is an overlay of a master of the same pool */
static bool
virStorageTorrentPoolInputIsClone(const virStorageTorrentPoolInput *input)
{
    g_autofree char *path = NULL;

    if (!input->info->backing_file || input->info->external)
        return false;

    path = virStorageTorrentPoolFileBackingPath(input->vol->target.path, input->info);

    return virStorageTorrentPoolFileInPool(path) &&
           (virStorageTorrentPoolFileIsMaster(path) || !virFileExists(path));
}


/* A clone of a private volume of the same pool, whose content becomes a master
 * for that. Returns 1 where that happened just now without us. */
static int
virStorageTorrentPoolBuildOnSplit(virStoragePoolObj *pool,
                                  virStorageVolDef *vol,
                                  const virStorageTorrentPoolInput *input)
{
    g_auto(virStorageTorrentPoolBacking) backing = { 0 };
    g_autoptr(VirImageInfo) info = NULL;
    int rc;

    if ((rc = virStorageTorrentPoolMasterSplit(pool, input->name,
                                               &backing.path, &info)) != 0)
        return rc;

    backing.format = g_strdup(info->format);
    backing.capacity = info->capacity;

    return virStorageTorrentPoolBackingOverlay(virStoragePoolObjGetDef(pool),
                                               vol, &backing);
}


/* Whether what was asked for is a volume of @format with the content of another */
static bool
virStorageTorrentPoolInputIs(const virStorageTorrentPoolInput *input,
                             virStorageVolDef *vol,
                             int format)
{
    return vol->target.format == format && input->info &&
           STREQ(input->info->format, virStorageFileFormatTypeToString(format)) &&
           !vol->target.encryption && !input->vol->target.encryption;
}


/* Returns 1 if the input is not what it was a moment ago. */
static int
virStorageTorrentPoolBuildFrom(virStoragePoolObj *pool,
                               virStorageVolDef *vol,
                               virStorageVolDef *inputvol,
                               unsigned int flags)
{
    g_auto(virStorageTorrentPoolInput) input = { .fd = -1 };
    virStoragePoolDef *def = virStoragePoolObjGetDef(pool);
    mode_t mode = vol->target.perms->mode;
    bool publish = mode != (mode_t)-1 && !(mode & WRITE_BITS);
    int format = virStorageTorrentPoolDefGetCloneFormat(def->namespaceData);
    bool overlay = false;

    if (virStorageTorrentPoolInputInit(&input, def, inputvol) < 0)
        return -1;

    if (input.fetching) {
        virStorageTorrentPoolBuildDropLayout(vol, inputvol);
        return virStorageTorrentPoolBuildOnFetched(def, vol, &input);
    }

    if (input.master) {
        /* the mode came along with the master's XML */
        publish = false;

        if (vol->target.format == VIR_STORAGE_FILE_QCOW2 ||
            virStorageTorrentPoolInputIs(&input, vol, format)) {
            virStorageTorrentPoolBuildDropLayout(vol, inputvol);
            return virStorageTorrentPoolBuildOnMaster(def, vol, &input);
        }
    } else if (!publish && input.local &&
               virStorageTorrentPoolInputIs(&input, vol, format) &&
               virImageIsStandalone(input.info)) {
        virStorageTorrentPoolBuildDropLayout(vol, inputvol);
        return virStorageTorrentPoolBuildOnSplit(pool, vol, &input);
    } else if (!publish && input.local &&
               (virStorageTorrentPoolInputIs(&input, vol, VIR_STORAGE_FILE_QCOW2) ||
                virStorageTorrentPoolInputIs(&input, vol, VIR_STORAGE_FILE_VPC))) {
        overlay = virStorageTorrentPoolInputIsClone(&input);
    }

    return virStorageTorrentPoolBuildCopy(pool, vol, &input, overlay, publish, flags);
}


/* The XML of a clone is that of its origin: what it says of being fetched or
 * shared does not hold for the clone, not even while that is being built. */
static void
virStorageTorrentPoolBuildDropTorrent(virStoragePoolObj *pool,
                                      virStorageVolDef *vol)
{
    virStorageVolDef *def;

    VIR_WITH_OBJECT_LOCK_GUARD(pool) {
        /* @vol is a shallow copy of it */
        if ((def = virStorageVolDefFindByName(pool, vol->name)))
            g_clear_pointer(&def->torrent, virStorageVolTorrentFree);
    }

    vol->torrent = NULL;
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
    int rc;

    virStorageTorrentPoolBuildDropTorrent(pool, vol);

    /* a volume is split only once */
    while ((rc = virStorageTorrentPoolBuildFrom(pool, vol, inputvol, flags)) > 0)
        VIR_DEBUG("volume '%s' was split meanwhile", inputvol->name);

    if (rc < 0)
        return -1;

    virStorageTorrentPoolStateRemoveCreating(virStoragePoolObjGetDef(pool), vol->name);

    return 0;
}
