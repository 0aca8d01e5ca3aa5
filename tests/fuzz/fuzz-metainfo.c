/*
 * fuzz-metainfo.c: any bytes as a .torrent file, and as an info dictionary
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * With libFuzzer: tests/sanitize.sh fuzz.  Linked with fuzz-replay.c instead,
 * it is a test that make check runs.
 *
 * Promise: an error, or a metainfo whose numbers hold together, whose name may
 * become a file's, and whose pointers lie within the bytes it was read from.
 */

#include <config.h>

#include "fuzz-replay.h"
#include "metainfo.h"
#include "names.h"

#define HASH32 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"


GPtrArray *
fuzzSeeds(void)
{
    static const char *const texts[] = {
        "d4:infod6:lengthi40000e4:name1:a12:piece lengthi16384e6:pieces60:"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaee",
        "d4:infod9:file treed5:a.isod0:d4:attr1:x6:lengthi5e11:pieces root32:" HASH32 "eee"
        "12:meta versioni2e4:name5:a.iso12:piece lengthi16384ee"
        "8:url-listl19:http://10.0.0.1/a/ee",
        "d4:infod5:filesld6:lengthi5e4:pathl1:aeed4:attr1:l6:lengthi5e4:pathl2:..1:be12:symlink pathl3:etceee"
        "4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
        "d9:file treed1:ad0:d6:lengthi5e11:pieces root32:" HASH32 "eee12:meta versioni2e4:name1:a"
        "12:piece lengthi16384e11:torrentpoold8:capacityi1048576e6:format5:qcow2ee",
    };
    GPtrArray *seeds = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    guint8 layer[5 * VIR_TORRENT_HASH_SIZE];
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(texts); i++)
        g_ptr_array_add(seeds, g_bytes_new_static(texts[i], strlen(texts[i])));
    memset(layer, 0x5a, sizeof(layer));
    g_ptr_array_add(seeds, virTorrentMetainfoWrite("debian.qcow2", "qcow2", 10 << 20,
                                                   4 * 65536 + 17, 65536, layer, 5, NULL));
    return seeds;
}


static void
fuzzInside(const guint8 *part, gsize part_len, const guint8 *data, gsize size)
{
    if (part) {
        g_assert_true(part >= data);
        g_assert_true(part + part_len <= data + size);
    }
}


static void
fuzzJudge(const VirTorrentMetainfoRaw *raw, const guint8 *data, gsize size, gboolean whole)
{
    const VirTorrentMetainfo *info = raw->info;

    g_assert_nonnull(info);
    g_assert_true(g_str_has_prefix(info->key, "urn:btmh:1220") || g_str_has_prefix(info->key, "urn:btih:"));
    if (info->name)
        g_assert_true(virTorrentNameCheckRemote(info->name, NULL));
    if (info->format)
        g_assert_true(virTorrentFormatIsValid(info->format, strlen(info->format)));

    g_assert_cmpuint(info->size, <=, VIR_TORRENT_SIZE_MAX);
    g_assert_cmpuint(info->piece_length, >=, 1);
    g_assert_cmpuint(info->piece_length, <=, VIR_TORRENT_PIECE_LENGTH_MAX);
    g_assert_cmpuint(raw->pieces, <=, VIR_TORRENT_PIECES_MAX);
    g_assert_cmpuint(raw->pieces, ==, (info->size + info->piece_length - 1) / info->piece_length);

    g_assert_cmpuint(raw->length, <=, size);
    fuzzInside(raw->root, VIR_TORRENT_HASH_SIZE, data, size);
    fuzzInside(raw->layer, (gsize)raw->pieces * VIR_TORRENT_HASH_SIZE, data, size);
    if (!whole)
        g_assert_null(raw->layer);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_auto(VirTorrentMetainfoRaw) raw = { 0 };
    g_auto(VirTorrentMetainfoRaw) again = { 0 };
    g_auto(VirTorrentMetainfoRaw) dict = { 0 };
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) dict_error = NULL;

    if (virTorrentMetainfoRead(data, size, &raw, &error)) {
        g_assert_no_error(error);
        fuzzJudge(&raw, data, size, TRUE);
        /* what follows the dictionary says nothing */
        g_assert_true(virTorrentMetainfoRead(data, raw.length, &again, NULL));
        g_assert_cmpstr(raw.info->key, ==, again.info->key);
    } else {
        g_assert_nonnull(error);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        g_assert_null(raw.info);
    }

    if (virTorrentMetainfoReadInfo(data, size, &dict, &dict_error))
        fuzzJudge(&dict, data, size, FALSE);
    else
        g_assert_nonnull(dict_error);
    return 0;
}
