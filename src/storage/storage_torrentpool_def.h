/*
 * storage_torrentpool_def.h: options of a torrent pool in its XML namespace
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <gio/gio.h>

#include "internal.h"
#include "virxml.h"

extern virXMLNamespace virStorageTorrentPoolXMLNamespace;

/* What OpenPool() of virttorrentd takes as its options, a floating a{sv};
 * @nsdata is the namespaceData of a torrent pool's definition or NULL. */
GVariant *
virStorageTorrentPoolDefGetOptions(const void *nsdata);
