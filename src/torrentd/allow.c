/*
 * allow.c: packets of hosts outside of <torrent:allow> do not reach us
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libtorrent's IP filter is for peers: it lets any host ask our DHT node, and looks at who
 * connects after it has accepted him.  So each socket that is listened on gets a
 * classic BPF program, and the kernel drops what it does not pass.  For UDP that needs no
 * rights.  For TCP it does since Linux 6.15: there libtorrent hangs up on who comes from
 * outside before a word was said.
 *
 * The program compares the source address in the IP header with one network after the
 * other.  libtorrent does not tell its sockets; they are those of this process whose local
 * port is listened on.
 */

#include <config.h>

#include "allow.h"

#include <dirent.h>
#include <errno.h>
#include <gio/gio.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where the source address is in the IP header. */
#define SOURCE_V4 12
#define SOURCE_V6 8

typedef struct {
    GArray *v4, *v6;             /* struct sock_filter */
} VirTorrentAllow;

static void
virTorrentAllowEmit(GArray *program, guint16 code, guint8 yes, guint8 no, guint32 k)
{
    struct sock_filter insn = { code, yes, no, k };

    g_array_append_val(program, insn);
}

/* Passes what is from @bytes/@bits, and goes on with what follows otherwise. */
static void
virTorrentAllowNetwork(GArray *program, const guint8 *bytes, guint bits, guint32 source)
{
    guint words = (bits + 31) / 32;
    guint i;

    for (i = 0; i < words; i++) {
        guint here = MIN(bits - 32 * i, 32);
        guint32 mask = here == 32 ? G_MAXUINT32 : ~(G_MAXUINT32 >> here);
        guint32 word;

        memcpy(&word, bytes + 4 * i, sizeof(word));
        virTorrentAllowEmit(program, BPF_LD | BPF_W | BPF_ABS, 0, 0, SKF_NET_OFF + source + 4 * i);
        virTorrentAllowEmit(program, BPF_ALU | BPF_AND | BPF_K, 0, 0, mask);
        /* to behind this network's "pass" */
        virTorrentAllowEmit(program, BPF_JMP | BPF_JEQ | BPF_K, 0, 3 * (words - 1 - i) + 1,
                            GUINT32_FROM_BE(word) & mask);
    }
    virTorrentAllowEmit(program, BPF_RET | BPF_K, 0, 0, G_MAXUINT32);
}

static void
virTorrentAllowCompile(VirTorrentAllow *programs, const char *const *allow)
{
    guint i;

    for (i = 0; i < VIR_TORRENT_ALLOW_MAX && allow[i]; i++) {
        g_autoptr(GInetAddressMask) mask = g_inet_address_mask_new_from_string(allow[i], NULL);
        GInetAddress *base = mask ? g_inet_address_mask_get_address(mask) : NULL;

        if (!base)
            continue;
        if (g_inet_address_get_family(base) == G_SOCKET_FAMILY_IPV4)
            virTorrentAllowNetwork(programs->v4, g_inet_address_to_bytes(base),
                                   g_inet_address_mask_get_length(mask), SOURCE_V4);
        else
            virTorrentAllowNetwork(programs->v6, g_inet_address_to_bytes(base),
                                   g_inet_address_mask_get_length(mask), SOURCE_V6);
    }
    virTorrentAllowEmit(programs->v4, BPF_RET | BPF_K, 0, 0, 0);
    virTorrentAllowEmit(programs->v6, BPF_RET | BPF_K, 0, 0, 0);
}

static gboolean
virTorrentAllowHasPort(const guint16 *ports, guint16 port)
{
    while (*ports && *ports != port)
        ports++;
    return *ports != 0;
}

/* The family of @fd where it is a socket that is listened on at one of @ports.  @type: of it. */
static int
virTorrentAllowFamily(int fd, const guint16 *ports, int *type)
{
    struct sockaddr_storage here = { 0 };
    const struct sockaddr_in *v4 = (const void *)&here;
    const struct sockaddr_in6 *v6 = (const void *)&here;
    socklen_t len = sizeof(here);
    int listens = 0;
    socklen_t int_len = sizeof(int);

    if (getsockname(fd, (struct sockaddr *)&here, &len) < 0 ||
        (here.ss_family != AF_INET && here.ss_family != AF_INET6) ||
        !virTorrentAllowHasPort(ports, ntohs(here.ss_family == AF_INET ? v4->sin_port : v6->sin6_port)) ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, type, &int_len) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &int_len) < 0)
        return AF_UNSPEC;
    return *type == SOCK_DGRAM || listens ? here.ss_family : AF_UNSPEC;
}

static gboolean
virTorrentAllowAttachOne(int fd, const GArray *program)
{
    struct sock_fprog prog = { program->len, (struct sock_filter *)(void *)program->data };

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0;
}

/* One that has none is as good. */
static gboolean
virTorrentAllowDetachOne(int fd)
{
    int unused = 0;

    return setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused)) == 0 || errno == ENOENT;
}

gboolean
virTorrentAllowAttach(const char *const *allow, const guint16 *ports)
{
    gboolean any = allow && *allow;
    VirTorrentAllow programs = {
        g_array_new(FALSE, FALSE, sizeof(struct sock_filter)),
        g_array_new(FALSE, FALSE, sizeof(struct sock_filter)),
    };
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    int err = dir ? 0 : errno;

    if (any)
        virTorrentAllowCompile(&programs, allow);
    while (dir && (entry = readdir(dir))) {
        guint64 fd;
        int family, type = 0;

        if (!g_ascii_string_to_unsigned(entry->d_name, 10, 0, G_MAXINT, &fd, NULL) ||
            (family = virTorrentAllowFamily(fd, ports, &type)) == AF_UNSPEC)
            continue;
        if ((any ? !virTorrentAllowAttachOne(fd, family == AF_INET ? programs.v4 : programs.v6)
             : !virTorrentAllowDetachOne(fd)) && !(type == SOCK_STREAM && errno == EPERM))
            err = errno;
    }
    if (dir)
        closedir(dir);
    g_array_unref(programs.v4);
    g_array_unref(programs.v6);
    errno = err;
    return err == 0;
}
