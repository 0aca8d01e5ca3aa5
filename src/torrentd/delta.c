/*
 * delta.c: what of a new master is on this host already
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See delta.h.  Ranges of leaves are whole pieces, since a piece is the smallest
 * thing whose leaves can be verified.  Each piece is missing, asked for, or here.
 *
 * Blocks are found by an index over the leaves of all masters; one at the same
 * place is preferred, then one that follows the block before, so that runs
 * become long: a run is copied by one call and may be shared by the file system.
 *
 * Locks: 'lock' covers 'pieces' and 'left'; a leaf is written once, before its
 * piece is said to be here.
 */

#include <config.h>

#include "delta.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "merkle.h"

#define BLOCK VIR_TORRENT_BLOCK_SIZE
#define HASH VIR_TORRENT_HASH_SIZE
#define RUN_MAX 1024            /* blocks that are copied by one call */

typedef enum {
    MISSING = 0,
    ASKED,
    HERE,
} PieceState;

struct _VirTorrentDelta {
    gatomicrefcount refs;
    guint64 size;
    guint32 piece_length;
    guint32 blocks, pieces;
    guint32 per_piece;          /* blocks */
    guint8 *layer;

    GMutex lock;
    guint8 *states;             /* PieceState of each piece */
    guint32 left;               /* pieces that are not here */
    VirTorrentHasher *hasher;

    guint8 *leaves;
    guint8 *have;               /* of each block: copied and right */
};

/* Where a block is to be had. */
typedef struct {
    VirTorrentDeltaMaster *master;      /* NULL: nowhere */
    guint32 block;
} Source;

static gsize
virTorrentDeltaLength(VirTorrentDelta *delta, guint32 first, guint32 count)
{
    return MIN((guint64)(first + count) * BLOCK, delta->size) - (guint64)first * BLOCK;
}

/* Nobody need be asked for the leaves of pieces of zeros: of a sparse file they are many. */
static void
virTorrentDeltaKnowZeros(VirTorrentDelta *delta)
{
    g_autofree guint8 *zeros = virTorrentZeroPieces(delta->size, delta->piece_length, delta->layer);
    guint32 block, piece;

    for (piece = 0; zeros && piece < delta->pieces; piece++) {
        guint32 begin = piece * delta->per_piece;
        guint32 end = MIN(begin + delta->per_piece, delta->blocks);

        if (!zeros[piece])
            continue;
        for (block = begin; block < end; block++)
            virTorrentHasherZeroBlock(delta->hasher, virTorrentDeltaLength(delta, block, 1),
                                      delta->leaves + (gsize)block * HASH);
        delta->states[piece] = HERE;
        delta->left--;
    }
}

VirTorrentDelta *
virTorrentDeltaNew(guint64 size, guint32 piece_length, const guint8 *layer)
{
    VirTorrentHasher *hasher = virTorrentHasherNew();
    VirTorrentDelta *delta;

    if (!hasher)
        return NULL;
    delta = g_new0(VirTorrentDelta, 1);
    g_atomic_ref_count_init(&delta->refs);
    g_mutex_init(&delta->lock);
    delta->hasher = hasher;
    delta->size = size;
    delta->piece_length = piece_length;
    delta->per_piece = piece_length / BLOCK;
    delta->blocks = (size + BLOCK - 1) / BLOCK;
    delta->pieces = (size + piece_length - 1) / piece_length;
    delta->layer = g_memdup2(layer, (gsize)delta->pieces * HASH);
    delta->left = delta->pieces;
    delta->states = g_malloc0(delta->pieces);
    delta->leaves = g_malloc((gsize)delta->blocks * HASH);
    delta->have = g_malloc0(delta->blocks);
    virTorrentDeltaKnowZeros(delta);
    return delta;
}

VirTorrentDelta *
virTorrentDeltaRef(VirTorrentDelta *delta)
{
    g_atomic_ref_count_inc(&delta->refs);
    return delta;
}

void
virTorrentDeltaUnref(VirTorrentDelta *delta)
{
    if (!g_atomic_ref_count_dec(&delta->refs))
        return;
    virTorrentHasherFree(delta->hasher);
    g_mutex_clear(&delta->lock);
    g_free(delta->layer);
    g_free(delta->states);
    g_free(delta->leaves);
    g_free(delta->have);
    g_free(delta);
}

