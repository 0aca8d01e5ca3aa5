/*
 * pool.c: one pool, its volumes, and what becomes of them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A volume is a small state machine.  The table below is all of it: for each
 * state and event the next state and what is done on entering it.  What the
 * table does not list is ignored (events that come late) or refused by the
 * calls (which look at the state first).
 *
 * Invariants:
 *  - a volume that seeds has its file complete and verified at its final path;
 *  - a fetch writes to partial/ only; the final path is the monitor's;
 *  - the final file is never opened for writing here;
 *  - everything that reads or writes more than a few kilobytes happens in the
 *    engine, in a hash, in the state's writer or in an adoption's thread.
 *
 * Work that finishes later holds a reference on its volume; a volume that was
 * removed in the meantime has no pool any more.
 */

#include <config.h>

#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "i18n.h"
#include "image.h"
#include "magnet.h"
#include "state.h"

/* Time that loading may take of one turn of the main loop, microseconds. */
#define LOAD_SLICE 5000

typedef enum {
    STATE_NONE,                  /* not in the pool's table */
    STATE_PAUSED,                /* known from disk, its turn has not come */
    STATE_HASHING,               /* being published, or verified because it changed */
    STATE_FETCHING,
    STATE_SEEDING,
    STATE_FAILED,
    STATE_LAST
} VirTorrentVolumeState;

typedef enum {
    EVENT_PUBLISH,               /* asked for, or found undone */
    EVENT_FETCH,                 /* asked for, or found undone */
    EVENT_VERIFIED,              /* found: final file as its stamp says */
    EVENT_CHANGED,               /* found: final file and no stamp that fits */
    EVENT_HASHED,                /* metainfo is made */
    EVENT_METADATA,              /* metainfo came from the swarm */
    EVENT_COMPLETE,              /* the engine has every piece */
    EVENT_ADOPTED,               /* final file stands */
    EVENT_FAILURE,               /* anything went wrong; message tells what */
    EVENT_REMOVE,                /* asked for */
    EVENT_LAST
} VirTorrentVolumeEvent;

static const char *const stateNames[STATE_LAST] = {
    "removed", "paused", "hashing", "fetching", "seeding", "failed",
};

typedef struct {
    VirTorrentPool *pool;        /* NULL: removed, or the pool is closed */
    char *name;
    VirTorrentVolumeState state;
    char *error;                 /* STATE_FAILED */
    char *format;
    guint64 capacity;
    guint64 size;
    char *key;
    char *magnet;                /* what the fetch began with, or NULL */
    GBytes *metainfo;            /* on its way to the engine; else NULL */
    VirTorrentHash *hash;        /* running */
    struct stat seen;            /* the file when its hash began */
    gboolean adopting;           /* a thread is at it: cannot be removed */
    gboolean loaded;             /* it was here when the pool was opened */
    gboolean kept;               /* meta/NAME.torrent is written or about to be */
    gboolean retry;              /* fetched before in this life: check what is there */
    gboolean saving;             /* resume data was asked for */
} VirTorrentVolume;

struct _VirTorrentPool {
    VirTorrentPoolEnv *env;
    char *uuid;
    char *name;
    char *target;
    char *partial;
    VirTorrentOptions *options;
    VirTorrentStore *store;
    VirTorrentEngine *engine;
    int targetfd;
    GHashTable *volumes;         /* name -> VirTorrentVolume */
    GPtrArray *pending;          /* names to be loaded, last one first */
    guint loader;
    gboolean purge;
};

GQuark
virTorrentPoolErrorQuark(void)
{
    return g_quark_from_static_string("vir-torrent-pool-error-quark");
}

/* {{{ the table */

typedef void (*VirTorrentVolumeAction)(VirTorrentVolume *vol, GError **error);

