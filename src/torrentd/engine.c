/*
 * engine.c: the parts of engine.h that every implementation shares
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include "engine-base.h"

#include <string.h>

#include "i18n.h"

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

gboolean
virTorrentHostParse(const char *text, char **host, guint16 *port)
{
    const char *colon = strrchr(text, ':');
    g_autofree char *name = NULL;
    gsize len;
    guint64 n;

    if (!colon || !g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &n, NULL))
        return FALSE;
    len = colon - text;
    if (*text == '[') {
        if (len < 4 || text[len - 1] != ']')
            return FALSE;
        name = g_strndup(text + 1, len - 2);
        if (!strchr(name, ':') || !g_hostname_is_ip_address(name))
            return FALSE;
    } else {
        name = g_strndup(text, len);
        if (!*name || strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "0123456789.-_") != len)
            return FALSE;
    }
    if (port)
        *port = n;
    if (host)
        *host = g_steal_pointer(&name);
    return TRUE;
}

gboolean
virTorrentAddressParse(const char *text, GInetAddress **address, guint16 *port)
{
    g_autofree char *host = NULL;
    g_autoptr(GInetAddress) addr = NULL;

    if (!virTorrentHostParse(text, &host, port))
        return FALSE;
    addr = g_inet_address_new_from_string(host);
    if (!addr)
        return FALSE;
    if (address)
        *address = g_steal_pointer(&addr);
    return TRUE;
}

static gboolean G_GNUC_PRINTF(2, 3)
virTorrentInvalidOption(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(VIR_TORRENT_ENGINE_ERROR,
                                    VIR_TORRENT_ENGINE_ERROR_INVALID_OPTION, format, args);
    va_end(args);
    return FALSE;
}

gboolean
virTorrentTrackerCheck(const char *url, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_NONE, NULL);
    const char *scheme = uri ? g_uri_get_scheme(uri) : "";
    const char *host = uri ? g_uri_get_host(uri) : NULL;

    if (host && *host && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0 ||
                          strcmp(scheme, "udp") == 0))
        return TRUE;
    return virTorrentInvalidOption(error, _("tracker '%s' is not an http, https or udp URL"), url);
}

gboolean
virTorrentWebSeedCheck(const char *url, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_NONE, NULL);
    const char *scheme = uri ? g_uri_get_scheme(uri) : "";
    const char *host = uri ? g_uri_get_host(uri) : NULL;

    if (host && *host && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0))
        return TRUE;
    return virTorrentInvalidOption(error, _("web seed '%s' is not an http or https URL"), url);
}

char *
virTorrentWebSeedUrl(const char *url, const char *name)
{
    g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);

    return g_strconcat(url, g_str_has_suffix(url, "/") ? escaped : NULL, NULL);
}

gboolean
virTorrentSettingsCheck(const VirTorrentEngineSettings *s, GError **error)
{
    gsize i;

    if (s->listen_address && !g_hostname_is_ip_address(s->listen_address))
        return virTorrentInvalidOption(error, _("listen address '%s' is not an IP address"),
                                       s->listen_address);
    for (i = 0; s->bootstrap && s->bootstrap[i]; i++) {
        if (!virTorrentHostParse(s->bootstrap[i], NULL, NULL))
            return virTorrentInvalidOption(error, _("bootstrap host '%s' is not HOST:PORT"),
                                           s->bootstrap[i]);
    }
    for (i = 0; s->trackers && s->trackers[i]; i++) {
        if (!virTorrentTrackerCheck(s->trackers[i], error))
            return FALSE;
    }
    for (i = 0; s->webseeds && s->webseeds[i]; i++) {
        if (!virTorrentWebSeedCheck(s->webseeds[i], error))
            return FALSE;
    }
    for (i = 0; s->allow && s->allow[i]; i++) {
        g_autoptr(GInetAddressMask) mask = g_inet_address_mask_new_from_string(s->allow[i], NULL);

        if (!mask)
            return virTorrentInvalidOption(error, _("allowed network '%s' is not in CIDR notation, such "
                                                    "as 10.0.0.0/16"), s->allow[i]);
    }
    return TRUE;
}

gboolean
virTorrentAddCheck(const char *id, GBytes *metainfo, const char *magnet, GBytes *resume,
                   const char *dir, const char *file, GError **error)
{
    if (metainfo && magnet)
        return virTorrentInvalidOption(error, _("'%s' is given by metainfo and by magnet link at "
                                                "once"), id);
    if (!metainfo && !magnet && !resume)
        return virTorrentInvalidOption(error, _("nothing says which torrent '%s' is"), id);
    if (!dir || !g_path_is_absolute(dir))
        return virTorrentInvalidOption(error, _("'%s' is not an absolute directory"), dir ? dir : "");
    if (!file || !*file || strchr(file, '/') || strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
        return virTorrentInvalidOption(error, _("'%s' is not a file name"), file ? file : "");
    return TRUE;
}
