/*
 * engine.c: the parts of engine.h that every implementation shares
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include "engine.h"

GQuark
virTorrentEngineErrorQuark(void)
{
    return g_quark_from_static_string("vir-torrent-engine-error-quark");
}

void
virTorrentMetainfoFree(VirTorrentMetainfo *info)
{
    if (!info)
        return;
    g_free(info->name);
    g_free(info->format);
    g_free(info->key);
    g_free(info);
}
