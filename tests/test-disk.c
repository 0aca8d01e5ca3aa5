/*
 * test-disk.c: files, blocks and hashes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * pwritev(), pread(), preadv2(), fallocate(), posix_fadvise() and
 * sync_file_range() are wrapped at link time: so what reaches the kernel can be
 * counted, and faults that no disk here has can be made.  Each fault counts
 * how often it happened.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "dir-util.h"
#include "disk.h"
#include "merkle.h"
#include "metainfo.h"

#define KIB 1024
#define MIB (1024 * KIB)
#define BLOCK VIR_TORRENT_BLOCK_SIZE
#define HASH VIR_TORRENT_HASH_SIZE
#define PIECE (64 * KIB)

/* --- the kernel, with faults ------------------------------------------------------ */

ssize_t __real_pwritev(int fd, const struct iovec *iov, int count, off_t pos);
ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t pos);
ssize_t __real_pread(int fd, void *data, size_t len, off_t pos);
ssize_t __wrap_pread(int fd, void *data, size_t len, off_t pos);
ssize_t __real_preadv2(int fd, const struct iovec *iov, int count, off_t pos, int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *iov, int count, off_t pos, int flags);
int __real_fallocate(int fd, int mode, off_t pos, off_t len);
int __wrap_fallocate(int fd, int mode, off_t pos, off_t len);
int __real_posix_fadvise(int fd, off_t pos, off_t len, int advice);
int __wrap_posix_fadvise(int fd, off_t pos, off_t len, int advice);
int __real_sync_file_range(int fd, off64_t pos, off64_t len, unsigned int flags);
int __wrap_sync_file_range(int fd, off64_t pos, off64_t len, unsigned int flags);

typedef enum {
    FAULT_NONE,
    FAULT_EIO,
    FAULT_ENOSPC,
    FAULT_EINTR,             /* every other call */
    FAULT_SHORT,             /* 1,000 bytes at most */
    FAULT_WAIT,              /* until the gate is open */
} Fault;

static struct {
    GMutex lock;
    GCond changed;
    Fault write, read;
    gboolean no_punch;       /* fallocate() is not supported */
    gboolean never_cached;   /* preadv2() finds nothing in memory */
    guint faults;            /* how often one happened */
    guint writes, punches;
    gsize written, read_bytes, dropped, synced;
} kernel;

static void
kernelReset(void)
{
    g_mutex_lock(&kernel.lock);
    kernel.write = kernel.read = FAULT_NONE;
    kernel.no_punch = kernel.never_cached = FALSE;
    kernel.faults = kernel.writes = kernel.punches = 0;
    kernel.written = kernel.read_bytes = kernel.dropped = kernel.synced = 0;
    g_cond_broadcast(&kernel.changed);
    g_mutex_unlock(&kernel.lock);
}

/* -1 and errno, 0: go on, or how much at most */
static ssize_t
kernelFault(Fault fault)
{
    if (fault == FAULT_NONE)
        return 0;
    kernel.faults++;
    switch (fault) {
    case FAULT_EINTR:
        errno = EINTR;
        return kernel.faults % 2 ? -1 : 0;
    case FAULT_SHORT:
        return 1000;
    case FAULT_WAIT:
        while (kernel.write == FAULT_WAIT)
            g_cond_wait(&kernel.changed, &kernel.lock);
        return 0;
    case FAULT_EIO:
    case FAULT_ENOSPC:
    case FAULT_NONE:
        break;
    }
    errno = fault == FAULT_EIO ? EIO : ENOSPC;
    return -1;
}

ssize_t
__wrap_pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
    struct iovec first = *iov;
    ssize_t most, put;

    g_mutex_lock(&kernel.lock);
    kernel.writes++;
    most = kernelFault(kernel.write);
    g_mutex_unlock(&kernel.lock);
    if (most < 0)
        return -1;
    first.iov_len = MIN(first.iov_len, (gsize)most);
    put = most ? __real_pwritev(fd, &first, 1, pos) : __real_pwritev(fd, iov, count, pos);
    g_mutex_lock(&kernel.lock);
    kernel.written += MAX(put, 0);
    g_mutex_unlock(&kernel.lock);
    return put;
}

