/*
 * engine-base.h: what engines share besides metainfo.h
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Settings are judged here, once, so that every engine says the same about them.
 */

#pragma once

#include <gio/gio.h>

#include "engine.h"

G_BEGIN_DECLS

#define VIR_TORRENT_DEFAULT_PORT 6881

/* "10.0.0.5:6881", "[fd00::5]:6881": a numeric address and a port.  The
 * outputs may be NULL. */
gboolean virTorrentAddressParse(const char *text, GInetAddress **address, guint16 *port);

/* "host:port", host a name or an address ("[...]" around IPv6). */
gboolean virTorrentHostParse(const char *text, char **host, guint16 *port);

/* An announce URL: http, https or udp with a host. */
gboolean virTorrentTrackerCheck(const char *url, GError **error);

/* A web seed (BEP 19): http or https with a host. */
gboolean virTorrentWebSeedCheck(const char *url, GError **error);

/* Where the file @name is at web seed @url: a directory is one that ends in a slash. */
char *virTorrentWebSeedUrl(const char *url, const char *name);

/* All of @settings; VIR_TORRENT_ENGINE_ERROR_INVALID_OPTION naming the wrong one. */
gboolean virTorrentSettingsCheck(const VirTorrentEngineSettings *settings, GError **error);

/* What virTorrentEngineAdd() is given, before any engine looks at it. */
gboolean virTorrentAddCheck(const char *id, GBytes *metainfo, const char *magnet, GBytes *resume,
                            const char *dir, const char *file, GError **error);

G_END_DECLS
