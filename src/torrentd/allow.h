/*
 * allow.h: packets of hosts outside of <torrent:allow> do not reach us
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* The most networks that a filter can hold. */
#define VIR_TORRENT_ALLOW_MAX 256

/* Has the kernel drop, at this process's UDP and listening TCP sockets on @ports (up to a 0), what
 * does not come from @allow (CIDR, valid; NULL or empty: from anywhere); at TCP sockets only where it
 * lets us.  Called again after each change of either.  FALSE with errno set where it could not be
 * done for some of them. */
gboolean virTorrentAllowAttach(const char *const *allow, const guint16 *ports);

G_END_DECLS