guint32
virTorrentDeltaGetBlocks(VirTorrentDelta *delta)
{
    return delta->blocks;
}

gboolean
virTorrentDeltaIsComplete(VirTorrentDelta *delta)
{
    gboolean complete;

    g_mutex_lock(&delta->lock);
    complete = delta->left == 0;
    g_mutex_unlock(&delta->lock);
    return complete;
}

gboolean
virTorrentDeltaWant(VirTorrentDelta *delta, guint32 *first, guint32 *count)
{
    guint32 most = MAX(VIR_TORRENT_DELTA_RANGE / delta->per_piece, 1);
    guint32 begin, end;

    g_mutex_lock(&delta->lock);
    for (begin = 0; begin < delta->pieces && delta->states[begin] != MISSING; begin++)
        ;
    for (end = begin; end < delta->pieces && end - begin < most && delta->states[end] == MISSING; end++)
        delta->states[end] = ASKED;
    g_mutex_unlock(&delta->lock);

    *first = begin * delta->per_piece;
    *count = MIN((guint64)end * delta->per_piece, delta->blocks) - MIN(*first, delta->blocks);
    return end > begin;
}

GBytes *
virTorrentDeltaGetLeaves(VirTorrentDelta *delta)
{
    return g_bytes_new(delta->leaves, (gsize)delta->blocks * HASH);
}

/* The pieces of a range that was wanted, or FALSE. */
static gboolean
virTorrentDeltaRange(VirTorrentDelta *delta, guint32 first, guint32 count,
                     guint32 *begin, guint32 *end)
{
    if (first % delta->per_piece != 0 || first >= delta->blocks || count == 0 ||
        count > delta->blocks - first ||
        (count % delta->per_piece != 0 && first + count != delta->blocks))
        return FALSE;
    *begin = first / delta->per_piece;
    *end = *begin + (count + delta->per_piece - 1) / delta->per_piece;
    return TRUE;
}

void
virTorrentDeltaMiss(VirTorrentDelta *delta, guint32 first, guint32 count)
{
    guint32 piece, end;

    if (!virTorrentDeltaRange(delta, first, count, &piece, &end))
        return;
    g_mutex_lock(&delta->lock);
    for (; piece < end; piece++) {
        if (delta->states[piece] == ASKED)
            delta->states[piece] = MISSING;
    }
    g_mutex_unlock(&delta->lock);
}

/* Whether @leaves are those of @piece.  With the lock, which covers the hasher. */
static gboolean
virTorrentDeltaVerify(VirTorrentDelta *delta, guint32 piece, const guint8 *leaves, guint32 blocks)
{
    static const guint8 missing[HASH];
    g_autofree guint8 *nodes = g_memdup2(leaves, (gsize)blocks * HASH);
    guint32 width = delta->per_piece;

    /* a file of one piece has a tree just tall enough for its blocks */
    if (delta->pieces == 1) {
        for (width = 1; width < blocks; width *= 2)
            ;
    }
    virTorrentHasherRoot(delta->hasher, nodes, blocks, width, missing);
    return memcmp(nodes, delta->layer + (gsize)piece * HASH, HASH) == 0;
}

gboolean
virTorrentDeltaTake(VirTorrentDelta *delta, guint32 first, guint32 count,
                    const guint8 *leaves, gsize len)
{
    guint32 piece, end;
    gboolean ok = TRUE;

    if (!virTorrentDeltaRange(delta, first, count, &piece, &end) || len != (gsize)count * HASH)
        return FALSE;
    g_mutex_lock(&delta->lock);
    for (; piece < end; piece++) {
        guint32 begin = piece * delta->per_piece;
        guint32 blocks = MIN(delta->per_piece, delta->blocks - begin);

        if (delta->states[piece] == HERE)
            continue;
        if (virTorrentDeltaVerify(delta, piece, leaves + (gsize)(begin - first) * HASH, blocks)) {
            memcpy(delta->leaves + (gsize)begin * HASH, leaves + (gsize)(begin - first) * HASH,
                   (gsize)blocks * HASH);
            delta->states[piece] = HERE;
            delta->left--;
        } else {
            delta->states[piece] = MISSING;
            ok = FALSE;
        }
    }
    g_mutex_unlock(&delta->lock);
    return ok;
}

