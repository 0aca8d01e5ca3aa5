/*
 * pool.h: one pool, its volumes, and what becomes of them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Domain logic: knows no wire, neither D-Bus nor BitTorrent.  Main thread only.
 */

#pragma once

#include <glib.h>

#include "conf.h"
#include "monitor.h"
#include "options.h"

G_BEGIN_DECLS

#define VIR_TORRENT_POOL_ERROR (virTorrentPoolErrorQuark())
GQuark virTorrentPoolErrorQuark(void);

/* In the order of the names in org.libvirt.Torrentd1.xml. */
typedef enum {
    VIR_TORRENT_POOL_ERROR_FAILED,
    VIR_TORRENT_POOL_ERROR_NO_POOL,
    VIR_TORRENT_POOL_ERROR_NO_VOLUME,
    VIR_TORRENT_POOL_ERROR_EXISTS,
    VIR_TORRENT_POOL_ERROR_BUSY,
    VIR_TORRENT_POOL_ERROR_INVALID_NAME,
    VIR_TORRENT_POOL_ERROR_INVALID_MAGNET,
    VIR_TORRENT_POOL_ERROR_INVALID_METAINFO,
    VIR_TORRENT_POOL_ERROR_INVALID_OPTION,
    VIR_TORRENT_POOL_ERROR_NOT_STANDALONE,
    VIR_TORRENT_POOL_ERROR_DENIED,
    VIR_TORRENT_POOL_ERROR_LAST
} VirTorrentPoolError;

typedef struct _VirTorrentPool VirTorrentPool;

/* @state: as on the wire, or "removed" */
typedef void (*VirTorrentPoolChangedFunc)(const char *uuid,
                                          const char *name,
                                          const char *state,
                                          gpointer opaque);

/* Hashes of all pools take turns. */
typedef struct {
    guint running;
    GQueue waiting;              /* VirTorrentVolume, not owned */
} VirTorrentHashQueue;

struct _VirTorrentVolume;

/* What pools are given by their manager; outlives them. */
typedef struct {
    const VirTorrentConf *conf;
    VirTorrentMonitor *monitor;
    VirTorrentHashQueue hashes;
    struct _VirTorrentVolume *scrubbing; /* the one that is read again, or NULL */
    VirTorrentPoolChangedFunc changed;
    gpointer opaque;
} VirTorrentPoolEnv;

/* A volume as it is at the moment.  NULL and 0 stand for what is not known. */
typedef struct {
    char *name;
    const char *state;
    double progress;
    char *format;
    guint64 capacity;
    guint64 size;
    guint64 done;
    char *key;
    char *magnet;
    char *error;
    guint damaged;               /* pieces */
    guint64 scrubbed;            /* when all of it was last found good, seconds since the epoch */
    double scrub;                /* percent that was read again; negative: it is not just now */
    guint peers;
    guint place;
    guint64 download_rate, upload_rate;
    guint64 downloaded, uploaded;
} VirTorrentVolumeInfo;

void virTorrentVolumeInfoFree(VirTorrentVolumeInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentVolumeInfo, virTorrentVolumeInfoFree)

/* Makes the private directories and the engine, and begins to load what is
 * there, in idle time.  Takes @options in any case. */
VirTorrentPool *virTorrentPoolNew(VirTorrentPoolEnv *env,
                                  const char *uuid,
                                  const char *name,
                                  const char *target,
                                  VirTorrentOptions *options,
                                  GError **error);
/* Stops everything, writes the DHT's state, waits for the disk. */
void virTorrentPoolFree(VirTorrentPool *pool);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentPool, virTorrentPoolFree)

const char *virTorrentPoolGetUuid(VirTorrentPool *pool);
const char *virTorrentPoolGetName(VirTorrentPool *pool);
const char *virTorrentPoolGetTarget(VirTorrentPool *pool);
const VirTorrentOptions *virTorrentPoolGetOptions(VirTorrentPool *pool);

/* Takes over changed options; takes @options in any case.  Where it fails the
 * old ones go on to hold. */
gboolean virTorrentPoolReconfigure(VirTorrentPool *pool,
                                   VirTorrentOptions *options,
                                   GError **error);

/* Asks the engine for resume data of what is being fetched; TRUE where some is
 * to be expected, and FALSE again from virTorrentPoolIsSaving() when it is here. */
gboolean virTorrentPoolSave(VirTorrentPool *pool);
gboolean virTorrentPoolIsSaving(VirTorrentPool *pool);

/* When the pool is freed its private files go, too. */
void virTorrentPoolSetPurge(VirTorrentPool *pool);

/* Sorted by name. */
GPtrArray *virTorrentPoolListVolumes(VirTorrentPool *pool);
VirTorrentVolumeInfo *virTorrentPoolGetVolume(VirTorrentPool *pool,
                                              const char *name,
                                              GError **error);

/* See org.libvirt.Torrentd1.xml.  @format may be NULL, @capacity 0. */
gboolean virTorrentPoolPublish(VirTorrentPool *pool, const char *name,
                               const char *format, guint64 capacity, GError **error);
gboolean virTorrentPoolFetchMagnet(VirTorrentPool *pool, const char *name, const char *magnet,
                                   const char *format, guint64 capacity, GError **error);
/* Returns the name that was taken. */
const char *virTorrentPoolFetchMetainfo(VirTorrentPool *pool, const char *name,
                                        GBytes *metainfo, GError **error);
GBytes *virTorrentPoolGetMetainfo(VirTorrentPool *pool, const char *name, GError **error);
gboolean virTorrentPoolRemove(VirTorrentPool *pool, const char *name, GError **error);
/* @name: "" for all of the pool; @count: how many are read again. */
gboolean virTorrentPoolScrub(VirTorrentPool *pool, const char *name, guint *count, GError **error);
/* Begins what is due, if nothing is being read, and keeps how far it is.  To be called now and then. */
void virTorrentPoolScrubSome(VirTorrentPool *pool);
gboolean virTorrentPoolPrioritize(VirTorrentPool *pool, const char *name, GError **error);

G_END_DECLS
