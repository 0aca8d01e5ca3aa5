/*
 * hook_chain.c: what a disk stands on
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Goes the way that libvirt goes afterwards: a layer is looked into only when
 * its format was named by whoever stands on it (never guessed: a guest can
 * write any header into a raw disk), and relative names are relative to the
 * directory of the layer above, as it was named.
 */

#include <config.h>

#include "hook_chain.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook_domain.h"
#include "i18n.h"
#include "image.h"

#define POOL_PRIVATE_DIR ".torrentpool"


void
virHookMissingFree(VirHookMissing *missing)
{
    if (!missing)
        return;

    g_free(missing->path);
    g_free(missing->above);
    g_free(missing->magnet);
    g_free(missing);
}


static gboolean
virHookDirIsPool(const char *dir)
{
    g_autofree char *private = g_build_filename(dir, POOL_PRIVATE_DIR, NULL);
    struct stat sb;

    /* Nobody else can make a pool of a directory that all may write to. */
    return lstat(private, &sb) == 0 && S_ISDIR(sb.st_mode) &&
        (sb.st_uid == 0 || sb.st_uid == geteuid());
}


gboolean
virHookPathIsPooled(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *real_dir = NULL;
    char *real;

    if (virHookDirIsPool(dir))
        return TRUE;

    /* a symlink from elsewhere opens the same file */
    if (!(real = realpath(path, NULL)))
        return FALSE;
    real_dir = g_path_get_dirname(real);
    free(real);
    return virHookDirIsPool(real_dir);
}


gboolean
virHookPathIsMaster(const char *path)
{
    struct stat sb;

    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode) &&
        (sb.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)) == 0 &&
        virHookPathIsPooled(path);
}


/* By a file, so that a guest's start needs no connection. */
gboolean
virHookPathIsDamaged(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    g_autofree char *mark = g_strdup_printf("%s/" POOL_PRIVATE_DIR "/meta/%s.damage", dir, name);

    return access(mark, F_OK) == 0 && virHookDirIsPool(dir);
}


char *
virHookBackingPath(const char *above, const char *backing)
{
    g_autofree char *dir = NULL;
    gsize scheme;

    if (g_str_has_prefix(backing, "file:"))
        backing += strlen("file:");

    if (g_path_is_absolute(backing))
        return g_strdup(backing);

    /* "nbd:...", "json:..." */
    scheme = strcspn(backing, "/:");
    if (backing[scheme] == ':')
        return NULL;

    dir = g_path_get_dirname(above);
    return g_build_filename(dir, backing, NULL);
}


VirImageInfo *
virHookImageProbe(const char *path, struct stat *sb)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    VirImageInfo *info = NULL;

    if (fd < 0)
        return NULL;
    /* not a pipe or a device that does things when it is read */
    if (fstat(fd, sb) == 0 && (S_ISREG(sb->st_mode) || S_ISBLK(sb->st_mode)))
        info = virImageProbe(fd, NULL);
    g_close(fd, NULL);
    return info;
}


static VirHookMissing *
virHookMissingNew(const char *path, const char *above)
{
    VirHookMissing *missing = g_new0(VirHookMissing, 1);

    missing->path = g_strdup(path);
    missing->above = g_strdup(above);
    return missing;
}


/* libvirt's names for VHD are QEMU's and libxl's. */
static gboolean
virHookFormatIs(const char *named, const VirImageInfo *info)
{
    return g_str_equal(named, info->format) ||
        (g_str_equal(named, "vhd") && g_str_equal(info->format, "vpc"));
}


/* Whatever reads VHDs for guests of libvirt is QEMU, which takes a differencing
 * one without complaint. */
static gboolean
virHookCheckParentRead(const char *path, const VirImageInfo *info, GError **error)
{
    if (virImageIsStandalone(info) || !g_str_equal(info->format, "vpc") || !virHookPathIsPooled(path))
        return TRUE;

    g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_REFUSED,
                _("'%1$s' is a differencing VHD, from which QEMU and Xen's qdisk read zeros where its parent has data:"
                  " give the guest a qcow2 clone (virsh vol-clone in a pool without <torrent:clone format='vhd'/>)"),
                path);
    return FALSE;
}


/* One step down: FALSE where the chain ends, with @error set where it must not
 * be used.  @path and @format go on to the next layer, @above is left with the
 * one that was looked at. */
static gboolean
virHookChainStep(char **path, char **format, char **above, struct stat *sb, GError **error)
{
    g_autoptr(VirImageInfo) info = virHookImageProbe(*path, sb);
    g_autofree char *next = NULL;

    if (!info || !virHookFormatIs(*format, info) ||
        !virHookCheckParentRead(*path, info, error) || !info->backing_file ||
        !(next = virHookBackingPath(*path, info->backing_file)))
        return FALSE;

    g_free(*above);
    *above = g_steal_pointer(path);
    *path = g_steal_pointer(&next);
    g_free(*format);
    *format = g_strdup(info->backing_format ? info->backing_format : "raw");
    return TRUE;
}


gboolean
virHookChainWalk(const char *disk_path,
                 const char *disk_format,
                 VirHookMissing **missing,
                 GError **error)
{
    g_autofree char *path = g_strdup(disk_path);
    g_autofree char *format = g_strdup(disk_format);
    g_autofree char *above = NULL;
    struct stat seen[VIR_HOOK_CHAIN_MAX];
    GError *refused = NULL;
    guint depth;
    guint i;

    *missing = NULL;
    for (depth = 0; depth < VIR_HOOK_CHAIN_MAX; depth++) {
        if (access(path, F_OK) < 0) {
            if (errno == ENOENT && virHookPathIsPooled(path))
                *missing = virHookMissingNew(path, above);
            return TRUE;
        }

        if (virHookPathIsDamaged(path)) {
            *missing = virHookMissingNew(path, above);
            (*missing)->damaged = TRUE;
            return TRUE;
        }

        if (!virHookChainStep(&path, &format, &above, &seen[depth], &refused)) {
            if (!refused)
                return TRUE;
            g_propagate_error(error, refused);
            return FALSE;
        }

        for (i = 0; i < depth; i++) {
            if (seen[i].st_ino == seen[depth].st_ino && seen[i].st_dev == seen[depth].st_dev) {
                g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_REFUSED,
                            _("the backing files of '%1$s' go in a circle by way of '%2$s'"), disk_path, above);
                return FALSE;
            }
        }
    }

    g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_REFUSED,
                _("'%1$s' stands on more than %2$d images"), disk_path, VIR_HOOK_CHAIN_MAX);
    return FALSE;
}
