/*
 * tls-door.h: who stands at the TLS port and was not let in yet
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libtorrent waits for ever for the handshake of whoever connects, counts no such
 * connections, and when a session ends destroys those that are under way while OpenSSL still
 * works on them, and crashes.  So a stranger could take all descriptors, and end the daemon
 * when a pool is stopped, by doing nothing.  Here the waiting ones are counted, timed
 * and sent away.
 *
 * virTorrentTlsDoorTick() and virTorrentTlsDoorAdmit() are called in the network thread, which is
 * the one that closes these sockets; the others in any thread.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* How long somebody may stand there, and how many. */
#define VIR_TORRENT_TLS_DOOR_PATIENCE (10 * G_USEC_PER_SEC)
#define VIR_TORRENT_TLS_DOOR_MAX 256

typedef struct _VirTorrentTlsDoor VirTorrentTlsDoor;

VirTorrentTlsDoor *virTorrentTlsDoorNew(void);
void virTorrentTlsDoorFree(VirTorrentTlsDoor *door);

/* The port that is listened on; 0: none yet. */
void virTorrentTlsDoorSetPort(VirTorrentTlsDoor *door, guint16 port);

/* The peer at @address ("10.0.0.5") and @port is through. */
void virTorrentTlsDoorAdmit(VirTorrentTlsDoor *door, const char *address, guint16 port);

/* Looks who is there.  @now: monotonic. */
void virTorrentTlsDoorTick(VirTorrentTlsDoor *door, gint64 now);

/* Everybody is sent away from now on; nobody new should be able to come. */
void virTorrentTlsDoorClose(VirTorrentTlsDoor *door);

/* Whether a look after that found nobody. */
gboolean virTorrentTlsDoorIsEmpty(VirTorrentTlsDoor *door);

G_END_DECLS
