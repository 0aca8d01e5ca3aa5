/*
 * status.h: what virttorrentd does at the moment, for people and for Prometheus;
 * and asking it to look at its masters
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Asks a running virttorrentd over its socket, as any other client does.
 */

#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

/* All pools of the daemon that listens on @socket: an array of
 * (pool's name, target, volumes as ListVolumes gives them), type a(ssa(sa{sv})).
 * Waits at most a few seconds.  NULL with @error set where nobody answers. */
GVariant *virTorrentStatusAsk(const char *socket, GError **error);

/* Has masters read again: of all pools, of the one that is called @pool, or only @volume of it.  How
 * many that are; -1 with @error set. */
gint64 virTorrentStatusScrub(const char *socket, const char *pool, const char *volume, GError **error);

/* A table of @pools for a terminal; owned by the caller. */
char *virTorrentStatusTable(GVariant *pools);

/* The same in Prometheus' text exposition format, version 0.0.4.  @pools may be
 * NULL: nobody answered, which is a metric too. */
char *virTorrentStatusMetrics(GVariant *pools);

G_END_DECLS
