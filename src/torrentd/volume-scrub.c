/*
 * volume-scrub.c: finding out whether masters are still what they were
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Three things make a master be read again.  A check: its file is not as it was
 * when it was last known good (size, time, inode), so it is not given away until
 * all of it was read, as fast as the disk allows.  A scrub on demand, and one
 * that is due: it goes on being given away while it is read at a bounded rate
 * and idle priority; the first piece that is wrong ends that, and a check
 * follows, which finds all.  What a check finds is healed (volume-heal.c).
 *
 * At most one scrub runs in the daemon.  How far it is, is kept in
 * resume/NAME.scrub, so that a restart costs one piece; losing that file costs a
 * pass.  Times there are of the wall clock, which may jump: one in the future
 * counts as never.
 *
 * What was found good is sealed by the monitor (seal.h), in a thread.
 */

#include <config.h>

#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

#include "i18n.h"
#include "metainfo.h"

#define DAY (24 * 60 * 60)
/* A master whose file gives errors again that soon after a check fails, seconds. */
#define CHECK_PAUSE (10 * 60)

static gint64
virTorrentNow(void)
{
    return g_get_real_time() / G_USEC_PER_SEC;
}

/* --- what is kept ------------------------------------------------------------------- */

static void
virTorrentVolumeSaveScrub(VirTorrentVolume *vol)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GBytes) content = NULL;
    gsize length;
    char *data;

    g_key_file_set_int64(file, "scrub", "good", vol->scrubbed);
    g_key_file_set_integer(file, "scrub", "next", vol->scrub_next);
    data = g_key_file_to_data(file, &length, NULL);
    content = g_bytes_new_take(data, length);
    virTorrentStoreSave(vol->pool->store, VIR_TORRENT_STORE_SCRUB, vol->name, content,
                        NULL, NULL, NULL);
}

