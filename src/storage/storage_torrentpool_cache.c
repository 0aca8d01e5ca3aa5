/*
 * storage_torrentpool_cache.c: what the files of a torrent pool were found to be
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Telling what a volume is takes opening and reading its file and the one that
 * it is made on. With ten thousand clones that is what a refresh consists of,
 * and libvirt forgets all volumes at each. So what was found is remembered
 * by the name of the file, with its inode, size and times, and found out anew
 * only when one of these differs. ctime is among them, which nobody can set: it
 * covers content, owner, mode and label.
 *
 * A file that changed just before it was looked at may change again without its
 * times telling, as clocks of file systems tick in steps. What is known of it
 * is not trusted until it is older than that (RACY_NS).
 *
 * It is also kept in TARGET/.torrentpool/volumes for the next daemon: root's,
 * replaced as a whole, with a checksum at its end, as nothing waits for it to be
 * on disk. One that is malformed, another's or another version's is ignored;
 * the files are looked at then.
 *
 * Not remembered: encrypted volumes, and overlays of what is no local file.
 *
 * Locks: cacheLock guards the tables. It may be taken with a pool locked, and
 * no file is opened under it.
 */

#include <config.h>

#include <fcntl.h>
#include <unistd.h>

#include "storage_torrentpool_cache.h"
#include "storage_torrentpool_def.h"
#include "storage_torrentpool_file.h"
#include "storage_torrentpool_vol.h"
#include "storage_util.h"
#include "viralloc.h"
#include "virbitmap.h"
#include "virerror.h"
#include "virfile.h"
#include "virhash.h"
#include "virlog.h"
#include "virstring.h"
#include "virthread.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_cache");

#define CACHE_FILE "volumes"
#define CACHE_TMP CACHE_FILE ".new"
#define CACHE_MAX (64 * 1024 * 1024)
/* libvirt's version and the format of clones, on which it depends what is told
 * of a file */
#define CACHE_HEAD "torrentpool-volumes 2 %d %d\n"
#define CACHE_END "end "
#define CACHE_NUMBERS 9
#define CACHE_STRINGS 6
#define RACY_NS (2 * 1000 * 1000 * 1000LL)

G_STATIC_ASSERT(VIR_STORAGE_FILE_FEATURE_LAST <= 64);

/* The state of a file, in nanoseconds since the epoch where it is a time */
typedef struct _virStorageTorrentPoolStamp virStorageTorrentPoolStamp;
struct _virStorageTorrentPoolStamp {
    unsigned long long ino;
    unsigned long long size;
    long long mtime;
    long long ctime;
};

typedef struct _virStorageTorrentPoolFound virStorageTorrentPoolFound;
struct _virStorageTorrentPoolFound {
    virStorageTorrentPoolStamp stamp;
    long long seen;  /* when it was looked at */
    unsigned int round;

    int format;
    unsigned long long capacity;
    unsigned long long clusterSize;
    bool hasFeatures;
    unsigned long long features; /* a bit each */
    char *compat;
    char *label;
    char *backing;   /* path; NULL: none */
    int backingFormat;

    bool described; /* the volume of that name was, with this */
    virStorageSource *source; /* of a backing file, while the pool is listed */
};

typedef struct _virStorageTorrentPoolCache virStorageTorrentPoolCache;
struct _virStorageTorrentPoolCache {
    GHashTable *files;    /* name -> virStorageTorrentPoolFound */
    GHashTable *backings; /* path -> virStorageTorrentPoolFound */
    unsigned int round;
    bool listing;         /* the pool is, and its lock held all the time */
    bool dirty;
};

static virMutex cacheLock = VIR_MUTEX_INITIALIZER;
static GHashTable *cachePools; /* directory -> virStorageTorrentPoolCache */


static void
virStorageTorrentPoolFoundFree(void *opaque)
{
    virStorageTorrentPoolFound *found = opaque;

    g_free(found->compat);
    g_free(found->label);
    g_free(found->backing);
    virObjectUnref(found->source);
    g_free(found);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStorageTorrentPoolFound, virStorageTorrentPoolFoundFree);


