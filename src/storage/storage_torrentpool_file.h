/*
 * storage_torrentpool_file.h: files and directories of a torrent pool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "image.h"
#include "internal.h"
#include "storage_conf.h"

/* All of these report an error and return -1, NULL or false on failure. */

/* Names of volumes: the local administrator's and those from a network */
#define VIR_STORAGE_TORRENT_POOL_NAME_MAX 240

int
virStorageTorrentPoolFileCheckName(const char *name);

bool
virStorageTorrentPoolFileIsSafeName(const char *name);

int
virStorageTorrentPoolFileOpenTarget(const char *target);

int
virStorageTorrentPoolFileMakePrivate(const char *target);

int
virStorageTorrentPoolFileOpenPrivate(const char *target);

int
virStorageTorrentPoolFileOpenBuild(const char *target);

int
virStorageTorrentPoolFileRemovePrivate(const char *target);

bool
virStorageTorrentPoolFileInPool(const char *path);

bool
virStorageTorrentPoolFileIsMaster(const char *path);

int
virStorageTorrentPoolFileOpen(const char *path,
                              bool follow);

VirImageInfo *
virStorageTorrentPoolFileProbe(int fd,
                               const char *path);

/* What the image @path names as its backing file, to be freed by the caller */
char *
virStorageTorrentPoolFileBackingPath(const char *path,
                                     const VirImageInfo *info);

int
virStorageTorrentPoolFileCheckUnused(int fd,
                                     const char *path);

void
virStorageTorrentPoolFileReclaim(const char *path);

int
virStorageTorrentPoolFileFreeze(int fd,
                                const char *path);

int
virStorageTorrentPoolFileSync(int fd,
                              const char *path);

int
virStorageTorrentPoolFileCopy(int from,
                              int to,
                              const char *path);

int
virStorageTorrentPoolFileLink(int fromdir,
                              const char *from,
                              int todir,
                              const char *to);

char **
virStorageTorrentPoolFileFindClones(const char *dir,
                                    const char *master,
                                    size_t max);

int
virStorageTorrentPoolFileSweepBuild(const char *target);
