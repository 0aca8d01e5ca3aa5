/*
 * storage_torrentpool_def.h: options of a torrent pool in its XML namespace
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <gio/gio.h>

#include "image.h"
#include "internal.h"
#include "virxml.h"

extern virXMLNamespace virStorageTorrentPoolXMLNamespace;

/* What OpenPool() of virttorrentd takes as its options, a floating a{sv};
 * @nsdata is the namespaceData of a torrent pool's definition or NULL. */
GVariant *
virStorageTorrentPoolDefGetOptions(const void *nsdata);

/* The format of clones in the pool, VIR_STORAGE_FILE_QCOW2 or _VPC */
int
virStorageTorrentPoolDefGetCloneFormat(const void *nsdata);

/* Sets format, clusters and entries of @options to what clones in the pool are
 * made of; @nsdata as above. */
void
virStorageTorrentPoolDefGetClone(const void *nsdata,
                                 VirImageOverlayOptions *options);