static void virTorrentVolumeStartHash(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeStartFetch(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeStartCheck(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeStartSeed(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeKeepMetainfo(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeStartAdoption(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeKeepStamp(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeTakeOver(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeSeedHashed(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeStop(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeForget(VirTorrentVolume *vol, GError **error);

static const struct {
    gboolean valid;
    VirTorrentVolumeState next;
    VirTorrentVolumeAction action;
} table[STATE_LAST][EVENT_LAST] = {
#define GOES_TO(state, action) { TRUE, STATE_ ## state, action }
    [STATE_NONE] = {
        [EVENT_PUBLISH] = GOES_TO(HASHING, virTorrentVolumeStartHash),
        [EVENT_FETCH] = GOES_TO(FETCHING, virTorrentVolumeStartFetch),
    },
    [STATE_PAUSED] = {
        [EVENT_PUBLISH] = GOES_TO(HASHING, virTorrentVolumeStartHash),
        [EVENT_FETCH] = GOES_TO(FETCHING, virTorrentVolumeStartFetch),
        [EVENT_VERIFIED] = GOES_TO(SEEDING, virTorrentVolumeStartSeed),
        [EVENT_CHANGED] = GOES_TO(HASHING, virTorrentVolumeStartCheck),
        [EVENT_FAILURE] = GOES_TO(FAILED, NULL),
        [EVENT_REMOVE] = GOES_TO(NONE, virTorrentVolumeForget),
    },
    [STATE_HASHING] = {
        [EVENT_HASHED] = GOES_TO(SEEDING, virTorrentVolumeSeedHashed),
        [EVENT_COMPLETE] = GOES_TO(SEEDING, virTorrentVolumeKeepStamp),
        [EVENT_FAILURE] = GOES_TO(FAILED, virTorrentVolumeStop),
        [EVENT_REMOVE] = GOES_TO(NONE, virTorrentVolumeForget),
    },
    [STATE_FETCHING] = {
        [EVENT_METADATA] = GOES_TO(FETCHING, virTorrentVolumeKeepMetainfo),
        [EVENT_COMPLETE] = GOES_TO(FETCHING, virTorrentVolumeStartAdoption),
        [EVENT_ADOPTED] = GOES_TO(SEEDING, virTorrentVolumeTakeOver),
        [EVENT_FAILURE] = GOES_TO(FAILED, virTorrentVolumeStop),
        [EVENT_REMOVE] = GOES_TO(NONE, virTorrentVolumeForget),
    },
    [STATE_SEEDING] = {
        [EVENT_FAILURE] = GOES_TO(FAILED, virTorrentVolumeStop),
        [EVENT_REMOVE] = GOES_TO(NONE, virTorrentVolumeForget),
    },
    [STATE_FAILED] = {
        [EVENT_PUBLISH] = GOES_TO(HASHING, virTorrentVolumeStartHash),
        [EVENT_CHANGED] = GOES_TO(HASHING, virTorrentVolumeStartCheck),
        [EVENT_FETCH] = GOES_TO(FETCHING, virTorrentVolumeStartFetch),
        [EVENT_REMOVE] = GOES_TO(NONE, virTorrentVolumeForget),
    },
#undef GOES_TO
};

/* }}} */

static void
virTorrentVolumeClear(gpointer opaque)
{
    VirTorrentVolume *vol = opaque;

    g_free(vol->name);
    g_free(vol->error);
    g_free(vol->format);
    g_free(vol->key);
    g_free(vol->magnet);
    g_clear_pointer(&vol->metainfo, g_bytes_unref);
}

static void
virTorrentVolumeUnref(gpointer vol)
{
    g_rc_box_release_full(vol, virTorrentVolumeClear);
}

static VirTorrentVolume *
virTorrentVolumeRef(VirTorrentVolume *vol)
{
    return g_rc_box_acquire(vol);
}

static VirTorrentVolume *
virTorrentPoolAddVolume(VirTorrentPool *pool, const char *name, VirTorrentVolumeState state)
{
    VirTorrentVolume *vol = g_rc_box_new0(VirTorrentVolume);

    vol->pool = pool;
    vol->name = g_strdup(name);
    vol->state = state;
    g_hash_table_insert(pool->volumes, vol->name, vol);
    return vol;
}

static void
virTorrentVolumeSetError(VirTorrentVolume *vol, const char *message)
{
    g_free(vol->error);
    vol->error = message ? g_utf8_make_valid(message, -1) : NULL;
}

/* Moves @vol on.  @message is the reason of EVENT_FAILURE.  Where the action
 * fails, the volume ends in STATE_FAILED and FALSE is returned with @error set. */
static gboolean
virTorrentVolumeHandle(VirTorrentVolume *vol,
                       VirTorrentVolumeEvent event,
                       const char *message,
                       GError **error)
{
    VirTorrentVolumeState before = vol->state;
    VirTorrentPool *pool = vol->pool;
    g_autoptr(GError) err = NULL;

    if (!table[before][event].valid) {
        g_debug("Volume '%s': event %d in state '%s' ignored", vol->name, event,
                stateNames[before]);
        return TRUE;
    }
    virTorrentVolumeRef(vol);
    vol->state = table[before][event].next;
    virTorrentVolumeSetError(vol, vol->state == STATE_FAILED ? message : NULL);
    if (table[before][event].action)
        table[before][event].action(vol, &err);
    if (err) {
        g_propagate_error(error, g_error_copy(err));
        virTorrentVolumeStop(vol, NULL);
        vol->state = STATE_FAILED;
        virTorrentVolumeSetError(vol, err->message);
    }
    if (vol->state == STATE_FAILED)
        g_warning("Volume '%s' of pool '%s': %s", vol->name, pool->name, vol->error);
    if (vol->state != before) {
        g_info("Volume '%s' of pool '%s' is %s", vol->name, pool->name, stateNames[vol->state]);
        pool->env->changed(pool->uuid, vol->name, stateNames[vol->state], pool->env->opaque);
    }
    virTorrentVolumeUnref(vol);
    return err == NULL;
}

static void
virTorrentVolumeFail(VirTorrentVolume *vol, const char *message)
{
    virTorrentVolumeHandle(vol, EVENT_FAILURE, message, NULL);
}

/* {{{ small helpers */

static gboolean G_GNUC_PRINTF(3, 4)
virTorrentPoolRefuse(GError **error, VirTorrentPoolError code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (error)
        *error = g_error_new_valist(VIR_TORRENT_POOL_ERROR, code, fmt, ap);
    va_end(ap);
    return FALSE;
}

/* Says in the terms of our callers what another room said. */
static gboolean
virTorrentPoolTranslate(GError **error, GError *err)
{
    VirTorrentPoolError code = VIR_TORRENT_POOL_ERROR_FAILED;

    if (err->domain == VIR_TORRENT_POOL_ERROR) {
        g_propagate_error(error, err);
        return FALSE;
    }
    if (err->domain == VIR_TORRENT_ENGINE_ERROR) {
        switch ((VirTorrentEngineError) err->code) {
        case VIR_TORRENT_ENGINE_ERROR_INVALID_MAGNET:
            code = VIR_TORRENT_POOL_ERROR_INVALID_MAGNET;
            break;
        case VIR_TORRENT_ENGINE_ERROR_INVALID_METAINFO:
            code = VIR_TORRENT_POOL_ERROR_INVALID_METAINFO;
            break;
        case VIR_TORRENT_ENGINE_ERROR_INVALID_NAME:
            code = VIR_TORRENT_POOL_ERROR_INVALID_NAME;
            break;
        case VIR_TORRENT_ENGINE_ERROR_INVALID_OPTION:
            code = VIR_TORRENT_POOL_ERROR_INVALID_OPTION;
            break;
        case VIR_TORRENT_ENGINE_ERROR_EXISTS:
            code = VIR_TORRENT_POOL_ERROR_EXISTS;
            break;
        case VIR_TORRENT_ENGINE_ERROR_FAILED:
        case VIR_TORRENT_ENGINE_ERROR_NOT_FOUND:
            break;
        }
    } else if (g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_ACCES) ||
               g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_PERM)) {
        code = VIR_TORRENT_POOL_ERROR_DENIED;
    }
    g_set_error_literal(error, VIR_TORRENT_POOL_ERROR, code, err->message);
    g_error_free(err);
    return FALSE;
}

static VirTorrentVolume *
virTorrentPoolFind(VirTorrentPool *pool, const char *name, GError **error)
{
    VirTorrentVolume *vol = g_hash_table_lookup(pool->volumes, name);

    if (!vol)
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_NO_VOLUME,
                             _("there is no master '%s' in pool '%s'"), name, pool->name);
    return vol;
}

static VirTorrentVolume *
virTorrentPoolFindKey(VirTorrentPool *pool, const char *key)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, pool->volumes);
    while (key && g_hash_table_iter_next(&iter, NULL, &value)) {
        VirTorrentVolume *vol = value;

        if (g_strcmp0(vol->key, key) == 0)
            return vol;
    }
    return NULL;
}

/* The final file: -1 with errno set. */
static int
virTorrentVolumeStat(VirTorrentVolume *vol, struct stat *st)
{
    return fstatat(vol->pool->targetfd, vol->name, st, AT_SYMLINK_NOFOLLOW);
}

/* What the metainfo says is believed more than any hint. */
static void
virTorrentVolumeLearn(VirTorrentVolume *vol, const VirTorrentMetainfo *info)
{
    if (info->format) {
        g_free(vol->format);
        vol->format = g_strdup(info->format);
    }
    if (info->capacity)
        vol->capacity = info->capacity;
    if (info->size)
        vol->size = info->size;
    if (info->key) {
        g_free(vol->key);
        vol->key = g_strdup(info->key);
    }
}

static void
virTorrentVolumeHint(VirTorrentVolume *vol, const char *format, guint64 capacity)
{
    if (format && !vol->format)
        vol->format = g_strdup(format);
    if (capacity && !vol->capacity)
        vol->capacity = capacity;
}

static void
virTorrentVolumeSaved(const GError *error, gpointer opaque)
{
    VirTorrentVolume *vol = opaque;

    if (error && vol->pool)
        virTorrentVolumeFail(vol, error->message);
}

/* Keeps what must not be lost: the volume fails where that is not possible. */
static void
virTorrentVolumeSave(VirTorrentVolume *vol, VirTorrentStoreKind kind, GBytes *content)
{
    virTorrentStoreSave(vol->pool->store, kind, vol->name, content, virTorrentVolumeSaved,
                        virTorrentVolumeRef(vol), virTorrentVolumeUnref);
}

/* meta/NAME.magnet and meta/NAME.publish: what was asked for. */
static void
virTorrentVolumeSaveRequest(VirTorrentVolume *vol, VirTorrentStoreKind kind)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GBytes) content = NULL;
    gsize length = 0;
    char *data;

    if (vol->magnet)
        g_key_file_set_string(file, "volume", "magnet", vol->magnet);
    if (vol->format)
        g_key_file_set_string(file, "volume", "format", vol->format);
    if (vol->capacity)
        g_key_file_set_uint64(file, "volume", "capacity", vol->capacity);
    data = g_key_file_to_data(file, &length, NULL);
    content = g_bytes_new_take(data, length);
    virTorrentVolumeSave(vol, kind, content);
}

static gboolean
virTorrentVolumeLoadRequest(VirTorrentVolume *vol, VirTorrentStoreKind kind)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GBytes) content = virTorrentStoreLoad(vol->pool->store, kind, vol->name,
                                                    1024 * 1024, NULL);

    if (!content || !g_key_file_load_from_bytes(file, content, G_KEY_FILE_NONE, NULL))
        return FALSE;
    g_free(vol->magnet);
    g_free(vol->format);
    vol->magnet = g_key_file_get_string(file, "volume", "magnet", NULL);
    vol->format = g_key_file_get_string(file, "volume", "format", NULL);
    vol->capacity = g_key_file_get_uint64(file, "volume", "capacity", NULL);
    return kind == VIR_TORRENT_STORE_PUBLISH || vol->magnet;
}

static GBytes *
virTorrentVolumeLoadMetainfo(VirTorrentVolume *vol, GError **error)
{
    return virTorrentStoreLoad(vol->pool->store, VIR_TORRENT_STORE_METAINFO, vol->name,
                               VIR_TORRENT_METAINFO_MAX, error);
}

/* }}} */
/* {{{ publishing */

/* The first directory on the way to @path that this process may not search. */
static char *
virTorrentPathBarrier(const char *path)
{
    g_autofree char *part = g_strdup(path);
    char *slash;

    for (slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (faccessat(AT_FDCWD, part, X_OK, AT_EACCESS) < 0)
            return g_steal_pointer(&part);
        *slash = '/';
    }
    return NULL;
}

static int
virTorrentPoolOpenFailed(VirTorrentPool *pool, const char *name, int errnum, GError **error)
{
    g_autofree char *path = g_build_filename(pool->target, name, NULL);
    g_autofree char *barrier = errnum == EACCES ? virTorrentPathBarrier(path) : NULL;

    if (errnum == ENOENT)
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_NO_VOLUME,
                             _("there is no file '%s'"), path);
    else if (errnum == ELOOP)
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_FAILED,
                             _("'%s' is a symbolic link; a master must be a regular file"), path);
    else if (barrier)
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_DENIED,
                             _("virttorrentd (user %u) may not enter directory '%s'; "
                               "give it search permission (chmod o+x)"),
                             (unsigned) geteuid(), barrier);
    else if (errnum == EACCES)
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_DENIED,
                             _("virttorrentd (user %u) may not read '%s'; "
                               "make it readable (chmod 0444)"), (unsigned) geteuid(), path);
    else
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_FAILED,
                             _("cannot open '%s': %s"), path, g_strerror(errnum));
    return -1;
}

