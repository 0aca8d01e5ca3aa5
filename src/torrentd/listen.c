/*
 * listen.c: where an engine can listen
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libtorrent would do this itself, but it keeps DHT from addresses that it finds
 * on a network without a default route - a storage network has none - and
 * tells late and vaguely why it cannot listen.
 */

#include <config.h>

#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gio/gio.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls.h"

/* NULL: not one to listen on. */
static char *
virTorrentListenAddress(const struct ifaddrs *i)
{
    char text[INET6_ADDRSTRLEN];
    const void *raw;

    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
        return NULL;
    if (i->ifa_addr->sa_family == AF_INET) {
        raw = &((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr;
    } else if (i->ifa_addr->sa_family == AF_INET6) {
        raw = &((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr;
        if (IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)raw))
            return NULL;
    } else {
        return NULL;
    }
    if (!inet_ntop(i->ifa_addr->sa_family, raw, text, sizeof(text)))
        return NULL;
    return g_strdup(text);
}

static int
virTorrentCompare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

GStrv
virTorrentListenAddresses(void)
{
    g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);
    struct ifaddrs *list, *i;

    if (getifaddrs(&list) == 0) {
        for (i = list; i; i = i->ifa_next) {
            g_autofree char *address = virTorrentListenAddress(i);

            if (address && !g_ptr_array_find_with_equal_func(out, address, g_str_equal, NULL))
                g_ptr_array_add(out, g_steal_pointer(&address));
        }
        freeifaddrs(list);
    }
    if (out->len == 0)
        g_ptr_array_add(out, g_strdup("0.0.0.0"));
    g_ptr_array_sort(out, virTorrentCompare);
    g_ptr_array_add(out, NULL);
    return (GStrv)g_ptr_array_free(g_steal_pointer(&out), FALSE);
}

static int
virTorrentListenProbeOne(const char *address, guint16 port, int type)
{
    g_autoptr(GSocketAddress) where = g_inet_socket_address_new_from_string(address, port);
    struct sockaddr_storage native;
    const int one = 1;
    int fd, err = 0;

    if (!where || !g_socket_address_to_native(where, &native, sizeof(native), NULL))
        return EINVAL;
    fd = socket(native.ss_family, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    /* as libtorrent will: IPv6 alone, and past connections do not count */
    if ((native.ss_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
        (type == SOCK_STREAM &&
         setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0) ||
        bind(fd, (struct sockaddr *)&native, g_socket_address_get_native_size(where)) < 0 ||
        (type == SOCK_STREAM && listen(fd, 1) < 0))
        err = errno;
    close(fd);
    return err;
}

int
virTorrentListenProbe(const char *const *addresses, guint16 port, gboolean tls)
{
    int err = 0;

    for (; *addresses && err == 0; addresses++) {
        err = virTorrentListenProbeOne(*addresses, port, SOCK_STREAM);
        if (err == 0)
            err = virTorrentListenProbeOne(*addresses, port, SOCK_DGRAM);
        if (err == 0 && tls)
            err = virTorrentListenProbeOne(*addresses, VIR_TORRENT_TLS_PORT(port), SOCK_STREAM);
        if (err == 0 && tls)
            err = virTorrentListenProbeOne(*addresses, VIR_TORRENT_TLS_PORT(port), SOCK_DGRAM);
    }
    return err;
}

static void
virTorrentListenAppend(GString *out, const char *address, guint16 port, const char *flags)
{
    if (out->len > 0)
        g_string_append_c(out, ',');
    g_string_append_printf(out, strchr(address, ':') ? "[%s]:%u%s" : "%s:%u%s", address, port, flags);
}

char *
virTorrentListenFormat(const char *const *addresses, guint16 port, gboolean tls)
{
    GString *out = g_string_new(NULL);

    for (; *addresses; addresses++) {
        virTorrentListenAppend(out, *addresses, port, "");
        if (tls)
            virTorrentListenAppend(out, *addresses, VIR_TORRENT_TLS_PORT(port), "s");
    }
    return g_string_free(out, FALSE);
}
