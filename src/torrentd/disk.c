/*
 * disk.c: what a BitTorrent engine does with files, in worker threads
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Jobs that concern a piece stand in a queue of that piece, and the piece is
 * in the hands of one thread at a time: so what is asked for happens in order,
 * and the pieces in parallel.
 *
 *     owner: Write(3), Write(4), Hash     Read(cached)   Read(not cached)   Dispatch()
 *               |                             |                |                ^
 *       piece -> jobs -> disk->writes         |          disk->reads            |
 *               |                             |                |                |
 *            a thread has the piece           |             a thread            |
 *               +-------------> disk->done <--+----------------+----> notify ---+
 *
 * A piece that is only to be hashed (a file is verified) waits in disk->checks:
 * neither these nor reads that wait for the disk may take all threads.  A
 * block that is written is seen by reads at once: its buffer is found in the
 * piece until it is in the file.  A piece is remembered while it has jobs or
 * blocks whose hash is known and whose other blocks are not here yet.
 *
 * Invariants: a piece is in disk->pieces while anything points to it; job, file
 * and block are counted or have one owner; file->writer is open only while
 * file->busy is not zero, and is closed before the last of these jobs is
 * reported.
 *
 * Locks: spare.lock covers the blocks nobody uses; disk->lock covers all queues, disk->pieces, and the members that
 * disk-priv.h says so of.  No call that may wait for a disk is made with it.
 */

#include <config.h>

#include <errno.h>
#include <linux/ioprio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk-priv.h"
#include "engine.h"
#include "i18n.h"

#define BLOCK VIR_TORRENT_BLOCK_SIZE
#define SPARE 256               /* blocks, 4 MiB */
#define READERS 64              /* files that stay open for reading */
#define MIB (G_GUINT64_CONSTANT(1) << 20)

struct _VirTorrentDisk {
    VirTorrentDiskLimits limits;
    void (*notify)(gpointer opaque);
    gpointer opaque;
    VirTorrentDiskCache *cache;
    GPtrArray *workers;
    GPtrArray *threads;

    GMutex lock;
    GCond wake;
    gboolean stop;
    GHashTable *pieces;         /* a set */
    GQueue reads;               /* jobs */
    GQueue writes, checks;      /* pieces */
    guint reading, checking;    /* threads that do */
    GQueue done;                /* jobs */
    guint64 queued;             /* bytes to be written */
    GQueue readers;             /* files that are open for reading, the one used last at the end */
};

/* --- blocks, jobs, files, pieces --------------------------------------------- */

/* Blocks are made in one thread and freed in another, which malloc() answers by growing:
 * some are kept for the next one. */
static struct {
    GMutex lock;
    VirTorrentDiskBlock *blocks[SPARE];
    guint count;
} spare;

VirTorrentDiskBlock *
virTorrentDiskBlockNew(void)
{
    VirTorrentDiskBlock *block = NULL;

    g_mutex_lock(&spare.lock);
    if (spare.count > 0)
        block = spare.blocks[--spare.count];
    g_mutex_unlock(&spare.lock);
    if (!block)
        block = g_malloc(sizeof(*block));
    g_atomic_ref_count_init(&block->refs);
    return block;
}

void
virTorrentDiskBlockUnref(VirTorrentDiskBlock *block)
{
    if (!g_atomic_ref_count_dec(&block->refs))
        return;
    g_mutex_lock(&spare.lock);
    if (spare.count < SPARE)
        spare.blocks[spare.count++] = g_steal_pointer(&block);
    g_mutex_unlock(&spare.lock);
    g_free(block);
}

static VirTorrentDiskBlock *
virTorrentDiskBlockRef(VirTorrentDiskBlock *block)
{
    g_atomic_ref_count_inc(&block->refs);
    return block;
}

void
virTorrentDiskBufferFree(guint8 *data)
{
    if (data)
        virTorrentDiskBlockUnref((VirTorrentDiskBlock *)(data - G_STRUCT_OFFSET(VirTorrentDiskBlock,
                                                                                data)));
}

