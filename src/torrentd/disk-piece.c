/*
 * disk-piece.c: what a thread does with a piece
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Part of disk.h.  A piece is in the hands of one thread at a time, so that
 * nothing here locks: what is written is hashed from memory first, then goes to
 * the file in as few calls as there are stretches of data and of zeros.  When
 * the whole piece is asked for, only what was not written in this life is read.
 *
 * A SHA-1 goes over the whole piece in order: it follows the blocks as they
 * come, and reads what came out of order back, which the page cache still has.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "disk-priv.h"

#define BLOCK VIR_TORRENT_BLOCK_SIZE
#define HASH VIR_TORRENT_HASH_SIZE
#define STRETCH 256          /* blocks written at once; below IOV_MAX */

void
virTorrentDiskJobFail(VirTorrentDiskJob *job, VirTorrentDiskOp op, int err)
{
    job->result.err = err;
    job->result.op = op;
}

void
virTorrentDiskPieceForget(VirTorrentDiskPiece *piece)
{
    g_clear_pointer(&piece->leaves, g_free);
    g_clear_pointer(&piece->known, g_free);
    g_clear_pointer(&piece->sha1, EVP_MD_CTX_free);
    piece->sha1_next = 0;
}

static void
virTorrentDiskPieceRemember(VirTorrentDiskPiece *piece)
{
    if (piece->known)
        return;
    piece->known = g_new0(guint8, piece->blocks);
    piece->leaves = g_malloc(piece->blocks * HASH);
}

/* These fail only where memory runs out or the library is broken; a wrong hash
 * would be worse than an end. */
static void
virTorrentDiskSha1Check(int ok)
{
    if (ok != 1)
        g_error("SHA-1 failed in the crypto library");
}

static void
virTorrentDiskSha1Begin(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece)
{
    if (!piece->sha1)
        piece->sha1 = EVP_MD_CTX_new();
    virTorrentDiskSha1Check(EVP_DigestInit_ex2(piece->sha1, worker->sha1, NULL));
    piece->sha1_next = 0;
}

static void
virTorrentDiskHashWritten(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece,
                          VirTorrentDiskJob *job)
{
    guint32 index = job->offset / BLOCK;

    if (piece->file->flags & VIR_TORRENT_DISK_SHA256) {
        virTorrentDiskPieceRemember(piece);
        virTorrentHasherBlock(worker->hasher, job->block->data, job->len,
                              piece->leaves + index * HASH);
        piece->known[index] = TRUE;
    }
    if (piece->file->flags & VIR_TORRENT_DISK_SHA1) {
        if (!piece->sha1 || index < piece->sha1_next)
            virTorrentDiskSha1Begin(worker, piece);
        if (index == piece->sha1_next) {
            virTorrentDiskSha1Check(EVP_DigestUpdate(piece->sha1, job->block->data, job->len));
            piece->sha1_next++;
        }
    }
}

/* Writes @count jobs that follow each other in the file. */
static void
virTorrentDiskWriteStretch(VirTorrentDiskPiece *piece, VirTorrentDiskFd *fd,
                           VirTorrentDiskJob **jobs, guint count, gboolean zeros)
{
    struct iovec iov[STRETCH];
    guint64 pos = piece->begin + jobs[0]->offset;
    gsize len = 0;
    guint i;
    int err;

    for (i = 0; i < count; i++) {
        iov[i].iov_base = jobs[i]->block->data;
        iov[i].iov_len = jobs[i]->len;
        len += jobs[i]->len;
    }
    err = zeros ? virTorrentDiskPutZeros(fd->fd, pos, len) :
        virTorrentDiskPwritev(fd->fd, iov, count, pos);
    if (!err)
        return;
    for (i = 0; i < count; i++) {
        virTorrentDiskJobFail(jobs[i], VIR_TORRENT_DISK_WRITE, err);
        if (piece->known)
            piece->known[jobs[i]->offset / BLOCK] = FALSE;
        g_clear_pointer(&piece->sha1, EVP_MD_CTX_free);
        piece->sha1_next = 0;
    }
}

