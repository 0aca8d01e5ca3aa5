/*
 * hook_depart.c: what the destination of a migration has to know
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * 'migrate-out begin' on the host that a guest leaves by 'virsh migrate
 * --copy-storage-inc': for each clone it adds to the XML that goes to the other
 * host the master, its format, the clone's capacity and where the master can be
 * fetched.  hook_migrate.c makes an overlay of that there.
 *
 * Rules:
 *  1. Told is what the image itself says now, never what the XML says of it: an
 *     overlay on anything else would show the guest another disk.
 *  2. Only a clone that stands on a master directly is told.  What lies between, a
 *     snapshot, is not on the other host, and the migration fails there as it does
 *     without this hook.
 *  3. Without virttorrentd the magnet is missing, no more: the other host may have
 *     the master.
 */

#include <config.h>

#include "hook_depart.h"

#include "hook_chain.h"
#include "hook_check.h"
#include "hook_client.h"
#include "hook_domain.h"


/* Where @master can be fetched, as far as virttorrentd knows. */
static char *
virHookMasterMagnet(const char *master, VirHookClient *client)
{
    g_autofree char *dir = g_path_get_dirname(master);
    g_autofree char *name = g_path_get_basename(master);
    g_autofree char *uuid = virHookClientPoolUuid(client, dir, NULL);
    g_autoptr(VirHookVolume) volume = uuid ? virHookClientGetVolume(client, uuid, name, NULL) : NULL;

    return volume ? g_steal_pointer(&volume->magnet) : NULL;
}


static void
virHookDiskForget(VirHookDisk *disk)
{
    g_clear_pointer(&disk->master, g_free);
    g_clear_pointer(&disk->master_format, g_free);
    g_clear_pointer(&disk->magnet, g_free);
    disk->capacity = 0;
}


/* The master that the overlay @path, as @info says, stands on directly, or NULL. */
static char *
virHookOverlayMaster(const char *path, const VirImageInfo *info)
{
    g_autofree char *master = NULL;

    if (!g_str_equal(info->format, "qcow2") || !info->backing_file || !info->backing_format)
        return NULL;
    master = virHookBackingPath(path, info->backing_file);
    return master && virHookPathIsMaster(master) ? g_steal_pointer(&master) : NULL;
}


/* The name alone where both lie in one directory, which may be another one there. */
static char *
virHookMasterName(const char *master, const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *master_dir = g_path_get_dirname(master);

    return g_str_equal(dir, master_dir) ? g_path_get_basename(master) : g_strdup(master);
}


/* Whether there is something to tell of @disk; then it is in it. */
static gboolean
virHookDiskDepart(VirHookDisk *disk, VirHookClient *client)
{
    g_autofree char *path = NULL;
    g_autofree char *master = NULL;
    g_autoptr(VirImageInfo) info = NULL;
    struct stat sb;

    virHookDiskForget(disk);
    if (!disk->writable || !g_str_equal(disk->format, "qcow2") ||
        !(path = virHookDiskPath(disk, client)) || !virHookPathIsPooled(path) ||
        !(info = virHookImageProbe(path, &sb)) ||
        !(master = virHookOverlayMaster(path, info)))
        return FALSE;

    disk->master = virHookMasterName(master, path);
    disk->master_format = g_strdup(info->backing_format);
    disk->magnet = virHookMasterMagnet(master, client);
    disk->capacity = info->capacity;
    return TRUE;
}


gboolean
virHookDepart(const char *xml, gsize len, const char *socket, char **changed, GError **error)
{
    g_autoptr(VirHookClient) client = virHookClientNew(socket);
    g_autoptr(GPtrArray) disks = virHookDomainDisks(xml, len, error);
    gboolean any = FALSE;
    guint i;

    *changed = NULL;
    if (!disks)
        return FALSE;

    for (i = 0; i < disks->len; i++)
        any |= virHookDiskDepart(g_ptr_array_index(disks, i), client);
    return !any || (*changed = virHookDomainDepart(xml, len, disks, error));
}