VirTorrentDiskFile *
virTorrentDiskOpen(VirTorrentDisk *disk,
                   const char *dir,
                   const char *name,
                   guint64 size,
                   guint64 padded,
                   guint32 piece_length,
                   VirTorrentDiskFlags flags)
{
    VirTorrentDiskFile *file = g_new0(VirTorrentDiskFile, 1);

    g_atomic_ref_count_init(&file->refs);
    file->disk = disk;
    file->dir = g_strdup(dir);
    file->name = g_strdup(name);
    file->size = size;
    file->padded = padded;
    file->piece_length = piece_length;
    file->flags = flags;
    file->opened.data = file;
    g_queue_init(&file->fences);
    return file;
}

static void
virTorrentDiskFileUnref(VirTorrentDiskFile *file)
{
    if (!g_atomic_ref_count_dec(&file->refs))
        return;
    g_free(file->dir);
    g_free(file->name);
    g_free(file);
}

static VirTorrentDiskJob *
virTorrentDiskJobNew(VirTorrentDiskFile *file, VirTorrentDiskJobType type, guint32 piece,
                     guint32 offset, VirTorrentDiskFunc func, gpointer opaque)
{
    VirTorrentDiskJob *job = g_new0(VirTorrentDiskJob, 1);

    g_atomic_ref_count_inc(&file->refs);
    job->link.data = job;
    job->type = type;
    job->file = file;
    job->piece = piece;
    job->offset = offset;
    job->func = func;
    job->opaque = opaque;
    return job;
}

static void
virTorrentDiskJobFree(VirTorrentDiskJob *job)
{
    virTorrentDiskBufferFree(job->result.data);
    g_clear_pointer(&job->block, virTorrentDiskBlockUnref);
    virTorrentDiskFileUnref(job->file);
    g_free(job);
}

static guint
virTorrentDiskPieceHash(gconstpointer key)
{
    const VirTorrentDiskPiece *piece = key;

    return g_direct_hash(piece->file) * 31 + piece->index;
}

static gboolean
virTorrentDiskPieceEqual(gconstpointer a, gconstpointer b)
{
    const VirTorrentDiskPiece *x = a, *y = b;

    return x->file == y->file && x->index == y->index;
}

static void
virTorrentDiskPieceFree(gpointer opaque)
{
    VirTorrentDiskPiece *piece = opaque;

    virTorrentDiskPieceForget(piece);
    g_free(piece->buffers);
    g_free(piece);
}

static VirTorrentDiskPiece *
virTorrentDiskFindPiece(VirTorrentDiskFile *file, guint32 index)
{
    VirTorrentDiskPiece key = { .file = file, .index = index };

    return g_hash_table_lookup(file->disk->pieces, &key);
}

static VirTorrentDiskPiece *
virTorrentDiskNeedPiece(VirTorrentDiskFile *file, guint32 index)
{
    VirTorrentDiskPiece *piece = virTorrentDiskFindPiece(file, index);

    if (piece)
        return piece;
    piece = g_new0(VirTorrentDiskPiece, 1);
    piece->file = file;
    piece->index = index;
    piece->begin = (guint64)index * file->piece_length;
    piece->end = MAX(MIN(piece->begin + file->piece_length, file->size), piece->begin);
    piece->padded = MIN(piece->begin + file->piece_length, file->padded);
    piece->blocks = (piece->end - piece->begin + BLOCK - 1) / BLOCK;
    piece->buffers = g_new0(VirTorrentDiskBlock *, piece->blocks);
    piece->link.data = piece;
    piece->done = TRUE;
    g_queue_init(&piece->jobs);
    g_hash_table_add(file->disk->pieces, piece);
    return piece;
}

/* --- descriptors ---------------------------------------------------------------- */

