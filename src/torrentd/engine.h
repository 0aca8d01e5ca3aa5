/*
 * engine.h: what virttorrentd wants from a BitTorrent implementation
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One engine is one swarm identity: its listen port, its DHT node, its limits,
 * its torrents.  A pool has one engine.  Implementations: engine-libtorrent.cpp
 * (the real one, the only C++ file and the only one that may include
 * libtorrent) and tests/engine-fake.c (faults on demand); tests/test-engine.c
 * is the contract and is linked with each in turn.
 *
 * Invariants:
 *  - no call blocks on the network, on a disk or on a hash;
 *  - no exception and no signal leaves an implementation;
 *  - events are delivered by callback in the thread-default main context that
 *    was in force when the engine was made, never from inside a call;
 *  - a torrent is named by the id its caller gives (the volume's name), one
 *    file per torrent, stored at the path the caller gives;
 *  - after virTorrentEngineFree() returned no callback is called any more.
 */

#pragma once

#include <glib.h>
#include <sys/types.h>

#include "tls.h"

G_BEGIN_DECLS

#define VIR_TORRENT_ENGINE_ERROR (virTorrentEngineErrorQuark())
GQuark virTorrentEngineErrorQuark(void);

typedef enum {
    VIR_TORRENT_ENGINE_ERROR_FAILED,
    VIR_TORRENT_ENGINE_ERROR_INVALID_MAGNET,
    VIR_TORRENT_ENGINE_ERROR_INVALID_METAINFO, /* malformed, several files, symlinks, too large ... */
    VIR_TORRENT_ENGINE_ERROR_INVALID_NAME,     /* the metainfo's own name plays tricks */
    VIR_TORRENT_ENGINE_ERROR_INVALID_OPTION,
    VIR_TORRENT_ENGINE_ERROR_EXISTS,           /* id or info-hash is in this engine already */
    VIR_TORRENT_ENGINE_ERROR_NOT_FOUND,
} VirTorrentEngineError;

typedef struct _VirTorrentEngine VirTorrentEngine;

/* All strings are copied.  Zero or NULL means the default that stands here. */
typedef struct {
    const char *listen_address;      /* NULL: all addresses */
    guint16 listen_port;             /* 0: 6881, and the next free ones after it */
    const char *const *bootstrap;    /* "host:port", DHT nodes; NULL: none.  There is no public default */
    const char *const *trackers;     /* announce URLs added to every torrent; NULL: none */
    const char *const *webseeds;     /* http(s) URLs from which every torrent can be had, too (BEP 19); one that
                                        ends in a slash is a directory with the file in it; NULL: none */
    const char *const *allow;        /* CIDR; when given, nobody outside is spoken to */
    guint64 upload_limit;            /* bytes/s, 0: none; holds for LAN peers too */
    guint64 download_limit;
    gboolean dht, lsd, pex;
    const char *leaves;              /* directory with ID.leaves (VIR_TORRENT_EVENT_LEAVES) of what is seeded:
                                        others are told them, and what is fetched is looked up in them;
                                        there the engine keeps ID.have of what is fetched, which goes with
                                        its resume data and may be lost; NULL: none */
    VirTorrentTls *tls;              /* a private swarm: nobody is spoken to without TLS and a certificate; peers
                                        connect to VIR_TORRENT_TLS_PORT(listen_port); NULL: a public one */
    GBytes *session_state;           /* what virTorrentEngineSaveState() gave, or NULL */
    guint hash_threads;              /* 0: one per core */
} VirTorrentEngineSettings;

/* What the metainfo says; every member may be unknown while only a magnet is known. */
typedef struct {
    char *name;          /* as the metainfo gives it, checked; NULL: unknown */
    char *format;        /* "qcow2", "raw"; NULL: the metainfo does not tell */
    guint64 capacity;    /* virtual capacity in bytes; 0: the metainfo does not tell */
    guint64 size;        /* length of the file in bytes; 0: unknown */
    guint32 piece_length;
    char *key;           /* "urn:btmh:1220<64 hex>" (v2, hybrid) or "urn:btih:<40 hex>" (v1) */
    gboolean tls;        /* of a private swarm */
} VirTorrentMetainfo;

