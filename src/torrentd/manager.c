/*
 * manager.c: all pools of this daemon
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Knows which pools are open, keeps that list in the run directory, has resume
 * data saved at intervals, and lets a pool that is closed linger for a moment
 * until its resume data has come.  Main thread only.
 */

#include <config.h>

#include "manager.h"

#include <string.h>

#include "i18n.h"
#include "state.h"

/* How long resume data is waited for, microseconds. */
#define SAVE_TIMEOUT (1 * G_USEC_PER_SEC)

/* How often it is looked whether a master is to be read again, and how far that is kept, seconds. */
#define SCRUB_TICK 2

struct _VirTorrentManager {
    VirTorrentPoolEnv env;
    char *rundir;
    GHashTable *pools;           /* uuid -> VirTorrentPool */
    GPtrArray *closing;
    guint lingering;             /* source that ends the closing ones */
    guint saver;
    guint scrubber;
};

static void
virTorrentManagerQuiet(const char *uuid G_GNUC_UNUSED,
                       const char *name G_GNUC_UNUSED,
                       const char *state G_GNUC_UNUSED,
                       gpointer opaque G_GNUC_UNUSED)
{
}

static gboolean
virTorrentManagerSaveAll(gpointer opaque)
{
    VirTorrentManager *manager = opaque;
    GHashTableIter iter;
    gpointer pool;

    g_hash_table_iter_init(&iter, manager->pools);
    while (g_hash_table_iter_next(&iter, NULL, &pool))
        virTorrentPoolSave(pool);
    return G_SOURCE_CONTINUE;
}

/* Where masters are to be read again, the one that is begun keeps the others from it. */
static gboolean
virTorrentManagerScrub(gpointer opaque)
{
    VirTorrentManager *manager = opaque;
    GHashTableIter iter;
    gpointer pool;

    g_hash_table_iter_init(&iter, manager->pools);
    while (g_hash_table_iter_next(&iter, NULL, &pool))
        virTorrentPoolScrubSome(pool);
    return G_SOURCE_CONTINUE;
}

VirTorrentManager *
virTorrentManagerNew(const VirTorrentConf *conf, VirTorrentMonitor *monitor, const char *rundir)
{
    VirTorrentManager *manager = g_new0(VirTorrentManager, 1);

    manager->env.conf = conf;
    manager->env.monitor = monitor;
    manager->env.changed = virTorrentManagerQuiet;
    g_queue_init(&manager->env.hashes.waiting);
    manager->rundir = g_strdup(rundir);
    manager->pools = g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                           (GDestroyNotify) virTorrentPoolFree);
    manager->closing = g_ptr_array_new_with_free_func((GDestroyNotify) virTorrentPoolFree);
    manager->saver = g_timeout_add_seconds(conf->resume_interval, virTorrentManagerSaveAll,
                                           manager);
    manager->scrubber = g_timeout_add_seconds(SCRUB_TICK, virTorrentManagerScrub, manager);
    return manager;
}

void
virTorrentManagerSetChangedFunc(VirTorrentManager *manager,
                                VirTorrentPoolChangedFunc func,
                                gpointer opaque)
{
    manager->env.changed = func ? func : virTorrentManagerQuiet;
    manager->env.opaque = opaque;
}

static gboolean
virTorrentManagerIsSaving(VirTorrentManager *manager)
{
    GHashTableIter iter;
    gpointer pool;

    g_hash_table_iter_init(&iter, manager->pools);
    while (g_hash_table_iter_next(&iter, NULL, &pool)) {
        if (virTorrentPoolIsSaving(pool))
            return TRUE;
    }
    return FALSE;
}

static gboolean
virTorrentManagerWake(gpointer unused G_GNUC_UNUSED)
{
    return G_SOURCE_CONTINUE;
}

