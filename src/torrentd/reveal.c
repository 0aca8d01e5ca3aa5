/*
 * reveal.c: which piece an origin shows to whom, and when
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Pieces go out in random order, each to one host, which forwards it to all
 * others.  What decides how well that goes is how much is shown ahead:
 *
 *  - too little, and the origin's uplink waits for requests;
 *  - too much, and the end waits for hosts that were promised more than others
 *    and get it more slowly, while everybody else has nothing to ask for.
 *
 * So each host is shown what it takes in WINDOW_SECONDS at the rate at which it
 * is being served, and nothing while it has far more to forward than others.  In
 * the beginning, when nobody has anything to forward, pieces go out one after the
 * other, FIRST at a time, instead of all at once at an Nth of the rate: the first
 * host begins to forward N times sooner.
 *
 * When every piece is out, a host that has got what it was shown sees
 * everything: then a second copy from here may be what it waits for, and what
 * a host hangs on to the others get from here.
 *
 * Invariants: out[p] is set while some host has p or was shown p; n_out counts
 * them; copies[p] is the number of hosts that have p.
 */

#include <config.h>

#include "reveal.h"

/* Measured with 4 to 16 hosts: 0.2 to 0.5 differ by 1 %; the fixed 2 MiB of
 * before cost 5 to 20 %. */
#define WINDOW_SECONDS 0.3
#define WINDOW_LEAST (64 * 1024)
/* Pieces that a host may have to forward, in copies for everybody, beyond twice
 * what hosts have on average. */
#define FORWARDS 3
/* Hosts that are served their first piece at a time: two, so that the uplink
 * does not wait between them; and how long one may take before it does not
 * count any more (seconds). */
#define FIRST 2
#define FIRST_SECONDS 0.5

/* How long the rate of a host that is alone is taken from what came since the beginning
 * (seconds): at 1 GB/s a small file has gone by when an average over half a
 * second is worth something.  And from how much on (bytes): a shaper lets the
 * first of them through at once, and the others of a swarm come soon. */
#define EARLY_SECONDS 0.5
#define EARLY_LEAST (2 * 1024 * 1024)

typedef struct {
    guint32 piece;
    guint32 left;               /* bytes of it that were not sent yet */
    double since;
} Shown;

struct _VirTorrentRevealHost {
    gpointer opaque;
    gboolean steered;           /* sees only what it is shown */
    guint8 *has;
    guint32 count;
    guint32 given;              /* pieces it ever was shown */
    GArray *shown;              /* Shown: what it was shown and does not have */
    gint64 outstanding;         /* bytes of that which were not sent */
    gint64 backlog;             /* copies to be made of what it was given and has */
    double begin;               /* when it was first shown something */
    double rate, at;            /* bytes per second that it is sent, as of then, */
    guint64 fresh;              /* and bytes since */
};

struct _VirTorrentReveal {
    guint64 size;
    guint32 pieces, length;
    guint32 *order, next;       /* random; what follows next was not shown */
    GArray *back;               /* of what precedes next, what was handed back */
    guint8 *out;
    guint32 n_out;
    guint16 *copies;
    VirTorrentRevealHost **owner;   /* to whom it was given */
    GPtrArray *hosts;
    gint64 backlog;             /* of all hosts */
};

static void
virTorrentRevealHostFree(gpointer opaque)
{
    VirTorrentRevealHost *host = opaque;

    g_free(host->has);
    g_array_unref(host->shown);
    g_free(host);
}

VirTorrentReveal *
virTorrentRevealNew(guint64 size, guint32 piece_length, guint32 seed)
{
    VirTorrentReveal *r = g_new0(VirTorrentReveal, 1);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    r->size = size;
    r->length = piece_length;
    r->pieces = (size + piece_length - 1) / piece_length;
    r->order = g_new(guint32, r->pieces);
    for (guint32 i = 0; i < r->pieces; i++) {
        guint32 j = g_rand_int_range(rand, 0, i + 1);

        r->order[i] = r->order[j];
        r->order[j] = i;
    }
    r->back = g_array_new(FALSE, FALSE, sizeof(guint32));
    r->out = g_new0(guint8, r->pieces);
    r->copies = g_new0(guint16, r->pieces);
    r->owner = g_new0(VirTorrentRevealHost *, r->pieces);
    r->hosts = g_ptr_array_new_with_free_func(virTorrentRevealHostFree);
    return r;
}