static VirTorrentDiskFd *
virTorrentDiskFileOpen(VirTorrentDiskFile *file, gboolean writable)
{
    VirTorrentDisk *disk = file->disk;
    g_autofree char *dir = NULL;
    g_autofree char *name = NULL;

    g_mutex_lock(&disk->lock);
    dir = g_strdup(file->dir);
    name = g_strdup(file->name);
    g_mutex_unlock(&disk->lock);
    return virTorrentDiskFdOpen(dir, name, writable, file->size);
}

/* The reader of @file is not kept any more; lock held.  The caller's to forget. */
static VirTorrentDiskFd *
virTorrentDiskStealReader(VirTorrentDiskFile *file)
{
    if (file->reader)
        g_queue_unlink(&file->disk->readers, &file->opened);
    return g_steal_pointer(&file->reader);
}

static void
virTorrentDiskForgetReader(VirTorrentDisk *disk, VirTorrentDiskFd *fd, gboolean drop)
{
    if (!fd)
        return;
    virTorrentDiskCacheForget(disk->cache, fd, drop);
    virTorrentDiskFdUnref(fd);
}

/* Lock held. */
static VirTorrentDiskFd *
virTorrentDiskUseReader(VirTorrentDiskFile *file)
{
    if (!file->reader)
        return NULL;
    g_queue_unlink(&file->disk->readers, &file->opened);
    g_queue_push_tail_link(&file->disk->readers, &file->opened);
    return virTorrentDiskFdRef(file->reader);
}

VirTorrentDiskFd *
virTorrentDiskFileReader(VirTorrentDiskFile *file)
{
    VirTorrentDisk *disk = file->disk;
    VirTorrentDiskFd *fd, *other, *oldest = NULL;

    g_mutex_lock(&disk->lock);
    fd = virTorrentDiskUseReader(file);
    g_mutex_unlock(&disk->lock);
    if (fd || !(fd = virTorrentDiskFileOpen(file, FALSE)))
        return fd;
    g_mutex_lock(&disk->lock);
    other = virTorrentDiskUseReader(file);
    if (!other && !file->closed) {
        if (disk->readers.length >= READERS)
            oldest = virTorrentDiskStealReader(disk->readers.head->data);
        file->reader = virTorrentDiskFdRef(fd);
        g_queue_push_tail_link(&disk->readers, &file->opened);
    }
    g_mutex_unlock(&disk->lock);
    virTorrentDiskForgetReader(disk, oldest, TRUE);
    if (!other)
        return fd;
    virTorrentDiskFdUnref(fd);
    return other;
}

VirTorrentDiskFd *
virTorrentDiskFileWriter(VirTorrentDiskFile *file)
{
    VirTorrentDisk *disk = file->disk;
    VirTorrentDiskFd *fd, *other = NULL;

    g_mutex_lock(&disk->lock);
    fd = file->writer ? virTorrentDiskFdRef(file->writer) : NULL;
    g_mutex_unlock(&disk->lock);
    if (fd || !(fd = virTorrentDiskFileOpen(file, TRUE)))
        return fd;
    g_mutex_lock(&disk->lock);
    if (file->writer)
        other = virTorrentDiskFdRef(file->writer);
    else
        file->writer = virTorrentDiskFdRef(fd);
    g_mutex_unlock(&disk->lock);
    if (!other)
        return fd;
    virTorrentDiskFdUnref(fd);
    return other;
}

VirTorrentDiskCache *
virTorrentDiskGetCache(VirTorrentDisk *disk)
{
    return disk->cache;
}

/* --- the end of a job ------------------------------------------------------------- */

/* Takes all of @jobs. */
static void
virTorrentDiskReport(VirTorrentDisk *disk, GQueue *jobs)
{
    gboolean first;
    GList *l;

    if (!jobs->head)
        return;
    g_mutex_lock(&disk->lock);
    first = !disk->done.head;
    while ((l = g_queue_pop_head_link(jobs)))
        g_queue_push_tail_link(&disk->done, l);
    g_mutex_unlock(&disk->lock);
    if (first)
        disk->notify(disk->opaque);
}

