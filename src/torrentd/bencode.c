/*
 * bencode.c: a bounded reader of bencoded bytes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See bencode.h.  The open containers of the walk stand in an array of fixed
 * size; a dictionary remembers its last key there to prove the order.
 */

#include <config.h>

#include "bencode.h"

#include <string.h>

#include "i18n.h"

typedef struct {
    const guint8 *p, *end;
} virTorrentCursor;

typedef struct {
    gboolean dict;
    gboolean value_next;      /* dict: a key was read, its value comes */
    const guint8 *key;        /* dict: the last key */
    gsize key_len;
} virTorrentLevel;

static gboolean
virTorrentReadString(virTorrentCursor *c, VirTorrentBencode *out, const char **why)
{
    gsize len = 0;
    const guint8 *start = c->p;

    for (; c->p < c->end && g_ascii_isdigit(*c->p); c->p++) {
        /* more than what is left is wrong already: no overflow */
        if (len > (gsize)(c->end - start))
            break;
        len = len * 10 + (*c->p - '0');
    }
    if (c->p == c->end || *c->p != ':' || (*start == '0' && c->p - start > 1)) {
        *why = N_("a string has no proper length");
        return FALSE;
    }
    c->p++;
    if (len > (gsize)(c->end - c->p)) {
        *why = N_("it ends in the middle of a string");
        return FALSE;
    }
    out->type = 's';
    out->str = c->p;
    out->str_len = len;
    c->p += len;
    return TRUE;
}

static gboolean
virTorrentReadInt(virTorrentCursor *c, VirTorrentBencode *out, const char **why)
{
    gboolean negative;
    const guint8 *digits;
    guint64 n = 0;

    *why = N_("a number is not a number");
    c->p++;
    negative = c->p < c->end && *c->p == '-';
    if (negative)
        c->p++;
    for (digits = c->p; c->p < c->end && g_ascii_isdigit(*c->p); c->p++) {
        if (n > (G_MAXINT64 - 9) / 10)
            return FALSE;
        n = n * 10 + (*c->p - '0');
    }
    if (c->p == digits || c->p == c->end || *c->p != 'e' ||
        (*digits == '0' && (negative || c->p - digits > 1)))
        return FALSE;
    c->p++;
    out->type = 'i';
    out->integer = negative ? -(gint64)n : (gint64)n;
    return TRUE;
}

/* A key: after the one before it. */
static gboolean
virTorrentLevelKey(virTorrentLevel *level, const VirTorrentBencode *key, const char **why)
{
    int order = 1;

    if (level->key) {
        order = memcmp(key->str, level->key, MIN(key->str_len, level->key_len));
        if (order == 0)
            order = key->str_len > level->key_len ? 1 : -1;
    }
    if (order <= 0) {
        *why = N_("the keys of a dictionary are not in order");
        return FALSE;
    }
    level->key = key->str;
    level->key_len = key->str_len;
    level->value_next = TRUE;
    return TRUE;
}

/* One token inside @level (NULL: the outermost value). */
static gboolean
virTorrentReadToken(virTorrentCursor *c, virTorrentLevel *level,
                    VirTorrentBencode *out, const char **why)
{
    gboolean key = level && level->dict && !level->value_next;

    *why = N_("it ends too early");
    if (c->p == c->end)
        return FALSE;
    out->data = c->p;
    if (level && *c->p == 'e') {
        *why = N_("a key has no value");
        if (level->dict && level->value_next)
            return FALSE;
        out->type = 'e';
        c->p++;
        return TRUE;
    }
    if (g_ascii_isdigit(*c->p)) {
        if (!virTorrentReadString(c, out, why))
            return FALSE;
        if (key)
            return virTorrentLevelKey(level, out, why);
    } else {
        *why = N_("it is not bencoded");
        if (key)
            return FALSE;
        if (*c->p == 'i') {
            if (!virTorrentReadInt(c, out, why))
                return FALSE;
        } else if (*c->p == 'd' || *c->p == 'l') {
            out->type = *c->p++;
        } else {
            return FALSE;
        }
    }
    if (level)
        level->value_next = FALSE;
    return TRUE;
}

gboolean
virTorrentBencodeParse(const guint8 *data, gsize len,
                       VirTorrentBencode *value, const char **why)
{
    virTorrentLevel levels[VIR_TORRENT_BENCODE_DEPTH];
    virTorrentCursor c = { data, data + len };
    const char *ignored;
    guint depth = 0, tokens = 0;

    if (!why)
        why = &ignored;
    memset(value, 0, sizeof(*value));
    do {
        VirTorrentBencode token = { 0 };

        if (++tokens > VIR_TORRENT_BENCODE_TOKENS) {
            *why = N_("it has too many parts");
            return FALSE;
        }
        if (!virTorrentReadToken(&c, depth ? &levels[depth - 1] : NULL, &token, why))
            return FALSE;
        if (tokens == 1)
            *value = token;
        if (token.type == 'e') {
            depth--;
        } else if (token.type == 'd' || token.type == 'l') {
            if (depth == VIR_TORRENT_BENCODE_DEPTH) {
                *why = N_("it is nested too deeply");
                return FALSE;
            }
            levels[depth++] = (virTorrentLevel){ .dict = token.type == 'd' };
        }
    } while (depth > 0);
    value->len = c.p - data;
    return TRUE;
}

/* Walks the entries: the one at @p, FALSE at the dictionary's end. */
static gboolean
virTorrentBencodeEntry(const VirTorrentBencode *dict, const guint8 **p,
                       VirTorrentBencode *key, VirTorrentBencode *value)
{
    const guint8 *end = dict->data + dict->len - 1;

    if (*p >= end ||
        !virTorrentBencodeParse(*p, end - *p, key, NULL) ||
        !virTorrentBencodeParse(*p + key->len, end - *p - key->len, value, NULL))
        return FALSE;
    *p += key->len + value->len;
    return TRUE;
}

gboolean
virTorrentBencodeFind(const VirTorrentBencode *dict, const char *key,
                      VirTorrentBencode *value)
{
    const guint8 *p = dict->data + 1;
    VirTorrentBencode k;

    while (virTorrentBencodeEntry(dict, &p, &k, value)) {
        if (k.str_len == strlen(key) && memcmp(k.str, key, k.str_len) == 0)
            return TRUE;
    }
    return FALSE;
}

gboolean
virTorrentBencodeFirst(const VirTorrentBencode *dict, VirTorrentBencode *key,
                       VirTorrentBencode *value)
{
    const guint8 *p = dict->data + 1;

    return virTorrentBencodeEntry(dict, &p, key, value);
}

guint
virTorrentBencodeCount(const VirTorrentBencode *dict)
{
    const guint8 *p = dict->data + 1;
    VirTorrentBencode key, value;
    guint n = 0;

    while (virTorrentBencodeEntry(dict, &p, &key, &value))
        n++;
    return n;
}