/* Opens the final file, which has to be a frozen regular file. */
static int
virTorrentPoolOpenMaster(VirTorrentPool *pool, const char *name, struct stat *st, GError **error)
{
    int fd = openat(pool->targetfd, name,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0)
        return virTorrentPoolOpenFailed(pool, name, errno, error);
    if (fstat(fd, st) < 0) {
        virTorrentPoolOpenFailed(pool, name, errno, error);
    } else if (!S_ISREG(st->st_mode)) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_FAILED,
                             _("'%s/%s' is not a regular file"), pool->target, name);
    } else if (st->st_mode & 0222) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_FAILED,
                             _("'%s/%s' can still be written to; a master must not "
                               "(chmod a-w)"), pool->target, name);
    } else if (st->st_size == 0) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_FAILED,
                             _("'%s/%s' is empty"), pool->target, name);
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

static VirImageInfo *
virTorrentProbeStandalone(int fd, const char *name, GError **error)
{
    g_autoptr(VirImageInfo) image = virImageProbe(fd, error);

    if (!image)
        return NULL;
    if (!virImageIsStandalone(image)) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_NOT_STANDALONE,
                             _("'%s' is a %s image that needs another file ('%s'); "
                               "a master must stand alone (qemu-img convert makes it so)"),
                             name, image->format,
                             image->backing_file ? image->backing_file : _("external data"));
        return NULL;
    }
    return g_steal_pointer(&image);
}

static void virTorrentHashQueueRun(VirTorrentPoolEnv *env);

static gboolean
virTorrentStatSame(const struct stat *a, const struct stat *b)
{
    g_autoptr(GBytes) stamp = virTorrentStampMake(a);

    return virTorrentStampMatches(stamp, b) && a->st_dev == b->st_dev;
}

static void
virTorrentVolumeHashDone(VirTorrentHash *hash,
                         GBytes *metainfo,
                         const GError *error,
                         gpointer opaque)
{
    VirTorrentVolume *vol = opaque;
    VirTorrentPoolEnv *env = vol->pool->env;
    struct stat now;

    vol->hash = NULL;
    env->hashes.running--;
    if (!metainfo) {
        virTorrentVolumeFail(vol, error->message);
    } else if (virTorrentVolumeStat(vol, &now) < 0 || !virTorrentStatSame(&vol->seen, &now)) {
        virTorrentVolumeFail(vol, _("the file was changed while it was hashed"));
    } else {
        vol->metainfo = g_bytes_ref(metainfo);
        virTorrentVolumeHandle(vol, EVENT_HASHED, NULL, NULL);
    }
    virTorrentHashFree(hash);
    virTorrentHashQueueRun(env);
}

static void
virTorrentVolumeHash(VirTorrentVolume *vol)
{
    VirTorrentPool *pool = vol->pool;
    g_autoptr(GError) err = NULL;
    int fd = virTorrentPoolOpenMaster(pool, vol->name, &vol->seen, &err);

    if (fd >= 0) {
        vol->size = vol->seen.st_size;
        vol->hash = virTorrentHashStart(fd, vol->name, vol->format, vol->capacity,
                                        pool->env->conf->hash_threads,
                                        virTorrentVolumeHashDone, vol, &err);
        close(fd);
    }
    if (vol->hash)
        pool->env->hashes.running++;
    else
        virTorrentVolumeFail(vol, err->message);
}

static void
virTorrentHashQueueRun(VirTorrentPoolEnv *env)
{
    while (env->hashes.running < env->conf->max_hashes &&
           !g_queue_is_empty(&env->hashes.waiting))
        virTorrentVolumeHash(g_queue_pop_head(&env->hashes.waiting));
}

static gboolean
virTorrentHashQueueIdle(gpointer opaque)
{
    virTorrentHashQueueRun(opaque);
    return G_SOURCE_REMOVE;
}

static void
virTorrentVolumeStartHash(VirTorrentVolume *vol, GError **error G_GNUC_UNUSED)
{
    VirTorrentPoolEnv *env = vol->pool->env;

    virTorrentVolumeSaveRequest(vol, VIR_TORRENT_STORE_PUBLISH);
    g_queue_push_tail(&env->hashes.waiting, vol);
    /* not from here: what fails would overtake the state it fails in */
    g_idle_add_full(G_PRIORITY_DEFAULT, virTorrentHashQueueIdle, env, NULL);
}