ssize_t
__wrap_pread(int fd, void *data, size_t len, off_t pos)
{
    ssize_t most, got;

    g_mutex_lock(&kernel.lock);
    most = kernelFault(kernel.read);
    g_mutex_unlock(&kernel.lock);
    if (most < 0)
        return -1;
    got = __real_pread(fd, data, most ? MIN(len, (size_t)most) : len, pos);
    g_mutex_lock(&kernel.lock);
    kernel.read_bytes += MAX(got, 0);
    g_mutex_unlock(&kernel.lock);
    return got;
}

ssize_t
__wrap_preadv2(int fd, const struct iovec *iov, int count, off_t pos, int flags)
{
    gboolean miss;

    g_mutex_lock(&kernel.lock);
    miss = kernel.never_cached;
    g_mutex_unlock(&kernel.lock);
    if (miss) {
        errno = EAGAIN;
        return -1;
    }
    return __real_preadv2(fd, iov, count, pos, flags);
}

int
__wrap_fallocate(int fd, int mode, off_t pos, off_t len)
{
    gboolean no;

    g_mutex_lock(&kernel.lock);
    no = kernel.no_punch;
    kernel.punches++;
    g_mutex_unlock(&kernel.lock);
    if (no) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return __real_fallocate(fd, mode, pos, len);
}

int
__wrap_posix_fadvise(int fd, off_t pos, off_t len, int advice)
{
    g_mutex_lock(&kernel.lock);
    if (advice == POSIX_FADV_DONTNEED)
        kernel.dropped += len;
    g_mutex_unlock(&kernel.lock);
    return __real_posix_fadvise(fd, pos, len, advice);
}

int
__wrap_sync_file_range(int fd, off64_t pos, off64_t len, unsigned int flags)
{
    g_mutex_lock(&kernel.lock);
    if (flags & SYNC_FILE_RANGE_WAIT_AFTER)
        kernel.synced += len;
    g_mutex_unlock(&kernel.lock);
    return __real_sync_file_range(fd, pos, len, flags);
}

/* --- a disk ------------------------------------------------------------------------ */

typedef struct {
    char *dir;
    VirTorrentDisk *disk;
    gint notified;           /* atomic */
    guint reported;
    /* of the last report */
    int err;
    VirTorrentDiskOp op;
    guint64 size;
    guint8 sha1[20];
    guint8 data[BLOCK];
} Fixture;

static void
onNotify(gpointer opaque)
{
    g_atomic_int_inc(&((Fixture *)opaque)->notified);
}

static void
onDone(VirTorrentDiskResult *result, gpointer opaque)
{
    Fixture *f = opaque;

    f->reported++;
    f->err = result->err;
    f->op = result->op;
    f->size = result->size;
    memcpy(f->sha1, result->sha1, sizeof(f->sha1));
    if (result->data)
        memcpy(f->data, result->data, BLOCK);
}

static Fixture *
fixtureNew(const VirTorrentDiskLimits *limits)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autoptr(GError) error = NULL;

    kernelReset();
    f->dir = g_dir_make_tmp("test-disk-XXXXXX", NULL);
    g_assert_nonnull(f->dir);
    f->disk = virTorrentDiskNew(limits, onNotify, f, &error);
    g_assert_no_error(error);
    return f;
}

static void
fixtureFree(Fixture *f)
{
    kernelReset();
    virTorrentDiskFree(f->disk);
    removeTree(f->dir);
    g_free(f->dir);
    g_free(f);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fixture, fixtureFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentDiskFile, virTorrentDiskClose)

static VirTorrentDiskFile *
openFile(Fixture *f, guint64 size)
{
    return virTorrentDiskOpen(f->disk, f->dir, "m", size, size, PIECE, VIR_TORRENT_DISK_SHA256);
}

static char *
pathOf(Fixture *f, const char *name)
{
    return g_build_filename(f->dir, name, NULL);
}

static void
waitReports(Fixture *f, guint count)
{
    gint64 until = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;

    virTorrentDiskSubmit(f->disk);
    while (f->reported < count) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        if (g_atomic_int_get(&f->notified) == 0) {
            g_usleep(200);
            continue;
        }
        g_atomic_int_set(&f->notified, 0);
        virTorrentDiskDispatch(f->disk);
    }
    g_assert_cmpuint(f->reported, ==, count);
    f->reported = 0;
}

