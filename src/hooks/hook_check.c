/*
 * hook_check.c: whether a guest may start, and waiting until it can
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Rules, for each disk:
 *  1. A master is not opened for writing: refused, with the way out.
 *  2. A file of a torrentpool that the disk is or stands on and that is not
 *     there is waited for; all of them are moved to the head of the queue
 *     before the first is waited for.
 *  3. virttorrentd knows where to get such a file, or the domain's metadata does.
 *  4. A clone is not given to the guest as if it were raw.
 *  5. So is a master that virttorrentd found damaged, until it is healed, unless
 *     the configuration says that such guests start.
 *  6. Everything else is libvirt's business, and costs no connection.
 *
 * That virttorrentd finished a master is taken from the file system (the file
 * has its name), which the guest will see as well, and not from a state.
 */

#include <config.h>

#include "hook_check.h"

#include <string.h>
#include <unistd.h>

#include "hook_chain.h"
#include "hook_client.h"
#include "hook_domain.h"
#include "i18n.h"

/* Signals wake the wait sooner. */
#define POLL_MS 500


/* FALSE with @error set where @config cannot be read; @value is NULL where it does not tell. */
static gboolean
virHookConfigGet(const char *config, const char *key, char **value, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) local = NULL;

    *value = NULL;
    if (g_key_file_load_from_file(file, config, G_KEY_FILE_NONE, &local)) {
        *value = g_key_file_get_string(file, VIR_HOOK_CONFIG_GROUP, key, NULL);
    } else if (!g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local), _("cannot read '%1$s': "), config);
        return FALSE;
    }
    return TRUE;
}


int
virHookDamagedMayStart(const char *config, GError **error)
{
    g_autofree char *text = NULL;

    if (!virHookConfigGet(config, VIR_HOOK_CONFIG_DAMAGED, &text, error))
        return -1;
    if (!text || g_str_equal(g_strstrip(text), VIR_HOOK_DAMAGED_DEFAULT))
        return FALSE;
    if (g_str_equal(text, "start"))
        return TRUE;
    g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                _("'%1$s' in group [%2$s] of '%3$s' must be 'wait' or 'start', not '%4$s'"),
                VIR_HOOK_CONFIG_DAMAGED, VIR_HOOK_CONFIG_GROUP, config, text);
    return -1;
}


int
virHookTimeout(const char *config, GError **error)
{
    g_autofree char *text = NULL;
    guint64 seconds = 0;

    if (!virHookConfigGet(config, VIR_HOOK_CONFIG_TIMEOUT, &text, error))
        return -1;
    if (!text)
        return VIR_HOOK_TIMEOUT_DEFAULT;
    if (!g_ascii_string_to_unsigned(g_strstrip(text), 10, 0, VIR_HOOK_TIMEOUT_MAX, &seconds, NULL)) {
        g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                    _("'%1$s' in group [%2$s] of '%3$s' must be a number of seconds from 0 to %4$d, not '%5$s'"),
                    VIR_HOOK_CONFIG_TIMEOUT, VIR_HOOK_CONFIG_GROUP, config, VIR_HOOK_TIMEOUT_MAX, text);
        return -1;
    }
    return seconds;
}


char *
virHookDiskPath(const VirHookDisk *disk, VirHookClient *client)
{
    g_autofree char *target = NULL;
    g_autoptr(GError) error = NULL;

    if (disk->path)
        return g_strdup(disk->path);

    /* Which type a pool has is not for the hook to know: without virttorrentd
     * there is no torrentpool open, and libvirt itself says so if it was one. */
    target = virHookClientPoolTarget(client, disk->pool, &error);
    if (!target || !*disk->volume || strchr(disk->volume, '/'))
        return NULL;
    return g_build_filename(target, disk->volume, NULL);
}


gboolean
virHookDisksPooled(GPtrArray *disks, const char *socket)
{
    g_autoptr(VirHookClient) client = virHookClientNew(socket);
    guint i;

    for (i = 0; i < disks->len; i++) {
        g_autofree char *path = virHookDiskPath(g_ptr_array_index(disks, i), client);

        if (path && virHookPathIsPooled(path))
            return TRUE;
    }
    return FALSE;
}


static gboolean
virHookCheckWritable(const VirHookDisk *disk, const char *path, GError **error)
{
    if (!disk->writable || !virHookPathIsMaster(path))
        return TRUE;

    g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_REFUSED,
                _("disk '%1$s' would write to '%2$s', which is a master and never changes: give the guest a clone of it"
                  " (virsh vol-clone %2$s NEW-NAME) or make the disk <readonly/>"), disk->target, path);
    return FALSE;
}