static void
virTorrentVolumeCancelHash(VirTorrentVolume *vol)
{
    VirTorrentPoolEnv *env = vol->pool->env;

    g_queue_remove(&env->hashes.waiting, vol);
    if (!vol->hash)
        return;
    g_clear_pointer(&vol->hash, virTorrentHashFree);
    env->hashes.running--;
    g_idle_add_full(G_PRIORITY_DEFAULT, virTorrentHashQueueIdle, env, NULL);
}

/* Adds the file at the final path to the engine. */
static gboolean
virTorrentVolumeAddFinal(VirTorrentVolume *vol, VirTorrentAddFlags flags, GError **error)
{
    VirTorrentPool *pool = vol->pool;
    g_autoptr(GBytes) metainfo = g_steal_pointer(&vol->metainfo);

    if (!metainfo && !(metainfo = virTorrentVolumeLoadMetainfo(vol, error)))
        return FALSE;
    return virTorrentEngineAdd(pool->engine, vol->name, metainfo, NULL, NULL, pool->target,
                               vol->name, flags, error);
}

static void
virTorrentVolumeStartSeed(VirTorrentVolume *vol, GError **error)
{
    virTorrentVolumeAddFinal(vol, VIR_TORRENT_ADD_SEED, error);
}

static void
virTorrentVolumeStartCheck(VirTorrentVolume *vol, GError **error)
{
    virTorrentEngineRemove(vol->pool->engine, vol->name);
    if (virTorrentVolumeStat(vol, &vol->seen) < 0)
        memset(&vol->seen, 0, sizeof(vol->seen));
    virTorrentVolumeAddFinal(vol, VIR_TORRENT_ADD_SEED | VIR_TORRENT_ADD_CHECK, error);
}

static void
virTorrentVolumeSaveStamp(VirTorrentVolume *vol)
{
    g_autoptr(GBytes) stamp = virTorrentStampMake(&vol->seen);

    virTorrentVolumeSave(vol, VIR_TORRENT_STORE_STAT, stamp);
    virTorrentStoreRemove(vol->pool->store, VIR_TORRENT_STORE_RESUME, vol->name);
    virTorrentStoreRemove(vol->pool->store, VIR_TORRENT_STORE_MAGNET, vol->name);
    virTorrentStoreRemove(vol->pool->store, VIR_TORRENT_STORE_PUBLISH, vol->name);
}

static void
virTorrentVolumeSeedHashed(VirTorrentVolume *vol, GError **error)
{
    g_autoptr(VirTorrentMetainfo) info = virTorrentMetainfoParse(vol->metainfo, error);
    VirTorrentVolume *other;

    if (!info)
        return;
    other = virTorrentPoolFindKey(vol->pool, info->key);
    if (other && other != vol) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_EXISTS,
                             _("the same content is published as '%s' already"), other->name);
        return;
    }
    virTorrentVolumeLearn(vol, info);
    vol->kept = TRUE;
    virTorrentVolumeSave(vol, VIR_TORRENT_STORE_METAINFO, vol->metainfo);
    virTorrentVolumeSaveStamp(vol);
    virTorrentVolumeAddFinal(vol, VIR_TORRENT_ADD_SEED, error);
}

/* A check found every piece. */
static void
virTorrentVolumeKeepStamp(VirTorrentVolume *vol, GError **error)
{
    struct stat now;

    if (virTorrentVolumeStat(vol, &now) < 0 || !virTorrentStatSame(&vol->seen, &now)) {
        virTorrentEngineRemove(vol->pool->engine, vol->name);
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_FAILED,
                             _("the file was changed while it was verified"));
        return;
    }
    virTorrentVolumeSaveStamp(vol);
}

/* }}} */
/* {{{ fetching */

static void
virTorrentVolumeStartFetch(VirTorrentVolume *vol, GError **error)
{
    VirTorrentPool *pool = vol->pool;
    g_autoptr(GBytes) metainfo = g_steal_pointer(&vol->metainfo);
    g_autoptr(GBytes) resume = NULL;
    VirTorrentAddFlags flags = 0;
    struct stat st;

    /* What a volume of this name left behind may still be there. */
    if (!metainfo && vol->kept)
        metainfo = virTorrentVolumeLoadMetainfo(vol, NULL);
    if (vol->loaded && !vol->retry)
        resume = virTorrentStoreLoad(pool->store, VIR_TORRENT_STORE_RESUME, vol->name,
                                     VIR_TORRENT_METAINFO_MAX, NULL);
    if (!resume && virTorrentStorePartialStat(pool->store, vol->name, &st) == 0)
        flags |= VIR_TORRENT_ADD_CHECK;
    virTorrentEngineRemove(pool->engine, vol->name);
    vol->retry = TRUE;
    if (!virTorrentEngineAdd(pool->engine, vol->name, metainfo, metainfo ? NULL : vol->magnet,
                             resume, pool->partial, vol->name, flags, error))
        return;
    if (metainfo && vol->magnet) {
        g_auto(GStrv) peers = virTorrentMagnetGetPeers(vol->magnet);
        guint i;

        for (i = 0; peers[i]; i++)
            virTorrentEngineAddPeer(pool->engine, vol->name, peers[i], NULL);
    }
}

static void
virTorrentVolumeKeepMetainfo(VirTorrentVolume *vol, GError **error)
{
    g_autoptr(VirTorrentMetainfo) info = NULL;
    g_autoptr(GBytes) metainfo = NULL;

    if (!virTorrentEngineGetMetainfo(vol->pool->engine, vol->name, &metainfo, &info)) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_FAILED,
                             _("the metainfo of '%s' got lost"), vol->name);
        return;
    }
    virTorrentVolumeLearn(vol, info);
    vol->kept = TRUE;
    virTorrentVolumeSave(vol, VIR_TORRENT_STORE_METAINFO, metainfo);
}

typedef struct {
    VirTorrentMonitor *monitor;
    char *target;
    char *name;
    char *format;                /* as declared, or NULL */
    int targetfd;
    int partialfd;
    /* what came out */
    const char *probed;
    guint64 capacity;
    struct stat st;
} VirTorrentAdoption;

static void
virTorrentAdoptionFree(gpointer opaque)
{
    VirTorrentAdoption *adoption = opaque;

    if (adoption->targetfd >= 0)
        close(adoption->targetfd);
    if (adoption->partialfd >= 0)
        close(adoption->partialfd);
    g_free(adoption->target);
    g_free(adoption->name);
    g_free(adoption->format);
    g_free(adoption);
}

/* Whether content that looks like @probed may be called @declared.  Anything
 * may be used as raw, and formats that are not probed for look raw. */
static gboolean
virTorrentFormatPlausible(const char *declared, const char *probed)
{
    static const char *const known[] = {
        "qcow2", "qcow", "qed", "vpc", "vmdk", "vhdx", "vdi", NULL
    };

    if (!declared || strcmp(declared, probed) == 0 || strcmp(declared, "raw") == 0)
        return TRUE;
    return strcmp(probed, "raw") == 0 && !g_strv_contains(known, declared);
}