static guint8 *
randomBytes(gsize size, guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    guint32 *data = g_malloc(size + 4);
    gsize i;

    for (i = 0; i < size / 4 + 1; i++)
        data[i] = g_rand_int(rand) | 1;
    return (guint8 *)data;
}

static gboolean
writeBlock(Fixture *f, VirTorrentDiskFile *file, const guint8 *data, gsize size, gsize block)
{
    gsize pos = block * BLOCK;

    return virTorrentDiskWrite(file, pos / PIECE, pos % PIECE, data + pos, MIN(BLOCK, size - pos),
                               onDone, f);
}

/* Every block, those of odd number first: no piece comes in order. */
static guint
writeAll(Fixture *f, VirTorrentDiskFile *file, const guint8 *data, gsize size)
{
    guint blocks = (size + BLOCK - 1) / BLOCK, i;

    for (i = 1; i < blocks; i += 2)
        writeBlock(f, file, data, size, i);
    for (i = 0; i < blocks; i += 2)
        writeBlock(f, file, data, size, i);
    return blocks;
}

static void
assertContent(Fixture *f, const char *name, const guint8 *data, gsize size)
{
    g_autofree char *path = pathOf(f, name);
    g_autofree char *content = NULL;
    gsize length;

    g_assert_true(g_file_get_contents(path, &content, &length, NULL));
    g_assert_cmpuint(length, ==, size);
    g_assert_true(memcmp(content, data, size) == 0);
}

static void
assertLeaves(const guint8 *leaves, const guint8 *data, gsize size)
{
    gsize pos;

    for (pos = 0; pos < size; pos += BLOCK, leaves += HASH) {
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
        guint8 want[HASH];
        gsize len = HASH;

        g_checksum_update(sum, data + pos, MIN(BLOCK, size - pos));
        g_checksum_get_digest(sum, want, &len);
        g_assert_cmpmem(leaves, HASH, want, HASH);
    }
}

static void
assertHashes(Fixture *f, VirTorrentDiskFile *file, const guint8 *data, gsize size)
{
    guint8 leaves[PIECE / BLOCK * HASH];
    guint piece;

    for (piece = 0; piece * PIECE < size; piece++) {
        virTorrentDiskHash(file, piece, leaves, FALSE, onDone, f);
        waitReports(f, 1);
        g_assert_cmpint(f->err, ==, 0);
        assertLeaves(leaves, data + piece * PIECE, MIN(PIECE, size - piece * PIECE));
    }
}

static guint
openForWriting(Fixture *f)
{
    GDir *dir = g_dir_open("/proc/self/fd", 0, NULL);
    const char *name;
    guint n = 0;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *link = g_build_filename("/proc/self/fd", name, NULL);
        g_autofree char *target = g_file_read_link(link, NULL);

        if (target && g_str_has_prefix(target, f->dir) &&
            (fcntl(atoi(name), F_GETFL) & O_ACCMODE) != O_RDONLY)
            n++;
    }
    g_dir_close(dir);
    return n;
}

static guint64
allocated(Fixture *f, const char *name)
{
    g_autofree char *path = pathOf(f, name);
    struct stat st;

    g_assert_cmpint(lstat(path, &st), ==, 0);
    return (guint64)st.st_blocks * 512;
}

/* --- promises ----------------------------------------------------------------------- */

static void
testWrite(void)
{
    gsize size = 5 * PIECE + 3 * BLOCK + 77;
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, size);
    g_autofree guint8 *data = randomBytes(size, 1);

    waitReports(f, 0);
    writeAll(f, file, data, size);
    waitReports(f, 24);
    g_assert_cmpint(f->err, ==, 0);
    g_assert_cmpuint(openForWriting(f), ==, 0);
    assertContent(f, "m", data, size);
    assertHashes(f, file, data, size);
    g_assert_cmpuint(kernel.read_bytes, ==, 0);     /* nothing was read back */
    g_assert_cmpuint(kernel.written, ==, size);
    g_assert_cmpuint(kernel.writes, <=, 24);
}

