/*
 * test-delta.c: what of a new master is on this host already
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "delta.h"
#include "merkle.h"

#define BLOCK VIR_TORRENT_BLOCK_SIZE
#define HASH VIR_TORRENT_HASH_SIZE
#define PIECE (8 * BLOCK)

/* An image and what its metainfo and its leaves say. */
typedef struct {
    guint8 *data;
    gsize size;
    guint32 blocks, pieces, piece_length;
    guint8 *leaves, *layer;
    int fd;
} Image;

static int
tempFile(void)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("test-delta-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_unlink(path);
    return fd;
}

static void
imageFinish(Image *image, guint32 piece_length)
{
    g_autoptr(VirTorrentHasher) hasher = virTorrentHasherNew();
    g_autofree guint8 *buffer = g_malloc(VIR_TORRENT_READ_SIZE);
    guint32 i;

    image->piece_length = piece_length;
    image->blocks = (image->size + BLOCK - 1) / BLOCK;
    image->pieces = (image->size + piece_length - 1) / piece_length;
    image->leaves = g_malloc(image->blocks * HASH);
    image->layer = g_malloc(image->pieces * HASH);
    image->fd = tempFile();
    g_assert_cmpint(write(image->fd, image->data, image->size), ==, (gssize)image->size);
    for (i = 0; i < image->blocks; i++)
        virTorrentHasherBlock(hasher, image->data + i * BLOCK,
                              MIN(BLOCK, image->size - i * BLOCK), image->leaves + i * HASH);
    /* as a publisher does it */
    for (i = 0; i < image->pieces; i++)
        g_assert_true(virTorrentHasherPiece(hasher, image->fd, image->size, piece_length, i,
                                            buffer, NULL, NULL, image->layer + i * HASH));
}

static Image *
imageNew(gsize size, guint32 seed)
{
    Image *image = g_new0(Image, 1);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    gsize i;

    image->size = size;
    image->data = g_malloc(size);
    for (i = 0; i < size; i++)
        image->data[i] = g_rand_int(rand);
    return image;
}

static void
imageFree(Image *image)
{
    close(image->fd);
    g_free(image->data);
    g_free(image->leaves);
    g_free(image->layer);
    g_free(image);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Image, imageFree)

static void
masterFree(gpointer opaque)
{
    VirTorrentDeltaMaster *master = opaque;

    g_bytes_unref(master->leaves);
    g_free(master);
}

static GPtrArray *
mastersNew(Image *image)
{
    GPtrArray *masters = g_ptr_array_new_with_free_func(masterFree);
    VirTorrentDeltaMaster *master = g_new0(VirTorrentDeltaMaster, 1);

    master->fd = image->fd;
    master->size = image->size;
    master->leaves = g_bytes_new(image->leaves, image->blocks * HASH);
    g_ptr_array_add(masters, master);
    return masters;
}

/* A delta with all leaves of @image, as an honest peer sends them. */
static VirTorrentDelta *
deltaNew(Image *image)
{
    VirTorrentDelta *delta = virTorrentDeltaNew(image->size, image->piece_length, image->layer);
    guint32 first, count;

    while (virTorrentDeltaWant(delta, &first, &count))
        g_assert_true(virTorrentDeltaTake(delta, first, count, image->leaves + first * HASH,
                                          count * HASH));
    g_assert_true(virTorrentDeltaIsComplete(delta));
    return delta;
}

/* Fills a new file from @old; what is said to be there is there. */
static VirTorrentDelta *
fill(Image *image, Image *old)
{
    VirTorrentDelta *delta = deltaNew(image);
    g_autoptr(GPtrArray) masters = mastersNew(old);
    g_autofree guint8 *got = g_malloc0(image->size);
    int fd = tempFile();
    guint32 i;

    g_assert_cmpint(ftruncate(fd, image->size), ==, 0);
    g_assert_true(virTorrentDeltaFill(delta, masters, fd, NULL));
    g_assert_cmpint(pread(fd, got, image->size, 0), ==, (gssize)image->size);
    for (i = 0; i < image->blocks; i++) {
        gsize len = MIN(BLOCK, image->size - i * BLOCK);

        if (virTorrentDeltaHasBlock(delta, i))
            g_assert_cmpmem(got + i * BLOCK, len, image->data + i * BLOCK, len);
    }
    close(fd);
    return delta;
}

