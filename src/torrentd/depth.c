/*
 * depth.c: how many blocks a host may ask for ahead
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A power of two, so that it is said seldom; grown at once, since what is too
 * little keeps the rate from which it is derived low, and shrunk only when it is
 * far too much.
 */

#include <config.h>

#include "depth.h"

#define BLOCK 16384
/* What may lie in queues, in seconds: 8 hosts on links of 70 Mbit/s lose 2 % with 0.2
 * and nothing with less; one quick pair needs a few milliseconds. */
#define QUEUE_SECONDS 0.04
/* How often the rate is looked at, and over what time it is averaged (seconds). */
#define LOOK 0.05
#define AVERAGE 0.2
/* Blocks.  The least is libtorrent's own: with many peers, each of them slow, 8 were
 * seconds.  The most is what the quickest pair needs (600 MiB/s). */
#define LEAST 2
#define MOST 256

guint
virTorrentDepthSent(VirTorrentDepth *depth, guint32 bytes, double now)
{
    double const time = now - depth->at;
    double wanted;
    guint blocks = LEAST;

    depth->fresh += bytes;
    if (depth->said && time < LOOK)
        return 0;
    if (depth->said)
        depth->rate += MIN(1, time / AVERAGE) * (depth->fresh / time - depth->rate);
    depth->fresh = 0;
    depth->at = now;

    wanted = depth->rate * (QUEUE_SECONDS + depth->trip) / BLOCK;
    while (blocks < wanted && blocks < MOST)
        blocks *= 2;
    if (blocks == depth->said || (blocks < depth->said && wanted > depth->said / 4.0))
        return 0;
    depth->said = blocks;
    return blocks;
}
