/*
 * seal.c: what the monitor knows of a master's content
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See seal.h.  The child that reads is root as the monitor is; what it reads
 * only goes through a hash function, so there is nothing in it that could be
 * parsed wrongly.  It ends with its parent.
 */

#include <config.h>

#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "merkle.h"
#include "scrub.h"

#define HASH VIR_TORRENT_HASH_SIZE
/* The root does not depend on it. */
#define PIECE (1024 * 1024)

gboolean
virTorrentSealCompute(int fd, guint8 *root)
{
    g_autoptr(VirTorrentHasher) hasher = virTorrentHasherNew();
    g_autofree guint8 *buffer = g_malloc(VIR_TORRENT_READ_SIZE);
    g_autofree guint8 *layer = NULL;
    guint64 pieces;
    guint64 i;
    struct stat st;

    if (!hasher || fstat(fd, &st) < 0 || st.st_size == 0) {
        errno = EINVAL;
        return FALSE;
    }
    pieces = ((guint64)st.st_size + PIECE - 1) / PIECE;
    layer = g_malloc(pieces * HASH);
    for (i = 0; i < pieces; i++) {
        if (!virTorrentHasherPiece(hasher, fd, st.st_size, PIECE, i, buffer, NULL, NULL,
                                   layer + i * HASH))
            return FALSE;
    }
    if (pieces == 1)
        memcpy(root, layer, HASH);
    else
        virTorrentHasherFileRoot(hasher, layer, pieces, PIECE, root);
    return TRUE;
}

gboolean
virTorrentSealRead(int fd, guint8 *root)
{
    gssize n = fgetxattr(fd, VIR_TORRENT_SEAL_XATTR, root, VIR_TORRENT_SEAL_SIZE);

    if (n >= 0 && n != VIR_TORRENT_SEAL_SIZE)
        errno = ENODATA;
    return n == VIR_TORRENT_SEAL_SIZE;
}

gboolean
virTorrentSealWrite(int fd, const guint8 *root)
{
    return fsetxattr(fd, VIR_TORRENT_SEAL_XATTR, root, VIR_TORRENT_SEAL_SIZE, 0) == 0;
}

gboolean
virTorrentSealHasVerity(int fd)
{
    int flags = 0;

    return ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_VERITY_FL);
}

int
virTorrentSealEnableVerity(int fd)
{
    struct fsverity_enable_arg arg = {
        .version = 1,
        .hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
        .block_size = sysconf(_SC_PAGESIZE),
    };

    return ioctl(fd, FS_IOC_ENABLE_VERITY, &arg) == 0 || errno == EEXIST ? 0 : errno;
}

/* What the child does; its exit status is an errno. */
static int
virTorrentSealerChild(int fd, int out, gboolean seal, gboolean verity)
{
    guint8 root[VIR_TORRENT_SEAL_SIZE];
    int err;

    virTorrentBeIdle();
    if (!(seal && virTorrentSealRead(fd, root)) && !virTorrentSealCompute(fd, root))
        return errno;
    if (seal && !virTorrentSealWrite(fd, root))
        return errno;
    if (seal && verity && (err = virTorrentSealEnableVerity(fd)) != 0 &&
        err != EOPNOTSUPP && err != ENOTTY)
        return err;
    return write(out, root, sizeof(root)) == sizeof(root) ? 0 : EIO;
}

static int
virTorrentSealerStart(VirTorrentSealer *sealer, int fd, gboolean seal, gboolean verity)
{
    pid_t parent = getpid();
    int pair[2];
    pid_t pid;

    if (pipe2(pair, O_CLOEXEC) < 0)
        return errno;
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* whoever looks for virttorrentd's two processes finds two */
        prctl(PR_SET_NAME, "torrent-seal");
        close(pair[0]);
        _exit(getppid() == parent ? virTorrentSealerChild(fd, pair[1], seal, verity) & 0xff : EINTR);
    }
    close(pair[1]);
    if (pid < 0) {
        int saved = errno;

        close(pair[0]);
        return saved;
    }
    sealer->pid = pid;
    sealer->pipe = pair[0];
    return EAGAIN;
}

/* 0: the child is through; EAGAIN: it is not; an errno: what it failed with. */
static int
virTorrentSealerReap(VirTorrentSealer *sealer)
{
    int status;
    int err;

    if (waitpid(sealer->pid, &status, WNOHANG) == 0)
        return EAGAIN;
    err = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    if (!err && read(sealer->pipe, sealer->root, sizeof(sealer->root)) != sizeof(sealer->root))
        err = EIO;
    close(sealer->pipe);
    sealer->pid = 0;
    sealer->known = !err;
    return err;
}

static int
virTorrentSealerRun(VirTorrentSealer *sealer, int fd, gboolean seal, gboolean verity)
{
    struct stat st;
    gboolean same;
    int err;

    if (fstat(fd, &st) < 0)
        return errno;
    same = sealer->dev == st.st_dev && sealer->ino == st.st_ino;
    if (sealer->pid) {
        err = virTorrentSealerReap(sealer);
        if (err == EAGAIN)
            return EAGAIN;
        if (same)
            return err;
    }
    if (same && sealer->known && !seal)
        return 0;
    sealer->known = FALSE;
    sealer->dev = st.st_dev;
    sealer->ino = st.st_ino;
    return virTorrentSealerStart(sealer, fd, seal, verity);
}

int
virTorrentSealerAsk(VirTorrentSealer *sealer, int fd)
{
    return virTorrentSealerRun(sealer, fd, FALSE, FALSE);
}

int
virTorrentSealerSeal(VirTorrentSealer *sealer, int fd, gboolean verity)
{
    guint8 root[VIR_TORRENT_SEAL_SIZE];

    /* what a child left, or an earlier virttorrentd */
    if (!sealer->pid && virTorrentSealRead(fd, root) && (!verity || virTorrentSealHasVerity(fd)))
        return 0;
    return virTorrentSealerRun(sealer, fd, TRUE, verity);
}
