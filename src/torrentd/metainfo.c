/*
 * metainfo.c: .torrent files and magnet links, taken apart and judged
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See metainfo.h.  The bencode reader is a cursor over the bytes: it copies
 * nothing and recurses nowhere; one walk proves that the whole dictionary is
 * well-formed within the limits, after which values are looked up by further
 * walks.  Keys must be in order and unique, as BEP 3 demands: a key given twice
 * would let two programs read two different torrents from the same bytes.
 */

#include <config.h>

#include "metainfo.h"

#include <string.h>

#include "bencode.h"
#include "delta.h"
#include "i18n.h"
#include "merkle.h"
#include "names.h"
#include "tls.h"

#define HASH VIR_TORRENT_HASH_SIZE
#define FORMAT_MAX 32

static gboolean G_GNUC_PRINTF(2, 3)
virTorrentInvalid(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(VIR_TORRENT_ENGINE_ERROR,
                                    VIR_TORRENT_ENGINE_ERROR_INVALID_METAINFO, format, args);
    va_end(args);
    return FALSE;
}

void
virTorrentMetainfoRawClear(VirTorrentMetainfoRaw *raw)
{
    g_clear_pointer(&raw->info, virTorrentMetainfoFree);
}

static char *
virTorrentInfoKey(const VirTorrentBencode *info, gboolean v2)
{
    g_autofree char *sum = g_compute_checksum_for_data(v2 ? G_CHECKSUM_SHA256 : G_CHECKSUM_SHA1,
                                                       info->data, info->len);

    return g_strconcat(v2 ? "urn:btmh:1220" : "urn:btih:", sum, NULL);
}

/* A name from the metainfo, checked. */
static char *
virTorrentInfoName(const guint8 *data, gsize len, GError **error)
{
    g_autofree char *name = NULL;

    if (memchr(data, '\0', len)) {
        g_set_error_literal(error, VIR_TORRENT_ENGINE_ERROR,
                            VIR_TORRENT_ENGINE_ERROR_INVALID_NAME,
                            _("the name in the torrent contains a zero byte"));
        return NULL;
    }
    name = g_strndup((const char *)data, len);
    if (!virTorrentNameCheckRemote(name, error)) {
        g_prefix_error(error, "%s", _("the torrent is refused: "));
        return NULL;
    }
    return g_steal_pointer(&name);
}

/* What may stand beside a file's length: nothing that makes it other than a plain file. */
static gboolean
virTorrentInfoCheckAttributes(const VirTorrentBencode *file, GError **error)
{
    VirTorrentBencode value;

    if (virTorrentBencodeFind(file, "symlink path", &value))
        return virTorrentInvalid(error, _("the torrent holds a symbolic link"));
    if (!virTorrentBencodeFind(file, "attr", &value))
        return TRUE;
    if (value.type != 's')
        return virTorrentInvalid(error, _("the torrent is malformed: 'attr' is not a string"));
    if (memchr(value.str, 'l', value.str_len))
        return virTorrentInvalid(error, _("the torrent holds a symbolic link"));
    if (memchr(value.str, 'p', value.str_len))
        return virTorrentInvalid(error, _("the torrent holds a padding file"));
    return TRUE;
}

static gboolean
virTorrentInfoGetInt(const VirTorrentBencode *dict, const char *key,
                     gint64 min, gint64 max, gint64 *out, GError **error)
{
    VirTorrentBencode value;

    if (!virTorrentBencodeFind(dict, key, &value) || value.type != 'i')
        return virTorrentInvalid(error, _("the torrent is malformed: it has no number '%s'"), key);
    if (value.integer < min || value.integer > max)
        return virTorrentInvalid(error, _("the torrent is refused: its '%s' is %lld, outside of "
                                          "%lld to %lld"), key, (long long)value.integer,
                                 (long long)min, (long long)max);
    *out = value.integer;
    return TRUE;
}