void
virTorrentVolumeLoadScrub(VirTorrentVolume *vol)
{
    g_autoptr(GBytes) content = virTorrentStoreLoad(vol->pool->store, VIR_TORRENT_STORE_SCRUB,
                                                    vol->name, 4096, NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();

    if (!content || !g_key_file_load_from_bytes(file, content, G_KEY_FILE_NONE, NULL))
        return;
    vol->scrubbed = g_key_file_get_int64(file, "scrub", "good", NULL);
    vol->scrub_next = MAX(g_key_file_get_integer(file, "scrub", "next", NULL), 0);
    if (vol->scrubbed > virTorrentNow())
        vol->scrubbed = 0;
}

typedef struct {
    VirTorrentMonitor *monitor;
    char *target;
    char *name;
} VirTorrentSealing;

static void
virTorrentSealingFree(gpointer opaque)
{
    VirTorrentSealing *sealing = opaque;

    virTorrentMonitorUnref(sealing->monitor);
    g_free(sealing->target);
    g_free(sealing->name);
    g_free(sealing);
}

static void
virTorrentSealingRun(gpointer opaque, gpointer unused G_GNUC_UNUSED)
{
    VirTorrentSealing *sealing = opaque;
    g_autoptr(GError) err = NULL;

    /* the next scrub tries again */
    if (!virTorrentMonitorSeal(sealing->monitor, sealing->target, sealing->name, &err))
        g_info("'%s' is not sealed: %s", sealing->name, err->message);
    virTorrentSealingFree(sealing);
}

/* The monitor seals one at a time, and a thousand who wait for it would keep all threads
 * that GTask has, D-Bus's among them, for minutes: they wait in a queue of their own. */
static void
virTorrentVolumeSeal(VirTorrentVolume *vol)
{
    static GThreadPool *sealers;
    VirTorrentSealing *sealing = g_new0(VirTorrentSealing, 1);

    if (!sealers)
        sealers = g_thread_pool_new(virTorrentSealingRun, NULL, 1, FALSE, NULL);
    sealing->monitor = virTorrentMonitorRef(vol->pool->env->monitor);
    sealing->target = g_strdup(vol->pool->target);
    sealing->name = g_strdup(vol->name);
    g_thread_pool_push(sealers, sealing, NULL);
}

void
virTorrentVolumeNoteGood(VirTorrentVolume *vol)
{
    vol->scrubbed = virTorrentNow();
    vol->scrub_next = 0;
    g_clear_pointer(&vol->damaged, g_array_unref);
    virTorrentVolumeSaveScrub(vol);
    virTorrentVolumeSeal(vol);
}

/* --- reading ------------------------------------------------------------------------ */

/* Begins to read the final file; NULL with @error set. */
static VirTorrentScrub *
virTorrentVolumeRead(VirTorrentVolume *vol,
                     guint32 first,
                     guint64 rate,
                     VirTorrentScrubFunc func,
                     GError **error)
{
    g_autoptr(GBytes) metainfo = NULL;
    struct stat st;
    int fd = virTorrentPoolOpenMaster(vol->pool, vol->name, &st, error);

    if (fd < 0)
        return NULL;
    vol->seen = st;
    if (!virTorrentEngineGetMetainfo(vol->pool->engine, vol->name, &metainfo, NULL))
        metainfo = vol->metainfo ? g_bytes_ref(vol->metainfo) : virTorrentVolumeLoadMetainfo(vol, error);
    if (!metainfo) {
        close(fd);
        return NULL;
    }
    return virTorrentScrubStart(fd, metainfo, first, rate, func, vol, error);
}

static gboolean
virTorrentVolumeIsAsSeen(VirTorrentVolume *vol)
{
    struct stat now;

    return virTorrentVolumeStat(vol, &now) == 0 && virTorrentStatSame(&vol->seen, &now);
}

void
virTorrentVolumeCancelScrub(VirTorrentVolume *vol)
{
    VirTorrentPoolEnv *env = vol->pool->env;

    if (!vol->scrub)
        return;
    if (env->scrubbing == vol)
        env->scrubbing = NULL;
    g_clear_pointer(&vol->scrub, virTorrentScrubFree);
}

/* --- check: HASHING ------------------------------------------------------------------ */

/* Nobody gets a byte of it until it is known to be good. */
void
virTorrentVolumeStartCheck(VirTorrentVolume *vol, GError **error G_GNUC_UNUSED)
{
    virTorrentVolumeCancelScrub(vol);
    virTorrentVolumeCancelCopy(vol);
    virTorrentEngineRemove(vol->pool->engine, vol->name);
    vol->checking = TRUE;
    vol->checked = g_get_monotonic_time();
    virTorrentVolumeQueueHash(vol);
}

/* Tells what is wrong. */
static char *
virTorrentVolumeDescribeDamage(const VirTorrentScrubResult *result)
{
    if (result->unreadable)
        return g_strdup_printf(_("%u of %u pieces of its file are damaged (the disk cannot read %u of them)"),
                               result->damaged->len, result->pieces, result->unreadable);
    return g_strdup_printf(_("%u of %u pieces of its file are damaged"), result->damaged->len,
                           result->pieces);
}

static void
virTorrentVolumeChecked(VirTorrentScrub *scrub G_GNUC_UNUSED,
                        const VirTorrentScrubResult *result,
                        gpointer opaque)
{
    VirTorrentVolume *vol = opaque;
    VirTorrentPoolEnv *env = vol->pool->env;
    g_autofree char *damage = NULL;

    virTorrentVolumeRef(vol);
    if (!virTorrentVolumeIsAsSeen(vol)) {
        virTorrentVolumeFail(vol, _("the file was changed while it was verified"));
    } else if (result->damaged->len == 0) {
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_COMPLETE, NULL, NULL);
    } else {
        g_clear_pointer(&vol->damaged, g_array_unref);
        vol->damaged = g_array_ref(result->damaged);
        damage = virTorrentVolumeDescribeDamage(result);
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_DAMAGED, damage, NULL);
    }
    /* the state it is in now has no use for it */
    if (vol->checking) {
        vol->checking = FALSE;
        g_clear_pointer(&vol->scrub, virTorrentScrubFree);
        virTorrentHashQueueNext(env);
    }
    virTorrentVolumeUnref(vol);
}

