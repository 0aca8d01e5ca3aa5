/*
 * storage_torrentpool_state.h: what is remembered of running torrent pools
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <sys/stat.h>
#include <gio/gio.h>

#include "internal.h"
#include "storage_conf.h"
#include "storage_torrentpool_client.h"

/* The name of the private directory below the pool's directory */
#define VIR_STORAGE_TORRENT_POOL_PRIVATE ".torrentpool"
/* Where volumes are built, below the private directory */
#define VIR_STORAGE_TORRENT_POOL_BUILD "build"

int
virStorageTorrentPoolStateInit(void);

/* Started pools: survives libvirt's daemon, does not survive the machine */
int
virStorageTorrentPoolStateMark(virStoragePoolDef *def);

bool
virStorageTorrentPoolStateIsMarked(virStoragePoolDef *def);

void
virStorageTorrentPoolStateForget(virStoragePoolDef *def);

/* virttorrentd looks after the pool */
bool
virStorageTorrentPoolStateOpen(virStoragePoolDef *def,
                               bool insist,
                               GError **error);

int
virStorageTorrentPoolStateOpenReport(virStoragePoolDef *def,
                                     char *uuid);

/* The pool is refreshed when virttorrentd is there again. */
void
virStorageTorrentPoolStateAwait(virStoragePoolDef *def);

/* Whether this is asked for the first time since the pool was started or
 * libvirt's daemon was */
bool
virStorageTorrentPoolStateIsFirst(virStoragePoolDef *def);

/* Volumes that are being created and of which no file is there yet */
void
virStorageTorrentPoolStateAddCreating(virStoragePoolDef *def,
                                      const char *name);

bool
virStorageTorrentPoolStateRemoveCreating(virStoragePoolDef *def,
                                         const char *name);

void
virStorageTorrentPoolStateClearCreating(virStoragePoolDef *def);

/* .torrent files that virttorrentd refused */
void
virStorageTorrentPoolStateAddRefused(virStoragePoolDef *def,
                                     const char *name,
                                     const struct stat *sb,
                                     const char *reason);

char *
virStorageTorrentPoolStateGetRefused(virStoragePoolDef *def,
                                     const char *name,
                                     const struct stat *sb);

/* Whether what is listed of a volume holds until virttorrentd tells otherwise,
 * so that it need not be asked; @known: what it said just now, NULL: nothing */
void
virStorageTorrentPoolStateSetSettled(virStoragePoolDef *def,
                                     const char *name,
                                     const virStorageTorrentVolume *known);

bool
virStorageTorrentPoolStateIsSettled(virStoragePoolDef *def,
                                    const char *name);

/* A volume gets an overlay or is deleted, not both. */
bool
virStorageTorrentPoolStateHold(const char *path);

void
virStorageTorrentPoolStateRelease(const char *path);

bool
virStorageTorrentPoolStateHoldAlone(const char *path);