void virTorrentMetainfoFree(VirTorrentMetainfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentMetainfo, virTorrentMetainfoFree)

typedef enum {
    VIR_TORRENT_CHECKING,            /* reading what is on disk */
    VIR_TORRENT_METADATA,            /* magnet, waiting for the info dictionary */
    VIR_TORRENT_DOWNLOADING,
    VIR_TORRENT_COMPLETE,            /* every piece verified */
    VIR_TORRENT_FAILED,
} VirTorrentState;

typedef struct {
    VirTorrentState state;
    guint64 size;                    /* 0: unknown */
    guint64 done;                    /* bytes here and verified (checking: bytes checked) */
    guint64 downloaded, uploaded;    /* payload bytes in this engine's life */
    guint64 download_rate, upload_rate; /* bytes/s */
    guint peers;
    guint place;                     /* among those that virTorrentEnginePrioritize() was told of, 1: goes
                                        first; 0: not among them */
    const char *error;               /* valid until the next call; VIR_TORRENT_FAILED only */
} VirTorrentStatus;

typedef enum {
    VIR_TORRENT_EVENT_METADATA,      /* virTorrentEngineGetMetainfo() answers; once after each
                                        virTorrentEngineAdd() without metainfo, before COMPLETE */
    VIR_TORRENT_EVENT_COMPLETE,      /* every piece is verified and on disk, no descriptor is open for writing;
                                        once after each virTorrentEngineAdd(), of a seed too */
    VIR_TORRENT_EVENT_FAILED,        /* message tells why; the torrent stays, stopped */
    VIR_TORRENT_EVENT_RESUME_DATA,   /* data: to be kept, for virTorrentEngineAdd() */
    VIR_TORRENT_EVENT_LEAVES,        /* data: the hash of each block of what was fetched; at most once, around
                                        COMPLETE.  To be kept for settings.leaves, may be lost */
} VirTorrentEventType;

typedef struct {
    VirTorrentEventType type;
    const char *id;
    const char *message;             /* FAILED */
    GBytes *data;                    /* RESUME_DATA, LEAVES */
} VirTorrentEvent;

typedef void (*VirTorrentEventFunc)(const VirTorrentEvent *event, gpointer opaque);

/* Returns NULL with @error set where the settings are wrong or nothing can be
 * listened on. */
VirTorrentEngine *virTorrentEngineNew(const VirTorrentEngineSettings *settings,
                                      VirTorrentEventFunc func,
                                      gpointer opaque,
                                      GError **error);
void virTorrentEngineFree(VirTorrentEngine *engine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentEngine, virTorrentEngineFree)

/* Takes over limits, bootstrap, allow, discovery of @settings while running;
 * a changed listen address or port too.  A swarm does not become private, nor public. */
gboolean virTorrentEngineReconfigure(VirTorrentEngine *engine,
                                     const VirTorrentEngineSettings *settings,
                                     GError **error);

/* The port that is listened on, 0 when none is. */
guint16 virTorrentEngineGetPort(VirTorrentEngine *engine);

/* DHT nodes and the like, for settings.session_state of a later engine. */
GBytes *virTorrentEngineSaveState(VirTorrentEngine *engine);

typedef enum {
    VIR_TORRENT_ADD_SEED = 1 << 0,   /* the file is complete and was verified: do not read it; never write to it */
    VIR_TORRENT_ADD_CHECK = 1 << 1,  /* verify what is on disk before anything else;
                                        with SEED: FAILED where it is not complete and right */
    /* Both: verify a master; it is never written to.  Complete: EVENT_COMPLETE;
     * anything missing or wrong: EVENT_FAILED, and nothing is downloaded. */
} VirTorrentAddFlags;

