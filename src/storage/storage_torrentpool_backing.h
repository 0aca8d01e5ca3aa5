/*
 * storage_torrentpool_backing.h: what overlays are made on
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "internal.h"
#include "virstorageobj.h"

typedef struct _virStorageTorrentPoolBacking virStorageTorrentPoolBacking;
struct _virStorageTorrentPoolBacking {
    char *path;                  /* as the overlay stores it */
    char *format;
    unsigned long long capacity; /* bytes; 0: not known yet */
    char *held;                  /* its path; it is not deleted until cleared */
};

void
virStorageTorrentPoolBackingClear(virStorageTorrentPoolBacking *backing);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(virStorageTorrentPoolBacking,
                                 virStorageTorrentPoolBackingClear);

int
virStorageTorrentPoolBackingHold(virStorageTorrentPoolBacking *backing,
                                 const char *path);

int
virStorageTorrentPoolBackingFetched(virStoragePoolDef *def,
                                    virStorageVolDef *vol,
                                    const char *name,
                                    virStorageTorrentPoolBacking *backing);

int
virStorageTorrentPoolBackingFind(virStoragePoolObj *pool,
                                 virStorageVolDef *vol,
                                 virStorageTorrentPoolBacking *backing);

/* Makes @vol an overlay. */
int
virStorageTorrentPoolBackingOverlay(virStoragePoolDef *def,
                                    virStorageVolDef *vol,
                                    const virStorageTorrentPoolBacking *backing);