static void
virStorageTorrentPoolCacheFree(void *opaque)
{
    virStorageTorrentPoolCache *cache = opaque;

    g_hash_table_unref(cache->files);
    g_hash_table_unref(cache->backings);
    g_free(cache);
}


/* cacheLock is held. */
static virStorageTorrentPoolCache *
virStorageTorrentPoolCacheGet(virStoragePoolDef *def)
{
    virStorageTorrentPoolCache *cache;

    if ((cache = g_hash_table_lookup(cachePools, def->target.path)))
        return cache;

    cache = g_new0(virStorageTorrentPoolCache, 1);
    cache->files = virHashNew(virStorageTorrentPoolFoundFree);
    cache->backings = virHashNew(virStorageTorrentPoolFoundFree);
    g_hash_table_insert(cachePools, g_strdup(def->target.path), cache);

    return cache;
}


static long long
virStorageTorrentPoolCacheNs(const struct timespec *ts)
{
    return ts->tv_sec * 1000000000LL + ts->tv_nsec;
}


static virStorageTorrentPoolStamp
virStorageTorrentPoolCacheStamp(const struct stat *sb)
{
    virStorageTorrentPoolStamp stamp = {
        .ino = sb->st_ino,
        .size = sb->st_size,
        .mtime = virStorageTorrentPoolCacheNs(&sb->st_mtim),
        .ctime = virStorageTorrentPoolCacheNs(&sb->st_ctim),
    };

    return stamp;
}


/* Whether the file that was found is @sb, unchanged. @found may be NULL. */
static bool
virStorageTorrentPoolCacheIsCurrent(const virStorageTorrentPoolFound *found,
                                    const struct stat *sb)
{
    virStorageTorrentPoolStamp stamp = virStorageTorrentPoolCacheStamp(sb);

    return found &&
           found->stamp.ino == stamp.ino &&
           found->stamp.size == stamp.size &&
           found->stamp.mtime == stamp.mtime &&
           found->stamp.ctime == stamp.ctime &&
           found->seen - stamp.ctime > RACY_NS &&
           found->seen - stamp.mtime > RACY_NS;
}


/* What every look at a file tells, here without one */
static void
virStorageTorrentPoolCacheFillSource(virStorageSource *src,
                                     const virStorageTorrentPoolFound *found,
                                     const struct stat *sb)
{
    struct stat copy = *sb;

    /* without a descriptor it does not fail */
    ignore_value(virStorageBackendUpdateVolTargetInfoFD(src, -1, &copy));
    src->perms->label = g_strdup(found->label);
    src->capacity = found->capacity;
}


/* What @found is made on, NULL: it has to be looked at. Thousands of clones of
 * one master share what is told of it, as nobody changes that in place. */
static virStorageSource *
virStorageTorrentPoolCacheGetBacking(virStorageTorrentPoolCache *cache,
                                     const virStorageTorrentPoolFound *found)
{
    virStorageTorrentPoolFound *backing = g_hash_table_lookup(cache->backings, found->backing);
    virStorageSource *src;
    struct stat sb;

    if (!backing || backing->format != found->backingFormat)
        return NULL;

    if (cache->listing && backing->source)
        return virObjectRef(backing->source);

    if (stat(found->backing, &sb) < 0 ||
        !virStorageTorrentPoolCacheIsCurrent(backing, &sb))
        return NULL;

    src = virStorageSourceNew();
    src->type = VIR_STORAGE_TYPE_FILE;
    src->path = g_strdup(found->backing);
    src->format = found->backingFormat;
    src->readonly = true;
    virStorageTorrentPoolCacheFillSource(src, backing, &sb);

    backing->round = cache->round;
    if (cache->listing)
        backing->source = virObjectRef(src);

    return src;
}


