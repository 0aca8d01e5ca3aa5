/*
 * have.c: pieces of a fetch that were verified since its resume data was saved
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Resume data is saved every few seconds, after an fsync of what it speaks of, and
 * holds after a power loss.  When only the process dies, nothing is lost of
 * what it gave to the kernel; so each verified piece is noted in a list, with
 * one write and no fsync:
 *
 *     "torrentpool have 1 BOOT INODE:BIRTH KEY\n"  (of a statx(), decimal)
 *     the number of a piece, 32 bits, little endian; and so on
 *
 * Invariant: a list is believed only where its first line is that of now.  After
 * a reboot, or for another file, another one is begun.
 *
 * Locks: none.  One thread at a time; each call opens the file itself, since
 * fetches may be many.
 */

#include <config.h>

#include "have.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is longer than this is no list of ours: 16 M pieces. */
#define LIST_MAX (64 * 1024 * 1024)

struct _VirTorrentHave {
    char *path;
    char *file;
    char *key;
    char *head;                  /* the first line, once the list was seen to begin with it */
};

VirTorrentHave *
virTorrentHaveNew(const char *path, const char *file, const char *key)
{
    VirTorrentHave *have = g_new0(VirTorrentHave, 1);

    have->path = g_strdup(path);
    have->file = g_strdup(file);
    have->key = g_strdup(key);
    return have;
}

void
virTorrentHaveFree(VirTorrentHave *have)
{
    if (!have)
        return;
    g_free(have->path);
    g_free(have->file);
    g_free(have->key);
    g_free(have->head);
    g_free(have);
}

/* NULL where there is no file to speak of. */
static char *
virTorrentHaveHead(VirTorrentHave *have)
{
    g_autofree char *boot = NULL;
    struct statx st;

    /* inodes are used again: when it was made tells them apart, where that is known */
    if (statx(AT_FDCWD, have->file, AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_INO | STATX_BTIME, &st) < 0 ||
        !S_ISREG(st.stx_mode) ||
        !g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL))
        return NULL;
    return g_strdup_printf("torrentpool have 1 %s %" PRIu64 ":%" PRIu64 " %s\n", g_strstrip(boot),
                           (guint64) st.stx_ino,
                           (guint64) st.stx_btime.tv_sec * G_GUINT64_CONSTANT(1000000000) + st.stx_btime.tv_nsec,
                           have->key);
}

static gboolean
virTorrentHaveBegins(int fd, const char *head)
{
    gsize len = strlen(head);
    g_autofree char *first = g_malloc(len);

    return pread(fd, first, len, 0) == (ssize_t) len && memcmp(first, head, len) == 0;
}

/* A list with this head to append to, or -1 and errno. */
static int
virTorrentHaveBegin(VirTorrentHave *have)
{
    int fd = open(have->path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    ssize_t len;

    if (fd < 0 || have->head)
        return fd;
    have->head = virTorrentHaveHead(have);
    if (have->head && virTorrentHaveBegins(fd, have->head))
        return fd;
    len = have->head ? (ssize_t) strlen(have->head) : -1;
    if (len > 0 && ftruncate(fd, 0) == 0 && write(fd, have->head, len) == len)
        return fd;
    g_clear_pointer(&have->head, g_free);
    close(fd);
    errno = EIO;
    return -1;
}

void
virTorrentHaveAdd(VirTorrentHave *have, guint32 piece)
{
    guint32 number = GUINT32_TO_LE(piece);
    int fd = virTorrentHaveBegin(have);

    if (fd < 0 || write(fd, &number, sizeof(number)) != sizeof(number))
        g_debug("Cannot note piece %u in '%s'", piece, have->path);
    if (fd >= 0)
        close(fd);
}

GArray *
virTorrentHaveLoad(VirTorrentHave *have, guint32 pieces)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_autofree char *head = virTorrentHaveHead(have);
    gsize at = head ? strlen(head) : 0;
    int fd = open(have->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd >= 0 && head && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= LIST_MAX &&
        virTorrentHaveBegins(fd, head)) {
        guint32 some[1024];
        ssize_t n;

        while ((n = pread(fd, some, sizeof(some), at)) > 0) {
            gsize i;

            for (i = 0; i < (gsize) n / sizeof(*some); i++) {
                guint32 piece = GUINT32_FROM_LE(some[i]);

                if (piece < pieces)
                    g_array_append_val(list, piece);
            }
            at += n;
        }
    }
    if (fd >= 0)
        close(fd);
    return list;
}