void
virTorrentVolumeCheck(VirTorrentVolume *vol)
{
    g_autoptr(GError) err = NULL;

    vol->scrub = virTorrentVolumeRead(vol, 0, 0, virTorrentVolumeChecked, &err);
    if (!vol->scrub)
        virTorrentVolumeFail(vol, err->message);
}

/* A check found every piece. */
void
virTorrentVolumeSeedChecked(VirTorrentVolume *vol, GError **error)
{
    struct stat partial;

    virTorrentVolumeSaveStamp(vol);
    /* somebody else healed it */
    if (virTorrentStorePartialStat(vol->pool->store, vol->name, &partial) == 0 &&
        partial.st_ino != vol->seen.st_ino)
        virTorrentStorePartialRemove(vol->pool->store, vol->name);
    virTorrentVolumeAddFinal(vol, VIR_TORRENT_ADD_SEED, error);
}

void
virTorrentVolumeLook(VirTorrentVolume *vol)
{
    struct stat now;

    if (vol->state != VIR_TORRENT_VOLUME_SEEDING || vol->adopting ||
        virTorrentVolumeStat(vol, &now) < 0 || virTorrentStatSame(&vol->seen, &now))
        return;
    g_warning("Volume '%s' of pool '%s' is not as it was: it is verified", vol->name, vol->pool->name);
    virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_CHANGED, NULL, NULL);
}

gboolean
virTorrentVolumeMayCheck(VirTorrentVolume *vol)
{
    return vol->checked == 0 || g_get_monotonic_time() - vol->checked > CHECK_PAUSE * G_USEC_PER_SEC;
}

/* --- scrub: SEEDING ------------------------------------------------------------------ */

static void
virTorrentVolumeScrubbed(VirTorrentScrub *scrub G_GNUC_UNUSED,
                         const VirTorrentScrubResult *result,
                         gpointer opaque)
{
    VirTorrentVolume *vol = opaque;
    VirTorrentPool *pool = vol->pool;

    virTorrentVolumeCancelScrub(vol);
    if (result->damaged->len == 0 && virTorrentVolumeIsAsSeen(vol)) {
        g_info("Volume '%s' of pool '%s' was read and is good", vol->name, pool->name);
        virTorrentVolumeNoteGood(vol);
        return;
    }
    if (result->damaged->len)
        g_critical("Volume '%s' of pool '%s': piece %u of %u is damaged; the rest is verified",
                   vol->name, pool->name, g_array_index(result->damaged, guint32, 0), result->pieces);
    /* not good for whoever looks after a crash, either */
    virTorrentStoreRemove(pool->store, VIR_TORRENT_STORE_STAT, vol->name);
    virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_CHANGED, NULL, NULL);
}

static gboolean
virTorrentVolumeScrub(VirTorrentVolume *vol)
{
    VirTorrentPoolEnv *env = vol->pool->env;
    g_autoptr(GError) err = NULL;

    virTorrentVolumeLook(vol);
    if (vol->state != VIR_TORRENT_VOLUME_SEEDING)
        return FALSE;
    vol->scrub = virTorrentVolumeRead(vol, vol->scrub_next, (guint64)env->conf->scrub_rate << 20,
                                      virTorrentVolumeScrubbed, &err);
    if (!vol->scrub) {
        virTorrentVolumeFail(vol, err->message);
        return FALSE;
    }
    g_info("Volume '%s' of pool '%s' is read again, from piece %u", vol->name, vol->pool->name,
           vol->scrub_next);
    env->scrubbing = vol;
    return TRUE;
}

/* Keeps how far it is. */
static void
virTorrentVolumeNoteProgress(VirTorrentVolume *vol)
{
    guint32 next = virTorrentScrubGetNext(vol->scrub);

    if (next == vol->scrub_next)
        return;
    vol->scrub_next = next;
    virTorrentVolumeSaveScrub(vol);
}

