/*
 * magnet.c: magnet links that lead back to this host
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A link carries this host as a peer (x.pe, BEP 9), so that whoever gets it
 * needs neither a tracker nor a DHT to begin.  Pure functions but for
 * getifaddrs().
 */

#include <config.h>

#include "magnet.h"

#include <gio/gio.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#define MAX_PEERS 4

static char *
virTorrentMagnetPeer(const char *address, guint16 port)
{
    return g_strdup_printf(strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, (guint) port);
}

/* NULL for what is no IP address. */
static GInetAddress *
virTorrentMagnetAddress(const struct sockaddr *sa)
{
    if (sa && sa->sa_family == AF_INET)
        return g_inet_address_new_from_bytes(
            (const guint8 *) &((const struct sockaddr_in *) (const void *) sa)->sin_addr,
            G_SOCKET_FAMILY_IPV4);
    if (sa && sa->sa_family == AF_INET6)
        return g_inet_address_new_from_bytes(
            (const guint8 *) &((const struct sockaddr_in6 *) (const void *) sa)->sin6_addr,
            G_SOCKET_FAMILY_IPV6);
    return NULL;
}

static void
virTorrentMagnetCollect(const struct ifaddrs *list,
                        gboolean loopback,
                        guint16 port,
                        GPtrArray *peers)
{
    const struct ifaddrs *ifa;

    for (ifa = list; ifa && peers->len < MAX_PEERS; ifa = ifa->ifa_next) {
        g_autoptr(GInetAddress) address = virTorrentMagnetAddress(ifa->ifa_addr);
        g_autofree char *text = NULL;

        if (!address || !(ifa->ifa_flags & IFF_UP) ||
            g_inet_address_get_is_link_local(address) ||
            g_inet_address_get_is_loopback(address) != loopback)
            continue;
        text = g_inet_address_to_string(address);
        g_ptr_array_add(peers, virTorrentMagnetPeer(text, port));
    }
}

GStrv
virTorrentMagnetPeers(const char *listen, guint16 port)
{
    GPtrArray *peers = g_ptr_array_new();
    g_autoptr(GInetAddress) address = listen ? g_inet_address_new_from_string(listen) : NULL;
    struct ifaddrs *list = NULL;

    if (port && address && !g_inet_address_get_is_any(address)) {
        g_ptr_array_add(peers, virTorrentMagnetPeer(listen, port));
    } else if (port && getifaddrs(&list) == 0) {
        virTorrentMagnetCollect(list, FALSE, port, peers);
        if (peers->len == 0)
            virTorrentMagnetCollect(list, TRUE, port, peers);
        freeifaddrs(list);
    }
    g_ptr_array_add(peers, NULL);
    return (GStrv) g_ptr_array_free(peers, FALSE);
}

static void
virTorrentMagnetAppend(GString *out, const char *key, const char *value)
{
    g_string_append_printf(out, "&%s=", key);
    g_string_append_uri_escaped(out, value, ":[]", FALSE);
}

char *
virTorrentMagnetFormat(const char *key,
                       const char *name,
                       guint64 size,
                       const char *const *peers,
                       const char *const *trackers,
                       const char *const *webseeds)
{
    GString *out = g_string_new("magnet:?xt=");

    g_string_append(out, key);
    if (name)
        virTorrentMagnetAppend(out, "dn", name);
    if (size)
        g_string_append_printf(out, "&xl=%" G_GUINT64_FORMAT, size);
    for (; peers && *peers; peers++)
        virTorrentMagnetAppend(out, "x.pe", *peers);
    for (; trackers && *trackers; trackers++)
        virTorrentMagnetAppend(out, "tr", *trackers);
    for (; webseeds && *webseeds; webseeds++)
        virTorrentMagnetAppend(out, "ws", *webseeds);
    return g_string_free(out, FALSE);
}

GStrv
virTorrentMagnetGetPeers(const char *magnet)
{
    GPtrArray *peers = g_ptr_array_new();
    const char *query = strchr(magnet, '?');
    g_auto(GStrv) parts = g_strsplit(query ? query + 1 : "", "&", -1);
    guint i;

    for (i = 0; parts[i] && peers->len < 64; i++) {
        char *peer;

        if (!g_str_has_prefix(parts[i], "x.pe="))
            continue;
        peer = g_uri_unescape_string(parts[i] + strlen("x.pe="), NULL);
        if (peer)
            g_ptr_array_add(peers, peer);
    }
    g_ptr_array_add(peers, NULL);
    return (GStrv) g_ptr_array_free(peers, FALSE);
}
