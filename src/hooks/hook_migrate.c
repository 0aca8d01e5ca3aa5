/*
 * hook_migrate.c: the destination of a migration, made ready
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * 'virsh migrate --copy-storage-inc' copies what a guest wrote to its clone
 * into an empty overlay that has to be there already.  libvirt does not make it;
 * 'migrate begin' comes before it looks.
 *
 * Rules:
 *  1. Only what the domain XML tells (hook_domain.c) is made; a disk of which
 *     it tells no master is left to libvirt, which can create it whole.
 *  2. Never over what is there; never on anything but a complete master.
 *  3. All or nothing: when one disk fails, the others' overlays go, too.
 *
 * A disk of type='volume' libvirt would refuse unseen ("pre-creation ..."), as
 * it has no path before it is translated.  It becomes a type='file' here.
 */

#include <config.h>

#include "hook_migrate.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook_chain.h"
#include "hook_check.h"
#include "hook_client.h"
#include "hook_domain.h"
#include "i18n.h"
#include "image.h"

#define OVERLAY_MODE 0600        /* libvirt gives it to QEMU's user */


/* Where @disk's master lies on this host, NULL: nothing that a pool has. */
static char *
virHookMasterPath(const VirHookDisk *disk)
{
    g_autofree char *dir = g_path_get_dirname(disk->path);
    g_autofree char *path = NULL;

    if (g_path_is_absolute(disk->master))
        path = g_strdup(disk->master);
    else if (*disk->master != '.' && !strchr(disk->master, '/'))
        path = g_build_filename(dir, disk->master, NULL);

    return path && virHookPathIsPooled(path) ? g_steal_pointer(&path) : NULL;
}


/* Whether the hook has to do with @disk; then it has a path. */
static gboolean
virHookMigrates(VirHookDisk *disk, VirHookClient *client)
{
    g_autofree char *master = NULL;

    if (!disk->master || !disk->writable || !g_str_equal(disk->format, "qcow2"))
        return FALSE;
    if (!disk->path) {
        if (!(disk->path = virHookDiskPath(disk, client)))
            return FALSE;
        disk->shifted = TRUE;
    }
    if (g_path_is_absolute(disk->path) && virHookPathIsPooled(disk->path))
        master = virHookMasterPath(disk);
    if (!master)
        disk->shifted = FALSE;
    return !!master;
}


/* Those of @disks whose overlays have to be made; owned by @disks. */
static GPtrArray *
virHookMigrating(GPtrArray *disks, VirHookClient *client)
{
    GPtrArray *wanted = g_ptr_array_new();
    guint i;

    for (i = 0; i < disks->len; i++) {
        VirHookDisk *disk = g_ptr_array_index(disks, i);
        struct stat sb;

        if (virHookMigrates(disk, client) && lstat(disk->path, &sb) < 0 && errno == ENOENT)
            g_ptr_array_add(wanted, disk);
    }
    return wanted;
}


/* All masters are here when this returns TRUE. */
static gboolean
virHookMigrateFetch(GPtrArray *wanted, VirHookClient *client, const char *config, GError **error)
{
    g_autoptr(GPtrArray) missing = g_ptr_array_new_with_free_func((GDestroyNotify)virHookMissingFree);
    gint64 deadline = 0;
    guint i;

    for (i = 0; i < wanted->len; i++) {
        const VirHookDisk *disk = g_ptr_array_index(wanted, i);
        VirHookMissing *m = g_new0(VirHookMissing, 1);

        m->path = virHookMasterPath(disk);
        m->above = g_strdup(disk->path);
        if (access(m->path, F_OK) == 0) {
            virHookMissingFree(m);
            continue;
        }
        m->magnet = g_strdup(disk->magnet);
        g_ptr_array_add(missing, m);
    }
    return missing->len == 0 || virHookAwait(missing, client, config, &deadline, error);
}


static gboolean
virHookRefuse(const VirHookDisk *disk, const char *master, const char *why, GError **error)
{
    g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_REFUSED,
                _("disk '%1$s' cannot stand on '%2$s' here: %3$s"), disk->target, master, why);
    return FALSE;
}


