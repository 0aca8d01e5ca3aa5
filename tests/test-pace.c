/*
 * test-pace.c: what pace.h promises
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include "pace.h"

#define BLOCK (16 * 1024)

/* Sends to @peers in turn, at @rate bytes per second, for @seconds; how often it told. */
static guint
run(VirTorrentPace *pace, gint64 *now, guint peers, double rate, double seconds)
{
    g_autofree guint32 *of = g_new0(guint32, peers);
    gint64 const begin = *now;
    guint told = 0;

    for (guint64 sent = 0; sent / rate < seconds; sent += BLOCK) {
        *now = begin + (gint64)(sent / rate * 1e6);
        told += virTorrentPaceSent(pace, &of[sent / BLOCK % peers], *now, BLOCK);
    }
    return told;
}

static void
testSlow(void)
{
    VirTorrentPace pace = { 0 };
    gint64 now = 1;

    /* a link of 100 Mbit/s, then one of 500 */
    g_assert_cmpuint(run(&pace, &now, 8, 12.5e6, 2), ==, 0);
    g_assert_cmpuint(run(&pace, &now, 1, 62.5e6, 2), ==, 0);
}

/* What the kernel takes at once says nothing about the wire. */
static void
testBurst(void)
{
    VirTorrentPace pace = { 0 };
    guint32 peers[8] = { 0 };

    for (guint i = 0; i < 8 * 16; i++)
        g_assert_false(virTorrentPaceSent(&pace, &peers[i % 8], 1000 + i, BLOCK));
    g_assert_false(virTorrentPaceSent(&pace, &peers[0], 60000, BLOCK));
}

static void
testQuick(void)
{
    VirTorrentPace pace = { 0 };
    gint64 now = 1;

    /* 10 Gbit/s: told within 10 ms, once */
    g_assert_cmpuint(run(&pace, &now, 1, 1.25e9, 0.01), ==, 1);
    g_assert_cmpuint(pace.watermark, ==, VIR_TORRENT_PACE_MOST);
    g_assert_cmpuint(run(&pace, &now, 1, 1.25e9, 1), ==, 0);
}

static void
testShared(void)
{
    VirTorrentPace pace = { 0 };
    gint64 now = 1;

    /* 50 ms of 1 Gbit/s for all of them together */
    run(&pace, &now, 16, 125e6, 1);
    g_assert_cmpuint(pace.watermark, >=, 125000000 / 20 / 16 / 2);
    g_assert_cmpuint(pace.watermark, <=, 125000000 / 20 / 16 * 2);
}

static void
testOver(void)
{
    VirTorrentPace pace = { 0 };
    gint64 now = 1;
    guint32 peer = 0;

    run(&pace, &now, 1, 1.25e9, 0.1);
    g_assert_cmpuint(pace.watermark, ==, VIR_TORRENT_PACE_MOST);
    /* a pause, and whoever comes then is taken for slow */
    g_assert_true(virTorrentPaceSent(&pace, &peer, now + 1000000, BLOCK));
    g_assert_cmpuint(pace.watermark, ==, VIR_TORRENT_PACE_LEAST);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pace/slow", testSlow);
    g_test_add_func("/pace/burst", testBurst);
    g_test_add_func("/pace/quick", testQuick);
    g_test_add_func("/pace/shared", testShared);
    g_test_add_func("/pace/over", testOver);
    return g_test_run();
}
