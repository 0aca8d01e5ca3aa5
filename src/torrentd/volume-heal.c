/*
 * volume-heal.c: putting right what a check found damaged
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The damaged file stays where it is, root's and read-only, until a good one
 * takes its name.  That one is made in partial/: the good pieces are copied (or
 * shared, where the file system can), the engine verifies them like those of
 * any fetch and gets the others from the swarm; then the monitor puts it into
 * the place of the old one, if it has the content that the master had when it
 * became one (seal.h).  So the names of its clones' backing file never change.
 * Guests that run go on with the old file, which is gone when the last of them
 * ends.
 *
 * meta/NAME.damage says that this is going on: a restart goes on with it, and
 * virt-torrentpool-hook starts no guest meanwhile.
 */

#include <config.h>

#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

#include "i18n.h"

#define DAMAGE_MAX 4096

typedef struct {
    int from;
    int to;
    guint64 size;
    guint32 piece_length;
    GArray *damaged;
    gint *cancelled;             /* atomic, counted */
} VirTorrentCopy;

static void
virTorrentCopyFree(gpointer opaque)
{
    VirTorrentCopy *copy = opaque;

    if (copy->from >= 0)
        close(copy->from);
    if (copy->to >= 0)
        close(copy->to);
    g_array_unref(copy->damaged);
    g_rc_box_release(copy->cancelled);
    g_free(copy);
}

char *
virTorrentVolumeLoadDamage(VirTorrentVolume *vol)
{
    g_autoptr(GBytes) content = virTorrentStoreLoad(vol->pool->store, VIR_TORRENT_STORE_DAMAGE,
                                                    vol->name, DAMAGE_MAX, NULL);

    return content ? g_strndup(g_bytes_get_data(content, NULL), g_bytes_get_size(content)) : NULL;
}

/* In a thread of its own. */
static void
virTorrentCopyRun(GTask *task,
                  gpointer source G_GNUC_UNUSED,
                  gpointer opaque,
                  GCancellable *cancellable G_GNUC_UNUSED)
{
    VirTorrentCopy *copy = opaque;

    if (virTorrentCopyGood(copy->from, copy->to, copy->size, copy->piece_length, copy->damaged,
                           copy->cancelled))
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_new_error(task, G_FILE_ERROR, g_file_error_from_errno(errno),
                                _("its good pieces cannot be copied: %s"), g_strerror(errno));
}

static void
virTorrentVolumeCopied(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer opaque)
{
    VirTorrentVolume *vol = opaque;
    VirTorrentCopy *copy = g_task_get_task_data(G_TASK(result));
    g_autoptr(GError) err = NULL;
    gboolean ok = g_task_propagate_boolean(G_TASK(result), &err);

    /* what was cancelled is nobody's business any more */
    if (vol->pool && vol->copying == copy->cancelled) {
        g_clear_pointer(&vol->copying, g_rc_box_release);
        /* the engine opens it, and finds nobody else writing to it */
        close(copy->to);
        copy->to = -1;
        if (ok)
            virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_COPIED, NULL, NULL);
        else
            virTorrentVolumeFail(vol, err->message);
    }
    virTorrentVolumeUnref(vol);
}

void
virTorrentVolumeCancelCopy(VirTorrentVolume *vol)
{
    if (!vol->copying)
        return;
    g_atomic_int_set(vol->copying, TRUE);
    g_clear_pointer(&vol->copying, g_rc_box_release);
}

/* Begins to copy the good pieces into a new file. */
static void
virTorrentVolumeStartCopy(VirTorrentVolume *vol, guint32 piece_length, GError **error)
{
    VirTorrentPool *pool = vol->pool;
    g_autoptr(GTask) task = NULL;
    VirTorrentCopy *copy = g_new0(VirTorrentCopy, 1);
    struct stat st;

    copy->cancelled = g_rc_box_new0(gint);
    copy->damaged = g_array_ref(vol->damaged);
    copy->size = vol->size;
    copy->piece_length = piece_length;
    copy->to = -1;
    copy->from = virTorrentPoolOpenMaster(pool, vol->name, &st, error);
    if (copy->from >= 0) {
        virTorrentStorePartialRemove(pool->store, vol->name);
        copy->to = virTorrentStorePartialCreate(pool->store, vol->name);
        if (copy->to < 0)
            virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_FAILED,
                                 _("no file can be made in '%s': %s"), pool->partial, g_strerror(errno));
    }
    if (copy->to < 0) {
        virTorrentCopyFree(copy);
        return;
    }
    vol->copying = g_rc_box_acquire(copy->cancelled);
    task = g_task_new(NULL, NULL, virTorrentVolumeCopied, virTorrentVolumeRef(vol));
    g_task_set_task_data(task, copy, virTorrentCopyFree);
    g_task_run_in_thread(task, virTorrentCopyRun);
}

static gboolean
virTorrentVolumeGoOn(gpointer opaque)
{
    VirTorrentVolume *vol = opaque;

    if (vol->pool && vol->state == VIR_TORRENT_VOLUME_HEALING && !vol->copying)
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_COPIED, NULL, NULL);
    return G_SOURCE_REMOVE;
}

/* Whether what an earlier virttorrentd had of a healed file is here, with all that is known of it. */
static gboolean
virTorrentVolumeIsHalfHealed(VirTorrentVolume *vol)
{
    g_autofree char *damage = virTorrentVolumeLoadDamage(vol);
    g_autoptr(GBytes) resume = NULL;
    struct stat st;

    if (!damage || !vol->loaded || vol->retry ||
        virTorrentStorePartialStat(vol->pool->store, vol->name, &st) < 0)
        return FALSE;
    resume = virTorrentStoreLoad(vol->pool->store, VIR_TORRENT_STORE_RESUME, vol->name,
                                 VIR_TORRENT_METAINFO_MAX, NULL);
    return resume != NULL;
}

void
virTorrentVolumeStartHeal(VirTorrentVolume *vol, GError **error)
{
    VirTorrentPool *pool = vol->pool;
    g_autoptr(GBytes) metainfo = virTorrentVolumeLoadMetainfo(vol, error);
    g_autoptr(VirTorrentMetainfo) info = metainfo ? virTorrentMetainfoParse(metainfo, error) : NULL;
    g_autoptr(GBytes) content = NULL;

    if (!info)
        return;
    g_critical("Volume '%s' of pool '%s': %s; they are fetched from other hosts", vol->name, pool->name,
               vol->error);
    virTorrentEngineRemove(pool->engine, vol->name);
    virTorrentStoreRemove(pool->store, VIR_TORRENT_STORE_STAT, vol->name);
    if (virTorrentVolumeIsHalfHealed(vol)) {
        g_idle_add_full(G_PRIORITY_DEFAULT, virTorrentVolumeGoOn, virTorrentVolumeRef(vol),
                        virTorrentVolumeUnref);
        return;
    }
    content = g_bytes_new(vol->error, MIN(strlen(vol->error), DAMAGE_MAX));
    virTorrentStoreRemove(pool->store, VIR_TORRENT_STORE_RESUME, vol->name);
    virTorrentVolumeSave(vol, VIR_TORRENT_STORE_DAMAGE, content);
    vol->retry = TRUE;
    virTorrentVolumeStartCopy(vol, info->piece_length, error);
}
