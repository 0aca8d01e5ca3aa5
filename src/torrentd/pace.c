/*
 * pace.c: how much may lie in a send buffer, as soon as it is known how quick the wire is
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See pace.h.  What is sent goes into the buffers of the kernel first, as fast as memory is: up
 * to some hundred kilobytes for each connection, whatever the wire carries.  So an
 * interval counts as quick only when more was sent in it than that.
 */

#include <config.h>

#include "pace.h"

#define INTERVAL (50 * 1000)    /* microseconds: what the watermark holds */
#define QUICK (4 * 1024 * 1024) /* bytes in one: 80 MiB/s */

static guint
virTorrentPaceWatermark(const VirTorrentPace *pace, gint64 time)
{
    double bytes = (double)pace->bytes * INTERVAL / time;

    if (bytes < QUICK)
        return VIR_TORRENT_PACE_LEAST;
    return CLAMP(bytes / pace->peers, VIR_TORRENT_PACE_LEAST, VIR_TORRENT_PACE_MOST);
}

gboolean
virTorrentPaceSent(VirTorrentPace *pace, guint32 *peer, gint64 now, guint32 bytes)
{
    guint old = pace->watermark ? pace->watermark : VIR_TORRENT_PACE_LEAST;
    guint watermark;

    if (pace->interval == 0) {
        pace->begin = now;
        pace->interval = 1;
    }
    if (*peer != pace->interval) {
        *peer = pace->interval;
        pace->peers++;
    }
    pace->bytes += bytes;
    /* what is known to be quick need not be waited for */
    if (now - pace->begin < INTERVAL && pace->bytes < QUICK)
        return FALSE;
    watermark = virTorrentPaceWatermark(pace, MAX(now - pace->begin, 1));
    pace->begin = now;
    pace->bytes = 0;
    pace->peers = 0;
    pace->interval++;
    /* telling costs more than what a small difference makes */
    if (watermark == old || (watermark > VIR_TORRENT_PACE_LEAST &&
                             watermark < old * 2 && watermark > old / 2))
        return FALSE;
    pace->watermark = watermark;
    return TRUE;
}
