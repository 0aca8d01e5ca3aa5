/*
 * magnet-parse.c: magnet links, taken apart and judged
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See metainfo.h.  BEP 9 with xt=urn:btih (v1) or urn:btmh (v2), or both of a
 * hybrid torrent; dn, tr, ws and x.pe.  Other parameters are left to others: a
 * link that names more than we know is no worse for that.
 */

#include <config.h>

#include "metainfo.h"

#include <string.h>

#include "engine-base.h"
#include "i18n.h"
#include "names.h"

#define MAGNET_MAX (64 * 1024)

static gboolean G_GNUC_PRINTF(2, 3)
virTorrentInvalidMagnet(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(VIR_TORRENT_ENGINE_ERROR,
                                    VIR_TORRENT_ENGINE_ERROR_INVALID_MAGNET, format, args);
    va_end(args);
    return FALSE;
}

void
virTorrentMagnetClear(VirTorrentMagnet *magnet)
{
    g_clear_pointer(&magnet->btih, g_free);
    g_clear_pointer(&magnet->btmh, g_free);
    g_clear_pointer(&magnet->name, g_free);
    g_clear_pointer(&magnet->peers, g_strfreev);
    g_clear_pointer(&magnet->trackers, g_strfreev);
    g_clear_pointer(&magnet->webseeds, g_strfreev);
}

/* What may be given more than once, while it is collected. */
typedef struct {
    GPtrArray *peers, *trackers, *webseeds;
} VirTorrentMagnetLists;

static gboolean
virTorrentIsHex(const char *s, gsize len)
{
    return strlen(s) == len && strspn(s, "0123456789abcdefABCDEF") == len;
}

/* RFC 4648 base32 of 20 bytes, as old links have it, to hex; NULL: it is none. */
static char *
virTorrentBase32ToHex(const char *s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    GString *out;
    guint bits = 0, acc = 0;

    if (strlen(s) != 32)
        return NULL;
    out = g_string_new(NULL);
    for (; *s; s++) {
        const char *d = strchr(digits, g_ascii_toupper(*s));

        if (!d) {
            g_string_free(out, TRUE);
            return NULL;
        }
        acc = (acc << 5 | (d - digits)) & 0xfff;
        bits += 5;
        if (bits >= 8) {
            bits -= 8;
            g_string_append_printf(out, "%02x", (acc >> bits) & 0xff);
        }
    }
    return g_string_free(out, FALSE);
}

static gboolean
virTorrentMagnetTopic(VirTorrentMagnet *magnet, const char *topic, GError **error)
{
    g_autofree char *hash = NULL;
    char **slot;

    if (g_ascii_strncasecmp(topic, "urn:btih:", 9) == 0) {
        topic += 9;
        slot = &magnet->btih;
        hash = virTorrentIsHex(topic, 40) ? g_ascii_strdown(topic, -1)
                                          : virTorrentBase32ToHex(topic);
        if (!hash)
            return virTorrentInvalidMagnet(error, _("the magnet link is malformed: 'urn:btih:' wants 40 "
                                                    "hexadecimal digits"));
    } else if (g_ascii_strncasecmp(topic, "urn:btmh:", 9) == 0) {
        topic += 9;
        slot = &magnet->btmh;
        if (!virTorrentIsHex(topic, 68) || strncmp(topic, "1220", 4) != 0)
            return virTorrentInvalidMagnet(error, _("the magnet link is malformed: 'urn:btmh:' wants "
                                                    "1220 and 64 hexadecimal digits"));
        hash = g_ascii_strdown(topic + 4, -1);
    } else {
        return TRUE;    /* some other network's name for it */
    }
    if (*slot && strcmp(*slot, hash) != 0)
        return virTorrentInvalidMagnet(error, _("the magnet link names more than one torrent"));
    g_free(*slot);
    *slot = g_steal_pointer(&hash);
    return TRUE;
}

static gboolean
virTorrentMagnetPeer(GPtrArray *peers, const char *peer, GError **error)
{
    g_autofree char *shown = g_utf8_make_valid(peer, -1);

    if (!virTorrentAddressParse(peer, NULL, NULL))
        return virTorrentInvalidMagnet(error, _("the magnet link is malformed: its peer '%s' is not an "
                                                "address and a port"), shown);
    g_ptr_array_add(peers, g_strdup(peer));
    return TRUE;
}

/* "xt", "xt.1", "xt.2" ... */
static gboolean
virTorrentMagnetKeyIs(const char *key, const char *name)
{
    gsize len = strlen(name);

    return strncmp(key, name, len) == 0 &&
        (key[len] == '\0' || (key[len] == '.' && g_ascii_isdigit(key[len + 1])));
}