static gboolean
virTorrentInfoReadV1(const VirTorrentBencode *info, VirTorrentMetainfoRaw *raw,
                     guint *pieces, GError **error)
{
    VirTorrentBencode value;
    gint64 size;

    if (virTorrentBencodeFind(info, "files", &value))
        return virTorrentInvalid(error, _("the torrent holds several files or a directory: "
                                          "a volume is exactly one file"));
    if (!virTorrentInfoGetInt(info, "length", 1, VIR_TORRENT_SIZE_MAX, &size, error) ||
        !virTorrentInfoCheckAttributes(info, error))
        return FALSE;
    if (!virTorrentBencodeFind(info, "pieces", &value) || value.type != 's' ||
        value.str_len % 20 != 0)
        return virTorrentInvalid(error, _("the torrent is malformed: its piece hashes are no "
                                          "list of SHA-1 sums"));
    raw->info->size = size;
    raw->sha1 = (const guint8 *)value.str;
    *pieces = value.str_len / 20;
    return TRUE;
}

/* BEP 52: file tree -> name -> "" -> {length, pieces root} */
static gboolean
virTorrentInfoReadV2(const VirTorrentBencode *info, VirTorrentMetainfoRaw *raw,
                     char **name, GError **error)
{
    VirTorrentBencode tree, entry, file, key, root;
    gint64 size;

    if (!virTorrentBencodeFind(info, "file tree", &tree) || tree.type != 'd' ||
        virTorrentBencodeCount(&tree) == 0)
        return virTorrentInvalid(error, _("the torrent is malformed: it has no file tree"));
    if (virTorrentBencodeCount(&tree) != 1)
        return virTorrentInvalid(error, _("the torrent holds several files: "
                                          "a volume is exactly one file"));
    if (!virTorrentBencodeFirst(&tree, &key, &entry) || entry.type != 'd' ||
        virTorrentBencodeCount(&entry) != 1 ||
        !virTorrentBencodeFind(&entry, "", &file) || file.type != 'd')
        return virTorrentInvalid(error, _("the torrent holds a directory: "
                                          "a volume is exactly one file"));
    *name = virTorrentInfoName(key.str, key.str_len, error);
    if (!*name ||
        !virTorrentInfoGetInt(&file, "length", 1, VIR_TORRENT_SIZE_MAX, &size, error) ||
        !virTorrentInfoCheckAttributes(&file, error))
        return FALSE;
    if (!virTorrentBencodeFind(&file, "pieces root", &root) || root.type != 's' ||
        root.str_len != HASH)
        return virTorrentInvalid(error, _("the torrent is malformed: its file has no root hash"));
    if (raw->info->size != 0 && raw->info->size != (guint64)size)
        return virTorrentInvalid(error, _("the torrent is malformed: it gives two lengths"));
    raw->info->size = size;
    raw->root = root.str;
    return TRUE;
}

gboolean
virTorrentFormatIsValid(const char *format, gsize len)
{
    gsize i;

    for (i = 0; i < len; i++) {
        if (!g_ascii_isalnum(format[i]) && format[i] != '-' && format[i] != '_')
            return FALSE;
    }
    return len > 0 && len <= FORMAT_MAX;
}

/* Ours: the format and capacity of the volume, and whether it is worth looking for holes. */
static gboolean
virTorrentInfoReadVolume(const VirTorrentBencode *info, VirTorrentMetainfoRaw *raw, GError **error)
{
    VirTorrentBencode dict, format, capacity, holes;

    if (!virTorrentBencodeFind(info, "torrentpool", &dict))
        return TRUE;
    if (dict.type != 'd')
        return virTorrentInvalid(error, _("the torrent is malformed: 'torrentpool' is not a "
                                          "dictionary"));
    if (virTorrentBencodeFind(&dict, "format", &format)) {
        if (format.type != 's' ||
            !virTorrentFormatIsValid((const char *)format.str, format.str_len))
            return virTorrentInvalid(error, _("the torrent is malformed: its volume format is not a "
                                              "word"));
        raw->info->format = g_strndup((const char *)format.str, format.str_len);
    }
    if (virTorrentBencodeFind(&dict, "capacity", &capacity)) {
        if (capacity.type != 'i' || capacity.integer < 0)
            return virTorrentInvalid(error, _("the torrent is malformed: its volume capacity is not a "
                                              "size"));
        raw->info->capacity = capacity.integer;
    }
    raw->holes = virTorrentBencodeFind(&dict, "holes", &holes) && holes.type == 'i' && holes.integer > 0;
    return TRUE;
}

