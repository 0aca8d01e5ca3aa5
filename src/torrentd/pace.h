/*
 * pace.h: how much may lie in a send buffer, as soon as it is known how quick the wire is
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libtorrent lets lie in a connection's send buffer what goes out in a part of
 * a second (send_buffer_watermark_factor, see setLan() in
 * engine-libtorrent.cpp), but learns the rate once a second, and until then a
 * fixed bound holds (send_buffer_low_watermark).  For slow links that has to be a block
 * or two: what lies there is late, and cannot be asked of anybody else any more.
 * On a wire of 10 Gbit/s a second is a gigabyte, sent block by block.  So the
 * rate is measured here 20 times a second, and the bound follows it.
 *
 * No libtorrent, no clock, no locks: one object for all that a session sends.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* Bytes.  Four megabytes of buffers and more make nothing faster. */
#define VIR_TORRENT_PACE_LEAST (16 * 1024)
#define VIR_TORRENT_PACE_MOST (1024 * 1024)

typedef struct {
    gint64 begin;               /* of the interval that is being measured */
    guint64 bytes;              /* sent in it, */
    guint peers;                /* to how many */
    guint32 interval;           /* its number, from 1 */
    guint watermark;            /* bytes for each connection; 0: as yet PACE_LEAST */
} VirTorrentPace;

/* @bytes were sent at @now (microseconds, monotonic) to a peer, which keeps *@peer
 * (at first 0) for us.  TRUE: pace->watermark is another one now. */
gboolean virTorrentPaceSent(VirTorrentPace *pace, guint32 *peer, gint64 now, guint32 bytes);

G_END_DECLS