void
virTorrentManagerFree(VirTorrentManager *manager)
{
    gint64 end = g_get_monotonic_time() + SAVE_TIMEOUT;
    guint wake;

    if (!manager)
        return;
    g_source_remove(manager->saver);
    g_source_remove(manager->scrubber);
    virTorrentManagerSaveAll(manager);
    wake = g_timeout_add(50, virTorrentManagerWake, NULL);
    while (virTorrentManagerIsSaving(manager) && g_get_monotonic_time() < end)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(wake);
    if (manager->lingering)
        g_source_remove(manager->lingering);
    g_ptr_array_unref(manager->closing);
    g_hash_table_unref(manager->pools);
    while (g_idle_remove_by_data(&manager->env))
        ;
    g_queue_clear(&manager->env.hashes.waiting);
    g_free(manager->rundir);
    g_free(manager);
}

VirTorrentPool *
virTorrentManagerFindPool(VirTorrentManager *manager, const char *uuid, GError **error)
{
    VirTorrentPool *pool = g_hash_table_lookup(manager->pools, uuid);

    if (!pool)
        g_set_error(error, VIR_TORRENT_POOL_ERROR, VIR_TORRENT_POOL_ERROR_NO_POOL,
                    _("virttorrentd has no open pool with uuid '%s'; start the pool again"), uuid);
    return pool;
}

GList *
virTorrentManagerListPools(VirTorrentManager *manager)
{
    return g_hash_table_get_values(manager->pools);
}

guint
virTorrentManagerCountPools(VirTorrentManager *manager)
{
    return g_hash_table_size(manager->pools);
}

/* Always FALSE. */
static gboolean G_GNUC_PRINTF(3, 4)
virTorrentManagerRefuse(GError **error, VirTorrentPoolError code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (error)
        *error = g_error_new_valist(VIR_TORRENT_POOL_ERROR, code, fmt, ap);
    va_end(ap);
    return FALSE;
}

/* Two engines in one directory would spoil each other's files. */
static gboolean
virTorrentManagerCheckTarget(VirTorrentManager *manager, const char *target, GError **error)
{
    GHashTableIter iter;
    gpointer pool;

    if (!g_path_is_absolute(target))
        return virTorrentManagerRefuse(error, VIR_TORRENT_POOL_ERROR_INVALID_OPTION,
                                       _("target path '%s' is not absolute"), target);
    g_hash_table_iter_init(&iter, manager->pools);
    while (g_hash_table_iter_next(&iter, NULL, &pool)) {
        if (strcmp(virTorrentPoolGetTarget(pool), target) == 0)
            return virTorrentManagerRefuse(error, VIR_TORRENT_POOL_ERROR_EXISTS,
                                           _("the target path is in use by pool '%s'"),
                                           virTorrentPoolGetName(pool));
    }
    return TRUE;
}

static void
virTorrentManagerRecord(VirTorrentManager *manager, VirTorrentPool *pool)
{
    g_autoptr(GVariant) options =
        g_variant_ref_sink(virTorrentOptionsFormat(virTorrentPoolGetOptions(pool)));
    g_autofree char *text = g_variant_print(options, TRUE);
    g_autoptr(GKeyFile) record = g_key_file_new();
    g_autoptr(GError) err = NULL;

    g_key_file_set_string(record, "pool", "name", virTorrentPoolGetName(pool));
    g_key_file_set_string(record, "pool", "target", virTorrentPoolGetTarget(pool));
    g_key_file_set_string(record, "pool", "options", text);
    if (!virTorrentPoolListSave(manager->rundir, virTorrentPoolGetUuid(pool), record, &err))
        g_warning("Pool '%s' will not be open after a restart: %s",
                  virTorrentPoolGetName(pool), err->message);
}

static void
virTorrentManagerEndClosing(VirTorrentManager *manager)
{
    if (manager->lingering)
        g_source_remove(manager->lingering);
    manager->lingering = 0;
    g_ptr_array_set_size(manager->closing, 0);
}

/* An open pool is only given what changed. */
static gboolean
virTorrentManagerReopenPool(VirTorrentManager *manager,
                            VirTorrentPool *pool,
                            const char *target,
                            VirTorrentOptions *options,
                            GError **error)
{
    if (strcmp(virTorrentPoolGetTarget(pool), target) != 0) {
        virTorrentOptionsFree(options);
        return virTorrentManagerRefuse(error, VIR_TORRENT_POOL_ERROR_BUSY,
                                       _("the pool is open with target path '%s'; stop it first"),
                                       virTorrentPoolGetTarget(pool));
    }
    if (!virTorrentPoolReconfigure(pool, options, error))
        return FALSE;
    virTorrentManagerRecord(manager, pool);
    return TRUE;
}

