/*
 * queue.c: which fetch goes first
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A few entries at most, as many as guests are just being started: a list.
 */

#include <config.h>

#include <string.h>

#include "queue.h"

/* How long others wait for a head of which nothing comes, microseconds.  Longer than it
 * takes to find a host that has it, and shorter than a person's patience. */
#define PATIENCE (5 * G_USEC_PER_SEC)

/* bytes/s that all who wait may take together, and each at most and at least */
#define TRICKLE (256 * 1024)
#define TRICKLE_MOST (16 * 1024)
#define TRICKLE_LEAST (2 * 1024)

typedef struct {
    char *id;
    guint64 bytes;
    gint64 moved;                /* when it was put here or something came */
} Entry;

struct _VirTorrentQueue {
    GQueue entries;              /* the first one goes first */
};

static void
entryFree(gpointer opaque)
{
    Entry *entry = opaque;

    g_free(entry->id);
    g_free(entry);
}

VirTorrentQueue *
virTorrentQueueNew(void)
{
    VirTorrentQueue *queue = g_new0(VirTorrentQueue, 1);

    g_queue_init(&queue->entries);
    return queue;
}

void
virTorrentQueueFree(VirTorrentQueue *queue)
{
    if (!queue)
        return;
    g_queue_clear_full(&queue->entries, entryFree);
    g_free(queue);
}

static GList *
virTorrentQueueFind(VirTorrentQueue *queue, const char *id)
{
    GList *at;

    for (at = queue->entries.head; at; at = at->next) {
        if (strcmp(((Entry *)at->data)->id, id) == 0)
            return at;
    }
    return NULL;
}

void
virTorrentQueuePush(VirTorrentQueue *queue, const char *id, gint64 now)
{
    GList *at = virTorrentQueueFind(queue, id);
    Entry *entry;

    if (at) {
        g_queue_unlink(&queue->entries, at);
    } else {
        entry = g_new0(Entry, 1);
        entry->id = g_strdup(id);
        at = g_list_prepend(NULL, entry);
    }
    entry = at->data;
    entry->moved = now;
    g_queue_push_head_link(&queue->entries, at);
}

void
virTorrentQueueRemove(VirTorrentQueue *queue, const char *id)
{
    GList *at = virTorrentQueueFind(queue, id);

    if (!at)
        return;
    entryFree(at->data);
    g_queue_delete_link(&queue->entries, at);
}

void
virTorrentQueueTell(VirTorrentQueue *queue, const char *id, guint64 bytes, gint64 now)
{
    GList *at = virTorrentQueueFind(queue, id);
    Entry *entry = at ? at->data : NULL;

    if (!entry || entry->bytes == bytes)
        return;
    entry->bytes = bytes;
    entry->moved = now;
}

/* Others wait, so that of those behind the first one that moves only a trickle comes:
 * enough not to be taken for one that is stuck. */
const char *
virTorrentQueueFirst(VirTorrentQueue *queue, gint64 now)
{
    GList *at;

    for (at = queue->entries.head; at; at = at->next) {
        Entry *entry = at->data;

        if (now - entry->moved < PATIENCE)
            return entry->id;
    }
    return NULL;
}

guint
virTorrentQueueGetPlace(VirTorrentQueue *queue, const char *id)
{
    GList *at = virTorrentQueueFind(queue, id);

    return at ? (guint)g_queue_link_index(&queue->entries, at) + 1 : 0;
}

guint
virTorrentQueueTrickle(guint waiting)
{
    return CLAMP(TRICKLE / MAX(waiting, 1), TRICKLE_LEAST, TRICKLE_MOST);
}
