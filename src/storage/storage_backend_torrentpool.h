/*
 * storage_backend_torrentpool.h: storage backend for pools shared by BitTorrent
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

int
virStorageBackendTorrentpoolRegister(void);