/* What was written can be read before it is in the file. */
static void
testReadBuffered(void)
{
    gsize size = PIECE + 100;
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, size);
    g_autofree guint8 *data = randomBytes(size, 2);

    kernel.write = FAULT_WAIT;
    writeBlock(f, file, data, size, 1);
    writeBlock(f, file, data, size, 4);
    virTorrentDiskSubmit(f->disk);
    virTorrentDiskRead(file, 0, BLOCK, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_cmpmem(f->data, BLOCK, data + BLOCK, BLOCK);
    virTorrentDiskRead(file, 0, BLOCK + 10, 20, onDone, f);
    waitReports(f, 1);
    g_assert_cmpmem(f->data, 20, data + BLOCK + 10, 20);
    virTorrentDiskRead(file, 1, 0, 100, onDone, f);
    waitReports(f, 1);
    g_assert_cmpmem(f->data, 100, data + PIECE, 100);
    g_assert_cmpuint(kernel.written, ==, 0);

    /* over the edge of what is there: after what is being written */
    writeBlock(f, file, data, size, 2);
    virTorrentDiskRead(file, 0, BLOCK + 100, BLOCK, onDone, f);
    g_assert_cmpuint(f->reported, ==, 0);
    kernelReset();
    waitReports(f, 4);
    virTorrentDiskRead(file, 0, BLOCK + 100, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_cmpmem(f->data, BLOCK, data + BLOCK + 100, BLOCK);
}

/* The later one wins, queued or not. */
static void
testWriteTwice(void)
{
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, PIECE);
    g_autofree guint8 *wrong = randomBytes(PIECE, 3);
    g_autofree guint8 *right = randomBytes(PIECE, 4);

    writeAll(f, file, wrong, PIECE);
    writeAll(f, file, right, PIECE);
    waitReports(f, 8);
    assertContent(f, "m", right, PIECE);
    assertHashes(f, file, right, PIECE);

    writeBlock(f, file, wrong, PIECE, 2);
    waitReports(f, 1);
    virTorrentDiskClear(file, 0, onDone, f);
    writeBlock(f, file, right, PIECE, 2);
    waitReports(f, 2);
    assertHashes(f, file, right, PIECE);
}

/* Zeros cost nothing, wherever they are. */
static void
testHoles(void)
{
    gsize size = 64 * PIECE + 5 * BLOCK + 1;
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, size);
    g_autofree guint8 *data = g_malloc0(size);
    g_autofree guint8 *some = randomBytes(BLOCK, 5);

    memcpy(data + 3 * PIECE + 2 * BLOCK, some, BLOCK);
    data[40 * PIECE] = 1;
    waitReports(f, 0);
    writeAll(f, file, data, size);
    waitReports(f, 64 * 4 + 6);
    assertContent(f, "m", data, size);
    g_assert_cmpuint(kernel.written, ==, 2 * BLOCK);
    g_assert_cmpuint(allocated(f, "m"), <=, 2 * BLOCK + 64 * KIB);
    assertHashes(f, file, data, size);
    g_assert_cmpuint(kernel.read_bytes, ==, 0);
}

static void
checkZerosOverData(gboolean no_punch)
{
    gsize size = 4 * PIECE;
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, size);
    g_autofree guint8 *garbage = randomBytes(size, 6);
    g_autofree guint8 *data = g_memdup2(garbage, size);
    g_autofree char *path = pathOf(f, "m");

    g_assert_true(g_file_set_contents(path, (char *)garbage, size, NULL));
    kernel.no_punch = no_punch;
    memset(data + PIECE, 0, 2 * PIECE);
    writeAll(f, file, data, size);
    waitReports(f, 16);
    g_assert_cmpint(f->err, ==, 0);
    assertContent(f, "m", data, size);
    g_assert_cmpuint(kernel.punches, >, 0);
    if (no_punch)
        g_assert_cmpuint(kernel.written, ==, size);
    else
        g_assert_cmpuint(allocated(f, "m"), <=, 2 * PIECE + 64 * KIB);
}

/* What an earlier try left behind is not taken for zeros. */
static void
testZerosOverData(void)
{
    checkZerosOverData(FALSE);
    checkZerosOverData(TRUE);
}

