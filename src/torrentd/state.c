/*
 * state.c: what outlives the process
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Files are replaced as a whole: temporary file in the same directory, fsync,
 * rename, fsync of the directory.  So after a crash or a power loss a file is
 * the old one or the new one.  What may be lost (resume/, and what libvirt asks
 * for again) is not fsynced: a process that dies does not harm it.  fsync may
 * take seconds while a fetch keeps the disk busy, so that one thread per pool
 * does the writing, first in, first out: a removal that follows a save is never
 * overtaken by it.  Directories are fsynced when the queue is empty, so that a
 * thousand publications wait for the disk a thousand times and not more often.
 *
 * Everything is reached through descriptors of directories that were opened
 * once with O_NOFOLLOW; no path is walked again.
 *
 * Locks: none.  VirTorrentStore is used by the main thread only; the writer
 * sees jobs that are no longer touched by anybody else, the descriptors, which
 * do not change, @dirty and @lost, which are its own.
 */

#include <config.h>

#include "state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "i18n.h"

typedef enum {
    DIR_META,
    DIR_PARTIAL,
    DIR_RESUME,
    DIR_LAST
} VirTorrentStoreDir;

/* No suffix of ours, so that versions that do not know it leave it alone. */
#define FORMAT_FILE "format"

static const char *const dirNames[DIR_LAST] = { "meta", "partial", "resume" };

static const struct {
    VirTorrentStoreDir dir;
    const char *suffix;
    gboolean durable;            /* survives a power loss */
} kinds[VIR_TORRENT_STORE_LAST] = {
    [VIR_TORRENT_STORE_METAINFO] = { DIR_META, ".torrent", TRUE },
    [VIR_TORRENT_STORE_MAGNET] = { DIR_META, ".magnet", TRUE },
    [VIR_TORRENT_STORE_PUBLISH] = { DIR_META, ".publish", FALSE },
    [VIR_TORRENT_STORE_DAMAGE] = { DIR_META, ".damage", TRUE },
    [VIR_TORRENT_STORE_RESUME] = { DIR_RESUME, ".resume", FALSE },
    [VIR_TORRENT_STORE_HAVE] = { DIR_RESUME, ".have", FALSE },
    [VIR_TORRENT_STORE_STAT] = { DIR_RESUME, ".stat", FALSE },
    [VIR_TORRENT_STORE_LEAVES] = { DIR_RESUME, ".leaves", FALSE },
    [VIR_TORRENT_STORE_SCRUB] = { DIR_RESUME, ".scrub", FALSE },
    [VIR_TORRENT_STORE_SESSION] = { DIR_RESUME, ".session", FALSE },
    [VIR_TORRENT_STORE_PORT] = { DIR_RESUME, ".port", FALSE },
};

struct _VirTorrentState {
    int fds[DIR_LAST];
    GThreadPool *writer;
    gint queued;                 /* jobs, atomic */
    gboolean dirty[DIR_LAST];    /* the writer's: changed since its last fsync */
    int lost;                    /* the writer's: errno of an fsync whose claim is next in the queue */
    guint trash;                 /* for names that are unique in this process */
};

typedef struct {
    VirTorrentStoreDir dir;
    gboolean durable;
    char *file;
    GBytes *content;             /* NULL: remove */
    int fd;                      /* only fsync this; or -1 */
    VirTorrentStoreFunc func;
    gpointer opaque;
    GDestroyNotify destroy;
    GMainContext *context;
    GError *error;
    /* for virTorrentStoreFlush() */
    GMutex *mutex;
    GCond *cond;
    gboolean *done;
} VirTorrentStoreJob;

static void
virTorrentStoreJobFree(gpointer opaque)
{
    VirTorrentStoreJob *job = opaque;

    if (job->destroy)
        job->destroy(job->opaque);
    if (job->fd >= 0)
        close(job->fd);
    g_free(job->file);
    g_clear_pointer(&job->content, g_bytes_unref);
    g_clear_pointer(&job->context, g_main_context_unref);
    g_clear_error(&job->error);
    g_free(job);
}

static gboolean
virTorrentStoreJobReport(gpointer opaque)
{
    VirTorrentStoreJob *job = opaque;

    if (job->func)
        job->func(job->error, job->opaque);
    return G_SOURCE_REMOVE;
}

