/*
 * scrub.c: whether a file still is what its metainfo says
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Bytes are read past the page cache (O_DIRECT), since what guests find there
 * tells nothing about the disk, and what is read here they do not need.  Where a
 * file system cannot do that they are read through it.  Holes are not read.
 *
 * A piece that cannot be read is as good as one that is wrong.
 *
 * Locks: 'lock' covers 'freed', 'source' and the pause of the thread, which
 * virTorrentScrubFree() ends.  'next' is atomic.  All else is the thread's until
 * it is done, and the owner's then.  One reference is the owner's, one the
 * thread's, one the source's.
 */

#include <config.h>

#include "scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "delta.h"
#include "i18n.h"
#include "merkle.h"
#include "metainfo.h"

#define BLOCK VIR_TORRENT_BLOCK_SIZE
#define HASH VIR_TORRENT_HASH_SIZE
#define SHA1 20
#define CHUNK VIR_TORRENT_READ_SIZE
/* What O_DIRECT asks of addresses, offsets and lengths, at most. */
#define ALIGN 4096

struct _VirTorrentScrub {
    gatomicrefcount refs;
    int fd;
    gboolean direct;
    guint64 size;
    guint32 piece_length;
    guint64 rate;
    guint8 *hashes;              /* of the pieces, each of 'width' bytes */
    gsize width;
    guint8 *buffer;              /* CHUNK bytes, aligned */
    VirTorrentHasher *hasher;
    GChecksum *sha1;             /* NULL: BEP 52 */

    VirTorrentScrubResult result;
    guint32 next;                /* atomic */
    gint cancelled;              /* atomic */

    GMutex lock;
    GCond wake;
    gboolean freed;
    GSource *source;
    GMainContext *context;
    VirTorrentScrubFunc func;
    gpointer opaque;
};

static void
virTorrentScrubUnref(gpointer opaque)
{
    VirTorrentScrub *scrub = opaque;

    if (!g_atomic_ref_count_dec(&scrub->refs))
        return;
    if (scrub->fd >= 0)
        close(scrub->fd);
    g_clear_pointer(&scrub->result.damaged, g_array_unref);
    g_clear_pointer(&scrub->source, g_source_unref);
    g_clear_pointer(&scrub->context, g_main_context_unref);
    g_clear_pointer(&scrub->hasher, virTorrentHasherFree);
    g_clear_pointer(&scrub->sha1, g_checksum_free);
    g_mutex_clear(&scrub->lock);
    g_cond_clear(&scrub->wake);
    free(scrub->buffer);
    g_free(scrub->hashes);
    g_free(scrub);
}

void
virTorrentBeIdle(void)
{
    if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)) < 0)
        g_debug("I/O priority: %s", g_strerror(errno));
    /* of this thread, as Linux understands it */
    if (setpriority(PRIO_PROCESS, 0, 19) < 0)
        g_debug("priority: %s", g_strerror(errno));
}

static guint64
virTorrentScrubPieceEnd(VirTorrentScrub *scrub, guint32 piece)
{
    return MIN((guint64)(piece + 1) * scrub->piece_length, scrub->size);
}

/* Bytes of the file at @pos, a multiple of ALIGN, into the buffer.  FALSE with errno
 * set; ENODATA: it ends before. */
static gboolean
virTorrentScrubRead(VirTorrentScrub *scrub, guint64 pos, gsize len)
{
    gsize got = 0;

    while (got < len) {
        gsize want = scrub->direct ? (len - got + ALIGN - 1) / ALIGN * ALIGN : len - got;
        gssize n = pread(scrub->fd, scrub->buffer + got, want, pos + got);

        if (n < 0 && errno == EINTR)
            continue;
        if (scrub->direct && ((n < 0 && errno == EINVAL) ||
                              (n > 0 && n % ALIGN != 0 && got + n < len))) {
            fcntl(scrub->fd, F_SETFL, 0);
            scrub->direct = FALSE;
            continue;
        }
        if (n < 0)
            return FALSE;
        if (n == 0) {
            errno = ENODATA;
            return FALSE;
        }
        got += n;
    }
    if (!scrub->direct)
        posix_fadvise(scrub->fd, pos, len, POSIX_FADV_DONTNEED);
    return TRUE;
}

/* Waits as long as @bytes should have taken since @begin; TRUE: go on. */
static gboolean
virTorrentScrubPause(VirTorrentScrub *scrub, gint64 begin, gsize bytes)
{
    gint64 end;

    if (scrub->rate) {
        end = begin + (gint64)(bytes * (double)G_USEC_PER_SEC / scrub->rate);
        g_mutex_lock(&scrub->lock);
        while (!scrub->freed && g_cond_wait_until(&scrub->wake, &scrub->lock, end))
            ;
        g_mutex_unlock(&scrub->lock);
    }
    return !g_atomic_int_get(&scrub->cancelled);
}

