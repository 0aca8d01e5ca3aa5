/*
 * state.h: what outlives the process
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>
#include <sys/stat.h>

G_BEGIN_DECLS

/* The files of one pool's private directory. */
typedef struct _VirTorrentState VirTorrentStore;

typedef enum {
    VIR_TORRENT_STORE_METAINFO,  /* meta/NAME.torrent: the authority on a master */
    VIR_TORRENT_STORE_MAGNET,    /* meta/NAME.magnet: a fetch that began with a magnet */
    VIR_TORRENT_STORE_PUBLISH,   /* meta/NAME.publish: to be hashed */
    VIR_TORRENT_STORE_DAMAGE,    /* meta/NAME.damage: a master that is not what it was, and why;
                                    virt-torrentpool-hook looks for it */
    VIR_TORRENT_STORE_RESUME,    /* resume/NAME.resume: the engine's resume data */
    VIR_TORRENT_STORE_HAVE,      /* resume/NAME.have: the engine's, see have.h */
    VIR_TORRENT_STORE_STAT,      /* resume/NAME.stat: the stamp of a verified file */
    VIR_TORRENT_STORE_LEAVES,    /* resume/NAME.leaves: the hash of each block of a master */
    VIR_TORRENT_STORE_SCRUB,     /* resume/NAME.scrub: how far it was read again, and when */
    VIR_TORRENT_STORE_SESSION,   /* resume/NAME.session: DHT nodes; NAME is "engine" */
    VIR_TORRENT_STORE_PORT,      /* resume/NAME.port: so that magnets given away stay true */
    VIR_TORRENT_STORE_LAST
} VirTorrentStoreKind;

/* What meta/format says.  To be raised when an older version would misunderstand what
 * is written now; not for files that it does not know or that may be lost. */
#define VIR_TORRENT_STORE_FORMAT 1U

/* Opens meta/, partial/ and resume/ of @target's private directory, which the
 * monitor made.  NULL with @error (G_FILE_ERROR) set; so also where a newer version wrote
 * what is there, and then nothing of it is changed. */
VirTorrentStore *virTorrentStoreOpen(const char *target, GError **error);

/* Waits until everything queued is on disk. */
void virTorrentStoreFree(VirTorrentStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentStore, virTorrentStoreFree)

/* Called in the main context that was in force at virTorrentStoreSave(). */
typedef void (*VirTorrentStoreFunc)(const GError *error, gpointer opaque);

/* Replaces one file, atomically, behind the caller's back; what is
 * queued for one pool happens in the order it was queued in.  @func, which may
 * be NULL, is told how it went; @opaque is released by @destroy. */
void virTorrentStoreSave(VirTorrentStore *store,
                         VirTorrentStoreKind kind,
                         const char *name,
                         GBytes *content,
                         VirTorrentStoreFunc func,
                         gpointer opaque,
                         GDestroyNotify destroy);
/* Brings the content of the file @fd, which is taken, to the disk before what is
 * queued next is written: what says that it is good must not outlive it.  Where that
 * fails, what is queued next fails, too, and leaves what was there before. */
void virTorrentStoreSyncFile(VirTorrentStore *store, int fd);
void virTorrentStoreRemove(VirTorrentStore *store,
                           VirTorrentStoreKind kind,
                           const char *name);
void virTorrentStoreFlush(VirTorrentStore *store);

/* Reads at most @max bytes; what is queued is not seen, so call it when nothing
 * is.  G_FILE_ERROR_NOENT where there is none. */
GBytes *virTorrentStoreLoad(VirTorrentStore *store,
                            VirTorrentStoreKind kind,
                            const char *name,
                            gsize max,
                            GError **error);

/* The names that meta/ knows (sorted, each once). */
GPtrArray *virTorrentStoreList(VirTorrentStore *store);

/* partial/NAME: -1 and errno as fstatat() */
int virTorrentStorePartialStat(VirTorrentStore *store, const char *name, struct stat *st);
int virTorrentStorePartialOpen(VirTorrentStore *store, const char *name);
/* A new one, for reading and writing; -1 and errno, EEXIST */
int virTorrentStorePartialCreate(VirTorrentStore *store, const char *name);
/* The name is free at once; the bytes go behind the caller's back. */
void virTorrentStorePartialRemove(VirTorrentStore *store, const char *name);

/* Removes every file in the three directories. */
void virTorrentStorePurge(VirTorrentStore *store);

/* The stamp: what a file was like when it was last known to be good. */
GBytes *virTorrentStampMake(const struct stat *st);
gboolean virTorrentStampMatches(GBytes *stamp, const struct stat *st);

/* The pools that are open, in the run directory: @group is the content of one
 * key file, @uuid its name.  A list made before this boot is ignored. */
gboolean virTorrentPoolListSave(const char *rundir, const char *uuid,
                                GKeyFile *record, GError **error);
void virTorrentPoolListRemove(const char *rundir, const char *uuid);
/* uuid -> GKeyFile */
GHashTable *virTorrentPoolListLoad(const char *rundir);

G_END_DECLS
