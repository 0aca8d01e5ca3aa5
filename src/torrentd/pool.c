/*
 * pool.c: one pool
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A pool's engine, its durable files and its volumes: opened, asked, closed.
 * What becomes of a volume is told by the table in volume.c; the calls here
 * judge whether an event may happen, and make it happen.
 *
 * Volumes that are found on disk are loaded in slices of idle time, so that a
 * pool with a thousand masters blocks nobody; until its turn comes, a volume is
 * paused.
 */

#include <config.h>

#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "i18n.h"
#include "magnet.h"
#include "scrub.h"
#include "volume.h"

/* Time that loading may take of one turn of the main loop, microseconds. */
#define LOAD_SLICE 5000

GQuark
virTorrentPoolErrorQuark(void)
{
    return g_quark_from_static_string("vir-torrent-pool-error-quark");
}

/* Whether the engine writes to its file. */
static gboolean
virTorrentVolumeIsFetched(const VirTorrentVolume *vol)
{
    return vol->state == VIR_TORRENT_VOLUME_FETCHING ||
        (vol->state == VIR_TORRENT_VOLUME_HEALING && !vol->copying);
}

static void
virTorrentPoolResumeSaved(const GError *error, gpointer opaque)
{
    VirTorrentVolume *vol = opaque;

    /* What the disk did not take cannot become a master. */
    if (error && vol->pool && virTorrentVolumeIsFetched(vol))
        virTorrentVolumeFail(vol, error->message);
}

static void
virTorrentPoolResumeData(VirTorrentPool *pool, VirTorrentVolume *vol, GBytes *data)
{
    int fd;

    vol->saving = FALSE;
    if (!virTorrentVolumeIsFetched(vol))
        return;
    /* After a power loss, pieces it calls verified must not be holes. */
    fd = virTorrentStorePartialOpen(pool->store, vol->name);
    if (fd >= 0)
        virTorrentStoreSyncFile(pool->store, fd);
    virTorrentStoreSave(pool->store, VIR_TORRENT_STORE_RESUME, vol->name, data,
                        virTorrentPoolResumeSaved, virTorrentVolumeRef(vol), virTorrentVolumeUnref);
}

/* A master that cannot be read may be damaged. */
static void
virTorrentPoolEngineFailed(VirTorrentVolume *vol, const char *message)
{
    if (vol->state == VIR_TORRENT_VOLUME_SEEDING && virTorrentVolumeMayCheck(vol)) {
        g_warning("Volume '%s' of pool '%s' is verified: %s", vol->name, vol->pool->name, message);
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_CHANGED, NULL, NULL);
    } else {
        virTorrentVolumeFail(vol, message);
    }
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
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_METADATA, NULL, NULL);
        break;
    case VIR_TORRENT_EVENT_COMPLETE:
        /* While a publication is hashed the engine does not know the volume. */
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_COMPLETE, NULL, NULL);
        break;
    case VIR_TORRENT_EVENT_FAILED:
        vol->saving = FALSE;
        virTorrentPoolEngineFailed(vol, event->message);
        break;
    case VIR_TORRENT_EVENT_RESUME_DATA:
        virTorrentPoolResumeData(pool, vol, event->data);
        break;
    case VIR_TORRENT_EVENT_LEAVES:
        virTorrentStoreSave(pool->store, VIR_TORRENT_STORE_LEAVES, vol->name, event->data,
                            NULL, NULL, NULL);
        break;
    }
}

