/*
 * disk-cache.c: the share of the page cache that we take
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A fetch of 100 GiB would push out of the page cache what guests and other
 * processes work with, and fill it with dirty pages that the next fsync() of
 * anybody has to wait for.  So what is whole is written out at once, by a thread
 * of its own; whoever adds more than dirty_max waits for that thread; and of what was
 * written or read the oldest is dropped beyond cache_max.  It is kept at first because
 * it is asked for soon: by other hosts, and by the thread that proves the master.
 *
 * Ranges go through three queues in the order they came: dirty (to be written
 * out), flying (given to the disk, not waited for), clean.  What another process had in
 * the page cache before us is never added, and so never dropped, as far as reading goes.
 *
 * Lock: 'lock' covers the queues; nothing waits for a disk while it is held.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>

#include "disk-priv.h"

typedef struct {
    VirTorrentDiskFd *fd;
    guint64 pos, len;
} VirTorrentDiskRange;

#define FLYING (G_GUINT64_CONSTANT(32) << 20)   /* bytes: keeps any disk busy */

typedef struct {
    GQueue ranges;
    guint64 bytes;
} VirTorrentDiskRanges;

struct _VirTorrentDiskCache {
    guint64 dirty_max, cache_max;
    GThread *thread;
    GMutex lock;
    GCond work, room;           /* something to do for the thread, for those that wait for it */
    gboolean stop;
    VirTorrentDiskRanges dirty, flying, clean;
};

static void
virTorrentDiskRangeFree(gpointer opaque)
{
    VirTorrentDiskRange *range = opaque;

    virTorrentDiskFdUnref(range->fd);
    g_free(range);
}

static void
virTorrentDiskRangesPush(VirTorrentDiskRanges *ranges, VirTorrentDiskRange *range)
{
    g_queue_push_tail(&ranges->ranges, range);
    ranges->bytes += range->len;
}

static VirTorrentDiskRange *
virTorrentDiskRangesPop(VirTorrentDiskRanges *ranges)
{
    VirTorrentDiskRange *range = g_queue_pop_head(&ranges->ranges);

    if (range)
        ranges->bytes -= range->len;
    return range;
}

static void
virTorrentDiskSync(VirTorrentDiskRange *range, unsigned int flags)
{
    /* Errors are met by the fsync() that precedes any claim that the data is there. */
    if (sync_file_range(range->fd->fd, range->pos, range->len, flags) < 0)
        g_debug("sync_file_range: %s", g_strerror(errno));
}

static void
virTorrentDiskDrop(VirTorrentDiskRange *range)
{
    int err = posix_fadvise(range->fd->fd, range->pos, range->len, POSIX_FADV_DONTNEED);

    if (err)
        g_debug("posix_fadvise: %s", g_strerror(err));
}

/* Drops the oldest.  Called and ends with the lock. */
static void
virTorrentDiskCacheTrim(VirTorrentDiskCache *cache)
{
    while (cache->clean.bytes > cache->cache_max) {
        VirTorrentDiskRange *range = virTorrentDiskRangesPop(&cache->clean);

        g_mutex_unlock(&cache->lock);
        virTorrentDiskDrop(range);
        virTorrentDiskRangeFree(range);
        g_mutex_lock(&cache->lock);
    }
}

/* Lock held, released while the disk is asked.  FALSE where nothing is to be done. */
static gboolean
virTorrentDiskCacheStep(VirTorrentDiskCache *cache)
{
    gboolean wait = cache->flying.bytes > FLYING || !cache->dirty.ranges.head;
    VirTorrentDiskRange *range = virTorrentDiskRangesPop(wait ? &cache->flying : &cache->dirty);

    if (!range)
        return FALSE;
    g_mutex_unlock(&cache->lock);
    virTorrentDiskSync(range, wait ? SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                       SYNC_FILE_RANGE_WAIT_AFTER : SYNC_FILE_RANGE_WRITE);
    g_mutex_lock(&cache->lock);
    virTorrentDiskRangesPush(wait ? &cache->clean : &cache->flying, range);
    g_cond_broadcast(&cache->room);
    virTorrentDiskCacheTrim(cache);
    return TRUE;
}

