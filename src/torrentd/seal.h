/*
 * seal.h: what the monitor knows of a master's content
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * When a file becomes a master, the monitor reads it once and notes the root of
 * its hash tree (BEP 52) in an extended attribute, user.torrentpool.root, which
 * only they can write who could write to the file as well.  A file that is to
 * take a damaged master's place has to have the same root: this is what keeps an
 * engine in hostile hands from exchanging a master.
 */

#pragma once

#include <glib.h>
#include <sys/types.h>

G_BEGIN_DECLS

#define VIR_TORRENT_SEAL_XATTR "user.torrentpool.root"
#define VIR_TORRENT_SEAL_SIZE 32

/* Reading takes long, so a child does it; one at a time.  Zero it to begin with. */
typedef struct {
    pid_t pid;                   /* 0: none is running */
    int pipe;
    gboolean known;              /* of the file: */
    dev_t dev;
    ino_t ino;
    guint8 root[VIR_TORRENT_SEAL_SIZE];
} VirTorrentSealer;

/* The root of the content of @fd, by reading it.  FALSE with errno set. */
gboolean virTorrentSealCompute(int fd, guint8 *root);

/* The attribute; FALSE with errno set, ENODATA: there is none. */
gboolean virTorrentSealRead(int fd, guint8 *root);
gboolean virTorrentSealWrite(int fd, const guint8 *root);

/* Whether the kernel lets nobody write to @fd, and checks what it reads. */
gboolean virTorrentSealHasVerity(int fd);
/* 0, or an errno: EOPNOTSUPP, ENOTTY: kernel or file system have it not.  Reads all of the file. */
int virTorrentSealEnableVerity(int fd);

/* 0: @sealer knows the root of the regular file @fd; EAGAIN: it is at it, or at another file, ask
 * again; any other errno: it failed.  Never waits. */
int virTorrentSealerAsk(VirTorrentSealer *sealer, int fd);

/* The same, but the child leaves attribute and verity behind. 0: done. */
int virTorrentSealerSeal(VirTorrentSealer *sealer, int fd, gboolean verity);

G_END_DECLS