static gboolean
virTorrentPoolLoadSome(gpointer opaque)
{
    VirTorrentPool *pool = opaque;
    gint64 end = g_get_monotonic_time() + LOAD_SLICE;

    while (pool->pending->len > 0 && g_get_monotonic_time() < end) {
        g_autofree char *name = g_ptr_array_steal_index(pool->pending, pool->pending->len - 1);
        VirTorrentVolume *vol = g_hash_table_lookup(pool->volumes, name);

        if (vol && vol->state == VIR_TORRENT_VOLUME_PAUSED)
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
        virTorrentPoolAddVolume(pool, name, VIR_TORRENT_VOLUME_PAUSED);
        g_ptr_array_insert(pool->pending, 0, g_strdup(name));
    }
    if (pool->pending->len > 0)
        pool->loader = g_idle_add(virTorrentPoolLoadSome, pool);
}

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
    settings.tls = pool->tls;
    settings.session_state = session;
    settings.leaves = pool->leaves;
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
    if (pool->options->tls && !(pool->tls = virTorrentTlsNew(pool->env->conf->tls_dir, error)))
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
    pool->leaves = g_build_filename(target, ".torrentpool", "resume", NULL);
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
    virTorrentVolumeCancelScrub(vol);
    virTorrentVolumeCancelCopy(vol);
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
    if (pool->env->scrubbing && pool->env->scrubbing->pool == pool && !pool->purge)
        virTorrentPoolScrubSome(pool);
    g_hash_table_foreach_remove(pool->volumes, virTorrentPoolDropVolume, NULL);
    if (pool->engine && !pool->purge) {
        session = virTorrentEngineSaveState(pool->engine);
        if (session)
            virTorrentStoreSave(pool->store, VIR_TORRENT_STORE_SESSION, "engine", session,
                                NULL, NULL, NULL);
    }
    virTorrentEngineFree(pool->engine);
    virTorrentTlsUnref(pool->tls);
    if (pool->store && pool->purge)
        virTorrentStorePurge(pool->store);
    virTorrentStoreFree(pool->store);
    if (pool->targetfd >= 0)
        close(pool->targetfd);
    g_hash_table_unref(pool->volumes);
    g_ptr_array_unref(pool->pending);
    g_queue_clear_full(&pool->scrubs, g_free);
    virTorrentOptionsFree(pool->options);
    g_free(pool->partial);
    g_free(pool->leaves);
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

    if (options->tls != pool->options->tls) {
        virTorrentOptionsFree(options);
        return virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_BUSY,
                                    _("a swarm that is spoken to becomes neither private nor public (tls); "
                                      "stop the pool first"));
    }
    if (!virTorrentOptionsEqual(pool->options, options)) {
        virTorrentOptionsToSettings(options, &settings);
        settings.tls = pool->tls;
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

        vol->saving = virTorrentVolumeIsFetched(vol);
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
    info->place = status.place;
    info->download_rate = status.download_rate;
    info->upload_rate = status.upload_rate;
    info->downloaded = status.downloaded;
    info->uploaded = status.uploaded;
    if (!info->size)
        info->size = status.size;
    if (virTorrentVolumeIsFetched(vol) && status.state != VIR_TORRENT_CHECKING)
        info->done = status.done;
    if (virTorrentVolumeIsFetched(vol))
        info->progress = virTorrentPercent(status.done, info->size);
}

static VirTorrentVolumeInfo *
virTorrentVolumeDescribe(VirTorrentVolume *vol, const char *const *peers)
{
    VirTorrentVolumeInfo *info = g_new0(VirTorrentVolumeInfo, 1);

    info->name = g_strdup(vol->name);
    info->state = virTorrentVolumeStateNames[vol->state];
    info->format = g_strdup(vol->format);
    info->capacity = vol->capacity;
    info->size = vol->size;
    info->key = g_strdup(vol->key);
    info->error = g_strdup(vol->error);
    virTorrentVolumeAskEngine(vol, info);
    if (vol->hash)
        info->progress = virTorrentPercent(virTorrentHashGetDone(vol->hash),
                                           virTorrentHashGetSize(vol->hash));
    if (vol->checking && vol->scrub)
        info->progress = virTorrentPercent(virTorrentScrubGetDone(vol->scrub), info->size);
    info->damaged = vol->damaged ? vol->damaged->len : 0;
    info->scrubbed = vol->scrubbed;
    info->scrub = vol->pool->env->scrubbing == vol
        ? virTorrentPercent(virTorrentScrubGetDone(vol->scrub), info->size) : -1;
    if (vol->state == VIR_TORRENT_VOLUME_SEEDING) {
        info->progress = 100.0;
        info->done = info->size;
    }
    if (vol->key)
        info->magnet = virTorrentMagnetFormat(vol->key, vol->name, info->size, peers,
                                              (const char *const *) vol->pool->options->trackers,
                                              (const char *const *) vol->pool->options->webseeds);
    return info;
}

