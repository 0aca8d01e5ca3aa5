/*
 * power-cut.c: what a disk holds when the power fails
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Usage: power-cut entries LOG
 *        power-cut cut LOG IMAGE ENTRY SEED
 *
 * LOG is what QEMU's blklogwrites wrote (the format of Linux' dm-log-writes: a
 * superblock, then for each request a header of one sector and its data, all
 * numbers little endian).  "entries" tells how many requests there are.  "cut"
 * does to IMAGE, the disk as it was in the beginning, what a disk with a volatile
 * cache may have done when the power failed after the first ENTRY requests: all
 * that was written before the last flush of these, and of what came after it any
 * sectors of any writes, as SEED has it.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_MAGIC G_GUINT64_CONSTANT(0x6a736677736872)
#define LOG_VERSION 1
#define LOG_FLUSH (1 << 0)
#define LOG_FUA (1 << 1)
#define LOG_DISCARD (1 << 2)
#define LOG_MARK (1 << 3)
#define SECTOR 512

typedef struct {
    guint64 magic, version, nr_entries;
    guint32 sectorsize;
} Super;

typedef struct {
    guint64 sector, nr_sectors, flags, data_len;
} Entry;

G_STATIC_ASSERT(G_BYTE_ORDER == G_LITTLE_ENDIAN);


static void
die(const char *what)
{
    g_printerr("power-cut: %s: %s\n", what, g_strerror(errno));
    exit(EXIT_FAILURE);
}


static void
read_at(int fd, void *buf, gsize len, off_t offset)
{
    gsize done = 0;

    while (done < len) {
        ssize_t n = pread(fd, (guint8 *)buf + done, len - done, offset + done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENODATA;
        if (n <= 0)
            die("reading the log");
        done += n;
    }
}


static void
write_at(int fd, const void *buf, gsize len, off_t offset)
{
    if (pwrite(fd, buf, len, offset) != (ssize_t)len)
        die("writing the image");
}


static Super
read_super(int fd)
{
    Super super;

    read_at(fd, &super, sizeof(super), 0);
    if (super.magic != LOG_MAGIC || super.version != LOG_VERSION || super.sectorsize != SECTOR) {
        errno = EINVAL;
        die("the head of the log");
    }
    return super;
}


static gboolean
has_data(const Entry *entry)
{
    return entry->nr_sectors > 0 && !(entry->flags & (LOG_DISCARD | LOG_MARK));
}


/* Reads the entry at *@offset, which becomes that of the next. */
static Entry
read_entry(int fd, off_t *offset)
{
    Entry entry;

    read_at(fd, &entry, sizeof(entry), *offset);
    *offset += SECTOR;
    if (has_data(&entry))
        *offset += entry.nr_sectors * SECTOR;
    return entry;
}


/* How many of the first @count entries are covered by a flush */
static guint64
last_flush(int log, guint64 count)
{
    off_t offset = SECTOR;
    guint64 flushed = 0;
    guint64 i;

    for (i = 0; i < count; i++) {
        if (read_entry(log, &offset).flags & LOG_FLUSH)
            flushed = i;
    }
    return flushed;
}


/* @rand: NULL: every sector reaches the disk */
static void
do_write(int log, int image, const Entry *entry, off_t data, GRand *rand)
{
    g_autofree guint8 *buf = g_malloc(entry->nr_sectors * SECTOR);
    /* 0: it is lost, 1: it is torn, 2 and 3: it is there */
    guint fate = rand && !(entry->flags & LOG_FUA) ? g_rand_int_range(rand, 0, 4) : 3;
    guint64 i;

    if (fate == 0)
        return;

    read_at(log, buf, entry->nr_sectors * SECTOR, data);
    if (fate > 1) {
        write_at(image, buf, entry->nr_sectors * SECTOR, entry->sector * SECTOR);
        return;
    }
    for (i = 0; i < entry->nr_sectors; i++) {
        if (g_rand_boolean(rand))
            write_at(image, buf + i * SECTOR, SECTOR, (entry->sector + i) * SECTOR);
    }
}


static void
cut(const char *log_path, const char *image_path, guint64 count, guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    int log = open(log_path, O_RDONLY | O_CLOEXEC);
    int image = open(image_path, O_WRONLY | O_CLOEXEC);
    off_t offset = SECTOR;
    guint64 flushed;
    guint64 i;

    if (log < 0 || image < 0)
        die(log < 0 ? log_path : image_path);

    count = MIN(count, read_super(log).nr_entries);
    flushed = last_flush(log, count);
    for (i = 0; i < count; i++) {
        Entry entry = read_entry(log, &offset);

        if (has_data(&entry))
            do_write(log, image, &entry, offset - entry.nr_sectors * SECTOR,
                     i < flushed ? NULL : rand);
    }
    close(image);
    close(log);
}


int
main(int argc, char **argv)
{
    if (argc == 3 && g_str_equal(argv[1], "entries")) {
        int log = open(argv[2], O_RDONLY | O_CLOEXEC);

        if (log < 0)
            die(argv[2]);
        g_print("%" G_GUINT64_FORMAT "\n", read_super(log).nr_entries);
        close(log);
        return EXIT_SUCCESS;
    }

    if (argc == 6 && g_str_equal(argv[1], "cut")) {
        cut(argv[2], argv[3], g_ascii_strtoull(argv[4], NULL, 10), atoi(argv[5]));
        return EXIT_SUCCESS;
    }

    g_printerr("Usage: %s entries LOG\n       %s cut LOG IMAGE ENTRY SEED\n", argv[0], argv[0]);
    return EXIT_FAILURE;
}
