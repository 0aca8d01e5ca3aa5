/*
 * hook_check.h: whether a guest may start, and waiting until it can
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

#include "hook_chain.h"
#include "hook_client.h"
#include "hook_domain.h"

G_BEGIN_DECLS

#define VIR_HOOK_CONFIG_GROUP "hook"
#define VIR_HOOK_CONFIG_TIMEOUT "timeout"
#define VIR_HOOK_TIMEOUT_DEFAULT 600  /* seconds */
#define VIR_HOOK_TIMEOUT_MAX 86400

/* "wait": a guest on a damaged master waits until it is healed, but not as long as for one
 * that is fetched; "start": it starts. */
#define VIR_HOOK_CONFIG_DAMAGED "damaged"
#define VIR_HOOK_DAMAGED_DEFAULT "wait"
#define VIR_HOOK_DAMAGED_TIMEOUT 30   /* seconds */

/* Whether guests on damaged masters start: [hook] damaged in @config; -1 with @error set. */
int virHookDamagedMayStart(const char *config, GError **error);

/* The time to wait for masters, in seconds: [hook] timeout in @config, the
 * default where there is no such file or no such line.  -1 with @error set. */
int virHookTimeout(const char *config, GError **error);

/* @disks: as virHookDomainDisks() gives them.  Both names are used only when a
 * disk needs them.  FALSE with @error: one sentence for the administrator. */
gboolean virHookPrepare(GPtrArray *disks,
                        const char *socket,
                        const char *config,
                        GError **error);

/* The file that the disk is; NULL: not one of ours.  Where a volume's pool
 * lies, only virttorrentd can tell: @client. */
char *virHookDiskPath(const VirHookDisk *disk, VirHookClient *client);

/* Whether one of @disks lies in a torrentpool, as far as can be told. */
gboolean virHookDisksPooled(GPtrArray *disks, const char *socket);

/* Waits until all of @missing (VirHookMissing) are here, put first in the
 * queue.  Those that virttorrentd does not know it is told to fetch, where
 * their @magnet says how.  @deadline: 0 at first, kept for further calls. */
gboolean virHookAwait(GPtrArray *missing,
                      VirHookClient *client,
                      const char *config,
                      gint64 *deadline,
                      GError **error);

G_END_DECLS
