/*
 * magnet.h: magnet links that lead back to this host
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* Where others reach this host: "10.0.0.5:6881", "[fd00::5]:6881", at most four.
 * @listen: the address that is listened on, NULL for all; then the host's
 * addresses are asked for, without link-local ones and, if there is anything
 * else, without loopback.  Empty where @port is 0. */
GStrv virTorrentMagnetPeers(const char *listen, guint16 port);

/* @key: urn:btmh:… or urn:btih:…; @name: NULL: unknown; @size in bytes, 0: unknown. */
char *virTorrentMagnetFormat(const char *key,
                             const char *name,
                             guint64 size,
                             const char *const *peers,
                             const char *const *trackers,
                             const char *const *webseeds);

/* The x.pe= of @magnet. */
GStrv virTorrentMagnetGetPeers(const char *magnet);

G_END_DECLS
