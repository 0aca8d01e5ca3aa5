/*
 * storage_torrentpool_refresh.h: lists the volumes of a torrent pool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "internal.h"
#include "virstorageobj.h"

int
virStorageTorrentPoolRefresh(virStoragePoolObj *pool);
