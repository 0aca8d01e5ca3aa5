/*
 * test-depth.c: what depth.h promises
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include "depth.h"

#define BLOCK 16384

/* Sends at @rate (bytes per second) for @seconds; returns the depth that holds then. */
static guint
play(VirTorrentDepth *depth, double *now, double rate, double seconds, guint *said)
{
    double const end = *now + seconds;

    while (*now < end) {
        *now += BLOCK / rate;
        if (virTorrentDepthSent(depth, BLOCK, *now) && said)
            (*said)++;
    }
    return depth->said;
}

/* It follows the rate, both ways, without saying so all the time. */
static void
testRate(void)
{
    VirTorrentDepth depth = { 0 };
    double now = 1000;
    guint said = 0, slow, quick;

    slow = virTorrentDepthSent(&depth, 0, now);
    g_assert_cmpuint(slow, >, 1);
    g_assert_cmpuint(virTorrentDepthSent(&depth, 0, now), ==, 0);
    g_assert_cmpuint(play(&depth, &now, 1e5, 2, &said), ==, slow);
    g_assert_cmpuint(said, ==, 0);
    quick = play(&depth, &now, 600e6, 0.2, &said);
    g_assert_cmpuint(quick * BLOCK, >=, 4 << 20);
    g_assert_cmpuint(said, <=, 6);
    said = 0;
    /* a little less is no reason */
    g_assert_cmpuint(play(&depth, &now, 250e6, 1, &said), ==, quick);
    g_assert_cmpuint(said, ==, 0);
    g_assert_cmpuint(play(&depth, &now, 1e5, 2, &said), ==, slow);
}

/* A tenth of a second's worth at most on a slow wire. */
static void
testShort(void)
{
    for (double rate = 4e5; rate < 100e6; rate *= 1.7) {
        VirTorrentDepth depth = { 0 };
        double now = 1;

        g_assert_cmpfloat(play(&depth, &now, rate, 1, NULL) * BLOCK, <=, 0.1 * rate);
    }
}

/* Over a long wire the rate is what the depth allows: both grow until the wire is full. */
static void
testTrip(void)
{
    VirTorrentDepth depth = { .trip = 0.1 };
    double now = 5;
    guint blocks = virTorrentDepthSent(&depth, 0, now);

    for (guint i = 0; i < 100; i++)
        blocks = play(&depth, &now, MIN(30e6, blocks * BLOCK / depth.trip), 0.1, NULL);
    g_assert_cmpfloat(blocks * BLOCK / depth.trip, >=, 30e6);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/depth/rate", testRate);
    g_test_add_func("/depth/short", testShort);
    g_test_add_func("/depth/trip", testTrip);
    return g_test_run();
}
