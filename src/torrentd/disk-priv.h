/*
 * disk-priv.h: what the parts of disk.h share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * disk.c: queues and threads; disk-piece.c: what a thread does with a piece;
 * disk-file.c: descriptors, bytes and holes; disk-cache.c: the page cache.
 */

#pragma once

#include <openssl/evp.h>
#include <sys/uio.h>

#include "disk.h"
#include "merkle.h"
#include "metainfo.h"

G_BEGIN_DECLS

#define VIR_TORRENT_SHA1_SIZE 20

/* --- disk-file.c ----------------------------------------------------------- */

/* A descriptor that several threads use. */
typedef struct {
    gatomicrefcount refs;
    int fd;
    gboolean memory;                 /* on a file system that has no disk */
} VirTorrentDiskFd;

VirTorrentDiskFd *virTorrentDiskFdRef(VirTorrentDiskFd *fd);
void virTorrentDiskFdUnref(VirTorrentDiskFd *fd);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentDiskFd, virTorrentDiskFdUnref)

/* A regular file, opened without following a link; for writing it is made if need be,
 * has one name, and gets @size bytes.  NULL with errno set. */
VirTorrentDiskFd *virTorrentDiskFdOpen(const char *dir, const char *name, gboolean writable,
                                       guint64 size);
/* 0 or an errno */
int virTorrentDiskFdStat(const char *dir, const char *name, guint64 *size);

/* These retry, and go on after a part: 0 or an errno. */
int virTorrentDiskPread(int fd, guint8 *data, gsize len, guint64 pos);
int virTorrentDiskPwritev(int fd, struct iovec *iov, int count, guint64 pos);
/* Makes a range read as zeros with as little as can be. */
int virTorrentDiskPutZeros(int fd, guint64 pos, gsize len);
/* Whether all of it came from memory. */
gboolean virTorrentDiskPreadCached(VirTorrentDiskFd *fd, guint8 *data, gsize len, guint64 pos);

/* --- disk-cache.c ---------------------------------------------------------- */

typedef struct _VirTorrentDiskCache VirTorrentDiskCache;

VirTorrentDiskCache *virTorrentDiskCacheNew(guint64 dirty_max, guint64 cache_max, GError **error);
void virTorrentDiskCacheFree(VirTorrentDiskCache *cache);

/* These bytes are in the page cache because of us; @dirty: and not on the disk.  Waits
 * for the disk where too much is.  Any thread. */
void virTorrentDiskCacheAdd(VirTorrentDiskCache *cache, VirTorrentDiskFd *fd,
                            guint64 pos, guint64 len, gboolean dirty);

/* @fd is about to be closed; @drop: what is clean leaves the page cache now. */
void virTorrentDiskCacheForget(VirTorrentDiskCache *cache, VirTorrentDiskFd *fd, gboolean drop);

/* This thread's I/O comes after that of others. */
void virTorrentDiskBeModest(void);

/* --- disk.c, disk-piece.c -------------------------------------------------- */

/* A block's bytes.  @data is what is handed out. */
typedef struct {
    gatomicrefcount refs;
    guint8 data[VIR_TORRENT_BLOCK_SIZE];
} VirTorrentDiskBlock;

VirTorrentDiskBlock *virTorrentDiskBlockNew(void);
void virTorrentDiskBlockUnref(VirTorrentDiskBlock *block);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentDiskBlock, virTorrentDiskBlockUnref)

typedef enum {
    VIR_TORRENT_DISK_JOB_READ,
    VIR_TORRENT_DISK_JOB_WRITE,
    VIR_TORRENT_DISK_JOB_HASH,
    VIR_TORRENT_DISK_JOB_HASH_BLOCK,
    VIR_TORRENT_DISK_JOB_CLEAR,
    VIR_TORRENT_DISK_JOB_STAT,
    VIR_TORRENT_DISK_JOB_FENCE,
} VirTorrentDiskJobType;

typedef struct {
    GList link;                      /* in one queue at a time */
    VirTorrentDiskJobType type;
    VirTorrentDiskFile *file;        /* a reference */
    guint32 piece, offset;
    gsize len;
    VirTorrentDiskBlock *block;      /* read, write */
    guint8 *leaves;                  /* hash: the caller's, or NULL */
    gboolean sha1;                   /* hash: this, too */
    VirTorrentDiskFunc func;
    gpointer opaque;
    VirTorrentDiskResult result;
} VirTorrentDiskJob;

typedef struct _VirTorrentDiskPiece VirTorrentDiskPiece;
struct _VirTorrentDiskPiece {
    VirTorrentDiskFile *file;        /* the key; no reference */
    guint32 index;
    guint32 blocks;                  /* how many */
    guint64 begin, end;              /* in the file */
    guint64 padded;                  /* its end for who knows nothing of the file's */

    /* disk->lock */
    GQueue jobs;                     /* in the order they came */
    gboolean busy;                   /* queued for a thread, or in its hands */
    GList link;                      /* while queued */
    VirTorrentDiskBlock **buffers;   /* per block: what is to be written, or NULL */
    guint buffered;

    /* who has it in hands */
    guint8 *leaves;                  /* NULL: nothing is known */
    guint8 *known;                   /* per block: whether leaves has it */
    EVP_MD_CTX *sha1;                /* of the blocks before sha1_next */
    guint32 sha1_next;
    gboolean written;
    gboolean done;                   /* hashed or cleared: need not be remembered */
};

struct _VirTorrentDiskFile {
    gatomicrefcount refs;
    VirTorrentDisk *disk;
    guint64 size, padded;
    guint32 piece_length;
    VirTorrentDiskFlags flags;

    /* disk->lock */
    char *dir, *name;
    gboolean closed;
    VirTorrentDiskFd *reader, *writer;
    GList opened;                    /* in disk->readers while reader is set */
    guint busy;                      /* jobs of pieces, waiting or running */
    GQueue fences;
};

typedef struct {
    VirTorrentDisk *disk;
    VirTorrentHasher *hasher;
    EVP_MD *sha1;
    guint8 *buffer;                  /* VIR_TORRENT_READ_SIZE bytes */
} VirTorrentDiskWorker;

/* The descriptor for reading (writing) @file, opened if need be; NULL with errno set. */
VirTorrentDiskFd *virTorrentDiskFileReader(VirTorrentDiskFile *file);
VirTorrentDiskFd *virTorrentDiskFileWriter(VirTorrentDiskFile *file);
VirTorrentDiskCache *virTorrentDiskGetCache(VirTorrentDisk *disk);

/* Does @jobs, in order, with @piece, which is the caller's until it returns. */
void virTorrentDiskPieceWork(VirTorrentDiskWorker *worker, VirTorrentDiskPiece *piece,
                             GQueue *jobs);
void virTorrentDiskReadWork(VirTorrentDiskWorker *worker, VirTorrentDiskJob *job);
void virTorrentDiskPieceForget(VirTorrentDiskPiece *piece);

void virTorrentDiskJobFail(VirTorrentDiskJob *job, VirTorrentDiskOp op, int err);

G_END_DECLS
