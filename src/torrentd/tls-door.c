/*
 * tls-door.c: who stands at the TLS port and was not let in yet
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See tls-door.h.  libtorrent tells nobody of these connections, but they are descriptors of
 * this process whose local port is the one that is listened on.  They are shut down, not
 * closed: that is their owner's, who is told by it.
 */

#include <config.h>

#include "tls-door.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>

struct _VirTorrentTlsDoor {
    gint port;                   /* atomic */
    gint closing, empty;         /* atomic */
    GHashTable *admitted;        /* "10.0.0.5 1234" */
    GHashTable *waiting;         /* likewise -> since when, gint64 * */
};

VirTorrentTlsDoor *
virTorrentTlsDoorNew(void)
{
    VirTorrentTlsDoor *door = g_new0(VirTorrentTlsDoor, 1);

    door->admitted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    door->waiting = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return door;
}

void
virTorrentTlsDoorFree(VirTorrentTlsDoor *door)
{
    if (!door)
        return;
    g_hash_table_unref(door->admitted);
    g_hash_table_unref(door->waiting);
    g_free(door);
}

void
virTorrentTlsDoorSetPort(VirTorrentTlsDoor *door, guint16 port)
{
    g_atomic_int_set(&door->port, port);
}

void
virTorrentTlsDoorAdmit(VirTorrentTlsDoor *door, const char *address, guint16 port)
{
    g_hash_table_add(door->admitted, g_strdup_printf("%s %u", address, port));
}

void
virTorrentTlsDoorClose(VirTorrentTlsDoor *door)
{
    g_atomic_int_set(&door->empty, FALSE);
    g_atomic_int_set(&door->closing, TRUE);
}

gboolean
virTorrentTlsDoorIsEmpty(VirTorrentTlsDoor *door)
{
    return g_atomic_int_get(&door->empty);
}

static guint16
virTorrentTlsSockaddrFormat(const struct sockaddr_storage *ss, char *text)
{
    const struct sockaddr_in *v4 = (const void *)ss;
    const struct sockaddr_in6 *v6 = (const void *)ss;

    if (ss->ss_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, text, INET6_ADDRSTRLEN))
        return ntohs(v4->sin_port);
    if (ss->ss_family == AF_INET6 && inet_ntop(AF_INET6, &v6->sin6_addr, text, INET6_ADDRSTRLEN))
        return ntohs(v6->sin6_port);
    return 0;
}

/* Who is at the other end of @fd, if @fd came in at @port. */
static char *
virTorrentTlsDoorName(int fd, guint16 port)
{
    struct sockaddr_storage here = { 0 };
    struct sockaddr_storage there = { 0 };
    socklen_t here_len = sizeof(here);
    socklen_t there_len = sizeof(there);
    char text[INET6_ADDRSTRLEN];
    int type = 0;
    socklen_t type_len = sizeof(type);
    guint16 remote;

    if (getsockname(fd, (struct sockaddr *)&here, &here_len) < 0 ||
        virTorrentTlsSockaddrFormat(&here, text) != port ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 || type != SOCK_STREAM ||
        getpeername(fd, (struct sockaddr *)&there, &there_len) < 0 ||
        !(remote = virTorrentTlsSockaddrFormat(&there, text)))
        return NULL;
    return g_strdup_printf("%s %u", text, remote);
}

/* Whether who has been waiting since @since has to go. */
static gboolean
virTorrentTlsDoorIsLate(VirTorrentTlsDoor *door, guint waiting, gint64 since, gint64 now)
{
    return g_atomic_int_get(&door->closing) || waiting > VIR_TORRENT_TLS_DOOR_MAX ||
        now - since > VIR_TORRENT_TLS_DOOR_PATIENCE;
}

void
virTorrentTlsDoorTick(VirTorrentTlsDoor *door, gint64 now)
{
    g_autoptr(GHashTable) waiting = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GHashTable) admitted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    gboolean closing = g_atomic_int_get(&door->closing);
    guint16 port = g_atomic_int_get(&door->port);
    DIR *dir = port ? opendir("/proc/self/fd") : NULL;
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        g_autofree char *name = NULL;
        gint64 *since;
        guint64 fd;

        if (!g_ascii_string_to_unsigned(entry->d_name, 10, 0, G_MAXINT, &fd, NULL) ||
            !(name = virTorrentTlsDoorName(fd, port)))
            continue;
        if (g_hash_table_contains(door->admitted, name) && !closing) {
            g_hash_table_add(admitted, g_steal_pointer(&name));
            continue;
        }
        since = g_hash_table_lookup(door->waiting, name);
        since = g_memdup2(since ? since : &now, sizeof(*since));
        g_hash_table_insert(waiting, g_strdup(name), since);
        if (virTorrentTlsDoorIsLate(door, g_hash_table_size(waiting), *since, now))
            shutdown(fd, SHUT_RDWR);
    }
    if (dir)
        closedir(dir);
    g_atomic_int_set(&door->empty, closing && g_hash_table_size(waiting) == 0);
    /* those that are gone are forgotten */
    g_hash_table_unref(door->waiting);
    g_hash_table_unref(door->admitted);
    door->waiting = g_steal_pointer(&waiting);
    door->admitted = g_steal_pointer(&admitted);
}