static gboolean
virTorrentWriteAll(int fd, GBytes *content)
{
    gsize left = 0;
    const char *data = g_bytes_get_data(content, &left);

    while (left > 0) {
        ssize_t n = write(fd, data, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return FALSE;
        data += n;
        left -= n;
    }
    return TRUE;
}

/* Replaces @file in @dirfd, which is not fsynced. */
static gboolean
virTorrentReplaceAt(int dirfd, const char *file, GBytes *content, gboolean durable, GError **error)
{
    static gint counter;
    g_autofree char *temp = g_strdup_printf(".tmp-%d-%d", (int) getpid(),
                                            g_atomic_int_add(&counter, 1));
    int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    gboolean ok = FALSE;
    int saved;

    if (fd >= 0) {
        ok = virTorrentWriteAll(fd, content) && (!durable || fsync(fd) == 0);
        saved = errno;
        if (close(fd) < 0 && ok) {
            ok = FALSE;
            saved = errno;
        }
        errno = saved;
        ok = ok && renameat(dirfd, temp, dirfd, file) == 0;
    }
    if (!ok) {
        saved = errno;
        if (fd >= 0)
            unlinkat(dirfd, temp, 0);
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved),
                    _("cannot write '%s': %s"), file, g_strerror(saved));
    }
    return ok;
}

static void
virTorrentStoreSync(VirTorrentStore *store)
{
    int i;

    for (i = 0; i < DIR_LAST; i++) {
        if (store->dirty[i] && fsync(store->fds[i]) < 0)
            g_warning("Cannot write directory '%s' to the disk: %s", dirNames[i],
                      g_strerror(errno));
        store->dirty[i] = FALSE;
    }
}

static void
virTorrentStoreDo(VirTorrentStore *store, VirTorrentStoreJob *job)
{
    int dirfd = store->fds[job->dir];

    if (job->fd >= 0) {
        store->lost = fsync(job->fd) < 0 ? errno : 0;
        return;
    }
    if (store->lost) {
        g_set_error(&job->error, G_FILE_ERROR, g_file_error_from_errno(store->lost),
                    _("cannot write to the disk what '%s' speaks of: %s"), job->file,
                    g_strerror(store->lost));
        g_info("%s", job->error->message);
        store->lost = 0;
        return;
    }
    store->dirty[job->dir] |= job->durable;
    if (job->content) {
        if (!virTorrentReplaceAt(dirfd, job->file, job->content, job->durable, &job->error))
            g_warning("%s", job->error->message);
    } else if (unlinkat(dirfd, job->file, 0) < 0 && errno != ENOENT) {
        g_warning("Cannot remove '%s': %s", job->file, g_strerror(errno));
    }
}

/* The writer's thread. */
static void
virTorrentStoreWork(gpointer opaque, gpointer user)
{
    VirTorrentStoreJob *job = opaque;
    VirTorrentStore *store = user;

    if (!job->done)
        virTorrentStoreDo(store, job);
    if (g_atomic_int_dec_and_test(&store->queued) || job->done)
        virTorrentStoreSync(store);
    if (job->done) {
        g_mutex_lock(job->mutex);
        *job->done = TRUE;
        g_cond_signal(job->cond);
        g_mutex_unlock(job->mutex);
        virTorrentStoreJobFree(job);
        return;
    }
    g_main_context_invoke_full(job->context, G_PRIORITY_DEFAULT,
                               virTorrentStoreJobReport, job, virTorrentStoreJobFree);
}

static VirTorrentStoreJob *
virTorrentStoreJobNew(VirTorrentStoreDir dir, const char *file)
{
    VirTorrentStoreJob *job = g_new0(VirTorrentStoreJob, 1);

    job->dir = dir;
    job->fd = -1;
    job->file = g_strdup(file);
    job->context = g_main_context_ref_thread_default();
    return job;
}

static void
virTorrentStorePush(VirTorrentStore *store, VirTorrentStoreJob *job)
{
    g_atomic_int_inc(&store->queued);
    g_thread_pool_push(store->writer, job, NULL);
}

static char *
virTorrentStoreFile(VirTorrentStoreKind kind, const char *name)
{
    return g_strconcat(name, kinds[kind].suffix, NULL);
}

