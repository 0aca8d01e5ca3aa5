/*
 * storage_torrentpool_cache.h: what the files of a torrent pool were found to be
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <sys/stat.h>

#include "internal.h"
#include "storage_conf.h"

int
virStorageTorrentPoolCacheInit(void);

/* Around a listing of the whole pool: what is not seen between them is
 * forgotten, and the rest kept on disk. */
void
virStorageTorrentPoolCacheBegin(virStoragePoolDef *def);

void
virStorageTorrentPoolCacheEnd(virStoragePoolDef *def);

int
virStorageTorrentPoolCacheProbe(virStoragePoolDef *def,
                                virStorageVolDef *vol,
                                const struct stat *sb);

/* Whether the listed volume is what its file is still; where it is, what changes
 * without the file's times telling is told anew. */
bool
virStorageTorrentPoolCacheKeep(virStoragePoolDef *def,
                               virStorageVolDef *vol,
                               const struct stat *sb);

/* The pool is stopped. What is on disk stays. */
void
virStorageTorrentPoolCacheForget(virStoragePoolDef *def);