/* libtorrent's: only who has a certificate of this authority gets it. */
static gboolean
virTorrentInfoReadAuthority(const VirTorrentBencode *info, VirTorrentMetainfoRaw *raw, GError **error)
{
    VirTorrentBencode value;

    if (!virTorrentBencodeFind(info, "ssl-cert", &value))
        return TRUE;
    if (value.type != 's' || value.str_len == 0 || value.str_len > VIR_TORRENT_TLS_AUTHORITY_MAX)
        return virTorrentInvalid(error, _("the torrent is malformed: its 'ssl-cert' is no certificate"));
    raw->info->tls = TRUE;
    return TRUE;
}

static gboolean
virTorrentInfoReadPieces(const VirTorrentBencode *info, VirTorrentMetainfoRaw *raw,
                         gboolean v1, guint v1_pieces, GError **error)
{
    gint64 length;
    guint64 pieces;

    if (!virTorrentInfoGetInt(info, "piece length", VIR_TORRENT_BLOCK_SIZE,
                              VIR_TORRENT_PIECE_LENGTH_MAX, &length, error))
        return FALSE;
    if (raw->root && (length & (length - 1)) != 0)
        return virTorrentInvalid(error, _("the torrent is malformed: its piece length %lld is not a "
                                          "power of two"), (long long)length);
    pieces = (raw->info->size + length - 1) / length;
    if (pieces > VIR_TORRENT_PIECES_MAX)
        return virTorrentInvalid(error, _("the torrent is refused: it has %llu pieces, more than "
                                          "%d"), (unsigned long long)pieces, VIR_TORRENT_PIECES_MAX);
    if (v1 && pieces != v1_pieces)
        return virTorrentInvalid(error, _("the torrent is malformed: it has %u piece hashes for %llu "
                                          "pieces"), v1_pieces, (unsigned long long)pieces);
    raw->info->piece_length = length;
    raw->pieces = pieces;
    return TRUE;
}

static gboolean
virTorrentInfoReadName(const VirTorrentBencode *info, VirTorrentMetainfoRaw *raw,
                       char **file, GError **error)
{
    static const char *const keys[] = { "name", "name.utf-8" };
    VirTorrentBencode value;
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *name = NULL;

        if (!virTorrentBencodeFind(info, keys[i], &value))
            continue;
        if (value.type != 's')
            return virTorrentInvalid(error, _("the torrent is malformed: its name is not a string"));
        name = virTorrentInfoName(value.str, value.str_len, error);
        if (!name)
            return FALSE;
        if (!raw->info->name)
            raw->info->name = g_steal_pointer(&name);
    }
    if (!raw->info->name)
        return virTorrentInvalid(error, _("the torrent is malformed: it has no name"));
    /* BEP 52: "name" is advisory, the file's own name counts */
    if (*file) {
        g_free(raw->info->name);
        raw->info->name = g_steal_pointer(file);
    }
    return TRUE;
}

