/*
 * storage_torrentpool_chain.c: what an image stands on
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Only overlays of masters come from a torrent pool, so what is checked here are
 * images from elsewhere: QEMU follows a chain that comes back to itself until it
 * has neither memory nor descriptors left.
 */

#include <config.h>

#include "storage_torrentpool_chain.h"
#include "storage_torrentpool_file.h"
#include "viralloc.h"
#include "virerror.h"
#include "virfile.h"
#include "virhash.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

/* What libvirt is ready to follow, less an overlay */
#define CHAIN_MAX 199


/* The file that the image @path stands on, NULL: none that could be looked at
 * here. To be freed by the caller */
static char *
virStorageTorrentPoolChainNext(const char *path,
                               const VirImageInfo *info)
{
    const char *name = info->backing_file;
    size_t scheme;

    if (!name)
        return NULL;

    /* json:..., nbd://... */
    scheme = strcspn(name, ":/");
    if (name[scheme] == ':')
        return NULL;

    return virStorageTorrentPoolFileBackingPath(path, info);
}


/* Opens and probes a file of the chain below @top. Returns 0 on success, -1 on
 * error, also where it is in @seen already. */
static int
virStorageTorrentPoolChainLook(const char *top,
                               const char *path,
                               GHashTable *seen,
                               VirImageInfo **info)
{
    VIR_AUTOCLOSE fd = -1;
    struct stat sb;
    g_autofree char *id = NULL;

    if ((fd = virStorageTorrentPoolFileOpen(path, true)) < 0)
        return -1;

    if (fstat(fd, &sb) < 0) {
        virReportSystemError(errno, _("cannot stat '%1$s'"), path);
        return -1;
    }

    id = g_strdup_printf("%llu:%llu", (unsigned long long)sb.st_dev,
                         (unsigned long long)sb.st_ino);
    if (!g_hash_table_add(seen, g_steal_pointer(&id))) {
        virReportError(VIR_ERR_INVALID_ARG,
                       _("'%1$s' cannot be used, what it stands on comes back to '%2$s'"),
                       top, path);
        return -1;
    }

    if (g_hash_table_size(seen) > CHAIN_MAX) {
        virReportError(VIR_ERR_INVALID_ARG,
                       _("'%1$s' cannot be used, it stands on more than %2$d files"),
                       top, CHAIN_MAX - 1);
        return -1;
    }

    return (*info = virStorageTorrentPoolFileProbe(fd, path)) ? 0 : -1;
}


/**
 * virStorageTorrentPoolChainCheck:
 * @path: an image
 *
 * Looks at all that the image stands on.
 *
 * Returns what the image itself is, NULL with an error reported where the chain
 * does not end in a file.
 */
VirImageInfo *
virStorageTorrentPoolChainCheck(const char *path)
{
    g_autoptr(GHashTable) seen = virHashNew(NULL);
    g_autoptr(VirImageInfo) top = NULL;
    g_autofree char *at = NULL;

    if (virStorageTorrentPoolChainLook(path, path, seen, &top) < 0)
        return NULL;

    at = virStorageTorrentPoolChainNext(path, top);

    while (at) {
        g_autoptr(VirImageInfo) info = NULL;
        g_autofree char *above = g_steal_pointer(&at);

        if (virStorageTorrentPoolChainLook(path, above, seen, &info) < 0)
            return NULL;

        at = virStorageTorrentPoolChainNext(above, info);
    }

    return g_steal_pointer(&top);
}