/* What is longer or shorter than it should be gets its size with the first write. */
static void
testSize(void)
{
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, PIECE + 5);
    g_autofree guint8 *data = randomBytes(3 * PIECE, 7);
    g_autofree char *path = pathOf(f, "m");
    struct stat st;

    virTorrentDiskStat(file, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, ENOENT);
    g_assert_true(g_file_set_contents(path, (char *)data, 3 * PIECE, NULL));
    virTorrentDiskStat(file, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, 0);
    g_assert_cmpuint(f->size, ==, 3 * PIECE);
    writeBlock(f, file, data, PIECE + 5, 4);
    waitReports(f, 1);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, PIECE + 5);
    g_unlink(path);
    writeBlock(f, file, data, PIECE + 5, 0);
    waitReports(f, 1);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, PIECE + 5);
}

/* As after a restart: what was written before is read, but nothing else, and no hole. */
static void
testHashFromDisk(void)
{
    gsize size = 3 * PIECE;
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autofree guint8 *data = randomBytes(size, 8);
    VirTorrentDiskFile *before = openFile(f, size);
    g_autoptr(VirTorrentDiskFile) file = NULL;
    guint8 leaf[HASH];

    memset(data + PIECE, 0, PIECE);
    writeAll(f, before, data, size);
    waitReports(f, 12);
    virTorrentDiskClose(before);
    file = openFile(f, size);
    assertHashes(f, file, data, PIECE);
    g_assert_cmpuint(kernel.read_bytes, ==, PIECE);
    kernel.read_bytes = 0;
    writeBlock(f, file, data, size, 9);
    waitReports(f, 1);
    assertHashes(f, file, data, size);
    g_assert_cmpuint(kernel.read_bytes, ==, PIECE + 3 * BLOCK);

    virTorrentDiskHashBlock(file, 2, BLOCK, leaf, onDone, f);
    waitReports(f, 1);
    assertLeaves(leaf, data + 2 * PIECE + BLOCK, BLOCK);
}

static void
checkSha1(gsize size, gsize padded, gboolean in_order)
{
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = virTorrentDiskOpen(f->disk, f->dir, "m", size, padded, PIECE,
                                                            VIR_TORRENT_DISK_SHA1);
    g_autofree guint8 *random = randomBytes(size, 9);
    g_autofree guint8 *data = g_malloc0(padded);
    guint blocks = (padded + BLOCK - 1) / BLOCK, i;
    gsize pos;

    memcpy(data, random, size);
    if (!in_order)
        writeAll(f, file, data, padded);
    else
        for (i = 0; i < blocks; i++)
            writeBlock(f, file, data, padded, i);
    waitReports(f, blocks);
    assertContent(f, "m", data, size);
    kernel.read_bytes = 0;
    for (pos = 0; pos < padded; pos += PIECE) {
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
        guint8 want[20];
        gsize len = 20;

        g_checksum_update(sum, data + pos, MIN(PIECE, padded - pos));
        g_checksum_get_digest(sum, want, &len);
        virTorrentDiskHash(file, pos / PIECE, NULL, TRUE, onDone, f);
        waitReports(f, 1);
        g_assert_cmpmem(f->sha1, 20, want, 20);
    }
    if (in_order)
        g_assert_cmpuint(kernel.read_bytes, ==, 0);
}

static void
testSha1(void)
{
    checkSha1(3 * PIECE + 100, 3 * PIECE + 100, TRUE);
    checkSha1(3 * PIECE + 100, 3 * PIECE + 100, FALSE);
    checkSha1(3 * PIECE + BLOCK + 100, 4 * PIECE, TRUE);
    checkSha1(3 * PIECE + BLOCK + 100, 4 * PIECE, FALSE);
}

