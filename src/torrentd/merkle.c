/*
 * merkle.c: the hash trees of BEP 52
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See merkle.h.  A hasher belongs to one thread; nothing here is shared.
 * SHA-256 is OpenSSL's: it uses the processor's SHA instructions, which is
 * five times what GChecksum reaches.
 */

#include <config.h>

#include "merkle.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#define BLOCK VIR_TORRENT_BLOCK_SIZE
#define HASH VIR_TORRENT_HASH_SIZE

struct _VirTorrentHasher {
    EVP_MD *sha256;         /* fetched once: an implicit fetch per block costs as much as the block */
    EVP_MD_CTX *ctx;
    guint8 zero[HASH];      /* hash of a block of zeros */
    guint32 zero_length;    /* length of a piece of zeros */
    guint8 zero_piece[HASH]; /* and its root, once it was needed */
};

static void
virTorrentHasherSum(VirTorrentHasher *hasher, const guint8 *data, gsize len, guint8 *out)
{
    /* These fail only where memory runs out or the library is broken; a wrong
     * hash would be worse than an end. */
    if (EVP_DigestInit_ex2(hasher->ctx, hasher->sha256, NULL) != 1 ||
        EVP_DigestUpdate(hasher->ctx, data, len) != 1 ||
        EVP_DigestFinal_ex(hasher->ctx, out, NULL) != 1)
        g_error("SHA-256 failed in the crypto library");
}

VirTorrentHasher *
virTorrentHasherNew(void)
{
    static const guint8 zeros[BLOCK];
    g_autoptr(VirTorrentHasher) hasher = g_new0(VirTorrentHasher, 1);

    hasher->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    hasher->ctx = EVP_MD_CTX_new();
    if (!hasher->sha256 || !hasher->ctx)
        return NULL;
    virTorrentHasherSum(hasher, zeros, BLOCK, hasher->zero);
    return g_steal_pointer(&hasher);
}

void
virTorrentHasherFree(VirTorrentHasher *hasher)
{
    if (!hasher)
        return;
    EVP_MD_CTX_free(hasher->ctx);
    EVP_MD_free(hasher->sha256);
    g_free(hasher);
}