/* Calls @func for each entry of a directory but "." and "..". */
static void
virTorrentStoreForeach(VirTorrentStore *store,
                       VirTorrentStoreDir dir,
                       void (*func)(VirTorrentStore *store, VirTorrentStoreDir dir,
                                    const char *entry, gpointer opaque),
                       gpointer opaque)
{
    /* not through /proc: it is closed to a process that changed its user */
    int fd = openat(store->fds[dir], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (!entries) {
        g_warning("Cannot list '%s': %s", dirNames[dir], g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(entries))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            func(store, dir, entry->d_name, opaque);
    }
    closedir(entries);
}

/* The content of @file in @dirfd, a regular file of at most @max bytes. */
static GBytes *
virTorrentReadAt(int dirfd, const char *file, gsize max, GError **error)
{
    int fd = openat(dirfd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    g_autofree char *data = NULL;
    struct stat st;
    gsize got = 0;
    int saved = 0;

    if (fd < 0 || fstat(fd, &st) < 0)
        saved = errno;
    else if (!S_ISREG(st.st_mode) || (guint64) st.st_size > max)
        saved = EFBIG;
    while (!saved && got < (gsize) st.st_size) {
        ssize_t n;

        if (!data)
            data = g_malloc(st.st_size);
        n = pread(fd, data + got, st.st_size - got, got);
        if (n == 0)
            break;
        if (n > 0)
            got += n;
        else if (errno != EINTR)
            saved = errno;
    }
    if (fd >= 0)
        close(fd);
    if (saved) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved),
                    _("cannot read '%s': %s"), file, g_strerror(saved));
        return NULL;
    }
    return g_bytes_new_take(g_steal_pointer(&data), got);
}

/* 0: a version from before there were numbers; its format is 1 in all else. */
static gboolean
virTorrentStoreReadFormat(VirTorrentStore *store, const char *target, guint64 *format, GError **error)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) content = virTorrentReadAt(store->fds[DIR_META], FORMAT_FILE, 64, &err);
    g_autofree char *text = NULL;
    const char *data;
    gsize size;

    *format = 0;
    if (g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return TRUE;
    if (!content) {
        g_propagate_error(error, g_steal_pointer(&err));
        return FALSE;
    }
    data = g_bytes_get_data(content, &size);
    text = g_strndup(data ? data : "", size);
    if (!g_ascii_string_to_unsigned(g_strchomp(text), 10, 1, G_MAXUINT32, format, NULL)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    _("'%s/.torrentpool/meta/%s' does not hold a number: remove it if no newer virttorrentd "
                      "was ever used on this pool"), target, FORMAT_FILE);
        return FALSE;
    }
    return TRUE;
}

/* What a newer version wrote may mean something else by the same names: nothing
 * of it is touched.  What an older one wrote is read, and is ours from then on. */
static gboolean
virTorrentStoreCheckFormat(VirTorrentStore *store, const char *target, GError **error)
{
    guint64 format;
    VirTorrentStoreJob *job;
    char *text;

    if (!virTorrentStoreReadFormat(store, target, &format, error))
        return FALSE;
    if (format > VIR_TORRENT_STORE_FORMAT) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    _("a newer virttorrentd wrote '%s/.torrentpool' (format %u, this one knows %u): "
                      "install that version again; nothing was changed"),
                    target, (guint) format, VIR_TORRENT_STORE_FORMAT);
        return FALSE;
    }
    if (format == VIR_TORRENT_STORE_FORMAT)
        return TRUE;
    text = g_strdup_printf("%u\n", VIR_TORRENT_STORE_FORMAT);
    job = virTorrentStoreJobNew(DIR_META, FORMAT_FILE);
    job->content = g_bytes_new_take(text, strlen(text));
    job->durable = TRUE;
    virTorrentStorePush(store, job);
    return TRUE;
}

/* What a crash left behind. */
static void
virTorrentStoreSweep(VirTorrentStore *store,
                     VirTorrentStoreDir dir,
                     const char *entry,
                     gpointer opaque G_GNUC_UNUSED)
{
    if (*entry == '.')
        virTorrentStorePush(store, virTorrentStoreJobNew(dir, entry));
}

VirTorrentStore *
virTorrentStoreOpen(const char *target, GError **error)
{
    g_autoptr(VirTorrentStore) store = g_new0(VirTorrentStore, 1);
    int i;

    for (i = 0; i < DIR_LAST; i++)
        store->fds[i] = -1;
    store->writer = g_thread_pool_new(virTorrentStoreWork, store, 1, FALSE, NULL);
    for (i = 0; i < DIR_LAST; i++) {
        g_autofree char *path = g_build_filename(target, ".torrentpool", dirNames[i], NULL);

        store->fds[i] = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (store->fds[i] < 0) {
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                        _("cannot open directory '%s': %s"), path, g_strerror(errno));
            return NULL;
        }
    }
    if (!virTorrentStoreCheckFormat(store, target, error))
        return NULL;
    for (i = 0; i < DIR_LAST; i++)
        virTorrentStoreForeach(store, i, virTorrentStoreSweep, NULL);
    return g_steal_pointer(&store);
}