static GStrv
virTorrentPoolPeers(VirTorrentPool *pool)
{
    guint16 port = virTorrentEngineGetPort(pool->engine);

    return virTorrentMagnetPeers(pool->options->listen_address,
                                 pool->tls ? VIR_TORRENT_TLS_PORT(port) : port);
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
        virTorrentVolumeLook(vol);
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
                             virTorrentVolumeStateNames[vol->state]);
    return metainfo;
}

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
    switch (vol ? vol->state : VIR_TORRENT_VOLUME_NONE) {
    case VIR_TORRENT_VOLUME_FETCHING:
        return virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_BUSY,
                                    _("'%s' is being fetched into pool '%s'"), name, pool->name);
    case VIR_TORRENT_VOLUME_PAUSED:
    case VIR_TORRENT_VOLUME_HASHING:
    case VIR_TORRENT_VOLUME_SEEDING:
        *done = TRUE;
        return TRUE;
    case VIR_TORRENT_VOLUME_NONE:
    case VIR_TORRENT_VOLUME_HEALING:
    case VIR_TORRENT_VOLUME_FAILED:
    case VIR_TORRENT_VOLUME_LAST:
        break;
    }
    if (vol && vol->adopting)
        return virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_BUSY,
                                    _("'%s' is just being put into pool '%s'; try again"),
                                    name, pool->name);
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
    image = virTorrentProbeMaster(fd, name, format, &err);
    close(fd);
    if (!image)
        return virTorrentPoolTranslate(error, err);
    if (vol && vol->key) {
        /* What was a master is one again only with the same content. */
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_CHANGED, NULL, &err);
    } else {
        if (!vol)
            vol = virTorrentPoolAddVolume(pool, name, VIR_TORRENT_VOLUME_NONE);
        virTorrentVolumeHint(vol, format ? format : image->format,
                             capacity ? capacity : image->capacity);
        vol->size = st.st_size;
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_PUBLISH, NULL, &err);
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
    if (vol && (vol->state != VIR_TORRENT_VOLUME_FAILED || vol->adopting || g_strcmp0(vol->key, key) != 0)) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_EXISTS,
                             _("the name '%s' is taken in pool '%s' by a master that is %s"),
                             name, pool->name, virTorrentVolumeStateNames[vol->state]);
        return NULL;
    }
    if (fstatat(pool->targetfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_EXISTS,
                             _("there is a file '%s/%s' already"), pool->target, name);
        return NULL;
    }
    if (!vol)
        vol = virTorrentPoolAddVolume(pool, name, VIR_TORRENT_VOLUME_NONE);
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
    if (virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_FETCH, NULL, &err))
        return TRUE;
    if (fresh)
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_REMOVE, NULL, NULL);
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
    return virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_REMOVE, NULL, error);
}

/* Whether @vol was here once and its file went away behind our back. */
static gboolean
virTorrentVolumeIsGone(VirTorrentVolume *vol)
{
    g_autoptr(GBytes) stamp = NULL;
    struct stat st;

    if (vol->adopting || virTorrentVolumeStat(vol, &st) == 0 || errno != ENOENT)
        return FALSE;
    if (vol->state == VIR_TORRENT_VOLUME_SEEDING)
        return TRUE;
    stamp = virTorrentStoreLoad(vol->pool->store, VIR_TORRENT_STORE_STAT, vol->name, 4096, NULL);
    return vol->state == VIR_TORRENT_VOLUME_FAILED && stamp != NULL;
}

gboolean
virTorrentPoolPrioritize(VirTorrentPool *pool, const char *name, GError **error)
{
    VirTorrentVolume *vol = virTorrentPoolFind(pool, name, error);

    if (!vol)
        return FALSE;
    if (virTorrentVolumeIsGone(vol)) {
        virTorrentVolumeFail(vol, _("its file is gone from the pool directory"));
        /* The other link to it, if there is one: root's, as the master was. */
        virTorrentStorePartialRemove(pool->store, name);
        if (!virTorrentVolumeFetch(vol, FALSE, error))
            return FALSE;
    }
    if (virTorrentVolumeIsFetched(vol))
        virTorrentEnginePrioritize(pool->engine, name);
    return TRUE;
}
