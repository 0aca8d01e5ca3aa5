/*
 * metainfo.h: .torrent files and magnet links, taken apart and judged
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Shared by every engine; what other rooms need of it stands in engine.h.
 * Pure functions on bytes, no state, no I/O.  All bytes are taken to be
 * hostile: sizes, depth and number of tokens are bounded, nothing recurses.
 */

#pragma once

#include "engine.h"

G_BEGIN_DECLS

#define VIR_TORRENT_BLOCK_SIZE (16 * 1024)          /* BEP 52 */
#define VIR_TORRENT_PIECE_LENGTH_MAX (128 * 1024 * 1024)
#define VIR_TORRENT_PIECES_MAX (1024 * 1024)
#define VIR_TORRENT_SIZE_MAX (G_GUINT64_CONSTANT(64) << 40)
#define VIR_TORRENT_HASH_SIZE 32                    /* SHA-256 */

/* A metainfo with what an engine needs beyond VirTorrentMetainfo.  Pointers
 * lead into the bytes it was read from. */
typedef struct {
    VirTorrentMetainfo *info;
    gsize length;             /* of the bencoded dictionary: what follows is no part of it */
    const guint8 *root;       /* BEP 52 pieces root, NULL: v1 only */
    const guint8 *layer;      /* one hash per piece, NULL: v1 only, one piece, or info dictionary only */
    const guint8 *sha1;       /* BEP 3: 20 bytes for each piece, NULL: v2 only */
    guint pieces;
    gboolean holes;           /* it says that there are pieces of zeros */
} VirTorrentMetainfoRaw;

void virTorrentMetainfoRawClear(VirTorrentMetainfoRaw *raw);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VirTorrentMetainfoRaw, virTorrentMetainfoRawClear)

/* A whole .torrent file.  @raw is filled only when TRUE is returned. */
gboolean virTorrentMetainfoRead(const guint8 *data, gsize len,
                                VirTorrentMetainfoRaw *raw, GError **error);

/* An info dictionary alone, as it comes from a peer: no piece layers yet. */
gboolean virTorrentMetainfoReadInfo(const guint8 *data, gsize len,
                                    VirTorrentMetainfoRaw *raw, GError **error);

/* What a magnet link says; NULL-terminated lists. */
typedef struct {
    char *btih;               /* 40 hex or NULL */
    char *btmh;               /* 64 hex or NULL */
    char *name;               /* checked, or NULL */
    char **peers;             /* "address:port" */
    char **trackers;
    char **webseeds;
} VirTorrentMagnet;

void virTorrentMagnetClear(VirTorrentMagnet *magnet);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VirTorrentMagnet, virTorrentMagnetClear)

gboolean virTorrentMagnetRead(const char *magnet, VirTorrentMagnet *parts, GError **error);
char *virTorrentMagnetKey(const VirTorrentMagnet *magnet);

/* The piece length that is used for a file of @size bytes when it is published. */
guint32 virTorrentPieceLength(guint64 size);

/* Whether @format can stand in a metainfo: a short word. */
gboolean virTorrentFormatIsValid(const char *format, gsize len);

/* The bytes of a .torrent file (v2) for one file; @layer: one hash per piece; @authority: the
 * PEM certificate of a private swarm, or NULL. */
GBytes *virTorrentMetainfoWrite(const char *name, const char *format, guint64 capacity,
                                guint64 size, guint32 piece_length,
                                const guint8 *layer, guint pieces, GBytes *authority);

G_END_DECLS