static gpointer
virTorrentDiskCacheThread(gpointer opaque)
{
    VirTorrentDiskCache *cache = opaque;

    virTorrentDiskBeModest();
    g_mutex_lock(&cache->lock);
    while (!cache->stop) {
        if (!virTorrentDiskCacheStep(cache))
            g_cond_wait(&cache->work, &cache->lock);
    }
    g_mutex_unlock(&cache->lock);
    return NULL;
}

VirTorrentDiskCache *
virTorrentDiskCacheNew(guint64 dirty_max, guint64 cache_max, GError **error)
{
    VirTorrentDiskCache *cache = g_new0(VirTorrentDiskCache, 1);

    cache->dirty_max = dirty_max;
    cache->cache_max = cache_max;
    g_mutex_init(&cache->lock);
    g_cond_init(&cache->work);
    g_cond_init(&cache->room);
    cache->thread = g_thread_try_new("disk-cache", virTorrentDiskCacheThread, cache, error);
    if (cache->thread)
        return cache;
    virTorrentDiskCacheFree(cache);
    return NULL;
}

void
virTorrentDiskCacheFree(VirTorrentDiskCache *cache)
{
    VirTorrentDiskRanges *all[] = { &cache->dirty, &cache->flying, &cache->clean };
    guint i;

    if (cache->thread) {
        g_mutex_lock(&cache->lock);
        cache->stop = TRUE;
        g_cond_signal(&cache->work);
        g_mutex_unlock(&cache->lock);
        g_thread_join(cache->thread);
    }
    for (i = 0; i < G_N_ELEMENTS(all); i++)
        g_queue_clear_full(&all[i]->ranges, virTorrentDiskRangeFree);
    g_cond_clear(&cache->work);
    g_cond_clear(&cache->room);
    g_mutex_clear(&cache->lock);
    g_free(cache);
}

void
virTorrentDiskCacheAdd(VirTorrentDiskCache *cache, VirTorrentDiskFd *fd,
                       guint64 pos, guint64 len, gboolean dirty)
{
    VirTorrentDiskRange *range = g_new0(VirTorrentDiskRange, 1);

    range->fd = virTorrentDiskFdRef(fd);
    range->pos = pos;
    range->len = len;
    g_mutex_lock(&cache->lock);
    virTorrentDiskRangesPush(dirty ? &cache->dirty : &cache->clean, range);
    if (dirty)
        g_cond_signal(&cache->work);
    else
        virTorrentDiskCacheTrim(cache);
    while (cache->dirty.bytes + cache->flying.bytes > cache->dirty_max)
        g_cond_wait(&cache->room, &cache->lock);
    g_mutex_unlock(&cache->lock);
}

void
virTorrentDiskCacheForget(VirTorrentDiskCache *cache, VirTorrentDiskFd *fd, gboolean drop)
{
    VirTorrentDiskRanges *all[] = { &cache->dirty, &cache->flying, &cache->clean };
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(virTorrentDiskRangeFree);
    guint i;

    g_mutex_lock(&cache->lock);
    for (i = 0; i < G_N_ELEMENTS(all); i++) {
        GList *next, *l;

        for (l = all[i]->ranges.head; l; l = next) {
            VirTorrentDiskRange *range = l->data;

            next = l->next;
            if (range->fd != fd)
                continue;
            all[i]->bytes -= range->len;
            g_queue_delete_link(&all[i]->ranges, l);
            g_ptr_array_add(found, range);
        }
    }
    g_cond_broadcast(&cache->room);
    g_mutex_unlock(&cache->lock);
    for (i = 0; drop && i < found->len; i++)
        virTorrentDiskDrop(g_ptr_array_index(found, i));
}
