/*
 * volume-fetch.c: getting a master from others, and making it one here
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The actions of volume.c's table from the first byte to the adopted file.
 * What an adoption does - fsync, probing, the monitor's part - waits for the
 * disk and so runs in a thread, which touches nothing but its own
 * VirTorrentAdoption.
 */

#include <config.h>

#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

#include "i18n.h"
#include "magnet.h"

void
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

void
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
    gboolean replace;            /* the name is a damaged master's */
    /* what came out */
    const char *probed;
    guint64 capacity;
    struct stat st;
} VirTorrentAdoption;

static void
virTorrentAdoptionFree(gpointer opaque)
{
    VirTorrentAdoption *adoption = opaque;

    virTorrentMonitorUnref(adoption->monitor);
    if (adoption->targetfd >= 0)
        close(adoption->targetfd);
    if (adoption->partialfd >= 0)
        close(adoption->partialfd);
    g_free(adoption->target);
    g_free(adoption->name);
    g_free(adoption->format);
    g_free(adoption);
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
    } else if ((image = virTorrentProbeMaster(adoption->partialfd, adoption->name,
                                              adoption->format, &err)) &&
               (adoption->replace ? virTorrentMonitorReplace : virTorrentMonitorAdopt)
               (adoption->monitor, adoption->target, adoption->name, &err) &&
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
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_ADOPTED, NULL, NULL);
    }
    virTorrentVolumeUnref(vol);
}

void
virTorrentVolumeStartAdoption(VirTorrentVolume *vol, GError **error G_GNUC_UNUSED)
{
    VirTorrentPool *pool = vol->pool;
    VirTorrentAdoption *adoption;
    g_autoptr(GTask) task = NULL;

    if (vol->adopting)
        return;
    vol->adopting = TRUE;
    adoption = g_new0(VirTorrentAdoption, 1);
    adoption->monitor = virTorrentMonitorRef(pool->env->monitor);
    adoption->target = g_strdup(pool->target);
    adoption->name = g_strdup(vol->name);
    adoption->format = g_strdup(vol->format);
    adoption->replace = vol->state == VIR_TORRENT_VOLUME_HEALING;
    adoption->targetfd = fcntl(pool->targetfd, F_DUPFD_CLOEXEC, 3);
    adoption->partialfd = virTorrentStorePartialOpen(pool->store, vol->name);
    task = g_task_new(NULL, NULL, virTorrentVolumeAdoptionDone, virTorrentVolumeRef(vol));
    g_task_set_task_data(task, adoption, virTorrentAdoptionFree);
    g_task_run_in_thread(task, virTorrentAdoptionRun);
}

/* The file stands at its final path now, perhaps at the old one, too. */
void
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

/* The healed file has the damaged one's name now. */
void
virTorrentVolumeTakeOverHealed(VirTorrentVolume *vol, GError **error)
{
    g_message("Volume '%s' of pool '%s' is healed; guests that run on it use its old file until they "
              "are started anew", vol->name, vol->pool->name);
    virTorrentVolumeTakeOver(vol, error);
}
