/*
 * scrub.h: whether a file still is what its metainfo says
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One file is read from the disk, piece by piece, in a thread of its own, and
 * compared with its hashes.  Nothing is written.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct _VirTorrentScrub VirTorrentScrub;

typedef struct {
    GArray *damaged;             /* guint32: pieces that are not as they should be, in order */
    guint unreadable;            /* how many of these the disk did not give */
    guint32 pieces;              /* of the file */
    guint32 next;                /* the first one that was not looked at; @pieces: all were */
} VirTorrentScrubResult;

/* In the main context of the caller of virTorrentScrubStart(), unless it was freed before. */
typedef void (*VirTorrentScrubFunc)(VirTorrentScrub *scrub,
                                    const VirTorrentScrubResult *result,
                                    gpointer opaque);

/* @fd: open for reading, shared with nobody; taken in any case.  @metainfo: the .torrent file.  @first: the piece to begin with.
 * @rate: bytes/s, at idle priority, and the first damaged piece ends it; 0: all of the file as
 * fast as the disk allows.  NULL with @error set where @metainfo cannot be read. */
VirTorrentScrub *virTorrentScrubStart(int fd,
                                      GBytes *metainfo,
                                      guint32 first,
                                      guint64 rate,
                                      VirTorrentScrubFunc func,
                                      gpointer opaque,
                                      GError **error);
guint64 virTorrentScrubGetDone(VirTorrentScrub *scrub);     /* bytes from the beginning of the file */
guint32 virTorrentScrubGetNext(VirTorrentScrub *scrub);     /* as in the result */
/* Stops it where it is running; waits for nothing. */
void virTorrentScrubFree(VirTorrentScrub *scrub);

/* The calling thread's work comes after everybody else's on this host. */
void virTorrentBeIdle(void);

/* Copies the content of @from, @size bytes, to @to, an empty file, piece by piece, but for the pieces
 * of @damaged (guint32, in order); what cannot be read is left out, holes stay holes, and blocks are
 * shared where the file system can.  FALSE with errno set where @to cannot be written; ECANCELED. */
gboolean virTorrentCopyGood(int from,
                            int to,
                            guint64 size,
                            guint32 piece_length,
                            GArray *damaged,
                            const gint *cancelled);

G_END_DECLS