gboolean
virTorrentIsZero(const guint8 *data, gsize len)
{
    /* Compares the block with itself, shifted: ends at the first byte that differs. */
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

void
virTorrentHasherBlock(VirTorrentHasher *hasher, const guint8 *data, gsize len, guint8 *out)
{
    if (len == BLOCK && virTorrentIsZero(data, len))
        memcpy(out, hasher->zero, HASH);
    else
        virTorrentHasherSum(hasher, data, len, out);
}

void
virTorrentHasherZeroBlock(VirTorrentHasher *hasher, gsize len, guint8 *out)
{
    static const guint8 zeros[BLOCK];

    if (len == BLOCK)
        memcpy(out, hasher->zero, HASH);
    else
        virTorrentHasherSum(hasher, zeros, len, out);
}

void
virTorrentHasherRoot(VirTorrentHasher *hasher, guint8 *nodes, gsize count, gsize width,
                     const guint8 *pad)
{
    guint8 right[HASH];
    guint8 pair[2 * HASH];

    memcpy(right, pad, HASH);
    for (; width > 1; width /= 2) {
        gsize i;

        for (i = 0; i < count / 2; i++)
            virTorrentHasherSum(hasher, nodes + 2 * i * HASH, 2 * HASH, nodes + i * HASH);
        if (count % 2) {
            memcpy(pair, nodes + (count - 1) * HASH, HASH);
            memcpy(pair + HASH, right, HASH);
            virTorrentHasherSum(hasher, pair, sizeof(pair), nodes + i * HASH);
        }
        count = (count + 1) / 2;
        /* what stands for the missing nodes one level up */
        memcpy(pair, right, HASH);
        memcpy(pair + HASH, right, HASH);
        virTorrentHasherSum(hasher, pair, sizeof(pair), right);
    }
}

static gsize
virTorrentPowerOfTwo(gsize n)
{
    gsize p = 1;

    while (p < n)
        p *= 2;
    return p;
}

void
virTorrentHasherFileRoot(VirTorrentHasher *hasher, const guint8 *layer, gsize pieces,
                         guint32 piece_length, guint8 *out)
{
    g_autofree guint8 *nodes = g_memdup2(layer, pieces * HASH);
    guint8 pad[HASH] = { 0 };
    gsize width;

    /* a missing piece is a tree of missing leaves */
    for (width = piece_length / BLOCK; width > 1; width /= 2) {
        guint8 pair[2 * HASH];

        memcpy(pair, pad, HASH);
        memcpy(pair + HASH, pad, HASH);
        virTorrentHasherSum(hasher, pair, sizeof(pair), pad);
    }
    virTorrentHasherRoot(hasher, nodes, pieces, virTorrentPowerOfTwo(pieces), pad);
    memcpy(out, nodes, HASH);
}

/* Where data begins at or after @pos; @end where there is none before it.
 * File systems that know no holes say that everything is data. */
static guint64
virTorrentNextData(int fd, guint64 pos, guint64 end)
{
    off_t data = lseek(fd, pos, SEEK_DATA);

    if (data < 0)
        return errno == ENXIO ? end : pos;
    return MIN((guint64)data, end);
}

static gboolean
virTorrentReadFull(int fd, guint8 *buffer, gsize len, guint64 pos)
{
    while (len > 0) {
        gssize got = pread(fd, buffer, len, pos);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return FALSE;
        if (got == 0) {
            errno = ENODATA;
            return FALSE;
        }
        buffer += got;
        pos += got;
        len -= got;
    }
    return TRUE;
}

static void
virTorrentHashRange(VirTorrentHasher *hasher, const guint8 *data, gsize len, guint8 *leaf)
{
    gsize at;

    for (at = 0; at < len; at += BLOCK, leaf += HASH) {
        gsize n = MIN(BLOCK, len - at);

        if (data)
            virTorrentHasherBlock(hasher, data + at, n, leaf);
        else
            virTorrentHasherZeroBlock(hasher, n, leaf);
    }
}

/* A whole piece that is a hole: large sparse files are made of these. */
static void
virTorrentHashZeroPiece(VirTorrentHasher *hasher, guint32 piece_length, guint8 *out)
{
    static const guint8 missing[HASH];
    gsize blocks = piece_length / BLOCK;

    if (hasher->zero_length != piece_length) {
        g_autofree guint8 *leaves = g_malloc(blocks * HASH);

        virTorrentHashRange(hasher, NULL, piece_length, leaves);
        virTorrentHasherRoot(hasher, leaves, blocks, blocks, missing);
        memcpy(hasher->zero_piece, leaves, HASH);
        hasher->zero_length = piece_length;
    }
    memcpy(out, hasher->zero_piece, HASH);
}

gboolean
virTorrentHasherBlocks(VirTorrentHasher *hasher, int fd, guint64 begin, guint64 end,
                       guint8 *buffer, const gint *cancelled, guint64 *done, guint8 *leaves)
{
    guint64 pos = begin;

    while (pos < end) {
        guint64 data = virTorrentNextData(fd, pos, end);
        guint64 hole = data == end ? end : begin + (data - begin) / BLOCK * BLOCK;
        gsize len;

        if (cancelled && g_atomic_int_get(cancelled)) {
            errno = ECANCELED;
            return FALSE;
        }
        if (hole > pos) {
            len = hole - pos;
            virTorrentHashRange(hasher, NULL, len, leaves + (pos - begin) / BLOCK * HASH);
        } else {
            len = MIN(VIR_TORRENT_READ_SIZE, end - pos);
            if (!virTorrentReadFull(fd, buffer, len, pos))
                return FALSE;
            virTorrentHashRange(hasher, buffer, len, leaves + (pos - begin) / BLOCK * HASH);
        }
        pos += len;
        if (done)
            __atomic_add_fetch(done, len, __ATOMIC_RELAXED);
    }
    return TRUE;
}

gboolean
virTorrentHasherLeaves(VirTorrentHasher *hasher, int fd, guint64 size,
                       guint32 piece_length, guint64 index, guint8 *buffer,
                       const gint *cancelled, guint64 *done, guint8 *leaves, guint8 *out)
{
    static const guint8 missing[HASH];
    guint64 begin = index * piece_length;
    guint64 end = MIN(begin + piece_length, size);
    gsize blocks = (end - begin + BLOCK - 1) / BLOCK;
    gsize width = size <= piece_length ? virTorrentPowerOfTwo(blocks) : piece_length / BLOCK;
    g_autofree guint8 *nodes = NULL;

    if (!virTorrentHasherBlocks(hasher, fd, begin, end, buffer, cancelled, done, leaves))
        return FALSE;
    nodes = g_memdup2(leaves, blocks * HASH);
    virTorrentHasherRoot(hasher, nodes, blocks, width, missing);
    memcpy(out, nodes, HASH);
    return TRUE;
}

gboolean
virTorrentHasherPiece(VirTorrentHasher *hasher, int fd, guint64 size,
                      guint32 piece_length, guint64 index, guint8 *buffer,
                      const gint *cancelled, guint64 *done, guint8 *out)
{
    guint64 begin = index * piece_length;
    guint64 end = MIN(begin + piece_length, size);
    g_autofree guint8 *leaves = NULL;

    if (end - begin == piece_length && virTorrentNextData(fd, begin, end) == end) {
        virTorrentHashZeroPiece(hasher, piece_length, out);
        if (done)
            __atomic_add_fetch(done, piece_length, __ATOMIC_RELAXED);
        return TRUE;
    }
    leaves = g_malloc((end - begin + BLOCK - 1) / BLOCK * HASH);
    return virTorrentHasherLeaves(hasher, fd, size, piece_length, index, buffer,
                                  cancelled, done, leaves, out);
}