/* Hashes the blocks of @len bytes: those in the buffer, or zeros. */
static void
virTorrentScrubBlocks(VirTorrentScrub *scrub, const guint8 *data, gsize len, guint8 *leaves)
{
    static const guint8 zeros[BLOCK];
    gsize at;

    for (at = 0; at < len; at += BLOCK, leaves += HASH) {
        gsize n = MIN(BLOCK, len - at);

        if (scrub->sha1)
            g_checksum_update(scrub->sha1, data ? data + at : zeros, n);
        else if (data)
            virTorrentHasherBlock(scrub->hasher, data + at, n, leaves);
        else
            virTorrentHasherZeroBlock(scrub->hasher, n, leaves);
    }
}

/* The hash of all that virTorrentScrubBlocks() was given, @blocks of them. */
static void
virTorrentScrubSum(VirTorrentScrub *scrub, guint8 *leaves, gsize blocks, guint8 *out)
{
    static const guint8 missing[HASH];
    gsize width = scrub->piece_length / BLOCK;
    gsize len = SHA1;

    if (scrub->sha1) {
        g_checksum_get_digest(scrub->sha1, out, &len);
        g_checksum_reset(scrub->sha1);
        return;
    }
    /* a file of one piece has a tree just tall enough for its blocks */
    if (scrub->size <= scrub->piece_length) {
        for (width = 1; width < blocks; width *= 2)
            ;
    }
    virTorrentHasherRoot(scrub->hasher, leaves, blocks, width, missing);
    memcpy(out, leaves, HASH);
}

/* 0: it is good; EBADMSG: it is not; an errno: it cannot be read; ECANCELED. */
static int
virTorrentScrubPiece(VirTorrentScrub *scrub, guint32 piece)
{
    guint64 begin = (guint64)piece * scrub->piece_length;
    guint64 end = virTorrentScrubPieceEnd(scrub, piece);
    gsize blocks = (end - begin + BLOCK - 1) / BLOCK;
    g_autofree guint8 *leaves = g_malloc(blocks * HASH);
    guint8 sum[HASH];
    guint64 pos;
    int err = 0;

    for (pos = begin; pos < end && !err; pos += CHUNK) {
        gsize len = MIN(CHUNK, end - pos);
        gint64 start = g_get_monotonic_time();
        gboolean hole = virTorrentIsHole(scrub->fd, pos, pos + len);

        if (!hole && !virTorrentScrubRead(scrub, pos, len))
            err = errno;
        else
            virTorrentScrubBlocks(scrub, hole ? NULL : scrub->buffer, len,
                                  leaves + (pos - begin) / BLOCK * HASH);
        if (!virTorrentScrubPause(scrub, start, hole ? 0 : len))
            return ECANCELED;
    }
    virTorrentScrubSum(scrub, leaves, blocks, sum);
    if (err)
        return err;
    return memcmp(sum, scrub->hashes + piece * scrub->width, scrub->width) == 0 ? 0 : EBADMSG;
}

static gboolean
virTorrentScrubReport(gpointer opaque)
{
    VirTorrentScrub *scrub = opaque;

    if (!scrub->freed)
        scrub->func(scrub, &scrub->result, scrub->opaque);
    return G_SOURCE_REMOVE;
}

/* A file that grew has all its pieces, and is not what it was. */
static void
virTorrentScrubCheckSize(VirTorrentScrub *scrub)
{
    guint32 last = scrub->result.pieces - 1;
    struct stat st;

    if (scrub->next == scrub->result.pieces && scrub->result.damaged->len == 0 &&
        (fstat(scrub->fd, &st) < 0 || (guint64)st.st_size != scrub->size))
        g_array_append_val(scrub->result.damaged, last);
}

static gpointer
virTorrentScrubThread(gpointer opaque)
{
    VirTorrentScrub *scrub = opaque;
    guint32 piece;

    if (scrub->rate)
        virTorrentBeIdle();
    for (piece = scrub->next; piece < scrub->result.pieces; piece++) {
        int err = virTorrentScrubPiece(scrub, piece);

        if (err == ECANCELED)
            break;
        if (err) {
            g_array_append_val(scrub->result.damaged, piece);
            scrub->result.unreadable += err != EBADMSG;
        }
        g_atomic_int_set((gint *)&scrub->next, piece + 1);
        if (err && scrub->rate)
            break;
    }
    virTorrentScrubCheckSize(scrub);
    scrub->result.next = scrub->next;
    g_mutex_lock(&scrub->lock);
    if (!scrub->freed) {
        scrub->source = g_idle_source_new();
        g_source_set_priority(scrub->source, G_PRIORITY_DEFAULT);
        g_atomic_ref_count_inc(&scrub->refs);
        g_source_set_callback(scrub->source, virTorrentScrubReport, scrub, virTorrentScrubUnref);
        g_source_attach(scrub->source, scrub->context);
    }
    g_mutex_unlock(&scrub->lock);
    virTorrentScrubUnref(scrub);
    return NULL;
}

