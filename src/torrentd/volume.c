/*
 * volume.c: what becomes of a volume
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A volume is a small state machine.  The table below is all of it: for each
 * state and event the next state and what is done on entering it.  What the
 * table does not list is ignored (events that come late) or refused by the
 * calls (which look at the state first).  The actions are in volume-publish.c,
 * volume-fetch.c, volume-scrub.c and volume-heal.c.
 *
 * Invariants:
 *  - a volume that seeds has its file complete and verified at its final path;
 *  - a fetch writes to partial/ only; the final path is the monitor's;
 *  - the final file is never opened for writing here;
 *  - everything that reads or writes more than a few kilobytes happens in the
 *    engine, in a hash, in the store's writer or in an adoption's thread.
 *
 * Work that finishes later holds a reference on its volume; a volume that was
 * removed in the meantime has no pool any more.
 */

#include <config.h>

#include "volume.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include "i18n.h"

const char *const virTorrentVolumeStateNames[VIR_TORRENT_VOLUME_LAST] = {
    "removed", "paused", "hashing", "fetching", "seeding", "healing", "failed",
};

static void virTorrentVolumeStop(VirTorrentVolume *vol, GError **error);
static void virTorrentVolumeForget(VirTorrentVolume *vol, GError **error);

/* state, then: on this event, to that state, doing this */
static const struct {
    gboolean valid;
    VirTorrentVolumeState next;
    VirTorrentVolumeAction action;
} table[VIR_TORRENT_VOLUME_LAST][VIR_TORRENT_VOLUME_EVENT_LAST] = {
#define ON(event, state, action) \
    [VIR_TORRENT_VOLUME_EVENT_ ## event] = { TRUE, VIR_TORRENT_VOLUME_ ## state, action }
    [VIR_TORRENT_VOLUME_NONE] = {
        ON(PUBLISH, HASHING, virTorrentVolumeStartHash),
        ON(FETCH, FETCHING, virTorrentVolumeStartFetch),
    },
    [VIR_TORRENT_VOLUME_PAUSED] = {
        ON(PUBLISH, HASHING, virTorrentVolumeStartHash),
        ON(FETCH, FETCHING, virTorrentVolumeStartFetch),
        ON(VERIFIED, SEEDING, virTorrentVolumeStartSeed),
        ON(CHANGED, HASHING, virTorrentVolumeStartCheck),
        ON(FAILURE, FAILED, NULL),
        ON(REMOVE, NONE, virTorrentVolumeForget),
    },
    [VIR_TORRENT_VOLUME_HASHING] = {
        ON(HASHED, SEEDING, virTorrentVolumeSeedHashed),
        ON(COMPLETE, SEEDING, virTorrentVolumeSeedChecked),
        ON(DAMAGED, HEALING, virTorrentVolumeStartHeal),
        ON(FAILURE, FAILED, virTorrentVolumeStop),
        ON(REMOVE, NONE, virTorrentVolumeForget),
    },
    [VIR_TORRENT_VOLUME_FETCHING] = {
        ON(METADATA, FETCHING, virTorrentVolumeKeepMetainfo),
        ON(COMPLETE, FETCHING, virTorrentVolumeStartAdoption),
        ON(ADOPTED, SEEDING, virTorrentVolumeTakeOver),
        ON(FAILURE, FAILED, virTorrentVolumeStop),
        ON(REMOVE, NONE, virTorrentVolumeForget),
    },
    [VIR_TORRENT_VOLUME_SEEDING] = {
        ON(CHANGED, HASHING, virTorrentVolumeStartCheck),
        ON(FAILURE, FAILED, virTorrentVolumeStop),
        ON(REMOVE, NONE, virTorrentVolumeForget),
    },
    [VIR_TORRENT_VOLUME_HEALING] = {
        ON(COPIED, HEALING, virTorrentVolumeStartFetch),
        ON(COMPLETE, HEALING, virTorrentVolumeStartAdoption),
        ON(ADOPTED, SEEDING, virTorrentVolumeTakeOverHealed),
        ON(CHANGED, HASHING, virTorrentVolumeStartCheck),
        ON(FAILURE, FAILED, virTorrentVolumeStop),
        ON(REMOVE, NONE, virTorrentVolumeForget),
    },
    [VIR_TORRENT_VOLUME_FAILED] = {
        ON(PUBLISH, HASHING, virTorrentVolumeStartHash),
        ON(CHANGED, HASHING, virTorrentVolumeStartCheck),
        ON(FETCH, FETCHING, virTorrentVolumeStartFetch),
        ON(REMOVE, NONE, virTorrentVolumeForget),
    },
#undef ON
};

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
    g_clear_pointer(&vol->damaged, g_array_unref);
}

