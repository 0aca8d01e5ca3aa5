/*
 * delta.h: what of a new master is on this host already
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A new version of an image is mostly the old one.  BEP 52 names every 16 KiB
 * block by its hash, so what is the same can be told before a byte of it
 * travels: the leaves of the new master (32 bytes for each block) are asked for
 * from a peer that has them, looked up among the leaves of masters on this host,
 * and what is found there is copied into the partial file.
 *
 * Nobody is believed: leaves have to make up the hashes of the pieces, and each
 * copied block is hashed where it was copied to.  Whoever lies costs what would
 * have been fetched anyway.
 *
 * A VirTorrentDelta is counted and may be used by several threads, but for
 * virTorrentDeltaFill(), which one thread calls when all leaves are here.
 */

#pragma once

#include <glib.h>

#include "metainfo.h"

G_BEGIN_DECLS

typedef struct _VirTorrentDelta VirTorrentDelta;

/* The most blocks that are asked for at once: 128 KiB of leaves. */
#define VIR_TORRENT_DELTA_RANGE 4096

/* @layer: the hash of each piece (of a file of one piece: its root); copied.
 * NULL where the crypto library has no SHA-256. */
VirTorrentDelta *virTorrentDeltaNew(guint64 size, guint32 piece_length, const guint8 *layer);
VirTorrentDelta *virTorrentDeltaRef(VirTorrentDelta *delta);
void virTorrentDeltaUnref(VirTorrentDelta *delta);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentDelta, virTorrentDeltaUnref)

guint32 virTorrentDeltaGetBlocks(VirTorrentDelta *delta);

/* A range of leaves that nobody was asked for yet: whole pieces.  FALSE: none is left. */
gboolean virTorrentDeltaWant(VirTorrentDelta *delta, guint32 *first, guint32 *count);

/* Who was asked for these is gone or does not have them. */
void virTorrentDeltaMiss(VirTorrentDelta *delta, guint32 first, guint32 count);

/* @leaves: what was sent for a range that was wanted, @len bytes.  FALSE: it is not what makes
 * up the pieces; the range is missing again. */
gboolean virTorrentDeltaTake(VirTorrentDelta *delta, guint32 first, guint32 count,
                             const guint8 *leaves, gsize len);
gboolean virTorrentDeltaIsComplete(VirTorrentDelta *delta);
/* All leaves, once it is complete. */
GBytes *virTorrentDeltaGetLeaves(VirTorrentDelta *delta);

/* A master on this host: its file, to be read by pread, and its leaves. */
typedef struct {
    int fd;
    guint64 size;
    GBytes *leaves;
} VirTorrentDeltaMaster;

/* Copies what @masters (VirTorrentDeltaMaster) have into @fd, a file of @size bytes in which nothing
 * was written yet, and verifies it.  Blocks of zeros stay holes.  The file systems' own
 * way to share or copy blocks is taken where there is one.  FALSE with errno set where @fd
 * cannot be written or read; ECANCELED. */
gboolean virTorrentDeltaFill(VirTorrentDelta *delta, GPtrArray *masters, int fd,
                             const gint *cancelled);

/* Copies @len bytes from one file into another; what cannot be read is left out, since every
 * block is verified afterwards.  @buffer: VIR_TORRENT_READ_SIZE bytes.  FALSE with errno set where it
 * cannot be written. */
gboolean virTorrentCopyRange(int from, guint64 at, int to, guint64 pos, gsize len, guint8 *buffer);

/* After virTorrentDeltaFill(). */
gboolean virTorrentDeltaHasBlock(VirTorrentDelta *delta, guint32 block);
gboolean virTorrentDeltaHasPiece(VirTorrentDelta *delta, guint32 piece);
guint32 virTorrentDeltaCountBlocks(VirTorrentDelta *delta);

/* What hosts say to each other about leaves: the payload of an extension message (BEP 10)
 * "tp_leaves".  A byte, then two numbers of 32 bits, most significant byte first: the first block
 * and the number of blocks; leaves follow. */
typedef enum {
    VIR_TORRENT_LEAVES_REQUEST = 0,
    VIR_TORRENT_LEAVES_DATA = 1,
    VIR_TORRENT_LEAVES_REJECT = 2,      /* ask somebody else */
} VirTorrentLeavesType;

/* The most that is served at once: a piece of 128 MiB. */
#define VIR_TORRENT_LEAVES_MAX 8192

typedef struct {
    VirTorrentLeavesType type;
    guint32 first, count;
    const guint8 *leaves;       /* into the message; DATA only */
} VirTorrentLeavesMessage;

/* FALSE: it is none. */
gboolean virTorrentLeavesParse(const guint8 *data, gsize len, VirTorrentLeavesMessage *message);
GByteArray *virTorrentLeavesFormat(const VirTorrentLeavesMessage *message);
/* The answer to @request of who has @leaves, or NULL. */
GByteArray *virTorrentLeavesAnswer(GBytes *leaves, const VirTorrentLeavesMessage *request);

/* Which pieces are nothing but zeros, one byte (0 or 1) for each; NULL where there is none. */
guint8 *virTorrentZeroPieces(guint64 size, guint32 piece_length, const guint8 *layer);

/* Whether nothing was written to these bytes of @fd. */
gboolean virTorrentIsHole(int fd, guint64 begin, guint64 end);

G_END_DECLS