static void
virTorrentDiskReportOne(VirTorrentDisk *disk, VirTorrentDiskJob *job)
{
    GQueue jobs = G_QUEUE_INIT;

    g_queue_push_tail_link(&jobs, &job->link);
    virTorrentDiskReport(disk, &jobs);
}

void
virTorrentDiskDispatch(VirTorrentDisk *disk)
{
    GQueue jobs;
    GList *l;

    g_mutex_lock(&disk->lock);
    jobs = disk->done;
    g_queue_init(&disk->done);
    g_mutex_unlock(&disk->lock);
    while ((l = g_queue_pop_head_link(&jobs))) {
        VirTorrentDiskJob *job = l->data;

        job->func(&job->result, job->opaque);
        virTorrentDiskJobFree(job);
    }
}

gboolean
virTorrentDiskMayWrite(VirTorrentDisk *disk)
{
    gboolean may;

    g_mutex_lock(&disk->lock);
    may = disk->queued <= disk->limits.queue_max / 2;
    g_mutex_unlock(&disk->lock);
    return may;
}

/* --- the threads ------------------------------------------------------------------- */

/* A write is in the file: reads find it there.  Lock held. */
static void
virTorrentDiskForgetBuffer(VirTorrentDisk *disk, VirTorrentDiskPiece *piece, VirTorrentDiskJob *job)
{
    VirTorrentDiskBlock **buffer = &piece->buffers[job->offset / BLOCK];

    disk->queued -= job->len;
    if (*buffer != job->block)
        return;     /* replaced by a later one */
    g_clear_pointer(buffer, virTorrentDiskBlockUnref);
    piece->buffered--;
}

/* Lock held. */
static void
virTorrentDiskEnqueuePiece(VirTorrentDisk *disk, VirTorrentDiskPiece *piece)
{
    const VirTorrentDiskJob *first = piece->jobs.head->data;

    piece->busy = TRUE;
    g_queue_push_tail_link(first->type != VIR_TORRENT_DISK_JOB_WRITE && piece->done &&
                           piece->buffered == 0 ? &disk->checks : &disk->writes, &piece->link);
}

/* Gives back a piece whose @jobs are done, and reports them.  Called and ends with the lock. */
static void
virTorrentDiskFinishPiece(VirTorrentDisk *disk, VirTorrentDiskPiece *piece, GQueue *jobs)
{
    VirTorrentDiskFile *file = piece->file;
    VirTorrentDiskFd *writer = NULL;
    GList *l;

    for (l = jobs->head; l; l = l->next) {
        VirTorrentDiskJob *job = l->data;

        if (job->type == VIR_TORRENT_DISK_JOB_WRITE)
            virTorrentDiskForgetBuffer(disk, piece, job);
    }
    piece->busy = FALSE;
    if (piece->jobs.head)
        virTorrentDiskEnqueuePiece(disk, piece);
    else if (piece->done || file->closed)
        g_hash_table_remove(disk->pieces, piece);
    file->busy -= jobs->length;
    if (file->busy == 0) {
        writer = g_steal_pointer(&file->writer);
        while ((l = g_queue_pop_head_link(&file->fences)))
            g_queue_push_tail_link(jobs, l);
    }
    g_mutex_unlock(&disk->lock);
    g_clear_pointer(&writer, virTorrentDiskFdUnref);
    virTorrentDiskReport(disk, jobs);
    g_mutex_lock(&disk->lock);
}

static void
virTorrentDiskDoPiece(VirTorrentDisk *disk, VirTorrentDiskWorker *worker,
                      VirTorrentDiskPiece *piece)
{
    GQueue jobs = piece->jobs;

    g_queue_init(&piece->jobs);
    g_mutex_unlock(&disk->lock);
    virTorrentDiskPieceWork(worker, piece, &jobs);
    g_mutex_lock(&disk->lock);
    virTorrentDiskFinishPiece(disk, piece, &jobs);
}