void
virTorrentStoreFree(VirTorrentStore *store)
{
    int i;

    if (!store)
        return;
    g_thread_pool_free(store->writer, FALSE, TRUE);
    for (i = 0; i < DIR_LAST; i++) {
        if (store->fds[i] >= 0)
            close(store->fds[i]);
    }
    g_free(store);
}

void
virTorrentStoreSave(VirTorrentStore *store,
                    VirTorrentStoreKind kind,
                    const char *name,
                    GBytes *content,
                    VirTorrentStoreFunc func,
                    gpointer opaque,
                    GDestroyNotify destroy)
{
    g_autofree char *file = virTorrentStoreFile(kind, name);
    VirTorrentStoreJob *job = virTorrentStoreJobNew(kinds[kind].dir, file);

    job->content = g_bytes_ref(content);
    job->durable = kinds[kind].durable;
    job->func = func;
    job->opaque = opaque;
    job->destroy = destroy;
    virTorrentStorePush(store, job);
}

void
virTorrentStoreSyncFile(VirTorrentStore *store, int fd)
{
    VirTorrentStoreJob *job = virTorrentStoreJobNew(DIR_META, NULL);

    job->fd = fd;
    virTorrentStorePush(store, job);
}

void
virTorrentStoreRemove(VirTorrentStore *store, VirTorrentStoreKind kind, const char *name)
{
    g_autofree char *file = virTorrentStoreFile(kind, name);
    VirTorrentStoreJob *job = virTorrentStoreJobNew(kinds[kind].dir, file);

    job->durable = kinds[kind].durable;
    virTorrentStorePush(store, job);
}

void
virTorrentStoreFlush(VirTorrentStore *store)
{
    VirTorrentStoreJob *job = virTorrentStoreJobNew(DIR_META, NULL);
    gboolean done = FALSE;
    GMutex mutex;
    GCond cond;

    g_mutex_init(&mutex);
    g_cond_init(&cond);
    job->mutex = &mutex;
    job->cond = &cond;
    job->done = &done;
    virTorrentStorePush(store, job);
    g_mutex_lock(&mutex);
    while (!done)
        g_cond_wait(&cond, &mutex);
    g_mutex_unlock(&mutex);
    g_mutex_clear(&mutex);
    g_cond_clear(&cond);
}

GBytes *
virTorrentStoreLoad(VirTorrentStore *store,
                    VirTorrentStoreKind kind,
                    const char *name,
                    gsize max,
                    GError **error)
{
    g_autofree char *file = virTorrentStoreFile(kind, name);

    return virTorrentReadAt(store->fds[kinds[kind].dir], file, max, error);
}

static void
virTorrentStoreCollect(VirTorrentStore *store G_GNUC_UNUSED,
                       VirTorrentStoreDir dir,
                       const char *entry,
                       gpointer opaque)
{
    int i;

    for (i = 0; i < VIR_TORRENT_STORE_LAST && *entry != '.'; i++) {
        if (kinds[i].dir == dir && g_str_has_suffix(entry, kinds[i].suffix))
            g_hash_table_add(opaque, g_strndup(entry, strlen(entry) - strlen(kinds[i].suffix)));
    }
}

static gint
virTorrentStoreCompare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

GPtrArray *
virTorrentStoreList(VirTorrentStore *store)
{
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal,
                                                         g_free, NULL);
    GPtrArray *list = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer name;

    virTorrentStoreForeach(store, DIR_META, virTorrentStoreCollect, names);
    g_hash_table_iter_init(&iter, names);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        g_ptr_array_add(list, g_strdup(name));
    g_ptr_array_sort(list, virTorrentStoreCompare);
    return list;
}

int
virTorrentStorePartialStat(VirTorrentStore *store, const char *name, struct stat *st)
{
    return fstatat(store->fds[DIR_PARTIAL], name, st, AT_SYMLINK_NOFOLLOW);
}

