/*
 * manager.h: all pools of this daemon
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

#include "pool.h"

G_BEGIN_DECLS

typedef struct _VirTorrentManager VirTorrentManager;

/* @monitor and @conf outlive the manager.  @rundir: where the list of open
 * pools is kept. */
VirTorrentManager *virTorrentManagerNew(const VirTorrentConf *conf,
                                        VirTorrentMonitor *monitor,
                                        const char *rundir);

/* Saves what can be saved within a second and closes every pool; the list of
 * open pools stays, for the next daemon. */
void virTorrentManagerFree(VirTorrentManager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentManager, virTorrentManagerFree)

void virTorrentManagerSetChangedFunc(VirTorrentManager *manager,
                                     VirTorrentPoolChangedFunc func,
                                     gpointer opaque);

/* Opens again what was open when the last daemon ended. */
void virTorrentManagerRestore(VirTorrentManager *manager);

/* @options: a{sv}.  Errors: VIR_TORRENT_POOL_ERROR. */
gboolean virTorrentManagerOpenPool(VirTorrentManager *manager,
                                   const char *uuid,
                                   const char *name,
                                   const char *target,
                                   GVariant *options,
                                   GError **error);
gboolean virTorrentManagerClosePool(VirTorrentManager *manager,
                                    const char *uuid,
                                    gboolean purge,
                                    GError **error);
VirTorrentPool *virTorrentManagerFindPool(VirTorrentManager *manager,
                                          const char *uuid,
                                          GError **error);
GList *virTorrentManagerListPools(VirTorrentManager *manager);  /* g_list_free() it */
guint virTorrentManagerCountPools(VirTorrentManager *manager);

G_END_DECLS
