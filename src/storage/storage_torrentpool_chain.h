/*
 * storage_torrentpool_chain.h: what an image stands on
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include "image.h"
#include "internal.h"

VirImageInfo *
virStorageTorrentPoolChainCheck(const char *path);
