/*
 * hook_chain.h: what a disk stands on
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>
#include <sys/stat.h>

#include "image.h"

G_BEGIN_DECLS

/* As deep as libvirt follows. */
#define VIR_HOOK_CHAIN_MAX 200

/* A file of a torrentpool that is not there (yet), or is damaged. */
typedef struct {
    char *path;
    gboolean damaged;            /* it is there, and virttorrentd heals it */
    char *above;                 /* the image that stands on it; NULL: it is the disk itself */
    char *magnet;                /* where it can be fetched; NULL: not told */
} VirHookMissing;

void virHookMissingFree(VirHookMissing *missing);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirHookMissing, virHookMissingFree)

/* Whether the directory that @path lies in is a torrentpool's target. */
gboolean virHookPathIsPooled(const char *path);

/* Whether @path is a master: a regular file in a torrentpool, without write bits. */
gboolean virHookPathIsMaster(const char *path);

/* Whether virttorrentd found that @path is damaged. */
gboolean virHookPathIsDamaged(const char *path);

/* What the image @path says; NULL where that cannot be had. */
VirImageInfo *virHookImageProbe(const char *path, struct stat *sb);

/* The local file that @backing means when the image @above names it, for g_free(), or NULL. */
char *virHookBackingPath(const char *above, const char *backing);

/* Follows the chain down from @path, which the guest is given as @format.
 * TRUE with @missing set where a file of a torrentpool is missed or damaged, NULL where
 * none is; FALSE with @error for a chain that is too deep or a circle.  What
 * cannot be read, or lies elsewhere, is left to libvirt to complain about. */
gboolean virHookChainWalk(const char *path,
                          const char *format,
                          VirHookMissing **missing,
                          GError **error);

G_END_DECLS