static void
virStorageTorrentPoolCacheFillTarget(virStorageSource *target,
                                     const virStorageTorrentPoolFound *found,
                                     const struct stat *sb)
{
    size_t i;

    virStorageTorrentPoolCacheFillSource(target, found, sb);
    target->format = found->format;

    if (found->clusterSize > 0)
        target->clusterSize = found->clusterSize;

    g_clear_pointer(&target->features, virBitmapFree);
    if (found->hasFeatures) {
        target->features = virBitmapNew(VIR_STORAGE_FILE_FEATURE_LAST);

        for (i = 0; i < VIR_STORAGE_FILE_FEATURE_LAST; i++) {
            if (found->features & (1ULL << i))
                ignore_value(virBitmapSetBit(target->features, i));
        }
    }

    if (found->compat) {
        g_free(target->compat);
        target->compat = g_strdup(found->compat);
    }
}


/* Describes the volume as what is remembered of its file, if that holds. */
static bool
virStorageTorrentPoolCacheFill(virStoragePoolDef *def,
                               virStorageVolDef *vol,
                               const struct stat *sb)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&cacheLock);
    virStorageTorrentPoolCache *cache = virStorageTorrentPoolCacheGet(def);
    virStorageTorrentPoolFound *found = g_hash_table_lookup(cache->files, vol->name);
    virStorageSource *backing = NULL;

    if (found)
        found->described = false;

    if (!virStorageTorrentPoolCacheIsCurrent(found, sb))
        return false;

    if (found->backing &&
        !(backing = virStorageTorrentPoolCacheGetBacking(cache, found)))
        return false;

    found->round = cache->round;
    found->described = true;
    virStorageTorrentPoolCacheFillTarget(&vol->target, found, sb);
    vol->target.backingStore = backing;

    return true;
}


bool
virStorageTorrentPoolCacheKeep(virStoragePoolDef *def,
                               virStorageVolDef *vol,
                               const struct stat *sb)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&cacheLock);
    virStorageTorrentPoolCache *cache = virStorageTorrentPoolCacheGet(def);
    virStorageTorrentPoolFound *found = g_hash_table_lookup(cache->files, vol->name);
    virStorageSource *backing;

    if (!virStorageTorrentPoolCacheIsCurrent(found, sb) || !found->described)
        return false;

    if (found->backing) {
        if (!(backing = virStorageTorrentPoolCacheGetBacking(cache, found)))
            return false;

        virObjectUnref(vol->target.backingStore);
        vol->target.backingStore = backing;
    }

    found->round = cache->round;
    vol->target.allocation = (unsigned long long)sb->st_blocks * 512;
    if (vol->target.timestamps)
        vol->target.timestamps->atime = sb->st_atim;

    return true;
}


static virStorageTorrentPoolFound *
virStorageTorrentPoolFoundNew(const virStorageSource *src,
                              const struct stat *sb,
                              long long seen,
                              unsigned int round)
{
    virStorageTorrentPoolFound *found = g_new0(virStorageTorrentPoolFound, 1);
    size_t i;

    found->stamp = virStorageTorrentPoolCacheStamp(sb);
    found->seen = seen;
    found->round = round;
    found->format = src->format;
    found->capacity = src->capacity;
    found->clusterSize = src->clusterSize;
    found->compat = g_strdup(src->compat);
    found->label = g_strdup(src->perms->label);

    found->hasFeatures = !!src->features;
    for (i = 0; src->features && i < VIR_STORAGE_FILE_FEATURE_LAST; i++) {
        if (virBitmapIsBitSet(src->features, i))
            found->features |= 1ULL << i;
    }

    return found;
}