/* In a thread of its own: nothing but @adoption is touched. */
static void
virTorrentAdoptionRun(GTask *task,
                      gpointer source G_GNUC_UNUSED,
                      gpointer opaque,
                      GCancellable *cancellable G_GNUC_UNUSED)
{
    VirTorrentAdoption *adoption = opaque;
    g_autoptr(VirImageInfo) image = NULL;
    GError *err = NULL;

    /* The monitor's own fsync is short after this one. */
    if (adoption->partialfd < 0 || fsync(adoption->partialfd) < 0) {
        g_set_error(&err, G_FILE_ERROR, g_file_error_from_errno(errno),
                    _("cannot write '%s' to the disk: %s"), adoption->name, g_strerror(errno));
    } else if ((image = virTorrentProbeStandalone(adoption->partialfd, adoption->name, &err)) &&
               !virTorrentFormatPlausible(adoption->format, image->format)) {
        virTorrentPoolRefuse(&err, VIR_TORRENT_POOL_ERROR_FAILED,
                             _("'%s' is said to be a %s image, but its content is %s"),
                             adoption->name, adoption->format, image->format);
    } else if (image && virTorrentMonitorAdopt(adoption->monitor, adoption->target,
                                               adoption->name, &err) &&
               fstatat(adoption->targetfd, adoption->name, &adoption->st,
                       AT_SYMLINK_NOFOLLOW) < 0) {
        g_set_error(&err, G_FILE_ERROR, g_file_error_from_errno(errno),
                    _("'%s' is gone again: %s"), adoption->name, g_strerror(errno));
    }
    if (err) {
        g_task_return_error(task, err);
        return;
    }
    adoption->probed = image->format;
    adoption->capacity = image->capacity;
    g_task_return_boolean(task, TRUE);
}

static void
virTorrentVolumeAdoptionDone(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer opaque)
{
    VirTorrentVolume *vol = opaque;
    VirTorrentAdoption *adoption = g_task_get_task_data(G_TASK(result));
    g_autoptr(GError) err = NULL;
    gboolean ok = g_task_propagate_boolean(G_TASK(result), &err);

    vol->adopting = FALSE;
    if (!vol->pool) {
        g_debug("The pool of '%s' was closed while it was adopted", vol->name);
    } else if (!ok) {
        virTorrentVolumeFail(vol, err->message);
    } else {
        vol->seen = adoption->st;
        if (!vol->format || strcmp(vol->format, adoption->probed) == 0) {
            virTorrentVolumeHint(vol, adoption->probed, 0);
            vol->capacity = adoption->capacity;
        }
        virTorrentVolumeHandle(vol, EVENT_ADOPTED, NULL, NULL);
    }
    virTorrentVolumeUnref(vol);
}

static void
virTorrentVolumeStartAdoption(VirTorrentVolume *vol, GError **error G_GNUC_UNUSED)
{
    VirTorrentPool *pool = vol->pool;
    VirTorrentAdoption *adoption;
    g_autoptr(GTask) task = NULL;

    if (vol->adopting)
        return;
    vol->adopting = TRUE;
    adoption = g_new0(VirTorrentAdoption, 1);
    adoption->monitor = pool->env->monitor;
    adoption->target = g_strdup(pool->target);
    adoption->name = g_strdup(vol->name);
    adoption->format = g_strdup(vol->format);
    adoption->targetfd = fcntl(pool->targetfd, F_DUPFD_CLOEXEC, 3);
    adoption->partialfd = virTorrentStorePartialOpen(pool->store, vol->name);
    task = g_task_new(NULL, NULL, virTorrentVolumeAdoptionDone, virTorrentVolumeRef(vol));
    g_task_set_task_data(task, adoption, virTorrentAdoptionFree);
    g_task_run_in_thread(task, virTorrentAdoptionRun);
}

/* The file stands at its final path now, perhaps at the old one, too. */
static void
virTorrentVolumeTakeOver(VirTorrentVolume *vol, GError **error)
{
    VirTorrentPool *pool = vol->pool;
    g_autoptr(GError) err = NULL;

    virTorrentVolumeSaveStamp(vol);
    if (virTorrentEngineRelocate(pool->engine, vol->name, pool->target, vol->name, &err))
        return;
    g_debug("Volume '%s' is added anew: %s", vol->name, err->message);
    if (!virTorrentEngineGetMetainfo(pool->engine, vol->name, &vol->metainfo, NULL))
        virTorrentStoreFlush(pool->store);
    virTorrentEngineRemove(pool->engine, vol->name);
    virTorrentVolumeAddFinal(vol, VIR_TORRENT_ADD_SEED, error);
}

/* }}} */
/* {{{ the end of it */

static void
virTorrentVolumeStop(VirTorrentVolume *vol, GError **error G_GNUC_UNUSED)
{
    virTorrentVolumeCancelHash(vol);
    virTorrentEngineRemove(vol->pool->engine, vol->name);
}

static void
virTorrentVolumeForget(VirTorrentVolume *vol, GError **error)
{
    static const VirTorrentStoreKind all[] = {
        VIR_TORRENT_STORE_METAINFO, VIR_TORRENT_STORE_MAGNET, VIR_TORRENT_STORE_PUBLISH,
        VIR_TORRENT_STORE_RESUME, VIR_TORRENT_STORE_STAT,
    };
    VirTorrentPool *pool = vol->pool;
    gsize i;

    virTorrentVolumeStop(vol, error);
    for (i = 0; i < G_N_ELEMENTS(all); i++)
        virTorrentStoreRemove(pool->store, all[i], vol->name);
    virTorrentStorePartialRemove(pool->store, vol->name);
    vol->pool = NULL;
    g_hash_table_remove(pool->volumes, vol->name);
}

/* }}} */
/* {{{ what the engine says */

static void
virTorrentPoolResumeData(VirTorrentPool *pool, VirTorrentVolume *vol, GBytes *data)
{
    vol->saving = FALSE;
    if (vol->state == STATE_FETCHING)
        virTorrentStoreSave(pool->store, VIR_TORRENT_STORE_RESUME, vol->name, data,
                            NULL, NULL, NULL);
}

static void
virTorrentPoolEngineEvent(const VirTorrentEvent *event, gpointer opaque)
{
    VirTorrentPool *pool = opaque;
    VirTorrentVolume *vol = g_hash_table_lookup(pool->volumes, event->id);

    if (!vol)
        return;
    switch (event->type) {
    case VIR_TORRENT_EVENT_METADATA:
        virTorrentVolumeHandle(vol, EVENT_METADATA, NULL, NULL);
        break;
    case VIR_TORRENT_EVENT_COMPLETE:
        /* While a publication is hashed the engine does not know the volume. */
        virTorrentVolumeHandle(vol, EVENT_COMPLETE, NULL, NULL);
        break;
    case VIR_TORRENT_EVENT_FAILED:
        vol->saving = FALSE;
        virTorrentVolumeFail(vol, event->message);
        break;
    case VIR_TORRENT_EVENT_RESUME_DATA:
        virTorrentPoolResumeData(pool, vol, event->data);
        break;
    }
}

/* }}} */
/* {{{ loading */

/* A master: its file stands, or stood, at the final path. */
static void
virTorrentVolumeLoadMaster(VirTorrentVolume *vol, GBytes *stamp, const struct stat *st)
{
    struct stat partial;

    if (virTorrentStorePartialStat(vol->pool->store, vol->name, &partial) == 0) {
        if (partial.st_ino != st->st_ino && !stamp) {
            virTorrentVolumeFail(vol, _("its name is taken by another file in the pool directory"));
            return;
        }
        virTorrentStorePartialRemove(vol->pool->store, vol->name);
    }
    if (!S_ISREG(st->st_mode))
        virTorrentVolumeFail(vol, _("its file is not a regular file"));
    else if (stamp && virTorrentStampMatches(stamp, st))
        virTorrentVolumeHandle(vol, EVENT_VERIFIED, NULL, NULL);
    else
        virTorrentVolumeHandle(vol, EVENT_CHANGED, NULL, NULL);
}

