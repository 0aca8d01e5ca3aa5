/*
 * merkle.h: the hash trees of BEP 52
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A file is cut into blocks of 16 KiB, the last one may be shorter; each
 * block's SHA-256 is a leaf.  Leaves that a full tree lacks are 32 zero bytes.
 * The hash of a piece is the node above its blocks; the file's root is the
 * node above all pieces.  A file of at most one piece has a tree just tall
 * enough for its blocks.
 */

#pragma once

#include <glib.h>

#include "metainfo.h"

G_BEGIN_DECLS

typedef struct _VirTorrentHasher VirTorrentHasher;

/* One per thread.  NULL where the crypto library has no SHA-256. */
VirTorrentHasher *virTorrentHasherNew(void);
void virTorrentHasherFree(VirTorrentHasher *hasher);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentHasher, virTorrentHasherFree)

gboolean virTorrentIsZero(const guint8 *data, gsize len);  /* @len > 0 */

/* SHA-256 of a block; a whole block of zeros costs no hashing. */
void virTorrentHasherBlock(VirTorrentHasher *hasher, const guint8 *data, gsize len, guint8 *out);

/* As if @len bytes of zeros had been hashed. */
void virTorrentHasherZeroBlock(VirTorrentHasher *hasher, gsize len, guint8 *out);

/* The root above @count of @width nodes; @nodes is overwritten, the first node is the
 * root.  @width is a power of two and not below @count; missing nodes are taken to be
 * @pad.  @nodes holds room for @count only. */
void virTorrentHasherRoot(VirTorrentHasher *hasher, guint8 *nodes, gsize count, gsize width,
                          const guint8 *pad);

/* The root of a file of @size bytes from its piece hashes (@pieces of them, left alone). */
void virTorrentHasherFileRoot(VirTorrentHasher *hasher, const guint8 *layer, gsize pieces,
                              guint32 piece_length, guint8 *out);

/* The hash of piece @index of the file @fd, read by pread; holes are not read.
 * FALSE with errno set; ENODATA: the file ends before the piece does.
 * @buffer: VIR_TORRENT_READ_SIZE bytes.  @cancelled, @done may be NULL; ECANCELED. */
#define VIR_TORRENT_READ_SIZE (1024 * 1024)
gboolean virTorrentHasherPiece(VirTorrentHasher *hasher, int fd, guint64 size,
                               guint32 piece_length, guint64 index, guint8 *buffer,
                               const gint *cancelled, guint64 *done, guint8 *out);

/* The same for the leaves of the blocks from @begin to @end. */
gboolean virTorrentHasherBlocks(VirTorrentHasher *hasher, int fd, guint64 begin, guint64 end,
                                guint8 *buffer, const gint *cancelled, guint64 *done,
                                guint8 *leaves);
/* The same, and the hash of each of its blocks into @leaves. */
gboolean virTorrentHasherLeaves(VirTorrentHasher *hasher, int fd, guint64 size,
                                guint32 piece_length, guint64 index, guint8 *buffer,
                                const gint *cancelled, guint64 *done, guint8 *leaves, guint8 *out);

G_END_DECLS
