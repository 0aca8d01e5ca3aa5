/*
 * storage_torrentpool_master.h: how volumes become masters
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "image.h"
#include "internal.h"
#include "virstorageobj.h"

/* Tells virttorrentd about a frozen file of the pool; warns if it cannot. */
void
virStorageTorrentPoolMasterPublish(virStoragePoolDef *def,
                                   const char *name);

int
virStorageTorrentPoolMasterCheckFormat(virStoragePoolDef *def,
                                       const char *name,
                                       const char *format);

int
virStorageTorrentPoolMasterEnsure(virStoragePoolDef *def,
                                  const char *name,
                                  VirImageInfo **info);

int
virStorageTorrentPoolMasterSplit(virStoragePoolObj *pool,
                                 const char *name,
                                 char **master,
                                 VirImageInfo **info);