void
virTorrentVolumeUnref(gpointer vol)
{
    g_rc_box_release_full(vol, virTorrentVolumeClear);
}

VirTorrentVolume *
virTorrentVolumeRef(VirTorrentVolume *vol)
{
    return g_rc_box_acquire(vol);
}

VirTorrentVolume *
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

/* What is damaged stays so. */
static void
virTorrentVolumeSetUnhealed(VirTorrentVolume *vol, const char *message)
{
    g_autofree char *damage = g_steal_pointer(&vol->error);

    vol->error = g_strdup_printf(_("%s; they cannot be healed: %s"), damage, message);
}

/* Moves @vol on.  @message is the reason of a failure or of damage.  Where the action
 * fails, the volume ends in VIR_TORRENT_VOLUME_FAILED and FALSE is returned with @error set. */
gboolean
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
                virTorrentVolumeStateNames[before]);
        return TRUE;
    }
    virTorrentVolumeRef(vol);
    vol->state = table[before][event].next;
    if (vol->state == VIR_TORRENT_VOLUME_FAILED && before == VIR_TORRENT_VOLUME_HEALING)
        virTorrentVolumeSetUnhealed(vol, message);
    else if (vol->state == VIR_TORRENT_VOLUME_FAILED || event == VIR_TORRENT_VOLUME_EVENT_DAMAGED)
        virTorrentVolumeSetError(vol, message);
    else if (vol->state != VIR_TORRENT_VOLUME_HEALING)
        virTorrentVolumeSetError(vol, NULL);
    if (table[before][event].action)
        table[before][event].action(vol, &err);
    if (err) {
        g_propagate_error(error, g_error_copy(err));
        virTorrentVolumeStop(vol, NULL);
        if (vol->state == VIR_TORRENT_VOLUME_HEALING)
            virTorrentVolumeSetUnhealed(vol, err->message);
        else
            virTorrentVolumeSetError(vol, err->message);
        vol->state = VIR_TORRENT_VOLUME_FAILED;
    }
    if (vol->state == VIR_TORRENT_VOLUME_FAILED)
        g_warning("Volume '%s' of pool '%s': %s", vol->name, pool->name, vol->error);
    if (vol->state != before) {
        g_info("Volume '%s' of pool '%s' is %s", vol->name, pool->name, virTorrentVolumeStateNames[vol->state]);
        pool->env->changed(pool->uuid, vol->name, virTorrentVolumeStateNames[vol->state], pool->env->opaque);
    }
    virTorrentVolumeUnref(vol);
    return err == NULL;
}

void
virTorrentVolumeFail(VirTorrentVolume *vol, const char *message)
{
    virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_FAILURE, message, NULL);
}

gboolean G_GNUC_PRINTF(3, 4)
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
gboolean
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

VirTorrentVolume *
virTorrentPoolFind(VirTorrentPool *pool, const char *name, GError **error)
{
    VirTorrentVolume *vol = g_hash_table_lookup(pool->volumes, name);

    if (!vol)
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_NO_VOLUME,
                             _("there is no master '%s' in pool '%s'"), name, pool->name);
    return vol;
}

VirTorrentVolume *
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
int
virTorrentVolumeStat(VirTorrentVolume *vol, struct stat *st)
{
    return fstatat(vol->pool->targetfd, vol->name, st, AT_SYMLINK_NOFOLLOW);
}

/* What the metainfo says is believed more than any hint. */
void
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

void
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
void
virTorrentVolumeSave(VirTorrentVolume *vol, VirTorrentStoreKind kind, GBytes *content)
{
    virTorrentStoreSave(vol->pool->store, kind, vol->name, content, virTorrentVolumeSaved,
                        virTorrentVolumeRef(vol), virTorrentVolumeUnref);
}

