/*
 * storage_torrentpool_build.h: how the volumes of a torrent pool are made
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "internal.h"
#include "virstorageobj.h"

int
virStorageTorrentPoolBuildVol(virStoragePoolObj *pool,
                              virStorageVolDef *vol,
                              unsigned int flags);

int
virStorageTorrentPoolBuildVolFrom(virStoragePoolObj *pool,
                                  virStorageVolDef *vol,
                                  virStorageVolDef *inputvol,
                                  unsigned int flags);
