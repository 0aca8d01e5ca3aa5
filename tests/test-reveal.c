/*
 * test-reveal.c: what reveal.h promises
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A play of hosts whose every move the test decides; how long things take on a
 * wire is tests/bench/swarm.sh's affair.
 */

#include <config.h>

#include "reveal.h"

enum { PIECE = 64 * 1024, PIECES = 400, HOSTS = 8 };

typedef struct {
    VirTorrentRevealHost *host;
    gboolean here, hung, all;
    GArray *queue;              /* shown, not sent yet */
    gboolean has[PIECES];
    guint count, given;
} Peer;

typedef struct {
    VirTorrentReveal *reveal;
    double now;
    Peer peers[HOSTS];
    guint shown[PIECES];        /* how often */
} Play;

static Play *
playNew(guint64 size)
{
    Play *play = g_new0(Play, 1);

    play->reveal = virTorrentRevealNew(size, PIECE, g_test_rand_int());
    play->now = 1000;
    return play;
}

static void
playFree(Play *play)
{
    for (guint i = 0; i < HOSTS; i++) {
        if (play->peers[i].queue)
            g_array_unref(play->peers[i].queue);
    }
    virTorrentRevealFree(play->reveal);
    g_free(play);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Play, playFree)

static void
join(Play *play, guint i, gboolean steered)
{
    Peer *peer = &play->peers[i];

    peer->here = TRUE;
    peer->queue = g_array_new(FALSE, FALSE, sizeof(guint32));
    peer->host = virTorrentRevealAdd(play->reveal, peer);
    if (steered)
        virTorrentRevealSteer(peer->host);
}

static void
leave(Play *play, guint i)
{
    Peer *peer = &play->peers[i];

    virTorrentRevealLost(play->reveal, peer->host);
    peer->here = FALSE;
}

/* Lets the origin speak. */
static void
listen(Play *play)
{
    VirTorrentRevealAction action;
    gpointer opaque;
    guint32 piece = 0;

    while ((action = virTorrentRevealNext(play->reveal, play->now, &opaque, &piece))) {
        Peer *peer = opaque;

        g_assert_true(peer->here);
        g_assert_false(peer->all);
        if (action == VIR_TORRENT_REVEAL_ALL) {
            peer->all = TRUE;
            continue;
        }
        g_assert_cmpuint(piece, <, PIECES);
        g_assert_false(peer->has[piece]);
        play->shown[piece]++;
        peer->given++;
        g_array_append_val(peer->queue, piece);
    }
}

static void
have(Play *play, guint i, guint32 piece)
{
    Peer *peer = &play->peers[i];

    if (peer->has[piece])
        return;
    peer->has[piece] = TRUE;
    peer->count++;
    virTorrentRevealHas(play->reveal, peer->host, piece);
}

/* Sends the first piece that @i was shown; FALSE: there is none. */
static gboolean
serve(Play *play, guint i, guint32 *piece)
{
    Peer *peer = &play->peers[i];

    *piece = G_MAXUINT32;
    if (peer->queue->len == 0)
        return FALSE;
    *piece = g_array_index(peer->queue, guint32, 0);
    g_array_remove_index(peer->queue, 0);
    virTorrentRevealSent(peer->host, *piece, PIECE);
    have(play, i, *piece);
    return TRUE;
}

/* One piece to each host in turn, after @seconds, which at once gives it to all
 * others. */
static gboolean
turn(Play *play, double seconds)
{
    gboolean any = FALSE;

    for (guint i = 0; i < HOSTS; i++) {
        guint32 piece;

        listen(play);
        if (!play->peers[i].here || play->peers[i].hung || !serve(play, i, &piece))
            continue;
        any = TRUE;
        play->now += seconds;
        for (guint j = 0; j < HOSTS; j++) {
            if (play->peers[j].here && !play->peers[j].hung)
                have(play, j, piece);
        }
    }
    listen(play);
    return any;
}

static void
assertShown(Play *play, guint least, guint most)
{
    for (guint p = 0; p < PIECES; p++) {
        g_assert_cmpuint(play->shown[p], >=, least);
        g_assert_cmpuint(play->shown[p], <=, most);
    }
}