static void
virTorrentVolumeLoad(VirTorrentVolume *vol)
{
    g_autoptr(VirTorrentMetainfo) info = NULL;
    g_autoptr(GBytes) stamp = NULL;
    g_autoptr(GError) err = NULL;
    gboolean magnet = virTorrentVolumeLoadRequest(vol, VIR_TORRENT_STORE_MAGNET);
    struct stat st;

    vol->loaded = TRUE;
    vol->metainfo = virTorrentVolumeLoadMetainfo(vol, &err);
    vol->kept = vol->metainfo != NULL;
    if (!vol->metainfo && g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_clear_error(&err);
        if (!magnet && virTorrentVolumeLoadRequest(vol, VIR_TORRENT_STORE_PUBLISH))
            virTorrentVolumeHandle(vol, EVENT_PUBLISH, NULL, NULL);
        else if (magnet && (info = virTorrentMagnetParse(vol->magnet, &err)))
            virTorrentVolumeLearn(vol, info);
    } else if (vol->metainfo && (info = virTorrentMetainfoParse(vol->metainfo, &err))) {
        virTorrentVolumeLearn(vol, info);
    }
    if (err)
        virTorrentVolumeFail(vol, err->message);
    if (vol->state != STATE_PAUSED)
        return;
    stamp = virTorrentStoreLoad(vol->pool->store, VIR_TORRENT_STORE_STAT, vol->name, 4096, NULL);
    if (virTorrentVolumeStat(vol, &st) == 0 && vol->metainfo)
        virTorrentVolumeLoadMaster(vol, stamp, &st);
    else if (stamp)
        virTorrentVolumeFail(vol, _("its file is gone from the pool directory"));
    else
        virTorrentVolumeHandle(vol, EVENT_FETCH, NULL, NULL);
}

static gboolean
virTorrentPoolLoadSome(gpointer opaque)
{
    VirTorrentPool *pool = opaque;
    gint64 end = g_get_monotonic_time() + LOAD_SLICE;

    while (pool->pending->len > 0 && g_get_monotonic_time() < end) {
        g_autofree char *name = g_ptr_array_steal_index(pool->pending, pool->pending->len - 1);
        VirTorrentVolume *vol = g_hash_table_lookup(pool->volumes, name);

        if (vol && vol->state == STATE_PAUSED)
            virTorrentVolumeLoad(vol);
    }
    if (pool->pending->len > 0)
        return G_SOURCE_CONTINUE;
    pool->loader = 0;
    return G_SOURCE_REMOVE;
}

static void
virTorrentPoolLoad(VirTorrentPool *pool)
{
    g_autoptr(GPtrArray) names = virTorrentStoreList(pool->store);
    guint i;

    for (i = 0; i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        g_autoptr(GError) err = NULL;

        if (!virTorrentNameCheckLocal(name, &err)) {
            g_warning("Pool '%s': %s", pool->name, err->message);
            continue;
        }
        virTorrentPoolAddVolume(pool, name, STATE_PAUSED);
        g_ptr_array_insert(pool->pending, 0, g_strdup(name));
    }
    if (pool->pending->len > 0)
        pool->loader = g_idle_add(virTorrentPoolLoadSome, pool);
}

/* }}} */
/* {{{ the pool */

/* Where any port will do, the one of last time does best: magnets that were
 * given away name it. */
static VirTorrentEngine *
virTorrentPoolNewEngine(VirTorrentPool *pool, GError **error)
{
    g_autoptr(GBytes) session = virTorrentStoreLoad(pool->store, VIR_TORRENT_STORE_SESSION,
                                                    "engine", 1024 * 1024, NULL);
    g_autoptr(GBytes) port = virTorrentStoreLoad(pool->store, VIR_TORRENT_STORE_PORT,
                                                 "engine", sizeof(guint16), NULL);
    VirTorrentEngineSettings settings;
    VirTorrentEngine *engine = NULL;

    virTorrentOptionsToSettings(pool->options, &settings);
    settings.session_state = session;
    settings.hash_threads = pool->env->conf->hash_threads;
    if (settings.listen_port == 0 && port && g_bytes_get_size(port) == sizeof(guint16)) {
        memcpy(&settings.listen_port, g_bytes_get_data(port, NULL), sizeof(guint16));
        engine = virTorrentEngineNew(&settings, virTorrentPoolEngineEvent, pool, NULL);
        settings.listen_port = 0;
    }
    if (!engine)
        engine = virTorrentEngineNew(&settings, virTorrentPoolEngineEvent, pool, error);
    return engine;
}

static void
virTorrentPoolKeepPort(VirTorrentPool *pool)
{
    guint16 port = virTorrentEngineGetPort(pool->engine);
    g_autoptr(GBytes) content = g_bytes_new(&port, sizeof(port));

    virTorrentStoreSave(pool->store, VIR_TORRENT_STORE_PORT, "engine", content, NULL, NULL, NULL);
}

static gboolean
virTorrentPoolStart(VirTorrentPool *pool, GError **error)
{
    if (!virTorrentMonitorPrepare(pool->env->monitor, pool->target, error))
        return FALSE;
    pool->targetfd = open(pool->target, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (pool->targetfd < 0 || faccessat(pool->targetfd, ".", X_OK, AT_EACCESS) < 0) {
        virTorrentPoolOpenFailed(pool, ".", errno, error);
        return FALSE;
    }
    pool->store = virTorrentStoreOpen(pool->target, error);
    if (!pool->store)
        return FALSE;
    pool->engine = virTorrentPoolNewEngine(pool, error);
    if (!pool->engine)
        return FALSE;
    virTorrentPoolKeepPort(pool);
    return TRUE;
}

VirTorrentPool *
virTorrentPoolNew(VirTorrentPoolEnv *env,
                  const char *uuid,
                  const char *name,
                  const char *target,
                  VirTorrentOptions *options,
                  GError **error)
{
    g_autoptr(VirTorrentPool) pool = g_new0(VirTorrentPool, 1);
    GError *err = NULL;

    pool->env = env;
    pool->uuid = g_strdup(uuid);
    pool->name = g_strdup(name);
    pool->target = g_strdup(target);
    pool->partial = g_build_filename(target, ".torrentpool", "partial", NULL);
    pool->options = options;
    pool->targetfd = -1;
    pool->volumes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, virTorrentVolumeUnref);
    pool->pending = g_ptr_array_new_with_free_func(g_free);
    if (!virTorrentPoolStart(pool, &err)) {
        virTorrentPoolTranslate(error, err);
        return NULL;
    }
    virTorrentPoolLoad(pool);
    return g_steal_pointer(&pool);
}

static gboolean
virTorrentPoolDropVolume(gpointer name G_GNUC_UNUSED,
                         gpointer value,
                         gpointer opaque G_GNUC_UNUSED)
{
    VirTorrentVolume *vol = value;

    virTorrentVolumeCancelHash(vol);
    vol->pool = NULL;
    return TRUE;
}

