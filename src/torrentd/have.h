/*
 * have.h: pieces of a fetch that were verified since its resume data was saved
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct _VirTorrentHave VirTorrentHave;

/* Nothing is opened yet.  @path: of the list; @file: of what is fetched; @key: of the
 * torrent.  All are copied. */
VirTorrentHave *virTorrentHaveNew(const char *path, const char *file, const char *key);
void virTorrentHaveFree(VirTorrentHave *have);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentHave, virTorrentHaveFree)

/* Notes that @piece was verified and handed to the kernel.  What cannot be noted is
 * fetched again after a crash, which is no reason to stop. */
void virTorrentHaveAdd(VirTorrentHave *have, guint32 piece);

/* The pieces that were noted, below @pieces; empty where the list is not of this boot,
 * this torrent and this file.  May name one twice. */
GArray *virTorrentHaveLoad(VirTorrentHave *have, guint32 pieces);

G_END_DECLS