static void
virTorrentDiskStatWork(VirTorrentDiskJob *job)
{
    VirTorrentDisk *disk = job->file->disk;
    g_autofree char *dir = NULL;
    g_autofree char *name = NULL;
    int err;

    g_mutex_lock(&disk->lock);
    dir = g_strdup(job->file->dir);
    name = g_strdup(job->file->name);
    g_mutex_unlock(&disk->lock);
    err = virTorrentDiskFdStat(dir, name, &job->result.size);
    if (err)
        virTorrentDiskJobFail(job, VIR_TORRENT_DISK_STAT, err);
}

static void
virTorrentDiskDoRead(VirTorrentDisk *disk, VirTorrentDiskWorker *worker, VirTorrentDiskJob *job)
{
    g_mutex_unlock(&disk->lock);
    if (job->type == VIR_TORRENT_DISK_JOB_STAT)
        virTorrentDiskStatWork(job);
    else
        virTorrentDiskReadWork(worker, job);
    virTorrentDiskReportOne(disk, job);
    g_mutex_lock(&disk->lock);
}

/* Does what is next; FALSE where nothing is for this thread.  Called and ends with the lock. */
static gboolean
virTorrentDiskWorkOnce(VirTorrentDisk *disk, VirTorrentDiskWorker *worker)
{
    guint const most = disk->limits.threads - 1;
    GList *l;

    if (disk->reading < most && (l = g_queue_pop_head_link(&disk->reads))) {
        disk->reading++;
        if (disk->reads.head || disk->writes.head)
            g_cond_signal(&disk->wake);
        virTorrentDiskDoRead(disk, worker, l->data);
        disk->reading--;
        return TRUE;
    }
    if ((l = g_queue_pop_head_link(&disk->writes))) {
        if (disk->reads.head || disk->writes.head)
            g_cond_signal(&disk->wake);
        virTorrentDiskDoPiece(disk, worker, l->data);
        return TRUE;
    }
    if (disk->checking < most && (l = g_queue_pop_head_link(&disk->checks))) {
        disk->checking++;
        if (disk->checks.head)
            g_cond_signal(&disk->wake);
        virTorrentDiskDoPiece(disk, worker, l->data);
        disk->checking--;
        return TRUE;
    }
    return FALSE;
}

/* Guests on this host come first, as far as the I/O scheduler knows priorities. */
void
virTorrentDiskBeModest(void)
{
    if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7)) < 0)
        g_debug("I/O priority: %s", g_strerror(errno));
}

static gpointer
virTorrentDiskThread(gpointer opaque)
{
    VirTorrentDiskWorker *worker = opaque;
    VirTorrentDisk *disk = worker->disk;

    virTorrentDiskBeModest();
    g_mutex_lock(&disk->lock);
    for (;;) {
        if (virTorrentDiskWorkOnce(disk, worker))
            continue;
        if (disk->stop)
            break;
        g_cond_wait(&disk->wake, &disk->lock);
    }
    g_mutex_unlock(&disk->lock);
    return NULL;
}

static void
virTorrentDiskWorkerFree(gpointer opaque)
{
    VirTorrentDiskWorker *worker = opaque;

    virTorrentHasherFree(worker->hasher);
    EVP_MD_free(worker->sha1);
    g_free(worker->buffer);
    g_free(worker);
}

static gboolean
virTorrentDiskStartThread(VirTorrentDisk *disk, GError **error)
{
    VirTorrentDiskWorker *worker = g_new0(VirTorrentDiskWorker, 1);
    GThread *thread;

    g_ptr_array_add(disk->workers, worker);
    worker->disk = disk;
    worker->hasher = virTorrentHasherNew();
    worker->sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
    worker->buffer = g_malloc(VIR_TORRENT_READ_SIZE);
    if (!worker->hasher || !worker->sha1) {
        g_set_error_literal(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                            _("the crypto library offers no SHA-256"));
        return FALSE;
    }
    thread = g_thread_try_new("disk", virTorrentDiskThread, worker, error);
    if (!thread)
        return FALSE;
    g_ptr_array_add(disk->threads, thread);
    return TRUE;
}

