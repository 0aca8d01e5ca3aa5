/*
 * storage_torrentpool_vol.c: definitions of volumes of a torrent pool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Key and path of a volume are fixed when it is added to the pool, since
 * libvirt finds it by them: a master whose content is not known yet is known
 * by its path until the next refresh.
 */

#include <config.h>

#include <unistd.h>

#include "storage_torrentpool_def.h"
#include "storage_torrentpool_file.h"
#include "storage_torrentpool_vol.h"
#include "storage_util.h"
#include "viralloc.h"
#include "virerror.h"
#include "virfile.h"
#include "virlog.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_vol");


/* A file of the pool of which nothing is known but its name */
virStorageVolDef *
virStorageTorrentPoolVolNew(virStoragePoolDef *def,
                            const char *name)
{
    virStorageVolDef *vol = g_new0(virStorageVolDef, 1);

    vol->name = g_strdup(name);
    vol->type = VIR_STORAGE_VOL_FILE;
    vol->target.path = g_strdup_printf("%s/%s", def->target.path, name);

    return vol;
}


const char *
virStorageTorrentPoolVolFormatHint(int format)
{
    if (format <= VIR_STORAGE_FILE_RAW)
        return NULL;

    if (format == VIR_STORAGE_FILE_ISO)
        return "raw";

    return virStorageFileFormatTypeToString(format);
}


/* Where it is not there, only its path and format are told. */
static void
virStorageTorrentPoolVolSetParent(virStorageVolDef *vol,
                                  const VirImageInfo *info)
{
    virStorageSource *parent = virStorageSourceNew();
    struct stat sb;
    VIR_AUTOCLOSE fd = -1;

    parent->type = VIR_STORAGE_TYPE_FILE;
    parent->path = virStorageTorrentPoolFileBackingPath(vol->target.path, info);
    parent->format = VIR_STORAGE_FILE_VPC;
    parent->readonly = true;
    vol->target.backingStore = parent;

    if ((fd = virStorageTorrentPoolFileOpen(parent->path, true)) < 0 ||
        fstat(fd, &sb) < 0 ||
        virStorageBackendUpdateVolTargetInfoFD(parent, fd, &sb) < 0)
        virResetLastError();
    else
        parent->capacity = info->capacity;
}


void
virStorageTorrentPoolVolFillVhd(virStoragePoolDef *def,
                                virStorageVolDef *vol)
{
    bool fixed = vol->target.format == VIR_STORAGE_FILE_RAW &&
                 virStorageTorrentPoolDefGetCloneFormat(def->namespaceData) == VIR_STORAGE_FILE_VPC;
    g_autoptr(VirImageInfo) info = NULL;
    VIR_AUTOCLOSE fd = -1;

    if ((vol->target.format != VIR_STORAGE_FILE_VPC && !fixed) ||
        vol->target.encryption || virStorageSourceHasBacking(&vol->target))
        return;

    if ((fd = virStorageTorrentPoolFileOpen(vol->target.path, false)) < 0 ||
        !(info = virStorageTorrentPoolFileProbe(fd, vol->target.path))) {
        virResetLastError();
        return;
    }

    if (STRNEQ(info->format, "vpc") || (fixed && !virImageIsStandalone(info)))
        return;

    vol->target.format = VIR_STORAGE_FILE_VPC;
    vol->target.capacity = info->capacity;

    if (info->backing_file)
        virStorageTorrentPoolVolSetParent(vol, info);
}


void
virStorageTorrentPoolVolSetTorrent(virStorageVolDef *vol,
                                   const virStorageTorrentVolume *known)
{
    g_clear_pointer(&vol->torrent, virStorageVolTorrentFree);

    if (!known)
        return;

    vol->torrent = g_new0(virStorageVolTorrent, 1);
    vol->torrent->magnet = g_strdup(known->magnet);
    vol->torrent->state = known->state;
    vol->torrent->progress = known->progress;
    vol->torrent->error = g_strdup(known->error);
}


void
virStorageTorrentPoolVolSetRefused(virStorageVolDef *vol,
                                   const char *reason)
{
    g_clear_pointer(&vol->torrent, virStorageVolTorrentFree);

    vol->torrent = g_new0(virStorageVolTorrent, 1);
    vol->torrent->state = VIR_STORAGE_VOL_TORRENT_STATE_FAILED;
    vol->torrent->error = g_strdup(reason);
}


/* Describes a volume of which no file is there yet as what it will be. */
void
virStorageTorrentPoolVolFillFetched(virStorageVolDef *vol,
                                    const virStorageTorrentVolume *known)
{
    int format = VIR_STORAGE_FILE_NONE;

    if (known->format)
        format = virStorageFileFormatTypeFromString(known->format);

    vol->type = VIR_STORAGE_VOL_FILE;
    vol->target.type = VIR_STORAGE_TYPE_FILE;
    vol->target.format = format > VIR_STORAGE_FILE_NONE ? format : VIR_STORAGE_FILE_RAW;
    vol->target.capacity = known->capacity ? known->capacity : known->size;
    vol->target.allocation = known->done;
    vol->target.physical = known->size;

    if (!vol->target.perms)
        vol->target.perms = g_new0(virStoragePerms, 1);
    vol->target.perms->mode = 0444;
    vol->target.perms->uid = geteuid();
    vol->target.perms->gid = getegid();

    virStorageTorrentPoolVolSetTorrent(vol, known);
}


/* Adds @volarg to the pool, which owns it then. Its key tells its content where
 * that is known and not listed already under another name. Returns whether it is
 * listed. */
bool
virStorageTorrentPoolVolAdd(virStoragePoolObj *pool,
                            virStorageVolDef *volarg,
                            const virStorageTorrentVolume *known)
{
    g_autoptr(virStorageVolDef) vol = volarg;

    if (known && known->key && !virStorageVolDefFindByKey(pool, known->key))
        vol->key = g_strdup(known->key);
    else
        vol->key = g_strdup(vol->target.path);

    if (virStoragePoolObjAddVol(pool, vol) < 0) {
        VIR_WARN("cannot list volume '%s'", vol->target.path);
        return false;
    }

    vol = NULL;
    return true;
}


/* Lists what is being fetched, unless it is listed. */
void
virStorageTorrentPoolVolAddFetched(virStoragePoolObj *pool,
                                   const virStorageTorrentVolume *known)
{
    virStorageVolDef *vol;

    if (virStorageVolDefFindByName(pool, known->name))
        return;

    vol = virStorageTorrentPoolVolNew(virStoragePoolObjGetDef(pool), known->name);
    virStorageTorrentPoolVolFillFetched(vol, known);
    virStorageTorrentPoolVolAdd(pool, vol, known);
}
