/*
 * hook_domain.h: the disks of a guest, out of its domain XML
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

#define VIR_HOOK_ERROR (virHookErrorQuark())
GQuark virHookErrorQuark(void);

typedef enum {
    VIR_HOOK_ERROR_DOMAIN,       /* no domain XML */
    VIR_HOOK_ERROR_REFUSED,      /* the guest must not start like this */
    VIR_HOOK_ERROR_MISSING,      /* something it needs is not here */
    VIR_HOOK_ERROR_DAEMON,       /* virttorrentd does not answer, or not as agreed */
} VirHookError;

/* Longer XML is refused.  libvirt hands over at most 4 MiB, libxml2 takes 10 MB. */
#define VIR_HOOK_DOMAIN_MAX (8 * 1024 * 1024)

typedef struct {
    char *path;                  /* type='file'; else NULL */
    char *pool;                  /* type='volume', with @volume; else NULL */
    char *volume;
    char *format;                /* <driver type=''/>; "raw" where it says none, as libvirt has it */
    char *target;                /* the device as the guest is told, "vda"; "?" where it says none */
    gboolean writable;           /* the guest may change the very file */
    gboolean optional;           /* the guest starts without it, too */
    gboolean shifted;            /* @path was found out for a type='volume' */

    /* What a migration needs to know of it, guests of QEMU only; NULL and 0: not told. */
    char *master;                /* file beside the disk, or an absolute path */
    char *master_format;
    char *magnet;
    guint64 capacity;            /* bytes */
} VirHookDisk;

/* In the domain's <metadata>, <torrent:guest> with a <torrent:disk> for each disk,
 * which a user wrote; and the same below <migration>, in a namespace of its own since
 * libvirt keeps one element of each, from the hook of the host that a guest comes from. */
#define VIR_HOOK_NAMESPACE "http://libvirt.org/schemas/storagepool/torrent/1.0"
#define VIR_HOOK_NAMESPACE_MIGRATION "http://libvirt.org/schemas/storagepool/torrent/migration/1.0"

void virHookDiskFree(VirHookDisk *disk);

/* The disks that are files or volumes of pools, in their order.  Pure: opens
 * nothing, follows no reference.  NULL with VIR_HOOK_ERROR_DOMAIN. */
GPtrArray *virHookDomainDisks(const char *xml, gsize len, GError **error);

/* The domain's UUID as it stands there, for g_free(); "" where there is none. */
char *virHookDomainUuid(const char *xml, gsize len);

/* The same domain, as it has to be where it comes to: each of @disks that is
 * @shifted as a type='file', and without <migration>.  @changed: for g_free(), NULL
 * if nothing has to change.  FALSE with VIR_HOOK_ERROR_DOMAIN. */
gboolean virHookDomainArrive(const char *xml, gsize len, GPtrArray *disks, char **changed, GError **error);

/* TRUE with @id set for a guest of Xen that runs. */
gboolean virHookDomainXenId(const char *xml, gsize len, guint *id);

/* The same domain with a <migration> that tells of each of @disks that has a @master;
 * for g_free().  NULL with VIR_HOOK_ERROR_DOMAIN. */
char *virHookDomainDepart(const char *xml, gsize len, GPtrArray *disks, GError **error);

G_END_DECLS