/* The one whose turn it is, or NULL: one that was begun, or else the one that was good longest ago. */
static VirTorrentVolume *
virTorrentPoolFindDue(VirTorrentPool *pool)
{
    gint64 limit = virTorrentNow() - (gint64)pool->env->conf->scrub_interval * DAY;
    VirTorrentVolume *due = NULL;
    GHashTableIter iter;
    gpointer value;

    if (pool->env->conf->scrub_interval == 0)
        return NULL;
    g_hash_table_iter_init(&iter, pool->volumes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        VirTorrentVolume *vol = value;

        if (vol->state != VIR_TORRENT_VOLUME_SEEDING || vol->adopting)
            continue;
        if (vol->scrub_next)
            return vol;
        if (vol->scrubbed <= limit && (!due || vol->scrubbed < due->scrubbed))
            due = vol;
    }
    return due;
}

void
virTorrentPoolScrubSome(VirTorrentPool *pool)
{
    VirTorrentPoolEnv *env = pool->env;
    VirTorrentVolume *vol;

    if (env->scrubbing) {
        if (env->scrubbing->pool == pool)
            virTorrentVolumeNoteProgress(env->scrubbing);
        return;
    }
    while (!g_queue_is_empty(&pool->scrubs)) {
        g_autofree char *name = g_queue_pop_head(&pool->scrubs);

        vol = g_hash_table_lookup(pool->volumes, name);
        if (vol && virTorrentVolumeScrub(vol))
            return;
    }
    vol = virTorrentPoolFindDue(pool);
    if (vol)
        virTorrentVolumeScrub(vol);
}

/* Whether there is something to be read again, now or later. */
static gboolean
virTorrentVolumeAskScrub(VirTorrentVolume *vol)
{
    VirTorrentPool *pool = vol->pool;

    switch (vol->state) {
    case VIR_TORRENT_VOLUME_FAILED:
        /* what never was a master here cannot be verified */
        if (!vol->key || !vol->kept || virTorrentVolumeStat(vol, &vol->seen) < 0)
            return FALSE;
        /* fallthrough */
    case VIR_TORRENT_VOLUME_HEALING:
        return !vol->adopting &&
            virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_CHANGED, NULL, NULL);
    case VIR_TORRENT_VOLUME_SEEDING:
        if (pool->env->scrubbing != vol &&
            !g_queue_find_custom(&pool->scrubs, vol->name, (GCompareFunc)strcmp))
            g_queue_push_tail(&pool->scrubs, g_strdup(vol->name));
        return TRUE;
    case VIR_TORRENT_VOLUME_NONE:
    case VIR_TORRENT_VOLUME_PAUSED:
    case VIR_TORRENT_VOLUME_HASHING:
    case VIR_TORRENT_VOLUME_FETCHING:
    case VIR_TORRENT_VOLUME_LAST:
        break;
    }
    return FALSE;
}

gboolean
virTorrentPoolScrub(VirTorrentPool *pool, const char *name, guint *count, GError **error)
{
    g_autoptr(GList) names = NULL;
    GList *l;

    *count = 0;
    if (*name) {
        VirTorrentVolume *vol = virTorrentPoolFind(pool, name, error);

        if (!vol)
            return FALSE;
        *count = virTorrentVolumeAskScrub(vol);
        if (!*count)
            return virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_BUSY,
                                        _("'%s' cannot be read again, it is %s"), name,
                                        virTorrentVolumeStateNames[vol->state]);
    } else {
        names = g_list_sort(g_hash_table_get_keys(pool->volumes), (GCompareFunc)strcmp);
        for (l = names; l; l = l->next)
            *count += virTorrentVolumeAskScrub(g_hash_table_lookup(pool->volumes, l->data));
    }
    virTorrentPoolScrubSome(pool);
    return TRUE;
}
