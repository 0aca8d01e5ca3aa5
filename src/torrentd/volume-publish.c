/*
 * volume-publish.c: hashing a file of this host, and seeding what is complete
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The actions of volume.c's table that look at the final file.  It is opened
 * with O_NOFOLLOW and for reading only; that it did not change while it was
 * read is checked by its stamp before it is believed.
 *
 * Hashes of all pools wait in one queue.
 */

#include <config.h>

#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "i18n.h"

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

int
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
int
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

VirImageInfo *
virTorrentProbeMaster(int fd, const char *name, const char *format, GError **error)
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
    if (!virTorrentFormatPlausible(format, image->format)) {
        virTorrentPoolRefuse(error, VIR_TORRENT_POOL_ERROR_FAILED,
                             _("'%s' is said to be a %s image, but its content is %s"),
                             name, format, image->format);
        return NULL;
    }
    return g_steal_pointer(&image);
}

static void virTorrentHashQueueRun(VirTorrentPoolEnv *env);

gboolean
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
        g_autoptr(GBytes) leaves = virTorrentHashTakeLeaves(hash);

        if (leaves)
            virTorrentStoreSave(vol->pool->store, VIR_TORRENT_STORE_LEAVES, vol->name, leaves,
                                NULL, NULL, NULL);
        vol->metainfo = g_bytes_ref(metainfo);
        virTorrentVolumeHandle(vol, VIR_TORRENT_VOLUME_EVENT_HASHED, NULL, NULL);
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
        g_autoptr(GBytes) authority = pool->tls ? virTorrentTlsGetAuthority(pool->tls) : NULL;

        vol->size = vol->seen.st_size;
        vol->hash = virTorrentHashStart(fd, vol->name, vol->format, vol->capacity,
                                        pool->env->conf->hash_threads, authority,
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
           !g_queue_is_empty(&env->hashes.waiting)) {
        VirTorrentVolume *vol = g_queue_pop_head(&env->hashes.waiting);

        if (!vol->checking) {
            virTorrentVolumeHash(vol);
            continue;
        }
        env->hashes.running++;
        virTorrentVolumeCheck(vol);
    }
}

static gboolean
virTorrentHashQueueIdle(gpointer opaque)
{
    virTorrentHashQueueRun(opaque);
    return G_SOURCE_REMOVE;
}

void
virTorrentVolumeQueueHash(VirTorrentVolume *vol)
{
    VirTorrentPoolEnv *env = vol->pool->env;

    g_queue_push_tail(&env->hashes.waiting, vol);
    /* not from here: what fails would overtake the state it fails in */
    g_idle_add_full(G_PRIORITY_DEFAULT, virTorrentHashQueueIdle, env, NULL);
}

void
virTorrentHashQueueNext(VirTorrentPoolEnv *env)
{
    env->hashes.running--;
    g_idle_add_full(G_PRIORITY_DEFAULT, virTorrentHashQueueIdle, env, NULL);
}

void
virTorrentVolumeStartHash(VirTorrentVolume *vol, GError **error G_GNUC_UNUSED)
{
    vol->checking = FALSE;
    virTorrentVolumeSaveRequest(vol, VIR_TORRENT_STORE_PUBLISH);
    virTorrentVolumeQueueHash(vol);
}

void
virTorrentVolumeCancelHash(VirTorrentVolume *vol)
{
    VirTorrentPoolEnv *env = vol->pool->env;

    if (g_queue_remove(&env->hashes.waiting, vol)) {
        vol->checking = FALSE;
        return;
    }
    if (!vol->hash && !vol->checking)
        return;
    if (vol->checking)
        g_clear_pointer(&vol->scrub, virTorrentScrubFree);
    vol->checking = FALSE;
    g_clear_pointer(&vol->hash, virTorrentHashFree);
    virTorrentHashQueueNext(env);
}

/* Adds the file at the final path to the engine. */
gboolean
virTorrentVolumeAddFinal(VirTorrentVolume *vol, VirTorrentAddFlags flags, GError **error)
{
    VirTorrentPool *pool = vol->pool;
    g_autoptr(GBytes) metainfo = g_steal_pointer(&vol->metainfo);

    if (!metainfo && !(metainfo = virTorrentVolumeLoadMetainfo(vol, error)))
        return FALSE;
    return virTorrentEngineAdd(pool->engine, vol->name, metainfo, NULL, NULL, pool->target,
                               vol->name, flags, error);
}

void
virTorrentVolumeStartSeed(VirTorrentVolume *vol, GError **error)
{
    virTorrentVolumeAddFinal(vol, VIR_TORRENT_ADD_SEED, error);
}

void
virTorrentVolumeSaveStamp(VirTorrentVolume *vol)
{
    g_autoptr(GBytes) stamp = virTorrentStampMake(&vol->seen);
    int fd = openat(vol->pool->targetfd, vol->name,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd >= 0)
        virTorrentStoreSyncFile(vol->pool->store, fd);
    virTorrentVolumeSave(vol, VIR_TORRENT_STORE_STAT, stamp);
    virTorrentStoreRemove(vol->pool->store, VIR_TORRENT_STORE_RESUME, vol->name);
    virTorrentStoreRemove(vol->pool->store, VIR_TORRENT_STORE_HAVE, vol->name);
    virTorrentStoreRemove(vol->pool->store, VIR_TORRENT_STORE_MAGNET, vol->name);
    virTorrentStoreRemove(vol->pool->store, VIR_TORRENT_STORE_PUBLISH, vol->name);
    virTorrentStoreRemove(vol->pool->store, VIR_TORRENT_STORE_DAMAGE, vol->name);
    virTorrentVolumeNoteGood(vol);
}

void
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
