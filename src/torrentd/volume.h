/*
 * volume.h: what pool.c and the files of volume*.c share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Nobody else includes this.  Main thread only, but for what volume-fetch.c
 * gives to an adoption's thread.
 */

#pragma once

#include <glib.h>
#include <sys/stat.h>

#include "image.h"
#include "pool.h"
#include "scrub.h"
#include "state.h"

G_BEGIN_DECLS

typedef enum {
    VIR_TORRENT_VOLUME_NONE,         /* not in the pool's table */
    VIR_TORRENT_VOLUME_PAUSED,       /* known from disk, its turn has not come */
    VIR_TORRENT_VOLUME_HASHING,      /* being published, or verified because it changed */
    VIR_TORRENT_VOLUME_FETCHING,
    VIR_TORRENT_VOLUME_SEEDING,
    VIR_TORRENT_VOLUME_HEALING,      /* a master that is damaged; what is wrong comes from others */
    VIR_TORRENT_VOLUME_FAILED,
    VIR_TORRENT_VOLUME_LAST
} VirTorrentVolumeState;

/* As on the wire; "removed" for VIR_TORRENT_VOLUME_NONE. */
extern const char *const virTorrentVolumeStateNames[VIR_TORRENT_VOLUME_LAST];

typedef enum {
    VIR_TORRENT_VOLUME_EVENT_PUBLISH,    /* asked for, or found undone */
    VIR_TORRENT_VOLUME_EVENT_FETCH,      /* asked for, or found undone */
    VIR_TORRENT_VOLUME_EVENT_VERIFIED,   /* found: final file as its stamp says */
    VIR_TORRENT_VOLUME_EVENT_CHANGED,    /* found: final file and no stamp that fits */
    VIR_TORRENT_VOLUME_EVENT_DAMAGED,    /* found: pieces that are not what they should be */
    VIR_TORRENT_VOLUME_EVENT_COPIED,     /* the good pieces are in partial/ */
    VIR_TORRENT_VOLUME_EVENT_HASHED,     /* metainfo is made */
    VIR_TORRENT_VOLUME_EVENT_METADATA,   /* metainfo came from the swarm */
    VIR_TORRENT_VOLUME_EVENT_COMPLETE,   /* the engine has every piece */
    VIR_TORRENT_VOLUME_EVENT_ADOPTED,    /* the final file stands */
    VIR_TORRENT_VOLUME_EVENT_FAILURE,    /* anything went wrong */
    VIR_TORRENT_VOLUME_EVENT_REMOVE,     /* asked for */
    VIR_TORRENT_VOLUME_EVENT_LAST
} VirTorrentVolumeEvent;

typedef struct _VirTorrentVolume {
    VirTorrentPool *pool;        /* NULL: removed, or the pool is closed */
    char *name;
    VirTorrentVolumeState state;
    char *error;                 /* VIR_TORRENT_VOLUME_FAILED, VIR_TORRENT_VOLUME_HEALING */
    char *format;
    guint64 capacity;
    guint64 size;
    char *key;
    char *magnet;                /* what the fetch began with, or NULL */
    GBytes *metainfo;            /* on its way to the engine; else NULL */
    VirTorrentHash *hash;        /* running */
    struct stat seen;            /* the file when it was last looked at */
    gboolean adopting;           /* a thread is at it: cannot be removed */
    gboolean loaded;             /* it was here when the pool was opened */
    gboolean kept;               /* meta/NAME.torrent is written or about to be */
    gboolean retry;              /* fetched before in this life: check what is there */
    gboolean saving;             /* resume data was asked for */

    VirTorrentScrub *scrub;      /* running: the check of HASHING, or in the background of SEEDING */
    gboolean checking;           /* HASHING: it is verified, not published */
    gint64 checked;              /* monotonic time of the last check, 0: none */
    gint64 scrubbed;             /* when all of it was found good, seconds since the epoch; 0: not known */
    guint32 scrub_next;          /* the piece that the next pass goes on with */
    GArray *damaged;             /* guint32, pieces; NULL: none is known to be */
    gint *copying;               /* HEALING: set it to have the copy end; NULL: none runs */
} VirTorrentVolume;

struct _VirTorrentPool {
    VirTorrentPoolEnv *env;
    char *uuid;
    char *name;
    char *target;
    char *partial;               /* its private directory for fetches */
    char *leaves;                /* and for what the engine wants to know of masters */
    VirTorrentOptions *options;
    VirTorrentStore *store;
    VirTorrentEngine *engine;
    VirTorrentTls *tls;          /* NULL: no private swarm */
    int targetfd;                /* O_PATH */
    GHashTable *volumes;         /* name -> VirTorrentVolume */
    GQueue scrubs;               /* names, to be read again because somebody asked */
    GPtrArray *pending;          /* names to be loaded, last one first */
    guint loader;
    gboolean purge;
};

/* volume.c */

VirTorrentVolume *virTorrentPoolAddVolume(VirTorrentPool *pool, const char *name,
                                          VirTorrentVolumeState state);
VirTorrentVolume *virTorrentVolumeRef(VirTorrentVolume *vol);
void virTorrentVolumeUnref(gpointer vol);