/* Exactly one of @metainfo and @magnet is given, or only @resume.
 * @dir, @file: absolute directory and the file's name in it; @resume: resume data or NULL. */
gboolean virTorrentEngineAdd(VirTorrentEngine *engine,
                             const char *id,
                             GBytes *metainfo,
                             const char *magnet,
                             GBytes *resume,
                             const char *dir,
                             const char *file,
                             VirTorrentAddFlags flags,
                             GError **error);

/* Where the engine finds the file from now on, after somebody moved or linked
 * it there; no byte is read again and no peer is dropped.  FALSE with
 * @error where that cannot be done: then remove and add it anew as a seed. */
gboolean virTorrentEngineRelocate(VirTorrentEngine *engine,
                                  const char *id,
                                  const char *dir,
                                  const char *file,
                                  GError **error);

/* Files are left alone.  Unknown ids are ignored. */
void virTorrentEngineRemove(VirTorrentEngine *engine, const char *id);

gboolean virTorrentEngineGetStatus(VirTorrentEngine *engine,
                                   const char *id,
                                   VirTorrentStatus *status);

/* The whole .torrent file (piece layers included), and what it says; either
 * may be NULL.  FALSE while it is not known. */
gboolean virTorrentEngineGetMetainfo(VirTorrentEngine *engine,
                                     const char *id,
                                     GBytes **metainfo,
                                     VirTorrentMetainfo **info);

/* Adds peers by address ("10.0.0.5:6881", "[fd00::5]:6881"). */
gboolean virTorrentEngineAddPeer(VirTorrentEngine *engine,
                                 const char *id,
                                 const char *peer,
                                 GError **error);

/* Puts @id, which is being fetched, at the head: all others get a trickle until it is complete or
 * nothing comes of it.  What was at the head before comes next.  Unknown ids are ignored. */
void virTorrentEnginePrioritize(VirTorrentEngine *engine, const char *id);

/* Asks for VIR_TORRENT_EVENT_RESUME_DATA of every torrent that changed. */
void virTorrentEngineRequestResumeData(VirTorrentEngine *engine);

/* Parses without a swarm.  Bounded: size, depth, number of pieces. */
VirTorrentMetainfo *virTorrentMetainfoParse(GBytes *metainfo, GError **error);
VirTorrentMetainfo *virTorrentMagnetParse(const char *magnet, GError **error); /* name, key only */

/* The longest .torrent file that is looked at, bytes. */
#define VIR_TORRENT_METAINFO_MAX (64 * 1024 * 1024)

typedef struct _VirTorrentHash VirTorrentHash;

/* @metainfo is NULL with @error set when it failed or was cancelled. Called in
 * the main context of the caller of virTorrentHashStart(). */
typedef void (*VirTorrentHashFunc)(VirTorrentHash *hash,
                                   GBytes *metainfo,
                                   const GError *error,
                                   gpointer opaque);

/* Hashes the file @fd (read by pread only; the descriptor is duplicated) in
 * worker threads and makes its metainfo, BEP 52.  Holes of sparse files are not read.
 * @authority: what virTorrentTlsGetAuthority() gave where the swarm is private, or NULL. */
VirTorrentHash *virTorrentHashStart(int fd,
                                    const char *name,
                                    const char *format,
                                    guint64 capacity,
                                    guint threads,
                                    GBytes *authority,
                                    VirTorrentHashFunc func,
                                    gpointer opaque,
                                    GError **error);
guint64 virTorrentHashGetDone(VirTorrentHash *hash);   /* bytes */
guint64 virTorrentHashGetSize(VirTorrentHash *hash);
/* The hash of each block of 16 KiB, in a row; once, in VirTorrentHashFunc of a hash that
 * succeeded.  NULL where the file is too large for that. */
GBytes *virTorrentHashTakeLeaves(VirTorrentHash *hash);
/* Cancels it where it is running (@func is not called any more) and frees it. */
void virTorrentHashFree(VirTorrentHash *hash);

G_END_DECLS
