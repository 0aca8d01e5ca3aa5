/*
 * depth.h: how many blocks a host may ask for ahead
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a host has asked one peer for it cannot ask another one for, even if that
 * one would have sent it sooner.  So it may ask for what it is sent in
 * the next moment, and no more: too little, and a quick wire waits for requests;
 * too much, and a swarm waits for what lies in queues.
 *
 * Who sends knows the rate, and says the depth ("reqq" of BEP 10's handshake,
 * which may be sent again at any time).
 *
 * No libtorrent, no clock, no network; no locks, one thread at a time.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* Blocks that whoever knows nothing of this may ask for, as other clients have it. */
#define VIR_TORRENT_DEPTH_STRANGER 250

/* One connection, as its sender sees it; zeros in the beginning. */
typedef struct {
    double trip;                /* seconds that a message takes there and back, when nothing
                                 * else is on the wire; 0: next to nothing */
    double rate, at;            /* bytes per second, as of then, */
    guint64 fresh;              /* and bytes since */
    guint said;                 /* blocks; 0: nothing yet */
} VirTorrentDepth;

/* @bytes more were sent, at @now (seconds, monotonic).  Returns the depth to say, in
 * blocks of 16 KiB, which counts as said; 0: it is as it was. */
guint virTorrentDepthSent(VirTorrentDepth *depth, guint32 bytes, double now);

G_END_DECLS