/* Without <driver type=''/> a disk is raw: of a clone the guest would see the
 * container, and write to it.  Of what is no clone the first bytes may be the
 * guest's own, whatever they look like. */
static gboolean
virHookCheckFormat(const VirHookDisk *disk, const char *path, GError **error)
{
    g_autoptr(VirImageInfo) info = NULL;
    g_autofree char *backing = NULL;
    struct stat sb;

    if (!g_str_equal(disk->format, "raw") || !virHookPathIsPooled(path) ||
        !(info = virHookImageProbe(path, &sb)) || !info->backing_file ||
        !(backing = virHookBackingPath(path, info->backing_file)) || !virHookPathIsMaster(backing))
        return TRUE;

    g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_REFUSED,
                _("disk '%1$s' is raw in the domain XML, but '%2$s' is a clone in the format %3$s, and the guest would"
                  " see that instead of a disk: make it <driver name='qemu' type='%3$s'/>"),
                disk->target, path, info->format);
    return FALSE;
}


/* Whether @path is what the domain says that @disk stands on. */
static gboolean
virHookDiskNames(const VirHookDisk *disk, const char *path)
{
    g_autofree char *name = g_path_get_basename(path);

    return disk->master &&
        g_str_equal(disk->master, g_path_is_absolute(disk->master) ? path : name);
}


/* Adds the file that is missed under @path, if one is, to @missing. */
static gboolean
virHookCheckChain(const VirHookDisk *disk, const char *path, GPtrArray *missing, GError **error)
{
    VirHookMissing *found = NULL;

    if (!virHookChainWalk(path, disk->format, &found, error))
        return FALSE;

    if (found && !found->above && disk->optional)
        g_clear_pointer(&found, virHookMissingFree);
    if (found) {
        if (virHookDiskNames(disk, found->path))
            found->magnet = g_strdup(disk->magnet);
        g_ptr_array_add(missing, found);
    }
    return TRUE;
}


/* FALSE with @error set.  Takes those from @missing that guests start with all the same. */
static gboolean
virHookLetDamaged(GPtrArray *missing, const char *config, GError **error)
{
    int start = -1;
    guint i;

    for (i = missing->len; i > 0; i--) {
        const VirHookMissing *m = g_ptr_array_index(missing, i - 1);

        if (!m->damaged)
            continue;
        if (start < 0 && (start = virHookDamagedMayStart(config, error)) < 0)
            return FALSE;
        if (start)
            g_ptr_array_remove_index(missing, i - 1);
    }
    return TRUE;
}


/* Goes through all disks; @missing has what they miss, a file for each at most. */
static gboolean
virHookCheckDisks(GPtrArray *disks, VirHookClient *client, GPtrArray *missing, GError **error)
{
    guint i;

    g_ptr_array_set_size(missing, 0);
    for (i = 0; i < disks->len; i++) {
        const VirHookDisk *disk = g_ptr_array_index(disks, i);
        g_autofree char *path = virHookDiskPath(disk, client);

        if (path &&
            (!virHookCheckWritable(disk, path, error) ||
             !virHookCheckFormat(disk, path, error) ||
             !virHookCheckChain(disk, path, missing, error)))
            return FALSE;
    }
    return TRUE;
}


static gboolean
virHookMissed(const VirHookMissing *missing, const char *why, GError **error)
{
    if (missing->damaged)
        g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_MISSING,
                    _("the master '%1$s' is damaged on disk: %2$s"), missing->path, why);
    else if (missing->above)
        g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_MISSING,
                    _("the master '%1$s', which '%2$s' stands on, is not here: %3$s"),
                    missing->path, missing->above, why);
    else
        g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_MISSING,
                    _("the volume '%1$s' is not here: %2$s"), missing->path, why);
    return FALSE;
}


/* The pool's uuid and the volume's name; FALSE with @error where there is no such pool. */
static gboolean
virHookMissingPool(const VirHookMissing *missing,
                   VirHookClient *client,
                   char **uuid,
                   char **name,
                   GError **error)
{
    g_autofree char *dir = g_path_get_dirname(missing->path);
    g_autoptr(GError) local = NULL;

    *name = g_path_get_basename(missing->path);
    if ((*uuid = virHookClientPoolUuid(client, dir, &local)))
        return TRUE;

    return virHookMissed(missing, local ? local->message :
                         _("its torrentpool is not started (virsh pool-start)"), error);
}


static gboolean
virHookUnknown(const VirHookMissing *missing, GError **error)
{
    return virHookMissed(missing, _("virttorrentd does not know it; fetch it (virsh vol-create with the master's"
                                    " XML from a host that has it) and start the guest again"), error);
}


