/*
 * listen.h: where an engine can listen
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* What "all addresses" stands for now: those of interfaces that are up, without
 * link-local IPv6 ones (they mean nothing without an interface); sorted.  Never
 * empty: "0.0.0.0" where they cannot be asked for. */
GStrv virTorrentListenAddresses(void);

/* 0 where TCP and UDP can be listened on at every one of @addresses, or the errno
 * that says why not; with @tls at VIR_TORRENT_TLS_PORT() as well.  Nothing stays open:
 * another may still be faster. */
int virTorrentListenProbe(const char *const *addresses, guint16 port, gboolean tls);

/* "10.0.0.5:6881,[fd00::5]:6881"; with @tls "10.0.0.5:6881,10.0.0.5:6882s" */
char *virTorrentListenFormat(const char *const *addresses, guint16 port, gboolean tls);

G_END_DECLS
