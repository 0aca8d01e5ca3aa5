/*
 * queue.h: which fetch goes first
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Fetches share the wire.  One that somebody waits for is put at the head of a
 * queue: then it has the wire for itself, all others get a trickle that keeps
 * their connections, and those that were at the head before come next.  A head
 * of which nothing comes, since no host has it, holds up nobody.
 *
 * No clock, no network: the caller tells what came, and asks who goes first.
 * No locks, one thread at a time.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct _VirTorrentQueue VirTorrentQueue;

VirTorrentQueue *virTorrentQueueNew(void);
void virTorrentQueueFree(VirTorrentQueue *queue);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentQueue, virTorrentQueueFree)

/* Puts @id at the head; @now in microseconds, monotonic, as everywhere here. */
void virTorrentQueuePush(VirTorrentQueue *queue, const char *id, gint64 now);
/* It needs nothing any more.  Unknown ids are ignored. */
void virTorrentQueueRemove(VirTorrentQueue *queue, const char *id);

/* @bytes of @id came so far, or since it was begun anew.  To be told again and again. */
void virTorrentQueueTell(VirTorrentQueue *queue, const char *id, guint64 bytes, gint64 now);

/* The one that all others wait for, until the next call that changes the queue; NULL: nobody waits. */
const char *virTorrentQueueFirst(VirTorrentQueue *queue, gint64 now);

/* Its place, 1 at the head; 0: it is not in the queue. */
guint virTorrentQueueGetPlace(VirTorrentQueue *queue, const char *id);

/* What each of @waiting may fetch meanwhile, bytes/s. */
guint virTorrentQueueTrickle(guint waiting);

G_END_DECLS
