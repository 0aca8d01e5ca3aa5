/*
 * reveal.h: which piece an origin shows to whom, and when
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Until every piece has left the origin once, the origin's uplink is what all
 * others wait for, so each piece that it sends twice is time lost for everybody.
 * Left alone, receivers ask it for the same pieces.  So an origin shows to each
 * of them only what it wants them to ask for.
 *
 * No libtorrent, no clock, no network: the caller says what happens, and asks
 * what to do.  One object is one torrent; no locks, one thread at a time.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct _VirTorrentReveal VirTorrentReveal;
typedef struct _VirTorrentRevealHost VirTorrentRevealHost;

typedef enum {
    VIR_TORRENT_REVEAL_NOTHING,
    VIR_TORRENT_REVEAL_PIECE,    /* say that we have this one */
    VIR_TORRENT_REVEAL_ALL,      /* say that we have everything */
} VirTorrentRevealAction;

/* A file of @size bytes; @seed: of the order in which pieces are shown. */
VirTorrentReveal *virTorrentRevealNew(guint64 size, guint32 piece_length, guint32 seed);
void virTorrentRevealFree(VirTorrentReveal *reveal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentReveal, virTorrentRevealFree)

/* A peer.  It sees everything, and what it has counts as given out, until
 * virTorrentRevealSteer() says that it sees only what it is shown.  The host is
 * the reveal's own; @opaque is what virTorrentRevealNext() names it by. */
VirTorrentRevealHost *virTorrentRevealAdd(VirTorrentReveal *reveal, gpointer opaque);
void virTorrentRevealSteer(VirTorrentRevealHost *host);
/* It is gone: what it was to forward is given to others. */
void virTorrentRevealLost(VirTorrentReveal *reveal, VirTorrentRevealHost *host);

/* @host says that it has @piece; one that does not exist, or twice, is ignored. */
void virTorrentRevealHas(VirTorrentReveal *reveal, VirTorrentRevealHost *host, guint32 piece);
void virTorrentRevealHasAll(VirTorrentReveal *reveal, VirTorrentRevealHost *host);
/* @bytes of @piece were sent to @host. */
void virTorrentRevealSent(VirTorrentRevealHost *host, guint32 piece, guint32 bytes);

/* What to do at @now (seconds, monotonic), and for which host.  To be called
 * after each of the above, and a few times a second, until it says NOTHING;
 * what it said counts as done. */
VirTorrentRevealAction virTorrentRevealNext(VirTorrentReveal *reveal, double now, gpointer *opaque,
                                            guint32 *piece);

/* Whether there is a piece that no other host has or was shown. */
gboolean virTorrentRevealActive(const VirTorrentReveal *reveal);

G_END_DECLS