int
virTorrentStorePartialOpen(VirTorrentStore *store, const char *name)
{
    return openat(store->fds[DIR_PARTIAL], name,
                  O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

int
virTorrentStorePartialCreate(VirTorrentStore *store, const char *name)
{
    return openat(store->fds[DIR_PARTIAL], name,
                  O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

void
virTorrentStorePartialRemove(VirTorrentStore *store, const char *name)
{
    g_autofree char *trash = g_strdup_printf(".trash-%d-%u", (int) getpid(), store->trash++);
    int dirfd = store->fds[DIR_PARTIAL];

    /* The queue may take a while, and the name may be wanted again by then. */
    if (renameat(dirfd, name, dirfd, trash) == 0)
        virTorrentStorePush(store, virTorrentStoreJobNew(DIR_PARTIAL, trash));
    else if (errno != ENOENT)
        g_warning("Cannot remove partial file '%s': %s", name, g_strerror(errno));
}

static void
virTorrentStoreDiscard(VirTorrentStore *store,
                       VirTorrentStoreDir dir,
                       const char *entry,
                       gpointer opaque G_GNUC_UNUSED)
{
    virTorrentStorePush(store, virTorrentStoreJobNew(dir, entry));
}

void
virTorrentStorePurge(VirTorrentStore *store)
{
    int i;

    virTorrentStoreFlush(store);
    for (i = 0; i < DIR_LAST; i++)
        virTorrentStoreForeach(store, i, virTorrentStoreDiscard, NULL);
}

/* Not ctime: the monitor and a removed hard link change it. */
GBytes *
virTorrentStampMake(const struct stat *st)
{
    char *text = g_strdup_printf("size=%" PRIu64 " mtime=%" PRId64 ".%09ld inode=%" PRIu64 "\n",
                                 (guint64) st->st_size, (gint64) st->st_mtim.tv_sec,
                                 (long) st->st_mtim.tv_nsec, (guint64) st->st_ino);

    return g_bytes_new_take(text, strlen(text));
}

gboolean
virTorrentStampMatches(GBytes *stamp, const struct stat *st)
{
    g_autoptr(GBytes) now = virTorrentStampMake(st);

    return g_bytes_equal(stamp, now);
}

/* Names this boot, so that a list on a disk does not outlive it. */
static char *
virTorrentBootId(void)
{
    char *id = NULL;

    if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &id, NULL, NULL))
        return g_strdup("unknown");
    return g_strstrip(id);
}

gboolean
virTorrentPoolListSave(const char *rundir, const char *uuid, GKeyFile *record, GError **error)
{
    g_autofree char *file = g_strconcat(uuid, ".pool", NULL);
    g_autofree char *boot = virTorrentBootId();
    g_autoptr(GBytes) content = NULL;
    g_autofree char *data = NULL;
    gsize length = 0;
    int dirfd = open(rundir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gboolean ok;

    if (dirfd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    _("cannot open directory '%s': %s"), rundir, g_strerror(errno));
        return FALSE;
    }
    g_key_file_set_string(record, "pool", "boot", boot);
    data = g_key_file_to_data(record, &length, NULL);
    content = g_bytes_new(data, length);
    ok = virTorrentReplaceAt(dirfd, file, content, FALSE, error);
    close(dirfd);
    return ok;
}

void
virTorrentPoolListRemove(const char *rundir, const char *uuid)
{
    g_autofree char *path = g_strdup_printf("%s/%s.pool", rundir, uuid);

    if (unlink(path) < 0 && errno != ENOENT)
        g_warning("Cannot remove '%s': %s", path, g_strerror(errno));
}

GHashTable *
virTorrentPoolListLoad(const char *rundir)
{
    GHashTable *pools = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                              (GDestroyNotify) g_key_file_unref);
    g_autofree char *boot = virTorrentBootId();
    g_autoptr(GDir) dir = g_dir_open(rundir, 0, NULL);
    const char *entry;

    while (dir && (entry = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(rundir, entry, NULL);
        g_autoptr(GKeyFile) record = g_key_file_new();
        g_autofree char *then = NULL;

        if (*entry == '.' || !g_str_has_suffix(entry, ".pool") ||
            !g_key_file_load_from_file(record, path, G_KEY_FILE_NONE, NULL))
            continue;
        then = g_key_file_get_string(record, "pool", "boot", NULL);
        if (g_strcmp0(then, boot) == 0)
            g_hash_table_insert(pools, g_strndup(entry, strlen(entry) - strlen(".pool")),
                                g_steal_pointer(&record));
        else
            unlink(path);
    }
    return pools;
}