gboolean
virTorrentManagerOpenPool(VirTorrentManager *manager,
                          const char *uuid,
                          const char *name,
                          const char *target,
                          GVariant *options,
                          GError **error)
{
    VirTorrentPool *pool = g_hash_table_lookup(manager->pools, uuid);
    VirTorrentOptions *parsed;

    if (!g_uuid_string_is_valid(uuid))
        return virTorrentManagerRefuse(error, VIR_TORRENT_POOL_ERROR_INVALID_OPTION,
                                       _("'%s' is not a UUID"), uuid);
    parsed = virTorrentOptionsParse(options, error);
    if (!parsed)
        return FALSE;
    if (pool)
        return virTorrentManagerReopenPool(manager, pool, target, parsed, error);
    if (!virTorrentManagerCheckTarget(manager, target, error)) {
        virTorrentOptionsFree(parsed);
        return FALSE;
    }
    virTorrentManagerEndClosing(manager);
    pool = virTorrentPoolNew(&manager->env, uuid, name, target, parsed, error);
    if (!pool)
        return FALSE;
    g_hash_table_insert(manager->pools, (gpointer) virTorrentPoolGetUuid(pool), pool);
    virTorrentManagerRecord(manager, pool);
    g_message("Pool '%s' is open in '%s'", name, target);
    return TRUE;
}

static gboolean
virTorrentManagerLinger(gpointer opaque)
{
    VirTorrentManager *manager = opaque;

    manager->lingering = 0;
    virTorrentManagerEndClosing(manager);
    return G_SOURCE_REMOVE;
}

gboolean
virTorrentManagerClosePool(VirTorrentManager *manager,
                           const char *uuid,
                           gboolean purge,
                           GError **error)
{
    VirTorrentPool *pool = virTorrentManagerFindPool(manager, uuid, error);

    if (!pool)
        return FALSE;
    g_message("Pool '%s' is closed", virTorrentPoolGetName(pool));
    virTorrentPoolListRemove(manager->rundir, uuid);
    g_hash_table_steal(manager->pools, uuid);
    if (purge)
        virTorrentPoolSetPurge(pool);
    if (!purge && virTorrentPoolSave(pool)) {
        g_ptr_array_add(manager->closing, pool);
        if (!manager->lingering)
            manager->lingering = g_timeout_add(SAVE_TIMEOUT / 1000, virTorrentManagerLinger,
                                               manager);
    } else {
        virTorrentPoolFree(pool);
    }
    return TRUE;
}

static gboolean
virTorrentManagerRestoreOne(VirTorrentManager *manager,
                            const char *uuid,
                            GKeyFile *record,
                            GError **error)
{
    g_autofree char *name = g_key_file_get_string(record, "pool", "name", error);
    g_autofree char *target = NULL;
    g_autofree char *text = NULL;
    g_autoptr(GVariant) options = NULL;

    if (!name ||
        !(target = g_key_file_get_string(record, "pool", "target", error)) ||
        !(text = g_key_file_get_string(record, "pool", "options", error)) ||
        !(options = g_variant_parse(G_VARIANT_TYPE_VARDICT, text, NULL, NULL, error)))
        return FALSE;
    return virTorrentManagerOpenPool(manager, uuid, name, target, options, error);
}

void
virTorrentManagerRestore(VirTorrentManager *manager)
{
    g_autoptr(GHashTable) records = virTorrentPoolListLoad(manager->rundir);
    GHashTableIter iter;
    gpointer uuid;
    gpointer record;

    g_hash_table_iter_init(&iter, records);
    while (g_hash_table_iter_next(&iter, &uuid, &record)) {
        g_autoptr(GError) err = NULL;

        if (!virTorrentManagerRestoreOne(manager, uuid, record, &err))
            g_warning("Cannot open pool %s again: %s", (const char *) uuid, err->message);
    }
}