static gboolean
virTorrentMagnetParameter(VirTorrentMagnet *magnet, VirTorrentMagnetLists *lists,
                          const char *key, const char *value, GError **error)
{
    if (virTorrentMagnetKeyIs(key, "xt"))
        return virTorrentMagnetTopic(magnet, value, error);
    if (strcmp(key, "x.pe") == 0)
        return virTorrentMagnetPeer(lists->peers, value, error);
    if (virTorrentMagnetKeyIs(key, "tr")) {
        if (virTorrentTrackerCheck(value, NULL))
            g_ptr_array_add(lists->trackers, g_strdup(value));
    } else if (virTorrentMagnetKeyIs(key, "ws")) {
        if (virTorrentWebSeedCheck(value, NULL))
            g_ptr_array_add(lists->webseeds, g_strdup(value));
    } else if (strcmp(key, "dn") == 0) {
        if (!virTorrentNameCheckRemote(value, error)) {
            g_prefix_error(error, "%s", _("the magnet link is refused: "));
            return FALSE;
        }
        g_free(magnet->name);
        magnet->name = g_strdup(value);
    }
    return TRUE;
}

/* key=value, percent-encoded, plus signs for spaces in dn as browsers write them. */
static gboolean
virTorrentMagnetPart(VirTorrentMagnet *magnet, VirTorrentMagnetLists *lists,
                     const char *part, GError **error)
{
    const char *equals = strchr(part, '=');
    g_autofree char *key = NULL;
    g_autofree char *encoded = NULL;
    g_autofree char *value = NULL;

    if (!*part || !equals)
        return TRUE;
    key = g_ascii_strdown(part, equals - part);
    encoded = g_strdup(equals + 1);
    if (strcmp(key, "dn") == 0)
        g_strdelimit(encoded, "+", ' ');    /* before decoding: %2B is a plus sign */
    value = g_uri_unescape_string(encoded, NULL);
    if (!value)
        return virTorrentInvalidMagnet(error, _("the magnet link is malformed: '%s' is not "
                                                "percent-encoded properly"), key);
    return virTorrentMagnetParameter(magnet, lists, key, value, error);
}

gboolean
virTorrentMagnetRead(const char *link, VirTorrentMagnet *parts, GError **error)
{
    g_auto(VirTorrentMagnet) magnet = { 0 };
    g_autoptr(GPtrArray) peers = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) trackers = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) webseeds = g_ptr_array_new_with_free_func(g_free);
    VirTorrentMagnetLists lists = { peers, trackers, webseeds };
    g_auto(GStrv) list = NULL;
    gsize i;

    if (!link || g_ascii_strncasecmp(link, "magnet:?", 8) != 0)
        return virTorrentInvalidMagnet(error, _("this is not a magnet link: it does not begin with "
                                                "'magnet:?'"));
    if (strlen(link) > MAGNET_MAX || !g_utf8_validate(link, -1, NULL))
        return virTorrentInvalidMagnet(error, _("the magnet link is malformed: it is too long or not "
                                                "text"));
    list = g_strsplit(link + 8, "&", -1);
    for (i = 0; list[i]; i++) {
        if (!virTorrentMagnetPart(&magnet, &lists, list[i], error))
            return FALSE;
    }
    if (!magnet.btih && !magnet.btmh)
        return virTorrentInvalidMagnet(error, _("the magnet link names no torrent: it has no "
                                                "'xt=urn:btmh:' or 'xt=urn:btih:'"));
    g_ptr_array_add(peers, NULL);
    g_ptr_array_add(trackers, NULL);
    g_ptr_array_add(webseeds, NULL);
    magnet.peers = (char **)g_ptr_array_free(g_steal_pointer(&peers), FALSE);
    magnet.trackers = (char **)g_ptr_array_free(g_steal_pointer(&trackers), FALSE);
    magnet.webseeds = (char **)g_ptr_array_free(g_steal_pointer(&webseeds), FALSE);
    *parts = magnet;
    memset(&magnet, 0, sizeof(magnet));
    return TRUE;
}

char *
virTorrentMagnetKey(const VirTorrentMagnet *magnet)
{
    return magnet->btmh ? g_strconcat("urn:btmh:1220", magnet->btmh, NULL)
                        : g_strconcat("urn:btih:", magnet->btih, NULL);
}

VirTorrentMetainfo *
virTorrentMagnetParse(const char *link, GError **error)
{
    g_auto(VirTorrentMagnet) magnet = { 0 };
    VirTorrentMetainfo *info;

    if (!virTorrentMagnetRead(link, &magnet, error))
        return NULL;
    info = g_new0(VirTorrentMetainfo, 1);
    info->name = g_steal_pointer(&magnet.name);
    info->key = virTorrentMagnetKey(&magnet);
    return info;
}