/* Remembers what the volume was found to be. @sb is from before. */
static void
virStorageTorrentPoolCacheStore(virStoragePoolDef *def,
                                const virStorageVolDef *vol,
                                const struct stat *sb,
                                long long seen)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&cacheLock);
    virStorageTorrentPoolCache *cache = virStorageTorrentPoolCacheGet(def);
    const virStorageSource *backing = vol->target.backingStore;
    g_autoptr(virStorageTorrentPoolFound) found = NULL;
    struct stat backingsb;

    cache->dirty = true;
    g_hash_table_remove(cache->files, vol->name);

    if (!S_ISREG(sb->st_mode) || !vol->target.perms || vol->target.encryption)
        return;

    found = virStorageTorrentPoolFoundNew(&vol->target, sb, seen, cache->round);
    found->described = true;

    if (backing) {
        /* without permissions it could not be looked at */
        if (backing->type != VIR_STORAGE_TYPE_FILE || !backing->path ||
            !backing->perms || stat(backing->path, &backingsb) < 0 ||
            !S_ISREG(backingsb.st_mode))
            return;

        found->backing = g_strdup(backing->path);
        found->backingFormat = backing->format;
        g_hash_table_insert(cache->backings, g_strdup(backing->path),
                            virStorageTorrentPoolFoundNew(backing, &backingsb, seen,
                                                          cache->round));
    }

    g_hash_table_insert(cache->files, g_strdup(vol->name), g_steal_pointer(&found));
}


/**
 * virStorageTorrentPoolCacheProbe:
 * @def: the pool
 * @vol: a volume of it, by name and path; neither encryption nor backing store
 * @sb: the state of its file
 *
 * What virStorageBackendRefreshVolTargetUpdate() does, opening no file that has
 * not changed.
 *
 * Returns 0 on success, less on error
 */
int
virStorageTorrentPoolCacheProbe(virStoragePoolDef *def,
                                virStorageVolDef *vol,
                                const struct stat *sb)
{
    long long seen = g_get_real_time() * 1000;
    int rc;

    if (virStorageTorrentPoolCacheFill(def, vol, sb))
        return 0;

    if ((rc = virStorageBackendRefreshVolTargetUpdate(vol)) < 0)
        return rc;

    virStorageTorrentPoolVolFillVhd(def, vol);
    virStorageTorrentPoolCacheStore(def, vol, sb, seen);

    return 0;
}


/* A line of the file: numbers, then strings, where empty is none. What has a
 * tab or a line's end in it is not kept. */
static void
virStorageTorrentPoolCacheFormat(GString *text,
                                 const char *name,
                                 const virStorageTorrentPoolFound *found)
{
    const char *strings[CACHE_STRINGS] = {
        name, virStorageFileFormatTypeToString(found->format), found->compat,
        found->label, found->backing,
        found->backing ? virStorageFileFormatTypeToString(found->backingFormat) : NULL,
    };
    size_t i;

    for (i = 0; i < CACHE_STRINGS; i++) {
        if (strings[i] && strpbrk(strings[i], "\t\n"))
            return;
    }

    g_string_append_printf(text, "%llu %llu %lld %lld %lld %llu %llu %d %llu",
                           found->stamp.ino, found->stamp.size,
                           found->stamp.mtime, found->stamp.ctime, found->seen,
                           found->capacity, found->clusterSize,
                           found->hasFeatures, found->features);
    for (i = 0; i < CACHE_STRINGS; i++) {
        g_string_append_c(text, '\t');
        g_string_append(text, NULLSTR_EMPTY(strings[i]));
    }
    g_string_append_c(text, '\n');
}


