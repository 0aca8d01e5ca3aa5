/*
 * storage_torrentpool_conn.h: the connection to virttorrentd
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <gio/gio.h>

#include "internal.h"

#define VIR_STORAGE_TORRENT_INTERFACE "org.libvirt.Torrentd1"
#define VIR_STORAGE_TORRENT_CALL_TIMEOUT_MS (5 * 1000)

/* A volume entered @state. @uuid and @name are NULL when the connection was
 * lost, so that anything may have happened. Called in a thread of GDBus that
 * must not be held up. */
typedef void
(*virStorageTorrentConnEvent)(const char *uuid,
                              const char *name,
                              const char *state);

void
virStorageTorrentConnSetEvent(virStorageTorrentConnEvent event);

/* These return false or NULL with @error set on failure. */

bool
virStorageTorrentConnConnect(bool insist,
                             unsigned int *serial,
                             GError **error);

GVariant *
virStorageTorrentConnCall(const char *method,
                          GVariant *params,
                          const char *reply,
                          int timeout,
                          GError **error);

bool
virStorageTorrentConnPing(void);