void
virTorrentRevealFree(VirTorrentReveal *r)
{
    if (!r)
        return;
    g_ptr_array_unref(r->hosts);
    g_array_unref(r->back);
    g_free(r->order);
    g_free(r->out);
    g_free(r->copies);
    g_free(r->owner);
    g_free(r);
}

static void
virTorrentRevealForward(VirTorrentReveal *r, VirTorrentRevealHost *host, gint64 copies)
{
    host->backlog += copies;
    r->backlog += copies;
}

/* Hosts came or went: who has how much to forward? */
static void
virTorrentRevealCount(VirTorrentReveal *r)
{
    r->backlog = 0;
    for (guint i = 0; i < r->hosts->len; i++) {
        VirTorrentRevealHost *host = r->hosts->pdata[i];

        host->backlog = 0;
    }
    for (guint32 p = 0; p < r->pieces; p++) {
        VirTorrentRevealHost *owner = r->owner[p];

        if (owner && owner->has[p])
            virTorrentRevealForward(r, owner, (gint64)r->hosts->len - r->copies[p]);
    }
}

VirTorrentRevealHost *
virTorrentRevealAdd(VirTorrentReveal *r, gpointer opaque)
{
    VirTorrentRevealHost *host = g_new0(VirTorrentRevealHost, 1);

    host->opaque = opaque;
    host->has = g_new0(guint8, r->pieces);
    host->shown = g_array_new(FALSE, FALSE, sizeof(Shown));
    g_ptr_array_add(r->hosts, host);
    virTorrentRevealCount(r);
    return host;
}

void
virTorrentRevealSteer(VirTorrentRevealHost *host)
{
    host->steered = TRUE;
}

static void
virTorrentRevealOut(VirTorrentReveal *r, guint32 piece)
{
    if (r->out[piece])
        return;
    r->out[piece] = 1;
    r->n_out++;
}

/* Nobody has it and nobody is to get it. */
static void
virTorrentRevealBack(VirTorrentReveal *r, guint32 piece)
{
    if (!r->out[piece] || r->copies[piece])
        return;
    r->out[piece] = 0;
    r->n_out--;
    g_array_append_val(r->back, piece);
}

void
virTorrentRevealLost(VirTorrentReveal *r, VirTorrentRevealHost *host)
{
    for (guint32 p = 0; p < r->pieces; p++) {
        if (r->owner[p] == host)
            r->owner[p] = NULL;
        if (!host->has[p])
            continue;
        r->copies[p]--;
        virTorrentRevealBack(r, p);
    }
    for (guint i = 0; i < host->shown->len; i++)
        virTorrentRevealBack(r, g_array_index(host->shown, Shown, i).piece);
    g_ptr_array_remove(r->hosts, host);
    virTorrentRevealCount(r);
}

static Shown *
virTorrentRevealFindShown(VirTorrentRevealHost *host, guint32 piece, guint *at)
{
    for (guint i = 0; i < host->shown->len; i++) {
        Shown *shown = &g_array_index(host->shown, Shown, i);

        if (shown->piece != piece)
            continue;
        if (at)
            *at = i;
        return shown;
    }
    return NULL;
}

void
virTorrentRevealHas(VirTorrentReveal *r, VirTorrentRevealHost *host, guint32 piece)
{
    VirTorrentRevealHost *owner;
    Shown *shown;
    guint at;

    if (piece >= r->pieces || host->has[piece])
        return;
    host->has[piece] = 1;
    host->count++;
    r->copies[piece]++;
    virTorrentRevealOut(r, piece);

    owner = r->owner[piece];
    if (owner == host)
        virTorrentRevealForward(r, host, (gint64)r->hosts->len - r->copies[piece]);
    else if (owner && owner->has[piece])
        virTorrentRevealForward(r, owner, -1);

    if ((shown = virTorrentRevealFindShown(host, piece, &at))) {
        host->outstanding -= shown->left;
        g_array_remove_index_fast(host->shown, at);
    }
}

void
virTorrentRevealHasAll(VirTorrentReveal *r, VirTorrentRevealHost *host)
{
    for (guint32 p = 0; p < r->pieces; p++)
        virTorrentRevealHas(r, host, p);
}

void
virTorrentRevealSent(VirTorrentRevealHost *host, guint32 piece, guint32 bytes)
{
    Shown *shown = virTorrentRevealFindShown(host, piece, NULL);

    host->fresh += bytes;
    if (!shown)
        return;
    bytes = MIN(bytes, shown->left);
    shown->left -= bytes;
    host->outstanding -= bytes;
}