/* Has @m fetched before all others. */
static gboolean
virHookHurryOne(const VirHookMissing *m, VirHookClient *client, GError **error)
{
    g_autofree char *uuid = NULL;
    g_autofree char *name = NULL;
    g_autoptr(GError) local = NULL;

    if (!virHookMissingPool(m, client, &uuid, &name, error))
        return FALSE;
    if ((!m->magnet || virHookClientFetch(client, uuid, name, m->magnet, &local)) &&
        virHookClientPrioritize(client, uuid, name, &local))
        return TRUE;
    /* it may have come this very moment */
    if (access(m->path, F_OK) == 0)
        return TRUE;
    return local ? virHookMissed(m, local->message, error) : virHookUnknown(m, error);
}


static gboolean
virHookHurry(GPtrArray *missing, VirHookClient *client, GError **error)
{
    guint i;

    for (i = 0; i < missing->len; i++) {
        if (!virHookHurryOne(g_ptr_array_index(missing, i), client, error))
            return FALSE;
    }
    return TRUE;
}


/* Whether it is worth waiting on for @volume. */
static gboolean
virHookStillComing(const VirHookMissing *missing,
                   const VirHookVolume *volume,
                   gint64 left,
                   GError **error)
{
    g_autofree char *why = NULL;

    if (missing->damaged) {
        if (g_str_equal(volume->state, "failed") || left <= 0)
            why = g_strdup_printf(_("%1$s (it is %2$s); start the guest again when a host that has it is up and it is healed,"
                                    " put a good copy in its place (see virttorrentd(8)), or set damaged = start in group [hook]"
                                    " of virttorrentd.conf"),
                                  volume->error ? volume->error : "?", volume->state);
    } else if (g_str_equal(volume->state, "failed")) {
        why = g_strdup_printf(_("fetching it failed (%1$s)"), volume->error ? volume->error : "?");
    } else if (left <= 0) {
        why = g_strdup_printf(_("virttorrentd has %1$.1f %% of it (%2$s); start the guest again when it is complete"),
                              volume->progress, volume->state);
    }

    return why ? virHookMissed(missing, why, error) : TRUE;
}


static gboolean
virHookWait(const VirHookMissing *missing, VirHookClient *client, gint64 deadline, GError **error)
{
    g_autofree char *uuid = NULL;
    g_autofree char *name = NULL;

    if (!virHookMissingPool(missing, client, &uuid, &name, error))
        return FALSE;
    if (missing->damaged)
        deadline = MIN(deadline, g_get_monotonic_time() + VIR_HOOK_DAMAGED_TIMEOUT * G_TIME_SPAN_SECOND);

    while (missing->damaged ? virHookPathIsDamaged(missing->path) : access(missing->path, F_OK) < 0) {
        g_autoptr(GError) local = NULL;
        g_autoptr(VirHookVolume) volume = virHookClientGetVolume(client, uuid, name, &local);
        gint64 left = (deadline - g_get_monotonic_time()) / 1000;

        if (!volume)
            return local ? virHookMissed(missing, local->message, error) : virHookUnknown(missing, error);
        if (!virHookStillComing(missing, volume, left, error))
            return FALSE;
        virHookClientSleep(client, MIN(left, POLL_MS));
    }
    return TRUE;
}


static gboolean
virHookWaitAll(GPtrArray *missing, VirHookClient *client, gint64 deadline, GError **error)
{
    guint i;

    for (i = 0; i < missing->len; i++) {
        if (!virHookWait(g_ptr_array_index(missing, i), client, deadline, error))
            return FALSE;
    }
    return TRUE;
}


gboolean
virHookAwait(GPtrArray *missing,
             VirHookClient *client,
             const char *config,
             gint64 *deadline,
             GError **error)
{
    int timeout;

    if (*deadline == 0) {
        if ((timeout = virHookTimeout(config, error)) < 0)
            return FALSE;
        *deadline = g_get_monotonic_time() + timeout * G_TIME_SPAN_SECOND;
    }
    return virHookHurry(missing, client, error) &&
        virHookWaitAll(missing, client, *deadline, error);
}


gboolean
virHookPrepare(GPtrArray *disks,
               const char *socket,
               const char *config,
               GError **error)
{
    g_autoptr(VirHookClient) client = virHookClientNew(socket);
    g_autoptr(GPtrArray) missing = g_ptr_array_new_with_free_func((GDestroyNotify)virHookMissingFree);
    gint64 deadline = 0;

    for (;;) {
        /* again after each wait: what came can stand on something itself, and
         * it is a master now, that no disk may write to */
        if (!virHookCheckDisks(disks, client, missing, error) ||
            !virHookLetDamaged(missing, config, error))
            return FALSE;
        if (missing->len == 0)
            return TRUE;
        if (!virHookAwait(missing, client, config, &deadline, error))
            return FALSE;
    }
}