static void
testNewVersion(void)
{
    g_autoptr(Image) old = imageNew(100 * BLOCK + 777, 1);
    g_autoptr(Image) new = imageNew(old->size, 2);
    g_autoptr(VirTorrentDelta) delta = NULL;

    memcpy(new->data, old->data, old->size);
    new->data[3 * BLOCK + 5] ^= 1;
    new->data[50 * BLOCK] ^= 1;
    imageFinish(old, PIECE);
    imageFinish(new, 4 * PIECE);
    delta = fill(new, old);
    g_assert_cmpuint(virTorrentDeltaCountBlocks(delta), ==, new->blocks - 2);
    g_assert_false(virTorrentDeltaHasBlock(delta, 3));
    g_assert_false(virTorrentDeltaHasBlock(delta, 50));
    g_assert_true(virTorrentDeltaHasBlock(delta, new->blocks - 1));
    g_assert_false(virTorrentDeltaHasPiece(delta, 0));
    g_assert_true(virTorrentDeltaHasPiece(delta, 2));
    g_assert_true(virTorrentDeltaHasPiece(delta, 3));
}

/* Blocks are found wherever they are, and those of zeros need nobody. */
static void
testMoved(void)
{
    g_autoptr(Image) old = imageNew(60 * BLOCK, 3);
    g_autoptr(Image) new = imageNew(64 * BLOCK, 4);
    g_autoptr(VirTorrentDelta) delta = NULL;

    memcpy(new->data + 7 * BLOCK, old->data, 40 * BLOCK);
    memset(new->data + 50 * BLOCK, 0, 4 * BLOCK);
    imageFinish(old, PIECE);
    imageFinish(new, PIECE);
    delta = fill(new, old);
    g_assert_cmpuint(virTorrentDeltaCountBlocks(delta), ==, 44);
    g_assert_true(virTorrentDeltaHasBlock(delta, 50));
}

static void
testOnePiece(void)
{
    g_autoptr(Image) old = imageNew(3 * BLOCK + 1, 5);
    g_autoptr(Image) new = imageNew(3 * BLOCK + 1, 6);
    g_autoptr(VirTorrentDelta) delta = NULL;

    memcpy(new->data, old->data, 2 * BLOCK);
    imageFinish(old, PIECE);
    imageFinish(new, PIECE);
    delta = fill(new, old);
    g_assert_cmpuint(virTorrentDeltaCountBlocks(delta), ==, 2);
}

/* A master that is not what its leaves say costs what would have been fetched anyway. */
static void
testLyingMaster(void)
{
    g_autoptr(Image) old = imageNew(32 * BLOCK, 7);
    g_autoptr(Image) new = imageNew(32 * BLOCK, 7);
    g_autoptr(VirTorrentDelta) delta = NULL;
    guint8 byte = ~old->data[9 * BLOCK];

    imageFinish(old, PIECE);
    imageFinish(new, PIECE);
    g_assert_cmpint(pwrite(old->fd, &byte, 1, 9 * BLOCK), ==, 1);
    g_assert_cmpint(ftruncate(old->fd, 30 * BLOCK), ==, 0);
    delta = fill(new, old);
    g_assert_cmpuint(virTorrentDeltaCountBlocks(delta), ==, 29);
    g_assert_false(virTorrentDeltaHasBlock(delta, 9));
    g_assert_false(virTorrentDeltaHasBlock(delta, 30));
}