static gboolean
virTorrentInfoRead(const VirTorrentBencode *info, VirTorrentMetainfoRaw *raw, GError **error)
{
    g_autofree char *file = NULL;
    VirTorrentBencode value;
    gint64 version = 1;
    guint pieces = 0;
    gboolean v1;

    raw->info = g_new0(VirTorrentMetainfo, 1);
    if (virTorrentBencodeFind(info, "meta version", &value) &&
        !virTorrentInfoGetInt(info, "meta version", 1, 2, &version, error))
        return FALSE;
    v1 = version == 1 || virTorrentBencodeFind(info, "pieces", &value);
    if (v1 && !virTorrentInfoReadV1(info, raw, &pieces, error))
        return FALSE;
    if (version == 2 && !virTorrentInfoReadV2(info, raw, &file, error))
        return FALSE;
    if (!virTorrentInfoReadName(info, raw, &file, error) ||
        !virTorrentInfoReadPieces(info, raw, v1, pieces, error) ||
        !virTorrentInfoReadAuthority(info, raw, error) ||
        !virTorrentInfoReadVolume(info, raw, error))
        return FALSE;
    raw->info->key = virTorrentInfoKey(info, version == 2);
    return TRUE;
}

/* The hashes of the pieces must be there and must make up the root. */
static gboolean
virTorrentMetainfoReadLayer(const VirTorrentBencode *top, VirTorrentMetainfoRaw *raw, GError **error)
{
    VirTorrentBencode layers, layer, key;
    g_autoptr(VirTorrentHasher) hasher = NULL;
    guint8 root[HASH];

    if (!raw->root || raw->pieces <= 1)
        return TRUE;
    if (!virTorrentBencodeFind(top, "piece layers", &layers) || layers.type != 'd' ||
        !virTorrentBencodeFirst(&layers, &key, &layer) || layer.type != 's' ||
        key.str_len != HASH || memcmp(key.str, raw->root, HASH) != 0 ||
        layer.str_len != (gsize)raw->pieces * HASH)
        return virTorrentInvalid(error, _("the torrent is malformed: its piece layers do not fit its "
                                          "file"));
    hasher = virTorrentHasherNew();
    if (!hasher)
        return virTorrentInvalid(error, _("the crypto library offers no SHA-256"));
    virTorrentHasherFileRoot(hasher, layer.str, raw->pieces, raw->info->piece_length, root);
    if (memcmp(root, raw->root, HASH) != 0)
        return virTorrentInvalid(error, _("the torrent is corrupt: its piece layers do not make up "
                                          "its root hash"));
    raw->layer = layer.str;
    return TRUE;
}

static gboolean
virTorrentBencodeOpen(const guint8 *data, gsize len, VirTorrentBencode *top, GError **error)
{
    const char *why = NULL;

    if (len > VIR_TORRENT_METAINFO_MAX)
        return virTorrentInvalid(error, _("the torrent is refused: it is longer than %d MiB"),
                                 VIR_TORRENT_METAINFO_MAX >> 20);
    if (len == 0 || data[0] != 'd')
        return virTorrentInvalid(error, _("this is not a .torrent file"));
    if (!virTorrentBencodeParse(data, len, top, &why))
        return virTorrentInvalid(error, _("the torrent is malformed: %s"), _(why));
    return TRUE;
}

gboolean
virTorrentMetainfoReadInfo(const guint8 *data, gsize len,
                           VirTorrentMetainfoRaw *out, GError **error)
{
    g_auto(VirTorrentMetainfoRaw) raw = { 0 };
    VirTorrentBencode info;

    if (!virTorrentBencodeOpen(data, len, &info, error))
        return FALSE;
    if (!virTorrentInfoRead(&info, &raw, error))
        return FALSE;
    raw.length = info.len;
    *out = raw;
    raw.info = NULL;
    return TRUE;
}

gboolean
virTorrentMetainfoRead(const guint8 *data, gsize len,
                       VirTorrentMetainfoRaw *out, GError **error)
{
    g_auto(VirTorrentMetainfoRaw) raw = { 0 };
    VirTorrentBencode top, info;

    if (!virTorrentBencodeOpen(data, len, &top, error))
        return FALSE;
    if (!virTorrentBencodeFind(&top, "info", &info) || info.type != 'd')
        return virTorrentInvalid(error, _("this is not a .torrent file: it has no info dictionary"));
    if (!virTorrentInfoRead(&info, &raw, error) ||
        !virTorrentMetainfoReadLayer(&top, &raw, error))
        return FALSE;
    raw.length = top.len;
    *out = raw;
    raw.info = NULL;
    return TRUE;
}