/* Bytes after the end are zeros to those who ask, and are nowhere. */
static void
testPadding(void)
{
    gsize size = PIECE + BLOCK + 9;
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = virTorrentDiskOpen(f->disk, f->dir, "m", size, 2 * PIECE, PIECE,
                                                            VIR_TORRENT_DISK_SHA256);
    g_autofree guint8 *data = g_malloc0(2 * PIECE);
    g_autofree guint8 *random = randomBytes(size, 10);

    memcpy(data, random, size);
    writeAll(f, file, data, 2 * PIECE);
    virTorrentDiskRead(file, 1, BLOCK, BLOCK, onDone, f);
    waitReports(f, 9);
    g_assert_cmpmem(f->data, BLOCK, data + PIECE + BLOCK, BLOCK);
    assertContent(f, "m", data, size);
    virTorrentDiskRead(file, 1, BLOCK, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_cmpmem(f->data, BLOCK, data + PIECE + BLOCK, BLOCK);
    virTorrentDiskRead(file, 1, 2 * BLOCK, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_true(virTorrentIsZero(f->data, BLOCK));
    assertHashes(f, file, data, size);
}

/* --- faults -------------------------------------------------------------------------- */

static void
testWriteFaults(void)
{
    gsize size = 2 * PIECE;
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, size);
    g_autofree guint8 *data = randomBytes(size, 11);

    kernel.write = FAULT_EIO;
    writeAll(f, file, data, size);
    waitReports(f, 8);
    g_assert_cmpint(f->err, ==, EIO);
    g_assert_cmpint(f->op, ==, VIR_TORRENT_DISK_WRITE);
    g_assert_cmpuint(kernel.faults, >, 0);
    g_assert_cmpuint(openForWriting(f), ==, 0);

    kernelReset();
    kernel.write = FAULT_ENOSPC;
    writeAll(f, file, data, size);
    waitReports(f, 8);
    g_assert_cmpint(f->err, ==, ENOSPC);
    g_assert_cmpuint(kernel.faults, >, 0);
    /* what is not in the file is not said to be good */
    kernelReset();
    g_assert_cmpuint(allocated(f, "m"), ==, 0);
    virTorrentDiskHash(file, 0, data + PIECE, FALSE, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(memcmp(data + PIECE, data + PIECE + HASH, HASH), ==, 0);  /* of a hole */

    kernelReset();
    kernel.write = FAULT_SHORT;
    writeAll(f, file, data, size);
    waitReports(f, 8);
    g_assert_cmpint(f->err, ==, 0);
    g_assert_cmpuint(kernel.faults, >, size / 1000);
    assertContent(f, "m", data, size);

    kernelReset();
    kernel.write = FAULT_EINTR;
    writeAll(f, file, data, size);
    waitReports(f, 8);
    g_assert_cmpint(f->err, ==, 0);
    g_assert_cmpuint(kernel.faults, >, 0);
    assertContent(f, "m", data, size);
}

static void
testReadFaults(void)
{
    gsize size = 2 * PIECE;
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, size);
    g_autofree guint8 *data = randomBytes(size, 12);
    g_autofree char *path = pathOf(f, "m");
    guint8 leaves[PIECE / BLOCK * HASH];

    virTorrentDiskRead(file, 0, 0, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, ENOENT);
    g_assert_cmpint(f->op, ==, VIR_TORRENT_DISK_OPEN);

    g_assert_true(g_file_set_contents(path, (char *)data, size, NULL));
    kernel.never_cached = TRUE;
    kernel.read = FAULT_EIO;
    virTorrentDiskRead(file, 0, 0, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, EIO);
    g_assert_cmpint(f->op, ==, VIR_TORRENT_DISK_READ);
    virTorrentDiskHash(file, 0, leaves, FALSE, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, EIO);
    g_assert_cmpuint(kernel.faults, ==, 2);

    kernel.read = FAULT_SHORT;
    virTorrentDiskRead(file, 1, BLOCK, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, 0);
    g_assert_cmpmem(f->data, BLOCK, data + PIECE + BLOCK, BLOCK);
    kernel.read = FAULT_EINTR;
    assertHashes(f, file, data, size);
    g_assert_cmpuint(kernel.faults, >, 4);

    kernelReset();
    g_assert_cmpint(truncate(path, size - 1), ==, 0);
    virTorrentDiskRead(file, 1, 3 * BLOCK, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, ENODATA);
    virTorrentDiskHash(file, 1, leaves, FALSE, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, ENODATA);
}

/* Reads and writes of @name end with @err; nothing waits. */
static void
assertRefused(Fixture *f, const char *dir, int read_err, int write_err)
{
    g_autoptr(VirTorrentDiskFile) file = virTorrentDiskOpen(f->disk, dir, "m", PIECE, PIECE, PIECE,
                                                            VIR_TORRENT_DISK_SHA256);
    g_autofree guint8 *data = randomBytes(PIECE, 13);

    virTorrentDiskRead(file, 0, 0, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, read_err);
    writeBlock(f, file, data, PIECE, 0);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, write_err);
    g_assert_cmpint(f->op, ==, VIR_TORRENT_DISK_OPEN);
}