/* meta/NAME.magnet and meta/NAME.publish: what was asked for. */
void
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

GBytes *
virTorrentVolumeLoadMetainfo(VirTorrentVolume *vol, GError **error)
{
    return virTorrentStoreLoad(vol->pool->store, VIR_TORRENT_STORE_METAINFO, vol->name,
                               VIR_TORRENT_METAINFO_MAX, error);
}

static void
virTorrentVolumeStop(VirTorrentVolume *vol, GError **error G_GNUC_UNUSED)
{
    virTorrentVolumeCancelHash(vol);
    virTorrentVolumeCancelScrub(vol);
    virTorrentVolumeCancelCopy(vol);
    virTorrentEngineRemove(vol->pool->engine, vol->name);
}

static void
virTorrentVolumeForget(VirTorrentVolume *vol, GError **error)
{
    static const VirTorrentStoreKind all[] = {
        VIR_TORRENT_STORE_DAMAGE, VIR_TORRENT_STORE_METAINFO, VIR_TORRENT_STORE_MAGNET,
        VIR_TORRENT_STORE_PUBLISH, VIR_TORRENT_STORE_RESUME, VIR_TORRENT_STORE_STAT,
        VIR_TORRENT_STORE_LEAVES, VIR_TORRENT_STORE_SCRUB, VIR_TORRENT_STORE_HAVE,
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

/* What is found on disk when the pool is opened. */

/* A master: its file stands, or stood, at the final path. */
static void
virTorrentVolumeLoadMaster(VirTorrentVolume *vol, GBytes *stamp, const struct stat *st)
{
    g_autofree char *damage = virTorrentVolumeLoadDamage(vol);
    struct stat partial;

    /* of a damaged one it is what will take its place */
    if (!damage && virTorrentStorePartialStat(vol->pool->store, vol->name, &partial) == 0) {
        if (partial.st_ino != st->st_ino && !stamp) {
            virTorrentVolumeFail(vol, _("its name is taken by another file in the pool directory"));
            return;
        }
        virTorrentStorePartialRemove(vol->pool->store, vol->name);
    }
    if (!S_ISREG(st->st_mode))
        virTorrentVolumeFail(vol, _("its file is not a regular file"));
    else if (st->st_mode & 0222)
        virTorrentVolumeFail(vol, _("its file can be written to again; take that away "
                                    "(chmod a-w) and refresh the pool"));
    else if (!damage && stamp && virTorrentStampMatches(stamp, st))
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_VERIFIED, NULL, NULL);
    else
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_CHANGED, NULL, NULL);
}

/* The swarm has become a private or a public one: a master that is here is another torrent
 * there. */
static void
virTorrentVolumeRepublish(VirTorrentVolume *vol)
{
    struct stat st;

    if (virTorrentVolumeStat(vol, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    g_clear_pointer(&vol->metainfo, g_bytes_unref);
    g_clear_pointer(&vol->key, g_free);
    vol->kept = FALSE;
    virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_PUBLISH, NULL, NULL);
}

void
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
            virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_PUBLISH, NULL, NULL);
        else if (magnet && (info = virTorrentMagnetParse(vol->magnet, &err)))
            virTorrentVolumeLearn(vol, info);
    } else if (vol->metainfo && (info = virTorrentMetainfoParse(vol->metainfo, &err))) {
        virTorrentVolumeLearn(vol, info);
    }
    if (err)
        virTorrentVolumeFail(vol, err->message);
    if (info && vol->metainfo && info->tls != (vol->pool->tls != NULL))
        virTorrentVolumeRepublish(vol);
    if (vol->state != VIR_TORRENT_VOLUME_PAUSED)
        return;
    stamp = virTorrentStoreLoad(vol->pool->store, VIR_TORRENT_STORE_STAT, vol->name, 4096, NULL);
    virTorrentVolumeLoadScrub(vol);
    if (virTorrentVolumeStat(vol, &st) == 0 && vol->metainfo) {
        vol->seen = st;
        virTorrentVolumeLoadMaster(vol, stamp, &st);
    } else if (stamp) {
        virTorrentVolumeFail(vol, _("its file is gone from the pool directory"));
    } else {
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_FETCH, NULL, NULL);
    }
}