static void
testLyingPeer(void)
{
    g_autoptr(Image) new = imageNew(4 * VIR_TORRENT_DELTA_RANGE * 64 + 5 * PIECE, 8);
    g_autoptr(VirTorrentDelta) delta = NULL;
    g_autofree guint8 *lie = NULL;
    guint32 first, count, again, n;

    imageFinish(new, PIECE);
    delta = virTorrentDeltaNew(new->size, PIECE, new->layer);
    g_assert_true(virTorrentDeltaWant(delta, &first, &count));
    g_assert_cmpuint(first, ==, 0);
    lie = g_memdup2(new->leaves, count * HASH);
    lie[HASH + 3] ^= 1;
    g_assert_false(virTorrentDeltaTake(delta, first, count, lie, count * HASH));
    /* of no use either: not what was asked for */
    g_assert_false(virTorrentDeltaTake(delta, 1, count, new->leaves, count * HASH));
    g_assert_false(virTorrentDeltaTake(delta, 0, 3, new->leaves, 3 * HASH));
    g_assert_false(virTorrentDeltaTake(delta, 0, 8, new->leaves, 7 * HASH));
    g_assert_false(virTorrentDeltaTake(delta, new->blocks, 8, new->leaves, 8 * HASH));
    g_assert_false(virTorrentDeltaTake(delta, 0, G_MAXUINT32, new->leaves, (gsize)G_MAXUINT32 * HASH));
    /* the piece that was lied about is asked for again, the others are here */
    g_assert_true(virTorrentDeltaWant(delta, &again, &n));
    g_assert_cmpuint(again, ==, 0);
    g_assert_cmpuint(n, ==, 8);
    virTorrentDeltaMiss(delta, again, n);
    while (virTorrentDeltaWant(delta, &first, &count)) {
        g_assert_false(virTorrentDeltaIsComplete(delta));
        g_assert_cmpuint(count, <=, VIR_TORRENT_DELTA_RANGE);
        g_assert_true(virTorrentDeltaTake(delta, first, count, new->leaves + first * HASH,
                                          count * HASH));
    }
    g_assert_true(virTorrentDeltaIsComplete(delta));
}

static void
testZeroPieces(void)
{
    g_autoptr(Image) image = imageNew(5 * PIECE + BLOCK + 99, 9);
    g_autofree guint8 *zeros = NULL;
    g_autofree guint8 *none = NULL;
    static const guint8 expected[] = { 0, 1, 0, 1, 0, 1 };
    g_autoptr(VirTorrentDelta) delta = NULL;
    g_autoptr(GBytes) leaves = NULL;
    guint32 first, count;

    memset(image->data + PIECE, 0, PIECE);
    memset(image->data + 3 * PIECE, 0, PIECE);
    memset(image->data + 5 * PIECE, 0, BLOCK + 99);
    memset(image->data + 4 * PIECE, 0, PIECE - 1);
    imageFinish(image, PIECE);
    zeros = virTorrentZeroPieces(image->size, PIECE, image->layer);
    g_assert_cmpmem(zeros, image->pieces, expected, sizeof(expected));
    /* nor is anybody asked for their leaves */
    delta = virTorrentDeltaNew(image->size, PIECE, image->layer);
    g_assert_true(virTorrentDeltaWant(delta, &first, &count));
    g_assert_cmpuint(first, ==, 0);
    g_assert_cmpuint(count, ==, PIECE / BLOCK);
    g_assert_true(virTorrentDeltaWant(delta, &first, &count));
    g_assert_cmpuint(first, ==, 2 * PIECE / BLOCK);
    g_assert_true(virTorrentDeltaWant(delta, &first, &count));
    g_assert_cmpuint(first, ==, 4 * PIECE / BLOCK);
    g_assert_false(virTorrentDeltaWant(delta, &first, &count));
    leaves = virTorrentDeltaGetLeaves(delta);
    g_assert_cmpmem((const guint8 *)g_bytes_get_data(leaves, NULL) + 5 * PIECE / BLOCK * HASH, 2 * HASH,
                    image->leaves + 5 * PIECE / BLOCK * HASH, 2 * HASH);
    none = virTorrentZeroPieces(PIECE, PIECE, image->layer);
    g_assert_null(none);
}