/* What was planted in the file's place. */
static void
testPlanted(void)
{
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autofree char *path = pathOf(f, "m");
    g_autofree char *victim = pathOf(f, "victim");
    g_autofree char *sub = pathOf(f, "sub");
    g_autofree guint8 *data = randomBytes(PIECE, 14);

    g_assert_true(g_file_set_contents(victim, (char *)data, PIECE, NULL));
    g_assert_cmpint(symlink(victim, path), ==, 0);
    assertRefused(f, f->dir, ELOOP, ELOOP);
    g_unlink(path);
    g_assert_cmpint(symlink("nowhere", path), ==, 0);
    assertRefused(f, f->dir, ELOOP, ELOOP);
    g_unlink(path);
    g_assert_cmpint(link(victim, path), ==, 0);
    assertRefused(f, f->dir, 0, EMLINK);
    g_unlink(path);
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    assertRefused(f, f->dir, EINVAL, EINVAL);
    g_unlink(path);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    assertRefused(f, f->dir, EINVAL, EISDIR);
    g_assert_cmpint(symlink(f->dir, sub), ==, 0);
    assertRefused(f, sub, ENOTDIR, ENOTDIR);
    assertContent(f, "victim", data, PIECE);
    g_assert_cmpuint(kernel.writes, ==, 0);
}

/* --- bounds --------------------------------------------------------------------------- */

static void
testQueueIsBounded(void)
{
    VirTorrentDiskLimits limits = { .queue_max = 8 * BLOCK };
    gsize size = 16 * PIECE;
    g_autoptr(Fixture) f = fixtureNew(&limits);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, size);
    g_autofree guint8 *data = randomBytes(size, 15);
    guint i;

    kernel.write = FAULT_WAIT;
    for (i = 0; i < 8; i++)
        g_assert_false(writeBlock(f, file, data, size, i));
    g_assert_true(writeBlock(f, file, data, size, 8));
    g_assert_false(virTorrentDiskMayWrite(f->disk));
    virTorrentDiskFence(file, onDone, f);
    virTorrentDiskSubmit(f->disk);
    g_usleep(20000);
    virTorrentDiskDispatch(f->disk);
    g_assert_cmpuint(f->reported, ==, 0);           /* the fence waits, too */
    kernelReset();
    waitReports(f, 10);
    g_assert_true(virTorrentDiskMayWrite(f->disk));
    virTorrentDiskFence(file, onDone, f);
    waitReports(f, 1);
}

/* What is whole is written out, and the oldest of it leaves the page cache. */
static void
testPageCacheIsBounded(void)
{
    VirTorrentDiskLimits limits = { .dirty_max = 2 * PIECE, .cache_max = 4 * PIECE };
    gsize size = 32 * PIECE;
    g_autoptr(Fixture) f = fixtureNew(&limits);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, size);
    g_autofree guint8 *data = randomBytes(size, 16);
    guint i;

    writeAll(f, file, data, size);
    waitReports(f, 128);
    assertHashes(f, file, data, size);
    g_mutex_lock(&kernel.lock);
    g_assert_cmpuint(kernel.synced, >=, 29 * PIECE);
    g_assert_cmpuint(kernel.dropped, >=, 24 * PIECE);
    kernel.dropped = 0;
    g_mutex_unlock(&kernel.lock);

    /* what was in memory before us stays there; what we brought in goes */
    for (i = 0; i < 32; i++)
        virTorrentDiskRead(file, i, 0, BLOCK, onDone, f);
    waitReports(f, 32);
    kernel.dropped = 0;
    for (i = 0; i < 32; i++)
        virTorrentDiskRead(file, i, 0, BLOCK, onDone, f);
    waitReports(f, 32);
    g_assert_cmpuint(kernel.dropped, <=, 2 * PIECE);
    kernel.never_cached = TRUE;
    for (i = 0; i < 32; i++)
        virTorrentDiskRead(file, i, BLOCK, BLOCK, onDone, f);
    waitReports(f, 32);
    g_assert_cmpuint(kernel.dropped, >=, 24 * PIECE);
}