void
virTorrentPoolFree(VirTorrentPool *pool)
{
    g_autoptr(GBytes) session = NULL;

    if (!pool)
        return;
    if (pool->loader)
        g_source_remove(pool->loader);
    g_hash_table_foreach_remove(pool->volumes, virTorrentPoolDropVolume, NULL);
    if (pool->engine && !pool->purge) {
        session = virTorrentEngineSaveState(pool->engine);
        if (session)
            virTorrentStoreSave(pool->store, VIR_TORRENT_STORE_SESSION, "engine", session,
                                NULL, NULL, NULL);
    }
    virTorrentEngineFree(pool->engine);
    if (pool->store && pool->purge)
        virTorrentStorePurge(pool->store);
    virTorrentStoreFree(pool->store);
    if (pool->targetfd >= 0)
        close(pool->targetfd);
    g_hash_table_unref(pool->volumes);
    g_ptr_array_unref(pool->pending);
    virTorrentOptionsFree(pool->options);
    g_free(pool->partial);
    g_free(pool->target);
    g_free(pool->name);
    g_free(pool->uuid);
    g_free(pool);
}

const char *
virTorrentPoolGetUuid(VirTorrentPool *pool)
{
    return pool->uuid;
}

const char *
virTorrentPoolGetName(VirTorrentPool *pool)
{
    return pool->name;
}

const char *
virTorrentPoolGetTarget(VirTorrentPool *pool)
{
    return pool->target;
}

const VirTorrentOptions *
virTorrentPoolGetOptions(VirTorrentPool *pool)
{
    return pool->options;
}

gboolean
virTorrentPoolReconfigure(VirTorrentPool *pool, VirTorrentOptions *options, GError **error)
{
    VirTorrentEngineSettings settings;
    GError *err = NULL;

    if (!virTorrentOptionsEqual(pool->options, options)) {
        virTorrentOptionsToSettings(options, &settings);
        settings.hash_threads = pool->env->conf->hash_threads;
        if (!virTorrentEngineReconfigure(pool->engine, &settings, &err)) {
            virTorrentOptionsFree(options);
            return virTorrentPoolTranslate(error, err);
        }
    }
    virTorrentOptionsFree(pool->options);
    pool->options = options;
    return TRUE;
}

gboolean
virTorrentPoolSave(VirTorrentPool *pool)
{
    GHashTableIter iter;
    gpointer value;
    gboolean any = FALSE;

    g_hash_table_iter_init(&iter, pool->volumes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        VirTorrentVolume *vol = value;

        vol->saving = vol->state == STATE_FETCHING;
        any |= vol->saving;
    }
    if (any)
        virTorrentEngineRequestResumeData(pool->engine);
    return any;
}

gboolean
virTorrentPoolIsSaving(VirTorrentPool *pool)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, pool->volumes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (((VirTorrentVolume *) value)->saving)
            return TRUE;
    }
    return FALSE;
}

void
virTorrentPoolSetPurge(VirTorrentPool *pool)
{
    pool->purge = TRUE;
}

/* }}} */
/* {{{ what it tells */

void
virTorrentVolumeInfoFree(VirTorrentVolumeInfo *info)
{
    if (!info)
        return;
    g_free(info->name);
    g_free(info->format);
    g_free(info->key);
    g_free(info->magnet);
    g_free(info->error);
    g_free(info);
}

static double
virTorrentPercent(guint64 done, guint64 all)
{
    return all ? MIN(100.0 * done / all, 100.0) : 0.0;
}

static void
virTorrentVolumeAskEngine(VirTorrentVolume *vol, VirTorrentVolumeInfo *info)
{
    VirTorrentStatus status;

    if (!virTorrentEngineGetStatus(vol->pool->engine, vol->name, &status))
        return;
    info->peers = status.peers;
    info->download_rate = status.download_rate;
    info->upload_rate = status.upload_rate;
    info->downloaded = status.downloaded;
    info->uploaded = status.uploaded;
    if (!info->size)
        info->size = status.size;
    if (vol->state == STATE_FETCHING && status.state != VIR_TORRENT_CHECKING)
        info->done = status.done;
    if (vol->state == STATE_HASHING || vol->state == STATE_FETCHING)
        info->progress = virTorrentPercent(status.done, info->size);
}

static VirTorrentVolumeInfo *
virTorrentVolumeDescribe(VirTorrentVolume *vol, const char *const *peers)
{
    VirTorrentVolumeInfo *info = g_new0(VirTorrentVolumeInfo, 1);

    info->name = g_strdup(vol->name);
    info->state = stateNames[vol->state];
    info->format = g_strdup(vol->format);
    info->capacity = vol->capacity;
    info->size = vol->size;
    info->key = g_strdup(vol->key);
    info->error = g_strdup(vol->error);
    virTorrentVolumeAskEngine(vol, info);
    if (vol->hash)
        info->progress = virTorrentPercent(virTorrentHashGetDone(vol->hash),
                                           virTorrentHashGetSize(vol->hash));
    if (vol->state == STATE_SEEDING) {
        info->progress = 100.0;
        info->done = info->size;
    }
    if (vol->key)
        info->magnet = virTorrentMagnetFormat(vol->key, vol->name, info->size, peers,
                                              (const char *const *) vol->pool->options->trackers);
    return info;
}

static GStrv
virTorrentPoolPeers(VirTorrentPool *pool)
{
    return virTorrentMagnetPeers(pool->options->listen_address,
                                 virTorrentEngineGetPort(pool->engine));
}

static gint
virTorrentVolumeInfoCompare(gconstpointer a, gconstpointer b)
{
    return strcmp((*(const VirTorrentVolumeInfo *const *) a)->name,
                  (*(const VirTorrentVolumeInfo *const *) b)->name);
}

GPtrArray *
virTorrentPoolListVolumes(VirTorrentPool *pool)
{
    g_auto(GStrv) peers = virTorrentPoolPeers(pool);
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify) virTorrentVolumeInfoFree);
    GHashTableIter iter;
    gpointer vol;

    g_hash_table_iter_init(&iter, pool->volumes);
    while (g_hash_table_iter_next(&iter, NULL, &vol))
        g_ptr_array_add(list, virTorrentVolumeDescribe(vol, (const char *const *) peers));
    g_ptr_array_sort(list, virTorrentVolumeInfoCompare);
    return list;
}

VirTorrentVolumeInfo *
virTorrentPoolGetVolume(VirTorrentPool *pool, const char *name, GError **error)
{
    VirTorrentVolume *vol = virTorrentPoolFind(pool, name, error);
    g_auto(GStrv) peers = NULL;

    if (!vol)
        return NULL;
    peers = virTorrentPoolPeers(pool);
    return virTorrentVolumeDescribe(vol, (const char *const *) peers);
}

GBytes *
virTorrentPoolGetMetainfo(VirTorrentPool *pool, const char *name, GError **error)
{
    VirTorrentVolume *vol = virTorrentPoolFind(pool, name, error);
    GBytes *metainfo = NULL;

    if (!vol)
        return NULL;
    if (!virTorrentEngineGetMetainfo(pool->engine, name, &metainfo, NULL))
        metainfo = virTorrentVolumeLoadMetainfo(vol, NULL);
    if (!metainfo)
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_BUSY,
                             _("the metainfo of '%s' is not known yet (it is %s)"), name,
                             stateNames[vol->state]);
    return metainfo;
}