/* What the master is; it is refused if that is not what the source has. */
static VirImageInfo *
virHookMasterProbe(const VirHookDisk *disk, const char *master, GError **error)
{
    g_autoptr(VirImageInfo) info = NULL;
    g_autoptr(GError) local = NULL;
    int fd = -1;

    if (!virHookPathIsMaster(master)) {
        virHookRefuse(disk, master, _("it is no master (virsh vol-create with the master's XML fetches it)"), error);
        return NULL;
    }
    if ((fd = open(master, O_RDONLY | O_CLOEXEC)) < 0) {
        virHookRefuse(disk, master, g_strerror(errno), error);
        return NULL;
    }
    info = virImageProbe(fd, &local);
    if (!info) {
        virHookRefuse(disk, master, local->message, error);
    } else if (g_str_equal(disk->master_format, "raw")) {
        /* its capacity is its length, whatever is written in it */
        struct stat sb;

        info->capacity = fstat(fd, &sb) == 0 ? sb.st_size : 0;
    } else if (!g_str_equal(info->format, disk->master_format) || !virImageIsStandalone(info)) {
        virHookRefuse(disk, master, _("it is not of the format that the source tells, or needs other files"), error);
        g_clear_pointer(&info, virImageInfoFree);
    }
    g_close(fd, NULL);
    return g_steal_pointer(&info);
}


static gboolean
virHookOverlayMake(const VirHookDisk *disk, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(disk->path);
    g_autofree char *name = g_path_get_basename(disk->path);
    g_autofree char *master = virHookMasterPath(disk);
    g_autofree char *master_dir = g_path_get_dirname(master);
    g_autofree char *master_name = g_path_get_basename(master);
    g_autoptr(VirImageInfo) info = virHookMasterProbe(disk, master, error);
    VirImageOverlayOptions options = {
        .backing_file = g_str_equal(dir, master_dir) ? master_name : master,
        .backing_format = disk->master_format,
        .mode = OVERLAY_MODE,
        .uid = -1,
        .gid = -1,
    };
    gboolean made;
    int dirfd;

    if (!info)
        return FALSE;
    options.capacity = disk->capacity ? disk->capacity : info->capacity;

    if ((dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_MISSING,
                    _("cannot open the directory '%1$s': %2$s"), dir, g_strerror(errno));
        return FALSE;
    }
    made = virImageOverlayCreate(dirfd, name, &options, error);
    g_close(dirfd, NULL);
    if (!made)
        g_prefix_error(error, _("the overlay '%1$s' cannot be made: "), disk->path);
    return made;
}


static gboolean
virHookMigrateMake(const char *guest,
                   const char *uuid,
                   GPtrArray *wanted,
                   const VirHookPlaces *places,
                   GError **error)
{
    g_autoptr(GPtrArray) made = g_ptr_array_new();
    gboolean ok = TRUE;
    guint i;

    for (i = 0; ok && i < wanted->len; i++) {
        const VirHookDisk *disk = g_ptr_array_index(wanted, i);

        if ((ok = virHookOverlayMake(disk, error)))
            g_ptr_array_add(made, disk->path);
    }
    if (ok && made->len > 0)
        ok = virHookMadeNote(places, guest, uuid, made, error);

    for (i = 0; !ok && i < made->len; i++)
        unlink(g_ptr_array_index(made, i));
    return ok;
}


gboolean
virHookMigrate(const char *guest,
               const char *xml,
               gsize len,
               const char *socket,
               const char *config,
               const VirHookPlaces *places,
               char **changed,
               GError **error)
{
    g_autoptr(VirHookClient) client = virHookClientNew(socket);
    g_autoptr(GPtrArray) disks = virHookDomainDisks(xml, len, error);
    g_autoptr(GPtrArray) wanted = NULL;
    g_autofree char *uuid = virHookDomainUuid(xml, len);

    *changed = NULL;
    if (!disks)
        return FALSE;

    wanted = virHookMigrating(disks, client);
    return virHookDomainArrive(xml, len, disks, changed, error) &&
        virHookMigrateFetch(wanted, client, config, error) &&
        virHookMigrateMake(guest, uuid, wanted, places, error);
}
