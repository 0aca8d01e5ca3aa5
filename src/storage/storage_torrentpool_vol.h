/*
 * storage_torrentpool_vol.h: definitions of volumes of a torrent pool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "internal.h"
#include "storage_torrentpool_client.h"
#include "virstorageobj.h"

virStorageVolDef *
virStorageTorrentPoolVolNew(virStoragePoolDef *def,
                            const char *name);

/* What virttorrentd and QEMU call the format that the XML of a volume gives;
 * NULL where it gives raw, which may also mean that it gives none */
const char *
virStorageTorrentPoolVolFormatHint(int format);

/* What libvirt does not tell of a VHD: its parent, and where clones are VHDs
 * that a fixed one, which begins as a raw image does, is one. To be called when
 * libvirt has looked at the file. */
void
virStorageTorrentPoolVolFillVhd(virStoragePoolDef *def,
                                virStorageVolDef *vol);

/* What virttorrentd knows of the volume, NULL: nothing */
void
virStorageTorrentPoolVolSetTorrent(virStorageVolDef *vol,
                                   const virStorageTorrentVolume *known);

/* Why virttorrentd does not take the .torrent file that the volume is */
void
virStorageTorrentPoolVolSetRefused(virStorageVolDef *vol,
                                   const char *reason);

void
virStorageTorrentPoolVolFillFetched(virStorageVolDef *vol,
                                    const virStorageTorrentVolume *known);

/* These are called with the pool locked. */

bool
virStorageTorrentPoolVolAdd(virStoragePoolObj *pool,
                            virStorageVolDef *volarg,
                            const virStorageTorrentVolume *known);

void
virStorageTorrentPoolVolAddFetched(virStoragePoolObj *pool,
                                   const virStorageTorrentVolume *known);