static void
testOnce(void)
{
    /* the last piece is short */
    g_autoptr(Play) play = playNew(PIECE * (PIECES - 1ULL) + 5);

    for (guint i = 0; i < HOSTS; i++)
        join(play, i, TRUE);
    g_assert_true(virTorrentRevealActive(play->reveal));
    while (turn(play, 0.02))
        ;
    g_assert_false(virTorrentRevealActive(play->reveal));
    assertShown(play, 1, 1);
    for (guint i = 0; i < HOSTS; i++) {
        g_assert_true(play->peers[i].all);
        /* and all had their share in that */
        g_assert_cmpuint(play->peers[i].given, >=, PIECES / HOSTS / 2);
        g_assert_cmpuint(play->peers[i].given, <=, PIECES / HOSTS * 2);
    }
}

/* The first pieces go out one after the other. */
static void
testFirst(void)
{
    g_autoptr(Play) play = playNew(PIECE * PIECES);
    guint begun = 0;
    guint32 piece;

    for (guint i = 0; i < HOSTS; i++)
        join(play, i, TRUE);
    listen(play);
    for (guint i = 0; i < HOSTS; i++) {
        g_assert_cmpuint(play->peers[i].given, <=, 1);
        begun += play->peers[i].given;
    }
    g_assert_cmpuint(begun, ==, 2);
    for (guint i = 0; i < HOSTS; i++) {
        if (play->peers[i].given)
            g_assert_true(serve(play, i, &piece));
    }
    listen(play);
    begun = 0;
    for (guint i = 0; i < HOSTS; i++)
        begun += play->peers[i].given > 0;
    g_assert_cmpuint(begun, ==, 4);

    /* whoever does nothing does not keep the others from it for long */
    for (guint k = 0; k < HOSTS; k++) {
        play->now += 1;
        listen(play);
    }
    for (guint i = 0; i < HOSTS; i++)
        g_assert_cmpuint(play->peers[i].given, >, 0);
}

/* What is shown ahead follows the rate at which a host takes it. */
static void
testWindow(void)
{
    g_autoptr(Play) play = playNew(PIECE * PIECES);
    guint32 piece;

    join(play, 0, TRUE);
    join(play, 1, TRUE);
    for (guint k = 0; k < 60; k++) {
        listen(play);
        /* 16 pieces a second, and one */
        play->now += 1.0 / 16;
        g_assert_true(serve(play, 0, &piece));
        have(play, 1, piece);
        if (k % 16 == 0 && serve(play, 1, &piece))
            have(play, 0, piece);
        g_assert_cmpuint(play->peers[0].queue->len, <=, 7);
    }
    listen(play);
    g_assert_cmpuint(play->peers[0].queue->len, >=, 4);
    g_assert_cmpuint(play->peers[1].queue->len, <=, 2);
}

/* A lone host on a quick wire does not wait until a rate was measured over a second. */
static void
testEarly(void)
{
    g_autoptr(Play) play = playNew(PIECE * PIECES);
    guint32 piece;

    join(play, 0, TRUE);
    for (guint k = 0; k < 50; k++) {
        listen(play);
        play->now += 0.0001;        /* 600 MB/s */
        g_assert_true(serve(play, 0, &piece));
    }
    listen(play);
    g_assert_cmpuint(play->peers[0].queue->len, >=, 200);
}

/* A host that forwards nothing is not given much to forward. */
static void
testForward(void)
{
    g_autoptr(Play) play = playNew(PIECE * PIECES);
    guint32 piece;

    for (guint i = 0; i < HOSTS; i++)
        join(play, i, TRUE);
    for (guint k = 0; k < 30; k++) {
        for (guint i = 0; i < HOSTS; i++) {
            listen(play);
            play->now += 0.001;
            if (!serve(play, i, &piece) || i == 0)
                continue;
            for (guint j = 0; j < HOSTS; j++)
                have(play, j, piece);
        }
    }
    g_assert_cmpuint(play->peers[1].given, >=, 30);
    /* at most one at a time */
    g_assert_cmpuint(play->peers[0].queue->len, <=, 1);
}

static void
testLost(void)
{
    g_autoptr(Play) play = playNew(PIECE * PIECES);
    guint32 piece;

    for (guint i = 0; i < HOSTS; i++)
        join(play, i, TRUE);
    /* host 0 keeps all for itself, and dies */
    for (guint k = 0; k < 20; k++) {
        listen(play);
        play->now += 0.001;
        serve(play, 0, &piece);
    }
    g_assert_cmpuint(play->peers[0].count, >, 5);
    listen(play);
    g_assert_cmpuint(play->peers[0].queue->len, >, 0);
    leave(play, 0);
    while (turn(play, 0.02))
        ;
    for (guint i = 1; i < HOSTS; i++) {
        g_assert_cmpuint(play->peers[i].count, ==, PIECES);
        g_assert_true(play->peers[i].all);
    }
    assertShown(play, 1, 2);
}