static void
virTorrentDiskSetLimits(VirTorrentDisk *disk, const VirTorrentDiskLimits *limits)
{
    guint64 memory = (guint64)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);

    if (limits)
        disk->limits = *limits;
    if (disk->limits.threads == 0)
        disk->limits.threads = CLAMP(g_get_num_processors(), 2, 4);
    disk->limits.threads = MAX(disk->limits.threads, 2);
    if (disk->limits.queue_max == 0)
        disk->limits.queue_max = 16 * MIB;
    if (disk->limits.dirty_max == 0)
        disk->limits.dirty_max = MIN(memory / 32, 512 * MIB);
    if (disk->limits.cache_max == 0)
        disk->limits.cache_max = MIN(memory / 16, 1024 * MIB);
}

VirTorrentDisk *
virTorrentDiskNew(const VirTorrentDiskLimits *limits,
                  void (*notify)(gpointer opaque),
                  gpointer opaque,
                  GError **error)
{
    g_autoptr(VirTorrentDisk) disk = g_new0(VirTorrentDisk, 1);
    guint i;

    g_mutex_init(&disk->lock);
    g_cond_init(&disk->wake);
    virTorrentDiskSetLimits(disk, limits);
    disk->notify = notify;
    disk->opaque = opaque;
    disk->cache = virTorrentDiskCacheNew(disk->limits.dirty_max, disk->limits.cache_max, error);
    disk->pieces = g_hash_table_new_full(virTorrentDiskPieceHash, virTorrentDiskPieceEqual,
                                         virTorrentDiskPieceFree, NULL);
    disk->workers = g_ptr_array_new_with_free_func(virTorrentDiskWorkerFree);
    disk->threads = g_ptr_array_new();
    for (i = 0; disk->cache && i < disk->limits.threads; i++) {
        if (!virTorrentDiskStartThread(disk, error))
            return NULL;
    }
    if (!disk->cache)
        return NULL;
    return g_steal_pointer(&disk);
}

void
virTorrentDiskFree(VirTorrentDisk *disk)
{
    GList *l;
    guint i;

    if (!disk)
        return;
    g_mutex_lock(&disk->lock);
    disk->stop = TRUE;
    g_cond_broadcast(&disk->wake);
    g_mutex_unlock(&disk->lock);
    for (i = 0; i < disk->threads->len; i++)
        g_thread_join(g_ptr_array_index(disk->threads, i));
    while ((l = g_queue_pop_head_link(&disk->done)))
        virTorrentDiskJobFree(l->data);
    g_ptr_array_unref(disk->threads);
    g_ptr_array_unref(disk->workers);
    g_hash_table_unref(disk->pieces);
    g_clear_pointer(&disk->cache, virTorrentDiskCacheFree);
    g_cond_clear(&disk->wake);
    g_mutex_clear(&disk->lock);
    g_free(disk);
}

/* --- the owner's calls ---------------------------------------------------------------- */

void
virTorrentDiskSubmit(VirTorrentDisk *disk)
{
    g_mutex_lock(&disk->lock);
    if (disk->reads.head || disk->writes.head || disk->checks.head)
        g_cond_signal(&disk->wake);
    g_mutex_unlock(&disk->lock);
}

static gboolean
virTorrentDiskIsOfFile(gpointer key, gpointer value G_GNUC_UNUSED, gpointer opaque)
{
    VirTorrentDiskPiece *piece = key;

    return piece->file == opaque && !piece->busy;
}

void
virTorrentDiskClose(VirTorrentDiskFile *file)
{
    VirTorrentDisk *disk = file->disk;
    VirTorrentDiskFd *reader;

    g_mutex_lock(&disk->lock);
    file->closed = TRUE;
    reader = virTorrentDiskStealReader(file);
    g_hash_table_foreach_remove(disk->pieces, virTorrentDiskIsOfFile, file);
    g_mutex_unlock(&disk->lock);
    virTorrentDiskForgetReader(disk, reader, FALSE);
    virTorrentDiskFileUnref(file);
}