/* --- filling --------------------------------------------------------------------- */

static guint
virTorrentLeafHash(gconstpointer leaf)
{
    guint out;

    memcpy(&out, leaf, sizeof(out));
    return out;
}

static gboolean
virTorrentLeafEqual(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, HASH) == 0;
}

static const guint8 *
virTorrentMasterLeaf(const VirTorrentDeltaMaster *master, guint32 block)
{
    gsize len;
    const guint8 *leaves = g_bytes_get_data(master->leaves, &len);

    return block < len / HASH ? leaves + (gsize)block * HASH : NULL;
}

/* Leaf of each whole block of all masters -> itself: whose it is, its address tells. */
static GHashTable *
virTorrentDeltaIndex(GPtrArray *masters)
{
    GHashTable *index = g_hash_table_new(virTorrentLeafHash, virTorrentLeafEqual);
    guint i;

    for (i = 0; i < masters->len; i++) {
        VirTorrentDeltaMaster *master = g_ptr_array_index(masters, i);
        guint32 whole = master->size / BLOCK;
        const guint8 *leaf;
        guint32 block;

        for (block = 0; block < whole && (leaf = virTorrentMasterLeaf(master, block)); block++)
            g_hash_table_add(index, (gpointer)leaf);
    }
    return index;
}

static Source
virTorrentDeltaLookup(GHashTable *index, GPtrArray *masters, const guint8 *leaf)
{
    const guint8 *found = g_hash_table_lookup(index, leaf);
    Source source = { NULL, 0 };
    guint i;

    for (i = 0; found && i < masters->len; i++) {
        VirTorrentDeltaMaster *master = g_ptr_array_index(masters, i);
        gsize len;
        const guint8 *leaves = g_bytes_get_data(master->leaves, &len);

        if (found >= leaves && found < leaves + len) {
            source.master = master;
            source.block = (found - leaves) / HASH;
            break;
        }
    }
    return source;
}

/* Whether @block of @master, whole or the same end of a file, is the one with @leaf. */
static gboolean
virTorrentMasterHas(VirTorrentDeltaMaster *master, guint32 block, const guint8 *leaf)
{
    const guint8 *other = virTorrentMasterLeaf(master, block);

    return other && memcmp(other, leaf, HASH) == 0;
}

/* Where @block is to be had: after @last, at its own place, or anywhere. */
static Source
virTorrentDeltaFind(VirTorrentDelta *delta, GHashTable *index, GPtrArray *masters,
                    guint32 block, Source last)
{
    const guint8 *leaf = delta->leaves + (gsize)block * HASH;
    guint i;

    if (last.master && virTorrentMasterHas(last.master, last.block + 1, leaf))
        return (Source){ last.master, last.block + 1 };
    for (i = 0; i < masters->len; i++) {
        VirTorrentDeltaMaster *master = g_ptr_array_index(masters, i);

        if (virTorrentMasterHas(master, block, leaf))
            return (Source){ master, block };
    }
    return virTorrentDeltaLookup(index, masters, leaf);
}

static gboolean
virTorrentPwriteFull(int fd, const guint8 *data, gsize len, guint64 pos)
{
    while (len > 0) {
        gssize done = pwrite(fd, data, len, pos);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return FALSE;
        data += done;
        pos += done;
        len -= done;
    }
    return TRUE;
}

gboolean
virTorrentCopyRange(int from, guint64 at, int to, guint64 pos, gsize len, guint8 *buffer)
{
    while (len > 0) {
        loff_t in = at, out = pos;
        gssize done = copy_file_range(from, &in, to, &out, len, 0);

        if (done <= 0) {
            done = pread(from, buffer, MIN(len, VIR_TORRENT_READ_SIZE), at);
            if (done <= 0)
                return TRUE;
            if (!virTorrentPwriteFull(to, buffer, done, pos))
                return FALSE;
        }
        at += done;
        pos += done;
        len -= done;
    }
    return TRUE;
}