/* What a host holds up is no reason to wait for the others. */
static void
testHung(void)
{
    g_autoptr(Play) play = playNew(PIECE * PIECES);

    for (guint i = 0; i < HOSTS; i++)
        join(play, i, TRUE);
    play->peers[3].hung = TRUE;
    while (turn(play, 0.02) || play->peers[3].given == 0)
        play->now += 0.1;
    g_assert_cmpuint(play->peers[3].given, ==, 1);
    for (guint i = 0; i < HOSTS; i++) {
        g_assert_cmpuint(play->peers[i].count, ==, i == 3 ? 0 : PIECES - 1);
        g_assert_true(play->peers[i].all == (i != 3));
    }
}

/* Peers that see everything are left alone, and what they have is out. */
static void
testStrangers(void)
{
    g_autoptr(Play) play = playNew(PIECE * PIECES);

    join(play, 0, FALSE);
    join(play, 1, TRUE);
    for (guint32 p = 0; p < PIECES / 2; p++)
        have(play, 0, p);
    virTorrentRevealHas(play->reveal, play->peers[0].host, PIECES);
    virTorrentRevealHas(play->reveal, play->peers[0].host, G_MAXUINT32);
    while (turn(play, 0.02))
        ;
    g_assert_cmpuint(play->peers[0].given, ==, 0);
    g_assert_false(play->peers[0].all);
    for (guint32 p = 0; p < PIECES; p++)
        g_assert_cmpuint(play->shown[p], ==, p < PIECES / 2 ? 0 : 1);

    /* with another seed there is nothing to hold back */
    g_autoptr(Play) two = playNew(PIECE * PIECES);

    join(two, 0, FALSE);
    virTorrentRevealHasAll(two->reveal, two->peers[0].host);
    g_assert_false(virTorrentRevealActive(two->reveal));
    join(two, 1, TRUE);
    listen(two);
    g_assert_true(two->peers[1].all);
}

/* Two origins do not give the same. */
static void
testTwoOrigins(void)
{
    g_autoptr(Play) a = playNew(PIECE * PIECES);
    g_autoptr(Play) b = playNew(PIECE * PIECES);
    guint both = 0;

    for (guint i = 0; i < HOSTS; i++) {
        join(a, i, TRUE);
        join(b, i, TRUE);
    }
    for (gboolean any = TRUE; any;) {
        any = turn(a, 0.02);
        any = turn(b, 0.02) || any;
        for (guint i = 0; i < HOSTS; i++) {
            for (guint32 p = 0; p < PIECES; p++) {
                if (a->peers[i].has[p])
                    have(b, i, p);
                if (b->peers[i].has[p])
                    have(a, i, p);
            }
        }
    }
    for (guint32 p = 0; p < PIECES; p++) {
        g_assert_cmpuint(a->shown[p] + b->shown[p], >=, 1);
        both += a->shown[p] + b->shown[p] - 1;
    }
    /* but for what both show at the same moment: of 400 pieces some 20 at a time */
    g_assert_cmpuint(both, <, PIECES / 2);
}

/* A host that comes when the others are nearly done is served like them. */
static void
testLate(void)
{
    g_autoptr(Play) play = playNew(PIECE * PIECES);

    for (guint i = 0; i < HOSTS - 1; i++)
        join(play, i, TRUE);
    while (play->peers[0].count < PIECES - 100)
        g_assert_true(turn(play, 0.02));
    join(play, HOSTS - 1, TRUE);
    for (guint k = 0; k < 3; k++)
        turn(play, 0.02);
    g_assert_cmpuint(play->peers[HOSTS - 1].given, >, 0);
    while (turn(play, 0.02))
        ;
    g_assert_true(play->peers[HOSTS - 1].all);
    assertShown(play, 1, 1);

    /* and when they are gone it is the only one, and everything is shown anew */
    for (guint i = 0; i < HOSTS; i++)
        leave(play, i);
    g_assert_true(virTorrentRevealActive(play->reveal));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/reveal/once", testOnce);
    g_test_add_func("/reveal/first", testFirst);
    g_test_add_func("/reveal/window", testWindow);
    g_test_add_func("/reveal/early", testEarly);
    g_test_add_func("/reveal/forward", testForward);
    g_test_add_func("/reveal/lost", testLost);
    g_test_add_func("/reveal/hung", testHung);
    g_test_add_func("/reveal/strangers", testStrangers);
    g_test_add_func("/reveal/two-origins", testTwoOrigins);
    g_test_add_func("/reveal/late", testLate);
    return g_test_run();
}