/* What is open stays so: it is the same file. */
void
virTorrentDiskRelocate(VirTorrentDiskFile *file, const char *dir, const char *name)
{
    g_mutex_lock(&file->disk->lock);
    g_free(file->dir);
    g_free(file->name);
    file->dir = g_strdup(dir);
    file->name = g_strdup(name);
    g_mutex_unlock(&file->disk->lock);
}

/* Lock held. */
static void
virTorrentDiskPushPiece(VirTorrentDiskPiece *piece, VirTorrentDiskJob *job)
{
    g_queue_push_tail_link(&piece->jobs, &job->link);
    piece->file->busy++;
    if (!piece->busy)
        virTorrentDiskEnqueuePiece(piece->file->disk, piece);
}

/* How many of @len bytes are in the file. */
static gsize
virTorrentDiskClip(VirTorrentDiskFile *file, guint32 piece, guint32 offset, gsize len)
{
    guint64 pos = (guint64)piece * file->piece_length + offset;

    return pos >= file->size ? 0 : MIN(len, file->size - pos);
}

gboolean
virTorrentDiskWrite(VirTorrentDiskFile *file,
                    guint32 piece,
                    guint32 offset,
                    const guint8 *data,
                    gsize len,
                    VirTorrentDiskFunc func,
                    gpointer opaque)
{
    VirTorrentDisk *disk = file->disk;
    VirTorrentDiskJob *job = virTorrentDiskJobNew(file, VIR_TORRENT_DISK_JOB_WRITE, piece, offset,
                                                  func, opaque);
    VirTorrentDiskBlock **buffer;
    VirTorrentDiskPiece *p;
    gboolean full;

    len = virTorrentDiskClip(file, piece, offset, len);
    if (len == 0) {
        virTorrentDiskReportOne(disk, job);
        return FALSE;
    }
    job->block = virTorrentDiskBlockNew();
    job->len = len;
    memcpy(job->block->data, data, len);
    memset(job->block->data + len, 0, BLOCK - len);
    g_mutex_lock(&disk->lock);
    p = virTorrentDiskNeedPiece(file, piece);
    buffer = &p->buffers[offset / BLOCK];
    if (*buffer)
        virTorrentDiskBlockUnref(*buffer);
    else
        p->buffered++;
    *buffer = virTorrentDiskBlockRef(job->block);
    disk->queued += len;
    full = disk->queued > disk->limits.queue_max;
    virTorrentDiskPushPiece(p, job);
    g_mutex_unlock(&disk->lock);
    return full;
}

/* Whether a read begins and ends in one block that waits to be written: then it is that
 * block, if it begins where the block does, or a copy.  Lock held. */
static gboolean
virTorrentDiskReadBuffered(VirTorrentDiskPiece *piece, VirTorrentDiskJob *job)
{
    VirTorrentDiskBlock *buffer = piece->buffers[job->offset / BLOCK];
    guint32 skip = job->offset % BLOCK;

    if (!buffer || skip + job->len > BLOCK)
        return FALSE;
    if (skip == 0) {
        job->block = virTorrentDiskBlockRef(buffer);
    } else {
        job->block = virTorrentDiskBlockNew();
        memcpy(job->block->data, buffer->data + skip, BLOCK - skip);
    }
    return TRUE;
}