/* Moves @vol on.  @message is the reason of a failure.  Where the action fails,
 * the volume ends in state failed and FALSE is returned with @error set. */
gboolean virTorrentVolumeHandle(VirTorrentVolume *vol, VirTorrentVolumeEvent event,
                                const char *message, GError **error);
void virTorrentVolumeFail(VirTorrentVolume *vol, const char *message);

/* Judges what is found on disk of a paused volume. */
void virTorrentVolumeLoad(VirTorrentVolume *vol);

/* Always FALSE, for return. */
gboolean virTorrentPoolRefuse(GError **error, VirTorrentPoolError code, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
/* Says in the terms of our callers what another room said; takes @err. */
gboolean virTorrentPoolTranslate(GError **error, GError *err);

VirTorrentVolume *virTorrentPoolFind(VirTorrentPool *pool, const char *name, GError **error);
VirTorrentVolume *virTorrentPoolFindKey(VirTorrentPool *pool, const char *key);

/* The final file: -1 with errno set. */
int virTorrentVolumeStat(VirTorrentVolume *vol, struct stat *st);
/* What the metainfo says is believed more than any hint. */
void virTorrentVolumeLearn(VirTorrentVolume *vol, const VirTorrentMetainfo *info);
void virTorrentVolumeHint(VirTorrentVolume *vol, const char *format, guint64 capacity);

/* Keeps what must not be lost: the volume fails where that is not possible. */
void virTorrentVolumeSave(VirTorrentVolume *vol, VirTorrentStoreKind kind, GBytes *content);
void virTorrentVolumeSaveRequest(VirTorrentVolume *vol, VirTorrentStoreKind kind);
GBytes *virTorrentVolumeLoadMetainfo(VirTorrentVolume *vol, GError **error);


typedef void (*VirTorrentVolumeAction)(VirTorrentVolume *vol, GError **error);

/* volume-publish.c */

/* Opens the final file, which has to be a frozen regular file. */
int virTorrentPoolOpenMaster(VirTorrentPool *pool, const char *name, struct stat *st,
                             GError **error);
/* Sets @error for an open() of @name that failed with @errnum; -1. */
int virTorrentPoolOpenFailed(VirTorrentPool *pool, const char *name, int errnum, GError **error);
/* NULL with @error set where it leads to another file, or is not of the @format
 * (or NULL) that it is said to be.  Any thread. */
VirImageInfo *virTorrentProbeMaster(int fd, const char *name, const char *format,
                                    GError **error);

void virTorrentVolumeCancelHash(VirTorrentVolume *vol);
/* Has virTorrentVolumeHash() or virTorrentVolumeCheck() called when it is the turn of @vol. */
void virTorrentVolumeQueueHash(VirTorrentVolume *vol);
/* One of them is done. */
void virTorrentHashQueueNext(VirTorrentPoolEnv *env);
/* Whether size, time and inode are the same. */
gboolean virTorrentStatSame(const struct stat *a, const struct stat *b);
/* Adds the file at the final path to the engine. */
gboolean virTorrentVolumeAddFinal(VirTorrentVolume *vol, VirTorrentAddFlags flags,
                                  GError **error);
/* The final file is good as it was seen; nothing is left of how it came. */
void virTorrentVolumeSaveStamp(VirTorrentVolume *vol);

void virTorrentVolumeStartHash(VirTorrentVolume *vol, GError **error);
void virTorrentVolumeStartSeed(VirTorrentVolume *vol, GError **error);
void virTorrentVolumeSeedHashed(VirTorrentVolume *vol, GError **error);

/* volume-scrub.c */

void virTorrentVolumeStartCheck(VirTorrentVolume *vol, GError **error);
void virTorrentVolumeSeedChecked(VirTorrentVolume *vol, GError **error);
void virTorrentVolumeCheck(VirTorrentVolume *vol);
/* Ends what reads @vol, if anything does. */
void virTorrentVolumeCancelScrub(VirTorrentVolume *vol);
/* @vol was found good as a whole, just now. */
void virTorrentVolumeNoteGood(VirTorrentVolume *vol);
void virTorrentVolumeLoadScrub(VirTorrentVolume *vol);
/* Where its file is not as it was when it was last seen it is verified. */
void virTorrentVolumeLook(VirTorrentVolume *vol);
/* Whether the last check is not just over. */
gboolean virTorrentVolumeMayCheck(VirTorrentVolume *vol);

/* volume-heal.c */

/* What was said of the damage when it was found; NULL: it is not damaged. */
char *virTorrentVolumeLoadDamage(VirTorrentVolume *vol);
void virTorrentVolumeStartHeal(VirTorrentVolume *vol, GError **error);
void virTorrentVolumeCancelCopy(VirTorrentVolume *vol);

/* volume-fetch.c */

void virTorrentVolumeStartFetch(VirTorrentVolume *vol, GError **error);
void virTorrentVolumeKeepMetainfo(VirTorrentVolume *vol, GError **error);
void virTorrentVolumeStartAdoption(VirTorrentVolume *vol, GError **error);
void virTorrentVolumeTakeOver(VirTorrentVolume *vol, GError **error);
void virTorrentVolumeTakeOverHealed(VirTorrentVolume *vol, GError **error);


G_END_DECLS
