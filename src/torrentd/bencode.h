/*
 * bencode.h: a bounded reader of bencoded bytes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Strict as BEP 3 has it: no leading zeros, keys in order and unique.  Copies
 * nothing, allocates nothing, recurses nowhere.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

#define VIR_TORRENT_BENCODE_DEPTH 32
#define VIR_TORRENT_BENCODE_TOKENS 100000

typedef struct {
    char type;                /* 'd', 'l', 'i' or 's' */
    const guint8 *data;       /* the whole encoding */
    gsize len;
    const guint8 *str;        /* 's' */
    gsize str_len;
    gint64 integer;           /* 'i' */
} VirTorrentBencode;

/* Reads the one value that @data begins with; what follows it is not looked
 * at.  FALSE with @why set (marked for translation, not translated). */
gboolean virTorrentBencodeParse(const guint8 *data, gsize len,
                                VirTorrentBencode *value, const char **why);

/* On dictionaries that virTorrentBencodeParse() let pass. */
gboolean virTorrentBencodeFind(const VirTorrentBencode *dict, const char *key,
                               VirTorrentBencode *value);
gboolean virTorrentBencodeFirst(const VirTorrentBencode *dict, VirTorrentBencode *key,
                                VirTorrentBencode *value);
guint virTorrentBencodeCount(const VirTorrentBencode *dict);

G_END_DECLS
