/*
 * service.h: org.libvirt.Torrentd1 on a UNIX socket
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

#include "manager.h"

G_BEGIN_DECLS

#define VIR_TORRENT_DBUS_PATH "/org/libvirt/Torrentd1"

typedef struct _VirTorrentService VirTorrentService;

/* Serves @manager, which outlives the service, to processes of user @uid and
 * to nobody else; at most @max_clients at once. */
VirTorrentService *virTorrentServiceNew(VirTorrentManager *manager,
                                        uid_t uid,
                                        guint max_clients);
void virTorrentServiceFree(VirTorrentService *service);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentService, virTorrentServiceFree)

/* Accepts connections on the listening socket @fd, which is taken. */
gboolean virTorrentServiceListen(VirTorrentService *service, int fd, GError **error);

guint virTorrentServiceCountClients(VirTorrentService *service);

G_END_DECLS