VirTorrentMetainfo *
virTorrentMetainfoParse(GBytes *metainfo, GError **error)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(metainfo, &len);
    VirTorrentMetainfoRaw raw = { 0 };

    if (!virTorrentMetainfoRead(data, len, &raw, error))
        return NULL;
    return raw.info;
}

guint32
virTorrentPieceLength(guint64 size)
{
    /* The larger the pieces, the later the first of them travel on: until each
     * of N hosts has one, the others wait, and N/2 in the number of pieces is
     * the part of all time that it takes.  The smaller they are, the more is told
     * about them: at 2048 to 4095 pieces (of 32 KiB or more) both stay below 1 %
     * for some ten hosts.  From 1 GiB on 256 KiB are small enough, and above
     * 2 GiB lists of 8192 pieces are long enough, up to 16 MiB a piece. */
    guint32 length = 32 * 1024;

    while (length < 256 * 1024 && size / length >= 4096)
        length *= 2;
    while (length < 16 * 1024 * 1024 && size / length >= 8192)
        length *= 2;
    /* beyond 128 GiB the number of pieces grows, up to what readers take */
    while (size / length >= VIR_TORRENT_PIECES_MAX)
        length *= 2;
    return length;
}

static void
virTorrentAppendString(GString *out, const void *data, gsize len)
{
    g_string_append_printf(out, "%" G_GSIZE_FORMAT ":", len);
    g_string_append_len(out, data, len);
}

static void
virTorrentAppendInt(GString *out, const char *key, guint64 value)
{
    virTorrentAppendString(out, key, strlen(key));
    g_string_append_printf(out, "i%" G_GUINT64_FORMAT "e", value);
}

GBytes *
virTorrentMetainfoWrite(const char *name, const char *format, guint64 capacity,
                        guint64 size, guint32 piece_length,
                        const guint8 *layer, guint pieces, GBytes *authority)
{
    g_autoptr(VirTorrentHasher) hasher = virTorrentHasherNew();
    g_autofree guint8 *zeros = virTorrentZeroPieces(size, piece_length, layer);
    GString *out = g_string_new("d4:infod9:file treed");
    guint8 root[HASH];

    virTorrentHasherFileRoot(hasher, layer, pieces, piece_length, root);
    virTorrentAppendString(out, name, strlen(name));
    g_string_append(out, "d0:d");
    virTorrentAppendInt(out, "length", size);
    g_string_append(out, "11:pieces root");
    virTorrentAppendString(out, root, HASH);
    g_string_append(out, "eee");
    virTorrentAppendInt(out, "meta version", 2);
    g_string_append(out, "4:name");
    virTorrentAppendString(out, name, strlen(name));
    virTorrentAppendInt(out, "piece length", piece_length);
    if (authority) {
        g_string_append(out, "8:ssl-cert");
        virTorrentAppendString(out, g_bytes_get_data(authority, NULL), g_bytes_get_size(authority));
    }
    if (capacity || format || zeros) {
        g_string_append(out, "11:torrentpoold");
        if (capacity)
            virTorrentAppendInt(out, "capacity", capacity);
        if (format) {
            g_string_append(out, "6:format");
            virTorrentAppendString(out, format, strlen(format));
        }
        if (zeros)
            virTorrentAppendInt(out, "holes", 1);
        g_string_append(out, "e");
    }
    g_string_append(out, "e12:piece layersd");
    if (pieces > 1) {
        virTorrentAppendString(out, root, HASH);
        virTorrentAppendString(out, layer, (gsize)pieces * HASH);
    }
    g_string_append(out, "ee");
    return g_string_free_to_bytes(out);
}