/* }}} */
/* {{{ what it is asked for */

/* Whether @vol, which is there or NULL, may be published anew.  Sets @done
 * where there is nothing to do. */
static gboolean
virTorrentPoolMayPublish(VirTorrentPool *pool,
                         const char *name,
                         VirTorrentVolume *vol,
                         gboolean *done,
                         GError **error)
{
    *done = FALSE;
    if (!virTorrentNameCheckLocal(name, error))
        return FALSE;
    switch (vol ? vol->state : STATE_NONE) {
    case STATE_FETCHING:
        return virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_BUSY,
                                    _("'%s' is being fetched into pool '%s'"), name, pool->name);
    case STATE_PAUSED:
    case STATE_HASHING:
    case STATE_SEEDING:
        *done = TRUE;
        return TRUE;
    case STATE_NONE:
    case STATE_FAILED:
    case STATE_LAST:
        break;
    }
    return TRUE;
}

gboolean
virTorrentPoolPublish(VirTorrentPool *pool,
                      const char *name,
                      const char *format,
                      guint64 capacity,
                      GError **error)
{
    VirTorrentVolume *vol = g_hash_table_lookup(pool->volumes, name);
    g_autoptr(VirImageInfo) image = NULL;
    GError *err = NULL;
    gboolean done;
    struct stat st;
    int fd;

    if (!virTorrentPoolMayPublish(pool, name, vol, &done, &err))
        return virTorrentPoolTranslate(error, err);
    if (done)
        return TRUE;
    fd = virTorrentPoolOpenMaster(pool, name, &st, error);
    if (fd < 0)
        return FALSE;
    image = virTorrentProbeStandalone(fd, name, &err);
    close(fd);
    if (!image)
        return virTorrentPoolTranslate(error, err);
    if (vol && vol->key) {
        /* What was a master is one again only with the same content. */
        virTorrentVolumeHandle(vol, EVENT_CHANGED, NULL, &err);
    } else {
        if (!vol)
            vol = virTorrentPoolAddVolume(pool, name, STATE_NONE);
        virTorrentVolumeHint(vol, format ? format : image->format,
                             capacity ? capacity : image->capacity);
        vol->size = st.st_size;
        virTorrentVolumeHandle(vol, EVENT_PUBLISH, NULL, &err);
    }
    return err ? virTorrentPoolTranslate(error, err) : TRUE;
}

/* The volume a fetch of @key as @name goes to: a new one, or a failed one that
 * is tried again.  @fresh tells which. */
static VirTorrentVolume *
virTorrentPoolFetchTarget(VirTorrentPool *pool,
                          const char *name,
                          const char *key,
                          gboolean *fresh,
                          GError **error)
{
    VirTorrentVolume *vol = g_hash_table_lookup(pool->volumes, name);
    VirTorrentVolume *other = virTorrentPoolFindKey(pool, key);
    struct stat st;

    *fresh = !vol;
    if (other && other != vol) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_EXISTS,
                             _("this master is in pool '%s' already, as '%s'"),
                             pool->name, other->name);
        return NULL;
    }
    if (vol && (vol->state != STATE_FAILED || vol->adopting || g_strcmp0(vol->key, key) != 0)) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_EXISTS,
                             _("the name '%s' is taken in pool '%s' by a master that is %s"),
                             name, pool->name, stateNames[vol->state]);
        return NULL;
    }
    if (fstatat(pool->targetfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_EXISTS,
                             _("there is a file '%s/%s' already"), pool->target, name);
        return NULL;
    }
    if (!vol)
        vol = virTorrentPoolAddVolume(pool, name, STATE_NONE);
    return vol;
}

/* Begins the fetch; a volume that is new and cannot be begun leaves no trace. */
static gboolean
virTorrentVolumeFetch(VirTorrentVolume *vol, gboolean fresh, GError **error)
{
    VirTorrentPool *pool = vol->pool;
    GError *err = NULL;

    /* Its file was there once; from now on it is a fetch like any other. */
    virTorrentStoreRemove(pool->store, VIR_TORRENT_STORE_STAT, vol->name);
    if (virTorrentVolumeHandle(vol, EVENT_FETCH, NULL, &err))
        return TRUE;
    if (fresh)
        virTorrentVolumeHandle(vol, EVENT_REMOVE, NULL, NULL);
    return virTorrentPoolTranslate(error, err);
}

gboolean
virTorrentPoolFetchMagnet(VirTorrentPool *pool,
                          const char *name,
                          const char *magnet,
                          const char *format,
                          guint64 capacity,
                          GError **error)
{
    g_autoptr(VirTorrentMetainfo) info = NULL;
    VirTorrentVolume *vol;
    GError *err = NULL;
    gboolean fresh;

    if (!virTorrentNameCheckLocal(name, &err) ||
        !(info = virTorrentMagnetParse(magnet, &err)))
        return virTorrentPoolTranslate(error, err);
    vol = virTorrentPoolFetchTarget(pool, name, info->key, &fresh, error);
    if (!vol)
        return FALSE;
    g_free(vol->magnet);
    vol->magnet = g_strdup(magnet);
    virTorrentVolumeLearn(vol, info);
    virTorrentVolumeHint(vol, format, capacity);
    virTorrentVolumeSaveRequest(vol, VIR_TORRENT_STORE_MAGNET);
    return virTorrentVolumeFetch(vol, fresh, error);
}

const char *
virTorrentPoolFetchMetainfo(VirTorrentPool *pool,
                            const char *name,
                            GBytes *metainfo,
                            GError **error)
{
    g_autoptr(VirTorrentMetainfo) info = NULL;
    VirTorrentVolume *vol;
    GError *err = NULL;
    gboolean fresh;

    info = virTorrentMetainfoParse(metainfo, &err);
    if (!info || !(*name ? virTorrentNameCheckLocal(name, &err)
                   : virTorrentNameCheckRemote(info->name, &err))) {
        virTorrentPoolTranslate(error, err);
        return NULL;
    }
    vol = virTorrentPoolFetchTarget(pool, *name ? name : info->name, info->key, &fresh, error);
    if (!vol)
        return NULL;
    virTorrentVolumeLearn(vol, info);
    virTorrentVolumeSave(vol, VIR_TORRENT_STORE_METAINFO, metainfo);
    vol->kept = TRUE;
    g_clear_pointer(&vol->metainfo, g_bytes_unref);
    vol->metainfo = g_bytes_ref(metainfo);
    return virTorrentVolumeFetch(vol, fresh, error) ? vol->name : NULL;
}

gboolean
virTorrentPoolRemove(VirTorrentPool *pool, const char *name, GError **error)
{
    VirTorrentVolume *vol = virTorrentPoolFind(pool, name, error);

    if (!vol)
        return FALSE;
    if (vol->adopting)
        return virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_BUSY,
                                    _("'%s' is just being put into pool '%s'; try again"),
                                    name, pool->name);
    return virTorrentVolumeHandle(vol, EVENT_REMOVE, NULL, error);
}

gboolean
virTorrentPoolPrioritize(VirTorrentPool *pool, const char *name, GError **error)
{
    VirTorrentVolume *vol = virTorrentPoolFind(pool, name, error);

    if (!vol)
        return FALSE;
    if (vol->state == STATE_FETCHING)
        virTorrentEnginePrioritize(pool->engine, name);
    return TRUE;
}

/* }}} */