static void
testZeroFile(void)
{
    g_autoptr(Image) image = imageNew(3 * BLOCK, 10);
    g_autofree guint8 *zeros = NULL;

    memset(image->data, 0, image->size);
    imageFinish(image, PIECE);
    zeros = virTorrentZeroPieces(image->size, PIECE, image->layer);
    g_assert_nonnull(zeros);
    g_assert_cmpuint(zeros[0], ==, 1);
}

static void
testMessages(void)
{
    g_autoptr(Image) image = imageNew(20 * BLOCK, 12);
    g_autoptr(GBytes) leaves = NULL;
    VirTorrentLeavesMessage request = { VIR_TORRENT_LEAVES_REQUEST, 8, 12, NULL };
    VirTorrentLeavesMessage got;
    g_autoptr(GByteArray) bytes = virTorrentLeavesFormat(&request);
    g_autoptr(GByteArray) answer = NULL;
    g_autoptr(GByteArray) reject = NULL;

    imageFinish(image, PIECE);
    leaves = g_bytes_new(image->leaves, image->blocks * HASH);
    g_assert_cmpmem(bytes->data, bytes->len, "\0\0\0\0\x08\0\0\0\x0c", 9);
    g_assert_true(virTorrentLeavesParse(bytes->data, bytes->len, &got));
    answer = virTorrentLeavesAnswer(leaves, &got);
    g_assert_true(virTorrentLeavesParse(answer->data, answer->len, &got));
    g_assert_cmpint(got.type, ==, VIR_TORRENT_LEAVES_DATA);
    g_assert_cmpmem(got.leaves, 12 * HASH, image->leaves + 8 * HASH, 12 * HASH);
    g_assert_false(virTorrentLeavesParse(answer->data, answer->len - 1, &got));
    request.count = 13;
    reject = virTorrentLeavesAnswer(leaves, &request);
    g_assert_true(virTorrentLeavesParse(reject->data, reject->len, &got));
    g_assert_cmpint(got.type, ==, VIR_TORRENT_LEAVES_REJECT);
    reject->data[0] = 3;
    g_assert_false(virTorrentLeavesParse(reject->data, reject->len, &got));
    g_assert_false(virTorrentLeavesParse((const guint8 *)"\0\0\0\0\0\0\0\0\0", 9, &got));
    g_assert_false(virTorrentLeavesParse((const guint8 *)"\0\0\0\0\0\xff\0\0\0", 9, &got));
    g_assert_false(virTorrentLeavesParse((const guint8 *)"", 0, &got));
}

static void
testCancelled(void)
{
    g_autoptr(Image) image = imageNew(3 * BLOCK, 11);
    g_autoptr(VirTorrentDelta) delta = NULL;
    g_autoptr(GPtrArray) masters = NULL;
    gint cancelled = TRUE;

    imageFinish(image, PIECE);
    delta = deltaNew(image);
    masters = mastersNew(image);
    g_assert_false(virTorrentDeltaFill(delta, masters, image->fd, &cancelled));
    g_assert_cmpint(errno, ==, ECANCELED);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/delta/new-version", testNewVersion);
    g_test_add_func("/delta/moved", testMoved);
    g_test_add_func("/delta/one-piece", testOnePiece);
    g_test_add_func("/delta/lying-master", testLyingMaster);
    g_test_add_func("/delta/lying-peer", testLyingPeer);
    g_test_add_func("/delta/zero-pieces", testZeroPieces);
    g_test_add_func("/delta/zero-file", testZeroFile);
    g_test_add_func("/delta/messages", testMessages);
    g_test_add_func("/delta/cancelled", testCancelled);
    return g_test_run();
}