/* Returns false if @line, which is changed, is none of ours. */
static bool
virStorageTorrentPoolCacheParse(virStorageTorrentPoolCache *cache,
                                char *line)
{
    g_autoptr(virStorageTorrentPoolFound) found = g_new0(virStorageTorrentPoolFound, 1);
    unsigned long long n[CACHE_NUMBERS];
    char *strings[CACHE_STRINGS];
    char *p = line;
    size_t i;

    for (i = 0; i < CACHE_NUMBERS; i++) {
        char *end;

        n[i] = g_ascii_strtoull(p, &end, 10);
        if (end == p || *end != (i == CACHE_NUMBERS - 1 ? '\t' : ' '))
            return false;
        p = end + 1;
    }

    for (i = 0; i < CACHE_STRINGS; i++) {
        strings[i] = p;
        if (!(p = strchr(p, '\t')) != (i == CACHE_STRINGS - 1))
            return false;
        if (p)
            *p++ = '\0';
    }

    found->stamp.ino = n[0];
    found->stamp.size = n[1];
    found->stamp.mtime = n[2];
    found->stamp.ctime = n[3];
    found->seen = n[4];
    found->capacity = n[5];
    found->clusterSize = n[6];
    found->hasFeatures = n[7];
    found->features = n[8];
    found->compat = *strings[2] ? g_strdup(strings[2]) : NULL;
    found->label = *strings[3] ? g_strdup(strings[3]) : NULL;
    found->backing = *strings[4] ? g_strdup(strings[4]) : NULL;

    if ((found->format = virStorageFileFormatTypeFromString(strings[1])) < 0 ||
        (found->backing &&
         (found->backingFormat = virStorageFileFormatTypeFromString(strings[5])) < 0))
        return false;

    g_hash_table_insert(cache->files, g_strdup(strings[0]), g_steal_pointer(&found));
    return true;
}


/* Fills @cache from @text, which is changed. Returns false if it is malformed. */
static bool
virStorageTorrentPoolCacheParseAll(virStoragePoolDef *def,
                                   virStorageTorrentPoolCache *cache,
                                   char *text)
{
    int format = virStorageTorrentPoolDefGetCloneFormat(def->namespaceData);
    g_autofree char *head = g_strdup_printf(CACHE_HEAD, LIBVIR_VERSION_NUMBER, format);
    g_autofree char *sum = NULL;
    char *end = g_strrstr(text, "\n" CACHE_END);
    char *line;
    char *next;

    if (!STRPREFIX(text, head) || !end)
        return false;

    end++;
    sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (guchar *)text, end - text);
    if (!STRPREFIX(end + strlen(CACHE_END), sum))
        return false;

    for (line = text + strlen(head); line < end; line = next) {
        next = strchr(line, '\n');
        *next++ = '\0';
        if (!virStorageTorrentPoolCacheParse(cache, line))
            return false;
    }

    return true;
}


