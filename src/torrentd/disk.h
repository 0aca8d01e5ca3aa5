/*
 * disk.h: what a BitTorrent engine does with files, in worker threads
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Blocks of 16 KiB are written, read and hashed by a few threads with low I/O
 * priority.  A block is hashed when it is written, so that a whole piece is
 * known to be good without being read back.  Blocks of zeros are not written:
 * the file keeps, or gets, a hole there.  What has been written, and what was
 * read from the disk, leaves the page cache again when it exceeds a bound.
 *
 * Files are opened below their directory without following a link, must be
 * regular, and are written to only while they have one name.  A file is open
 * for writing only while something is queued for it: when the last of these
 * jobs is reported no descriptor is left that could write.
 *
 * Threads: the functions here are called by one thread, the owner's, which also
 * gets the reports: when @notify has been called, from any thread, it is to
 * call virTorrentDiskDispatch().  Nothing is reported from inside any other call.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct _VirTorrentDisk VirTorrentDisk;
typedef struct _VirTorrentDiskFile VirTorrentDiskFile;

/* What a job was doing when it failed. */
typedef enum {
    VIR_TORRENT_DISK_OPEN,
    VIR_TORRENT_DISK_READ,
    VIR_TORRENT_DISK_WRITE,
    VIR_TORRENT_DISK_STAT,
} VirTorrentDiskOp;

typedef struct {
    int err;                 /* errno; 0: done.  ENODATA: the file ends before */
    VirTorrentDiskOp op;
    guint8 *data;            /* Read: for virTorrentDiskBufferFree(), the receiver's once set to NULL */
    guint64 size;            /* Stat: of the file */
    guint8 sha1[20];         /* Hash, if asked for */
} VirTorrentDiskResult;

typedef void (*VirTorrentDiskFunc)(VirTorrentDiskResult *result, gpointer opaque);

/* Zero means the default that stands here. */
typedef struct {
    guint threads;           /* one per core, 2 to 4 */
    guint64 queue_max;       /* bytes that wait to be written before virTorrentDiskWrite() says
                                stop; 16 MiB */
    guint64 dirty_max;       /* bytes of whole pieces that the kernel has not written out yet;
                                1/32 of the memory, at most 512 MiB */
    guint64 cache_max;       /* bytes that we left in the page cache; 1/16 of the memory, at most 1 GiB */
} VirTorrentDiskLimits;

VirTorrentDisk *virTorrentDiskNew(const VirTorrentDiskLimits *limits,
                                  void (*notify)(gpointer opaque),
                                  gpointer opaque,
                                  GError **error);
/* Waits for what is queued; what was not reported is dropped.  Every file must
 * have been closed. */
void virTorrentDiskFree(VirTorrentDisk *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentDisk, virTorrentDiskFree)

/* What has been asked for is begun: jobs may wait for this. */
void virTorrentDiskSubmit(VirTorrentDisk *disk);

/* Reports what is done. */
void virTorrentDiskDispatch(VirTorrentDisk *disk);

/* Whether writers that were told to stop may go on. */
gboolean virTorrentDiskMayWrite(VirTorrentDisk *disk);

/* What is made of blocks when they are written. */
typedef enum {
    VIR_TORRENT_DISK_SHA256 = 1 << 0, /* of each block (BEP 52) */
    VIR_TORRENT_DISK_SHA1 = 1 << 1,   /* of each piece (BEP 3) */
} VirTorrentDiskFlags;

/* Nothing is opened before something is to be read or written.  Bytes from @size to @padded
 * belong to the last piece, are zeros, and are nowhere on disk (BEP 47; @padded is @size
 * where there are none). */
VirTorrentDiskFile *virTorrentDiskOpen(VirTorrentDisk *disk,
                                       const char *dir,
                                       const char *name,
                                       guint64 size,
                                       guint64 padded,
                                       guint32 piece_length,
                                       VirTorrentDiskFlags flags);
/* What is queued is done and reported all the same. */
void virTorrentDiskClose(VirTorrentDiskFile *file);

/* The file was moved or linked there. */
void virTorrentDiskRelocate(VirTorrentDiskFile *file, const char *dir, const char *name);

/* @offset: a multiple of 16 KiB; @len: a whole block, or what the piece's last one has.  @data is copied; reads see it at once.  TRUE: enough is queued, wait
 * until virTorrentDiskMayWrite(). */
gboolean virTorrentDiskWrite(VirTorrentDiskFile *file,
                             guint32 piece,
                             guint32 offset,
                             const guint8 *data,
                             gsize len,
                             VirTorrentDiskFunc func,
                             gpointer opaque);

/* @len: at most 16 KiB. */
void virTorrentDiskRead(VirTorrentDiskFile *file,
                        guint32 piece,
                        guint32 offset,
                        gsize len,
                        VirTorrentDiskFunc func,
                        gpointer opaque);
void virTorrentDiskBufferFree(guint8 *data);

/* The hashes of a piece, after what was queued for it.  @leaves: room for one
 * SHA-256 per block, which must last until the report, or NULL; @sha1: that of the
 * piece, too.  What was not written before in this life is read; holes are not. */
void virTorrentDiskHash(VirTorrentDiskFile *file,
                        guint32 piece,
                        guint8 *leaves,
                        gboolean sha1,
                        VirTorrentDiskFunc func,
                        gpointer opaque);
/* The SHA-256 of the block at @offset alone: @leaf, 32 bytes. */
void virTorrentDiskHashBlock(VirTorrentDiskFile *file,
                             guint32 piece,
                             guint32 offset,
                             guint8 *leaf,
                             VirTorrentDiskFunc func,
                             gpointer opaque);

/* Forgets what was hashed, after what was queued for the piece. */
void virTorrentDiskClear(VirTorrentDiskFile *file,
                         guint32 piece,
                         VirTorrentDiskFunc func,
                         gpointer opaque);

/* Tells the file's size; ENOENT where there is none. */
void virTorrentDiskStat(VirTorrentDiskFile *file, VirTorrentDiskFunc func, gpointer opaque);

/* Reports when nothing is being written or hashed any more. */
void virTorrentDiskFence(VirTorrentDiskFile *file, VirTorrentDiskFunc func, gpointer opaque);

G_END_DECLS
