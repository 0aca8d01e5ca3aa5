/*
 * options.h: what a pool's XML says about its swarm
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

#include "engine.h"

G_BEGIN_DECLS

typedef struct {
    char *listen_address;        /* NULL: all */
    guint16 listen_port;         /* 0: any */
    char **bootstrap;            /* never NULL, like the other lists */
    char **trackers;
    char **webseeds;
    char **allow;
    guint64 upload_limit;        /* bytes/s, 0: none */
    guint64 download_limit;
    gboolean dht, lsd, pex;
    gboolean tls;                /* a private swarm */
    char *seed;                  /* "always" */
} VirTorrentOptions;

void virTorrentOptionsFree(VirTorrentOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentOptions, virTorrentOptionsFree)

/* What holds where nothing is said: all ways of discovery within the own
 * network, no limits, nobody on the Internet. */
VirTorrentOptions *virTorrentOptionsNew(void);

/* Decodes an a{sv} with the keys of org.libvirt.Torrentd1.OpenPool.  NULL with
 * @error (VIR_TORRENT_POOL_ERROR_INVALID_OPTION) where a key is unknown, a type
 * wrong or a value cannot be meant. */
VirTorrentOptions *virTorrentOptionsParse(GVariant *dict, GError **error);

/* The same options as a{sv} (floating), for virTorrentOptionsParse(). */
GVariant *virTorrentOptionsFormat(const VirTorrentOptions *options);

gboolean virTorrentOptionsEqual(const VirTorrentOptions *a, const VirTorrentOptions *b);

/* @settings points into @options afterwards. */
void virTorrentOptionsToSettings(const VirTorrentOptions *options,
                                 VirTorrentEngineSettings *settings);

G_END_DECLS