/* The text of the file, NULL: there is none, or it is not ours */
static char *
virStorageTorrentPoolCacheRead(virStoragePoolDef *def)
{
    VIR_AUTOCLOSE dirfd = virStorageTorrentPoolFileOpenPrivate(def->target.path);
    g_autofree char *text = NULL;
    VIR_AUTOCLOSE fd = -1;
    struct stat sb;

    if (dirfd < 0) {
        virResetLastError();
        return NULL;
    }

    if ((fd = openat(dirfd, CACHE_FILE,
                     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0 ||
        fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode))
        return NULL;

    if (sb.st_uid != geteuid() || (sb.st_mode & (S_IWGRP | S_IWOTH)) ||
        sb.st_size > CACHE_MAX) {
        VIR_WARN("'%s' of pool '%s' is not ours, and ignored", CACHE_FILE, def->name);
        return NULL;
    }

    text = g_malloc0(sb.st_size + 1);
    if (saferead(fd, text, sb.st_size) != sb.st_size)
        return NULL;

    return g_steal_pointer(&text);
}


static void
virStorageTorrentPoolCacheLoad(virStoragePoolDef *def)
{
    g_autofree char *text = virStorageTorrentPoolCacheRead(def);
    VIR_LOCK_GUARD lock = virLockGuardLock(&cacheLock);
    virStorageTorrentPoolCache *cache = virStorageTorrentPoolCacheGet(def);

    if (text && !virStorageTorrentPoolCacheParseAll(def, cache, text)) {
        VIR_INFO("what pool '%s' remembers of its volumes is ignored", def->name);
        g_hash_table_remove_all(cache->files);
        cache->dirty = true;
    }
}


static void
virStorageTorrentPoolCacheWrite(virStoragePoolDef *def,
                                const char *text,
                                size_t len)
{
    VIR_AUTOCLOSE dirfd = virStorageTorrentPoolFileOpenPrivate(def->target.path);
    VIR_AUTOCLOSE fd = -1;

    if (dirfd < 0) {
        virResetLastError();
        return;
    }

    unlinkat(dirfd, CACHE_TMP, 0);

    if ((fd = openat(dirfd, CACHE_TMP,
                     O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)) >= 0 &&
        safewrite(fd, text, len) == len &&
        renameat(dirfd, CACHE_TMP, dirfd, CACHE_FILE) == 0)
        return;

    /* the next daemon looks at the files then */
    VIR_WARN("cannot write '%s' of pool '%s': %s",
             CACHE_FILE, def->name, g_strerror(errno));
    unlinkat(dirfd, CACHE_TMP, 0);
}


void
virStorageTorrentPoolCacheBegin(virStoragePoolDef *def)
{
    bool known = false;

    VIR_WITH_MUTEX_LOCK_GUARD(&cacheLock) {
        virStorageTorrentPoolCache *cache;

        known = g_hash_table_contains(cachePools, def->target.path);
        cache = virStorageTorrentPoolCacheGet(def);
        cache->round++;
        cache->listing = true;
    }

    if (!known)
        virStorageTorrentPoolCacheLoad(def);
}


/* Whether it was not seen in this listing; tidies up after that. */
static gboolean
virStorageTorrentPoolCacheIsOld(gpointer key G_GNUC_UNUSED,
                                gpointer value,
                                gpointer opaque)
{
    virStorageTorrentPoolFound *found = value;
    const virStorageTorrentPoolCache *cache = opaque;

    g_clear_pointer(&found->source, virObjectUnref);

    return found->round != cache->round;
}


static void
virStorageTorrentPoolCacheSave(virStoragePoolDef *def)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *sum = NULL;

    VIR_WITH_MUTEX_LOCK_GUARD(&cacheLock) {
        virStorageTorrentPoolCache *cache = virStorageTorrentPoolCacheGet(def);
        GHashTableIter iter;
        void *name;
        void *found;

        if (!cache->dirty)
            return;

        cache->dirty = false;
        g_string_append_printf(text, CACHE_HEAD, LIBVIR_VERSION_NUMBER,
                               virStorageTorrentPoolDefGetCloneFormat(def->namespaceData));
        g_hash_table_iter_init(&iter, cache->files);
        while (g_hash_table_iter_next(&iter, &name, &found))
            virStorageTorrentPoolCacheFormat(text, name, found);
    }

    sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text->str, text->len);
    g_string_append_printf(text, CACHE_END "%s\n", sum);

    if (text->len <= CACHE_MAX)
        virStorageTorrentPoolCacheWrite(def, text->str, text->len);
}


void
virStorageTorrentPoolCacheEnd(virStoragePoolDef *def)
{
    VIR_WITH_MUTEX_LOCK_GUARD(&cacheLock) {
        virStorageTorrentPoolCache *cache = virStorageTorrentPoolCacheGet(def);

        cache->listing = false;
        g_hash_table_foreach_remove(cache->backings, virStorageTorrentPoolCacheIsOld, cache);
        if (g_hash_table_foreach_remove(cache->files, virStorageTorrentPoolCacheIsOld, cache) > 0)
            cache->dirty = true;
    }

    virStorageTorrentPoolCacheSave(def);
}


void
virStorageTorrentPoolCacheForget(virStoragePoolDef *def)
{
    virStorageTorrentPoolCacheSave(def);

    VIR_WITH_MUTEX_LOCK_GUARD(&cacheLock) {
        g_hash_table_remove(cachePools, def->target.path);
    }
}


/**
 * virStorageTorrentPoolCacheInit:
 *
 * To be called once, when the backend is registered.
 */
int
virStorageTorrentPoolCacheInit(void)
{
    cachePools = virHashNew(virStorageTorrentPoolCacheFree);

    return 0;
}