/* Takes over what @metainfo says. */
static gboolean
virTorrentScrubLearn(VirTorrentScrub *scrub, GBytes *metainfo, GError **error)
{
    g_auto(VirTorrentMetainfoRaw) raw = { 0 };
    gsize len;
    const guint8 *data = g_bytes_get_data(metainfo, &len);
    const guint8 *hashes;

    if (!virTorrentMetainfoRead(data, len, &raw, error))
        return FALSE;
    scrub->size = raw.info->size;
    scrub->piece_length = raw.info->piece_length;
    scrub->result.pieces = raw.pieces;
    hashes = raw.layer ? raw.layer : raw.root;
    scrub->width = hashes ? HASH : SHA1;
    if (!hashes) {
        hashes = raw.sha1;
        scrub->sha1 = g_checksum_new(G_CHECKSUM_SHA1);
    } else if (!(scrub->hasher = virTorrentHasherNew())) {
        g_set_error_literal(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                            _("the crypto library offers no SHA-256"));
        return FALSE;
    }
    scrub->hashes = g_memdup2(hashes, raw.pieces * scrub->width);
    return TRUE;
}

VirTorrentScrub *
virTorrentScrubStart(int fd,
                     GBytes *metainfo,
                     guint32 first,
                     guint64 rate,
                     VirTorrentScrubFunc func,
                     gpointer opaque,
                     GError **error)
{
    VirTorrentScrub *scrub = g_new0(VirTorrentScrub, 1);
    GThread *thread = NULL;

    g_atomic_ref_count_init(&scrub->refs);
    g_mutex_init(&scrub->lock);
    g_cond_init(&scrub->wake);
    scrub->rate = rate;
    scrub->func = func;
    scrub->opaque = opaque;
    scrub->context = g_main_context_ref_thread_default();
    scrub->result.damaged = g_array_new(FALSE, FALSE, sizeof(guint32));
    scrub->fd = fd;
    scrub->direct = fcntl(fd, F_SETFL, O_DIRECT) == 0;
    if (posix_memalign((void **)&scrub->buffer, ALIGN, CHUNK) != 0)
        g_error("out of memory");
    if (virTorrentScrubLearn(scrub, metainfo, error)) {
        scrub->next = MIN(first, scrub->result.pieces);
        g_atomic_ref_count_inc(&scrub->refs);
        thread = g_thread_try_new("scrub", virTorrentScrubThread, scrub, error);
        if (!thread)
            virTorrentScrubUnref(scrub);
    }
    if (!thread) {
        virTorrentScrubUnref(scrub);
        return NULL;
    }
    g_thread_unref(thread);
    return scrub;
}

guint32
virTorrentScrubGetNext(VirTorrentScrub *scrub)
{
    return g_atomic_int_get((gint *)&scrub->next);
}

guint64
virTorrentScrubGetDone(VirTorrentScrub *scrub)
{
    return MIN((guint64)virTorrentScrubGetNext(scrub) * scrub->piece_length, scrub->size);
}

void
virTorrentScrubFree(VirTorrentScrub *scrub)
{
    if (!scrub)
        return;
    g_atomic_int_set(&scrub->cancelled, TRUE);
    g_mutex_lock(&scrub->lock);
    scrub->freed = TRUE;
    if (scrub->source)
        g_source_destroy(scrub->source);
    g_cond_signal(&scrub->wake);
    g_mutex_unlock(&scrub->lock);
    virTorrentScrubUnref(scrub);
}

gboolean
virTorrentCopyGood(int from,
                   int to,
                   guint64 size,
                   guint32 piece_length,
                   GArray *damaged,
                   const gint *cancelled)
{
    g_autofree guint8 *buffer = g_malloc(VIR_TORRENT_READ_SIZE);
    guint64 pos = 0;
    guint bad = 0;

    if (ftruncate(to, size) < 0)
        return FALSE;
    while (pos < size) {
        gsize len = MIN(piece_length, size - pos);
        guint32 piece = pos / piece_length;

        if (g_atomic_int_get(cancelled)) {
            errno = ECANCELED;
            return FALSE;
        }
        if (bad < damaged->len && g_array_index(damaged, guint32, bad) == piece)
            bad++;
        else if (!virTorrentIsHole(from, pos, pos + len) &&
                 !virTorrentCopyRange(from, pos, to, pos, len, buffer))
            return FALSE;
        pos += len;
    }
    return TRUE;
}