void
virTorrentDiskRead(VirTorrentDiskFile *file,
                   guint32 piece,
                   guint32 offset,
                   gsize len,
                   VirTorrentDiskFunc func,
                   gpointer opaque)
{
    VirTorrentDisk *disk = file->disk;
    VirTorrentDiskJob *job = virTorrentDiskJobNew(file, VIR_TORRENT_DISK_JOB_READ, piece, offset,
                                                  func, opaque);
    g_autoptr(VirTorrentDiskFd) fd = NULL;
    guint64 pos = (guint64)piece * file->piece_length + offset;
    VirTorrentDiskPiece *p;
    gboolean here;

    job->len = virTorrentDiskClip(file, piece, offset, len);
    here = job->len == 0;
    g_mutex_lock(&disk->lock);
    p = virTorrentDiskFindPiece(file, piece);
    if (!here && p && p->buffered > 0)
        here = virTorrentDiskReadBuffered(p, job);
    if (!job->block) {
        job->block = virTorrentDiskBlockNew();
        memset(job->block->data + job->len, 0, len - job->len);
    }
    if (!here && p && p->buffered > 0) {
        virTorrentDiskPushPiece(p, job);    /* after what is being written */
        g_mutex_unlock(&disk->lock);
        return;
    }
    if (!here)
        fd = virTorrentDiskUseReader(file);
    g_mutex_unlock(&disk->lock);
    if (!here && fd)
        here = virTorrentDiskPreadCached(fd, job->block->data, job->len, pos);
    if (here) {
        job->result.data = g_steal_pointer(&job->block)->data;
        virTorrentDiskReportOne(disk, job);
        return;
    }
    g_mutex_lock(&disk->lock);
    g_queue_push_tail_link(&disk->reads, &job->link);
    g_mutex_unlock(&disk->lock);
}

static void
virTorrentDiskPush(VirTorrentDiskJob *job)
{
    VirTorrentDisk *disk = job->file->disk;

    g_mutex_lock(&disk->lock);
    virTorrentDiskPushPiece(virTorrentDiskNeedPiece(job->file, job->piece), job);
    g_mutex_unlock(&disk->lock);
}

void
virTorrentDiskHash(VirTorrentDiskFile *file,
                   guint32 piece,
                   guint8 *leaves,
                   gboolean sha1,
                   VirTorrentDiskFunc func,
                   gpointer opaque)
{
    VirTorrentDiskJob *job = virTorrentDiskJobNew(file, VIR_TORRENT_DISK_JOB_HASH, piece, 0,
                                                  func, opaque);

    job->leaves = leaves;
    job->sha1 = sha1;
    virTorrentDiskPush(job);
}

void
virTorrentDiskHashBlock(VirTorrentDiskFile *file,
                        guint32 piece,
                        guint32 offset,
                        guint8 *leaf,
                        VirTorrentDiskFunc func,
                        gpointer opaque)
{
    VirTorrentDiskJob *job = virTorrentDiskJobNew(file, VIR_TORRENT_DISK_JOB_HASH_BLOCK, piece,
                                                  offset, func, opaque);

    job->leaves = leaf;
    virTorrentDiskPush(job);
}

void
virTorrentDiskClear(VirTorrentDiskFile *file,
                    guint32 piece,
                    VirTorrentDiskFunc func,
                    gpointer opaque)
{
    virTorrentDiskPush(virTorrentDiskJobNew(file, VIR_TORRENT_DISK_JOB_CLEAR, piece, 0,
                                            func, opaque));
}

void
virTorrentDiskStat(VirTorrentDiskFile *file, VirTorrentDiskFunc func, gpointer opaque)
{
    VirTorrentDisk *disk = file->disk;
    VirTorrentDiskJob *job = virTorrentDiskJobNew(file, VIR_TORRENT_DISK_JOB_STAT, 0, 0,
                                                  func, opaque);

    g_mutex_lock(&disk->lock);
    g_queue_push_tail_link(&disk->reads, &job->link);
    g_mutex_unlock(&disk->lock);
}

void
virTorrentDiskFence(VirTorrentDiskFile *file, VirTorrentDiskFunc func, gpointer opaque)
{
    VirTorrentDisk *disk = file->disk;
    VirTorrentDiskJob *job = virTorrentDiskJobNew(file, VIR_TORRENT_DISK_JOB_FENCE, 0, 0,
                                                  func, opaque);
    gboolean busy;

    g_mutex_lock(&disk->lock);
    busy = file->busy > 0;
    if (busy)
        g_queue_push_tail_link(&file->fences, &job->link);
    g_mutex_unlock(&disk->lock);
    if (!busy)
        virTorrentDiskReportOne(disk, job);
}
