/*
 * test-queue.c: which fetch goes first
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include <glib.h>

#include "queue.h"

#define S G_USEC_PER_SEC

/* An empty queue lets everybody fetch; the last one that was put at the head goes first. */
static void
testOrder(void)
{
    g_autoptr(VirTorrentQueue) queue = virTorrentQueueNew();

    g_assert_null(virTorrentQueueFirst(queue, 0));
    virTorrentQueuePush(queue, "a", 0);
    virTorrentQueuePush(queue, "b", 0);
    virTorrentQueuePush(queue, "c", 0);
    g_assert_cmpstr(virTorrentQueueFirst(queue, S), ==, "c");
    virTorrentQueuePush(queue, "a", S);
    g_assert_cmpuint(virTorrentQueueGetPlace(queue, "a"), ==, 1);
    g_assert_cmpuint(virTorrentQueueGetPlace(queue, "c"), ==, 2);
    g_assert_cmpuint(virTorrentQueueGetPlace(queue, "b"), ==, 3);
    g_assert_cmpuint(virTorrentQueueGetPlace(queue, "d"), ==, 0);
    virTorrentQueueRemove(queue, "a");
    virTorrentQueueRemove(queue, "d");
    g_assert_cmpstr(virTorrentQueueFirst(queue, S), ==, "c");
    virTorrentQueueRemove(queue, "c");
    virTorrentQueueRemove(queue, "b");
    g_assert_null(virTorrentQueueFirst(queue, S));
}

/* Nobody waits for long for one of which nothing comes; when it moves again it is first again. */
static void
testStuck(void)
{
    g_autoptr(VirTorrentQueue) queue = virTorrentQueueNew();
    gint64 now;

    virTorrentQueuePush(queue, "next", 0);
    virTorrentQueuePush(queue, "head", 0);
    for (now = 0; now <= 20 * S; now += S / 2) {
        virTorrentQueueTell(queue, "next", (guint64)now, now);
        virTorrentQueueTell(queue, "head", 0, now);
        if (now < 3 * S)
            g_assert_cmpstr(virTorrentQueueFirst(queue, now), ==, "head");
        if (now > 10 * S)
            g_assert_cmpstr(virTorrentQueueFirst(queue, now), ==, "next");
    }
    virTorrentQueueTell(queue, "head", 1, now);
    g_assert_cmpstr(virTorrentQueueFirst(queue, now), ==, "head");
    /* begun anew: its bytes count from zero, and it moves */
    now += 4 * S;
    virTorrentQueueTell(queue, "head", 0, now);
    g_assert_cmpstr(virTorrentQueueFirst(queue, now + 4 * S), ==, "head");
    /* put there again, it is given time again */
    now += 60 * S;
    g_assert_null(virTorrentQueueFirst(queue, now));
    virTorrentQueuePush(queue, "head", now);
    g_assert_cmpstr(virTorrentQueueFirst(queue, now), ==, "head");
}

/* Many that wait do not take together what the first one needs. */
static void
testTrickle(void)
{
    g_assert_cmpuint(virTorrentQueueTrickle(0), ==, virTorrentQueueTrickle(1));
    g_assert_cmpuint(virTorrentQueueTrickle(1), ==, 16 * 1024);
    g_assert_cmpuint(64 * virTorrentQueueTrickle(64), <=, 256 * 1024);
    g_assert_cmpuint(virTorrentQueueTrickle(100000), >, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/queue/order", testOrder);
    g_test_add_func("/queue/stuck", testStuck);
    g_test_add_func("/queue/trickle", testTrickle);
    return g_test_run();
}
