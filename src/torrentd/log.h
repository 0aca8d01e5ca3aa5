/*
 * log.h: where messages go
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * GLib's log functions are used all over; their levels are the daemon's:
 * warning (something the administrator should look at), message (pools coming
 * and going), info (volumes changing state), debug.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* @role: "monitor" or "engine", put before each line.  Shows warnings and
 * messages; with @verbose everything. */
void virTorrentLogInit(const char *role, gboolean verbose);

G_END_DECLS