static gint
virTorrentDiskJobCompare(gconstpointer a, gconstpointer b)
{
    const VirTorrentDiskJob *x = *(VirTorrentDiskJob *const *)a;
    const VirTorrentDiskJob *y = *(VirTorrentDiskJob *const *)b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

static gboolean
virTorrentDiskJobIsZero(const VirTorrentDiskJob *job)
{
    return virTorrentIsZero(job->block->data, job->len);
}

/* @writes: in the order they came, which matters where one replaces another. */
static void
virTorrentDiskWriteWork(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece,
                        GPtrArray *writes)
{
    VirTorrentDiskJob **jobs = (VirTorrentDiskJob **)writes->pdata;
    g_autoptr(VirTorrentDiskFd) fd = virTorrentDiskFileWriter(piece->file);
    int err = errno;
    guint i, n;

    if (!fd) {
        for (i = 0; i < writes->len; i++)
            virTorrentDiskJobFail(jobs[i], VIR_TORRENT_DISK_OPEN, err);
        return;
    }
    piece->written = TRUE;
    piece->done = FALSE;
    g_ptr_array_sort(writes, virTorrentDiskJobCompare);   /* stable */
    for (i = 0; i < writes->len; i++)
        virTorrentDiskHashWritten(worker, piece, jobs[i]);
    for (i = 0; i < writes->len; i += n) {
        gboolean zeros = virTorrentDiskJobIsZero(jobs[i]);

        for (n = 1; i + n < writes->len && n < STRETCH; n++) {
            if (jobs[i + n]->offset != jobs[i + n - 1]->offset + jobs[i + n - 1]->len ||
                virTorrentDiskJobIsZero(jobs[i + n]) != zeros)
                break;
        }
        virTorrentDiskWriteStretch(piece, fd, jobs + i, n, zeros);
    }
}

/* Reads what is not known of the piece's leaves.  0 or an errno. */
static int
virTorrentDiskReadLeaves(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece, int fd,
                         guint8 *leaves)
{
    guint32 i, n;

    for (i = 0; i < piece->blocks; i += n) {
        gboolean known = piece->known && piece->known[i];
        guint64 begin = piece->begin + (guint64)i * BLOCK;

        for (n = 1; i + n < piece->blocks; n++) {
            if ((piece->known && piece->known[i + n]) != known)
                break;
        }
        if (known)
            memcpy(leaves + i * HASH, piece->leaves + i * HASH, n * HASH);
        else if (!virTorrentHasherBlocks(worker->hasher, fd, begin,
                                         MIN(begin + (guint64)n * BLOCK, piece->end),
                                         worker->buffer, NULL, NULL, leaves + i * HASH))
            return errno;
    }
    return 0;
}

static int
virTorrentDiskReadSha1(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece, int fd,
                       guint8 *out)
{
    guint64 pos;

    if (!piece->sha1)
        virTorrentDiskSha1Begin(worker, piece);
    pos = MIN(piece->begin + (guint64)piece->sha1_next * BLOCK, piece->end);
    while (pos < piece->end) {
        gsize len = MIN(VIR_TORRENT_READ_SIZE, piece->end - pos);
        int err = virTorrentDiskPread(fd, worker->buffer, len, pos);

        if (err)
            return err;
        virTorrentDiskSha1Check(EVP_DigestUpdate(piece->sha1, worker->buffer, len));
        pos += len;
    }
    memset(worker->buffer, 0, MIN(VIR_TORRENT_READ_SIZE, piece->padded - piece->end));
    for (; pos < piece->padded; pos += VIR_TORRENT_READ_SIZE)
        virTorrentDiskSha1Check(EVP_DigestUpdate(piece->sha1, worker->buffer,
                                                 MIN(VIR_TORRENT_READ_SIZE, piece->padded - pos)));
    virTorrentDiskSha1Check(EVP_DigestFinal_ex(piece->sha1, out, NULL));
    return 0;
}

static void
virTorrentDiskHashWork(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece,
                       VirTorrentDiskJob *job)
{
    g_autoptr(VirTorrentDiskFd) fd = virTorrentDiskFileReader(piece->file);
    int err;

    if (!fd) {
        virTorrentDiskJobFail(job, VIR_TORRENT_DISK_OPEN, errno);
        return;
    }
    err = job->leaves ? virTorrentDiskReadLeaves(worker, piece, fd->fd, job->leaves) : 0;
    if (!err && job->sha1)
        err = virTorrentDiskReadSha1(worker, piece, fd->fd, job->result.sha1);
    if (err)
        virTorrentDiskJobFail(job, VIR_TORRENT_DISK_READ, err);
    virTorrentDiskPieceForget(piece);
    piece->done = TRUE;
    virTorrentDiskCacheAdd(virTorrentDiskGetCache(worker->disk), fd, piece->begin,
                           piece->end - piece->begin, piece->written);
}

static void
virTorrentDiskHashBlockWork(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece,
                            VirTorrentDiskJob *job)
{
    g_autoptr(VirTorrentDiskFd) fd = NULL;
    guint64 begin = piece->begin + job->offset;

    if (piece->known && piece->known[job->offset / BLOCK])
        memcpy(job->leaves, piece->leaves + job->offset / BLOCK * HASH, HASH);
    else if (!(fd = virTorrentDiskFileReader(piece->file)))
        virTorrentDiskJobFail(job, VIR_TORRENT_DISK_OPEN, errno);
    else if (!virTorrentHasherBlocks(worker->hasher, fd->fd, begin, MIN(begin + BLOCK, piece->end),
                                     worker->buffer, NULL, NULL, job->leaves))
        virTorrentDiskJobFail(job, VIR_TORRENT_DISK_READ, errno);
}

/* A read that found nothing in memory: the piece is fetched as a whole, since
 * what is asked for next is the next block. */
void
virTorrentDiskReadWork(VirTorrentDiskWorker *worker, VirTorrentDiskJob *job)
{
    VirTorrentDiskFile *file = job->file;
    g_autoptr(VirTorrentDiskFd) fd = virTorrentDiskFileReader(file);
    guint64 begin = (guint64)job->piece * file->piece_length;
    guint64 pos = begin + job->offset;
    int err;

    if (!fd) {
        virTorrentDiskJobFail(job, VIR_TORRENT_DISK_OPEN, errno);
        return;
    }
    if (!virTorrentDiskPreadCached(fd, job->block->data, job->len, pos)) {
        guint64 from = begin + job->offset / VIR_TORRENT_READ_SIZE * VIR_TORRENT_READ_SIZE;
        guint64 to = MIN(MIN(from + VIR_TORRENT_READ_SIZE, begin + file->piece_length), file->size);

        (void) !posix_fadvise(fd->fd, from, to - from, POSIX_FADV_WILLNEED);
        err = virTorrentDiskPread(fd->fd, job->block->data, job->len, pos);
        if (err)
            virTorrentDiskJobFail(job, VIR_TORRENT_DISK_READ, err);
        virTorrentDiskCacheAdd(virTorrentDiskGetCache(worker->disk), fd, from, to - from, FALSE);
    }
    if (!job->result.err)
        job->result.data = g_steal_pointer(&job->block)->data;
}

static void
virTorrentDiskOtherWork(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece,
                        VirTorrentDiskJob *job)
{
    switch (job->type) {
    case VIR_TORRENT_DISK_JOB_READ:
        virTorrentDiskReadWork(worker, job);
        break;
    case VIR_TORRENT_DISK_JOB_HASH:
        virTorrentDiskHashWork(worker, piece, job);
        break;
    case VIR_TORRENT_DISK_JOB_HASH_BLOCK:
        virTorrentDiskHashBlockWork(worker, piece, job);
        break;
    case VIR_TORRENT_DISK_JOB_CLEAR:
        virTorrentDiskPieceForget(piece);
        piece->done = TRUE;
        break;
    case VIR_TORRENT_DISK_JOB_WRITE:
    case VIR_TORRENT_DISK_JOB_STAT:
    case VIR_TORRENT_DISK_JOB_FENCE:
        g_assert_not_reached();
    }
}

void
virTorrentDiskPieceWork(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece, GQueue *jobs)
{
    g_autoptr(GPtrArray) writes = g_ptr_array_new();
    GList *l;

    for (l = jobs->head; l; l = l->next) {
        VirTorrentDiskJob *job = l->data;

        if (job->type == VIR_TORRENT_DISK_JOB_WRITE) {
            g_ptr_array_add(writes, job);
            if (l->next)
                continue;
        }
        if (writes->len > 0)
            virTorrentDiskWriteWork(worker, piece, writes);
        g_ptr_array_set_size(writes, 0);
        if (job->type != VIR_TORRENT_DISK_JOB_WRITE)
            virTorrentDiskOtherWork(worker, piece, job);
    }
}