static void
virTorrentRevealMeasure(VirTorrentRevealHost *host, double now)
{
    double const time = now - host->at;

    if (time < 0.1)
        return;
    host->rate += MIN(1, time / 0.5) * (host->fresh / time - host->rate);
    host->fresh = 0;
    host->at = now;
}

static gboolean
virTorrentRevealIsFirst(const VirTorrentRevealHost *host, double now)
{
    return host->given == 1 && host->shown->len && host->outstanding > 0 &&
        now - g_array_index(host->shown, Shown, 0).since < FIRST_SECONDS;
}

/* A lone host, in the beginning: by what it confirmed, since what was sent lies in buffers
 * at first. */
static double
virTorrentRevealRate(VirTorrentReveal *r, const VirTorrentRevealHost *host, double now)
{
    double const time = now - host->begin;
    gint64 const got = (gint64)(host->given - host->shown->len) * r->length;

    if (r->hosts->len > 1 || got < EARLY_LEAST || time <= 0 || time >= EARLY_SECONDS)
        return host->rate;
    return MAX(host->rate, got / time);
}

/* Whether @host may be shown another piece. */
static gboolean
virTorrentRevealHasRoom(VirTorrentReveal *r, VirTorrentRevealHost *host, guint first, double now)
{
    gint64 window = (gint64)(virTorrentRevealRate(r, host, now) * WINDOW_SECONDS);

    if (host->given == 0)
        return first < FIRST;
    if (host->outstanding == 0)
        return TRUE;
    if (host->count == 0)
        return FALSE;
    window = MAX(window, MAX(WINDOW_LEAST, 2 * (gint64)r->length));
    return host->outstanding < window &&
        host->backlog <= FORWARDS * (gint64)r->hosts->len + 2 * r->backlog / r->hosts->len;
}

/* The next piece that is not out. */
static gboolean
virTorrentRevealTake(VirTorrentReveal *r, guint32 *piece)
{
    while (r->back->len) {
        *piece = g_array_index(r->back, guint32, r->back->len - 1);
        g_array_set_size(r->back, r->back->len - 1);
        if (!r->out[*piece])
            return TRUE;
    }
    while (r->next < r->pieces) {
        *piece = r->order[r->next++];
        if (!r->out[*piece])
            return TRUE;
    }
    return FALSE;
}

static void
virTorrentRevealGive(VirTorrentReveal *r, VirTorrentRevealHost *host, guint32 piece, double now)
{
    Shown shown = { piece, r->length, now };

    if (piece == r->pieces - 1)
        shown.left = r->size - (guint64)piece * r->length;
    virTorrentRevealOut(r, piece);
    r->owner[piece] = host;
    if (host->given++ == 0)
        host->begin = now;
    host->outstanding += shown.left;
    g_array_append_val(host->shown, shown);
}

VirTorrentRevealAction
virTorrentRevealNext(VirTorrentReveal *r, double now, gpointer *opaque, guint32 *piece)
{
    VirTorrentRevealHost *best = NULL;
    double least = 0;
    guint first = 0;

    for (guint i = 0; i < r->hosts->len; i++)
        first += virTorrentRevealIsFirst(r->hosts->pdata[i], now);
    for (guint i = 0; i < r->hosts->len; i++) {
        VirTorrentRevealHost *host = r->hosts->pdata[i];
        double load;

        if (!host->steered)
            continue;
        virTorrentRevealMeasure(host, now);
        if (r->n_out == r->pieces && host->outstanding == 0) {
            host->steered = FALSE;
            *opaque = host->opaque;
            return VIR_TORRENT_REVEAL_ALL;
        }
        if (!virTorrentRevealHasRoom(r, host, first, now))
            continue;
        load = (double)host->outstanding / r->length + (double)host->backlog / r->hosts->len;
        if (best && load >= least)
            continue;
        best = host;
        least = load;
    }
    if (!best || !virTorrentRevealTake(r, piece))
        return VIR_TORRENT_REVEAL_NOTHING;
    virTorrentRevealGive(r, best, *piece, now);
    *opaque = best->opaque;
    return VIR_TORRENT_REVEAL_PIECE;
}

gboolean
virTorrentRevealActive(const VirTorrentReveal *r)
{
    return r->n_out < r->pieces;
}