/* Hashes what stands in @fd now. */
static gboolean
virTorrentDeltaCheck(VirTorrentDelta *delta, VirTorrentHasher *hasher, int fd,
                     guint32 first, guint32 count, guint8 *buffer)
{
    guint32 block;

    for (block = first; block < first + count; block++) {
        gsize len = virTorrentDeltaLength(delta, block, 1);
        gssize got = pread(fd, buffer, len, (guint64)block * BLOCK);
        guint8 leaf[HASH];

        if (got < 0)
            return FALSE;
        if ((gsize)got < len)
            continue;
        virTorrentHasherBlock(hasher, buffer, len, leaf);
        delta->have[block] = memcmp(leaf, delta->leaves + (gsize)block * HASH, HASH) == 0;
    }
    return TRUE;
}

/* A run of blocks from @block on that @source has in a row. */
static gboolean
virTorrentDeltaCopy(VirTorrentDelta *delta, VirTorrentHasher *hasher, int fd,
                    guint32 block, Source source, guint32 count, guint8 *buffer)
{
    gsize len = virTorrentDeltaLength(delta, block, count);

    return virTorrentCopyRange(source.master->fd, (guint64)source.block * BLOCK, fd,
                               (guint64)block * BLOCK, len, buffer) &&
        virTorrentDeltaCheck(delta, hasher, fd, block, count, buffer);
}

gboolean
virTorrentDeltaFill(VirTorrentDelta *delta, GPtrArray *masters, int fd, const gint *cancelled)
{
    g_autoptr(GHashTable) index = virTorrentDeltaIndex(masters);
    g_autoptr(VirTorrentHasher) hasher = virTorrentHasherNew();
    g_autofree guint8 *buffer = g_malloc(VIR_TORRENT_READ_SIZE);
    Source last = { NULL, 0 };
    guint32 block = 0;
    guint8 zero[HASH];

    virTorrentHasherZeroBlock(hasher, BLOCK, zero);
    while (block < delta->blocks) {
        guint32 count = 1;
        Source source;

        if (cancelled && g_atomic_int_get(cancelled)) {
            errno = ECANCELED;
            return FALSE;
        }
        if (memcmp(delta->leaves + (gsize)block * HASH, zero, HASH) == 0) {
            delta->have[block++] = TRUE;
            continue;
        }
        source = virTorrentDeltaFind(delta, index, masters, block, last);
        if (!source.master) {
            last.master = NULL;
            block++;
            continue;
        }
        while (count < RUN_MAX && block + count < delta->blocks &&
               virTorrentMasterHas(source.master, source.block + count,
                                   delta->leaves + (gsize)(block + count) * HASH) &&
               memcmp(delta->leaves + (gsize)(block + count) * HASH, zero, HASH) != 0)
            count++;
        if (!virTorrentDeltaCopy(delta, hasher, fd, block, source, count, buffer))
            return FALSE;
        last = (Source){ source.master, source.block + count - 1 };
        block += count;
    }
    return TRUE;
}

gboolean
virTorrentDeltaHasBlock(VirTorrentDelta *delta, guint32 block)
{
    return delta->have[block];
}

gboolean
virTorrentDeltaHasPiece(VirTorrentDelta *delta, guint32 piece)
{
    guint32 begin = piece * delta->per_piece;
    guint32 blocks = MIN(delta->per_piece, delta->blocks - begin);

    return memchr(delta->have + begin, FALSE, blocks) == NULL;
}

guint32
virTorrentDeltaCountBlocks(VirTorrentDelta *delta)
{
    guint32 block, count = 0;

    for (block = 0; block < delta->blocks; block++)
        count += delta->have[block];
    return count;
}

/* --- zeros ------------------------------------------------------------------------ */