/* Seeds that nobody asks for cost no descriptor; those that are, a bounded number. */
static void
testDescriptorsAreBounded(void)
{
    g_autoptr(Fixture) f = fixtureNew(NULL);
    VirTorrentDiskFile *files[100];
    g_autoptr(GDir) dir = NULL;
    guint i, open_fds = 0;

    for (i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *name = g_strdup_printf("m%u", i);
        g_autofree char *path = pathOf(f, name);

        g_assert_true(g_file_set_contents(path, "content", 7, NULL));
        files[i] = virTorrentDiskOpen(f->disk, f->dir, name, 7, 7, PIECE, VIR_TORRENT_DISK_SHA256);
        virTorrentDiskRead(files[i], 0, 0, 7, onDone, f);
    }
    waitReports(f, G_N_ELEMENTS(files));
    dir = g_dir_open("/proc/self/fd", 0, NULL);
    while (g_dir_read_name(dir))
        open_fds++;
    g_assert_cmpuint(open_fds, <, 90);
    for (i = 0; i < G_N_ELEMENTS(files); i++) {
        virTorrentDiskRead(files[i], 0, 0, 7, onDone, f);
        waitReports(f, 1);
        g_assert_cmpmem(f->data, 7, "content", 7);
        virTorrentDiskClose(files[i]);
    }
}

/* --- the rest --------------------------------------------------------------------------- */

static void
testRelocate(void)
{
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autoptr(VirTorrentDiskFile) file = openFile(f, PIECE);
    g_autofree guint8 *data = randomBytes(PIECE, 17);
    g_autofree char *from = pathOf(f, "m");
    g_autofree char *sub = pathOf(f, "sub");
    g_autofree char *to = g_build_filename(sub, "moved", NULL);

    writeAll(f, file, data, PIECE);
    waitReports(f, 4);
    g_assert_cmpint(g_mkdir(sub, 0700), ==, 0);
    g_assert_cmpint(rename(from, to), ==, 0);
    virTorrentDiskRelocate(file, sub, "moved");
    virTorrentDiskRead(file, 0, 0, BLOCK, onDone, f);
    waitReports(f, 1);
    g_assert_cmpmem(f->data, BLOCK, data, BLOCK);
    virTorrentDiskStat(file, onDone, f);
    waitReports(f, 1);
    g_assert_cmpint(f->err, ==, 0);
}

/* Many pieces by several threads, closed while it happens. */
static void
testCloseWhileBusy(void)
{
    gsize size = 8 * MIB + 1;
    g_autoptr(Fixture) f = fixtureNew(NULL);
    g_autofree guint8 *data = randomBytes(size, 18);
    g_autofree guint8 *leaves = g_malloc(size / BLOCK * HASH + HASH);
    VirTorrentDiskFile *file = openFile(f, size);
    guint jobs = writeAll(f, file, data, size), piece;

    virTorrentDiskSubmit(f->disk);
    for (piece = 0; piece * PIECE < size; piece++, jobs++)
        virTorrentDiskHash(file, piece, leaves + piece * (PIECE / BLOCK) * HASH, FALSE, onDone, f);
    virTorrentDiskClose(file);
    waitReports(f, jobs);
    assertContent(f, "m", data, size);
    assertLeaves(leaves, data, size);
    g_assert_cmpuint(openForWriting(f), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk/write", testWrite);
    g_test_add_func("/disk/read-buffered", testReadBuffered);
    g_test_add_func("/disk/write-twice", testWriteTwice);
    g_test_add_func("/disk/holes", testHoles);
    g_test_add_func("/disk/zeros-over-data", testZerosOverData);
    g_test_add_func("/disk/size", testSize);
    g_test_add_func("/disk/hash-from-disk", testHashFromDisk);
    g_test_add_func("/disk/sha1", testSha1);
    g_test_add_func("/disk/padding", testPadding);
    g_test_add_func("/disk/write-faults", testWriteFaults);
    g_test_add_func("/disk/read-faults", testReadFaults);
    g_test_add_func("/disk/planted", testPlanted);
    g_test_add_func("/disk/queue-is-bounded", testQueueIsBounded);
    g_test_add_func("/disk/page-cache-is-bounded", testPageCacheIsBounded);
    g_test_add_func("/disk/descriptors-are-bounded", testDescriptorsAreBounded);
    g_test_add_func("/disk/relocate", testRelocate);
    g_test_add_func("/disk/close-while-busy", testCloseWhileBusy);
    return g_test_run();
}
