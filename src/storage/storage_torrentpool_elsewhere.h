/*
 * storage_torrentpool_elsewhere.h: clones of a pool's masters in other pools
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "internal.h"

/* To be called before an overlay of @master is made in the directory @dir.
 * Nothing is done unless @master lies in another torrent pool. */
int
virStorageTorrentPoolElsewhereNote(const char *master,
                                   const char *dir);

/* The directories noted for masters in @target, NULL terminated */
char **
virStorageTorrentPoolElsewhereGet(const char *target);