/* The hash of a piece of @blocks blocks of zeros in all, the last one of @tail bytes. */
static void
virTorrentZeroRoot(VirTorrentHasher *hasher, guint32 blocks, guint32 width, gsize tail, guint8 *out)
{
    static const guint8 missing[HASH];
    g_autofree guint8 *leaves = g_malloc((gsize)blocks * HASH);
    guint32 i;

    for (i = 0; i < blocks; i++)
        virTorrentHasherZeroBlock(hasher, i == blocks - 1 ? tail : BLOCK, leaves + (gsize)i * HASH);
    virTorrentHasherRoot(hasher, leaves, blocks, width, missing);
    memcpy(out, leaves, HASH);
}

guint8 *
virTorrentZeroPieces(guint64 size, guint32 piece_length, const guint8 *layer)
{
    g_autoptr(VirTorrentHasher) hasher = virTorrentHasherNew();
    guint32 pieces = (size + piece_length - 1) / piece_length;
    guint32 per_piece = piece_length / BLOCK;
    guint64 last = size - (guint64)(pieces - 1) * piece_length;
    guint32 last_blocks = (last + BLOCK - 1) / BLOCK;
    g_autofree guint8 *zeros = g_malloc0(pieces);
    gboolean any = FALSE;
    guint8 whole[HASH], end[HASH];
    guint32 i, width = per_piece;

    if (!hasher)
        return NULL;
    if (pieces == 1) {
        for (width = 1; width < last_blocks; width *= 2)
            ;
    }
    virTorrentZeroRoot(hasher, per_piece, per_piece, BLOCK, whole);
    virTorrentZeroRoot(hasher, last_blocks, width, last - (guint64)(last_blocks - 1) * BLOCK, end);
    for (i = 0; i < pieces; i++) {
        zeros[i] = memcmp(layer + (gsize)i * HASH, i == pieces - 1 ? end : whole, HASH) == 0;
        any |= zeros[i];
    }
    return any ? g_steal_pointer(&zeros) : NULL;
}

gboolean
virTorrentIsHole(int fd, guint64 begin, guint64 end)
{
    off_t data = lseek(fd, begin, SEEK_DATA);

    return data < 0 ? errno == ENXIO : (guint64)data >= end;
}

/* --- messages --------------------------------------------------------------------- */

#define HEADER 9

gboolean
virTorrentLeavesParse(const guint8 *data, gsize len, VirTorrentLeavesMessage *message)
{
    guint32 first, count;

    if (len < HEADER || data[0] > VIR_TORRENT_LEAVES_REJECT)
        return FALSE;
    memcpy(&first, data + 1, sizeof(first));
    memcpy(&count, data + 5, sizeof(count));
    message->type = data[0];
    message->first = GUINT32_FROM_BE(first);
    message->count = GUINT32_FROM_BE(count);
    message->leaves = message->type == VIR_TORRENT_LEAVES_DATA ? data + HEADER : NULL;
    return message->count > 0 && message->count <= VIR_TORRENT_LEAVES_MAX &&
        len - HEADER == (message->leaves ? (gsize)message->count * HASH : 0);
}

GByteArray *
virTorrentLeavesFormat(const VirTorrentLeavesMessage *message)
{
    GByteArray *out = g_byte_array_sized_new(HEADER);
    guint8 type = message->type;
    guint32 first = GUINT32_TO_BE(message->first);
    guint32 count = GUINT32_TO_BE(message->count);

    g_byte_array_append(out, &type, 1);
    g_byte_array_append(out, (const guint8 *)&first, sizeof(first));
    g_byte_array_append(out, (const guint8 *)&count, sizeof(count));
    if (message->type == VIR_TORRENT_LEAVES_DATA)
        g_byte_array_append(out, message->leaves, message->count * HASH);
    return out;
}

GByteArray *
virTorrentLeavesAnswer(GBytes *leaves, const VirTorrentLeavesMessage *request)
{
    VirTorrentLeavesMessage answer = *request;
    gsize len = 0;
    const guint8 *data = leaves ? g_bytes_get_data(leaves, &len) : NULL;

    answer.type = VIR_TORRENT_LEAVES_REJECT;
    if (request->first <= len / HASH && request->count <= len / HASH - request->first) {
        answer.type = VIR_TORRENT_LEAVES_DATA;
        answer.leaves = data + (gsize)request->first * HASH;
    }
    return virTorrentLeavesFormat(&answer);
}
