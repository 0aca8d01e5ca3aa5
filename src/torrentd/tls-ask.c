/*
 * tls-ask.c: an info dictionary from a host of a private swarm
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libtorrent learns that a torrent is private from its info dictionary, and so asks for
 * the dictionary without TLS, which no private swarm answers.  So it is asked for
 * here: by BEP 10 and BEP 9 over a TLS connection whose server name is the
 * torrent's hash, which is where libtorrent's side looks for the torrent.
 *
 * Invariants: what a host sends is bounded before it is stored (messages, size,
 * number of messages, time), and is believed only where its hash is right.
 * A search's tasks touch nothing but their own VirTorrentTlsJob.
 */

#include <config.h>

#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bencode.h"
#include "engine-base.h"
#include "i18n.h"

#define SHA1_LEN 20
#define SHA256_LEN 32
#define HANDSHAKE_LEN 68
/* BEP 9 */
#define PART_LEN 16384
#define DICT_MAX (32 * 1024 * 1024)
/* A bitfield of a million pieces is the longest message that is no answer. */
#define MESSAGE_MAX (256 * 1024)
#define MESSAGES_MAX 100000
/* Parts that are asked for at once. */
#define PIPELINE 8
/* Our number for messages of ut_metadata; BEP 10's own. */
#define UT_METADATA 3
#define MSG_EXTENDED 20

typedef struct {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
    gint64 end;                  /* monotonic time until which all has to be over */
    GCancellable *cancellable;
    GError **error;
    /* of the host */
    int number;                  /* for ut_metadata; 0: not told */
    gsize size;                  /* of the dictionary */
    guint asked;                 /* parts */
    guint parts, got;
    guint8 *dict, *have;
} VirTorrentTlsHost;

static gboolean G_GNUC_PRINTF(2, 3)
virTorrentTlsHostFail(VirTorrentTlsHost *host, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    if (host->error && !*host->error)
        *host->error = g_error_new_valist(VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                                          format, ap);
    va_end(ap);
    return FALSE;
}

static void
virTorrentTlsHostClear(VirTorrentTlsHost *host)
{
    g_clear_pointer(&host->ssl, SSL_free);
    g_clear_pointer(&host->ctx, SSL_CTX_free);
    if (host->fd >= 0)
        close(host->fd);
    g_clear_pointer(&host->dict, g_free);
    g_clear_pointer(&host->have, g_free);
    ERR_clear_error();
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VirTorrentTlsHost, virTorrentTlsHostClear)

/* Waits for @events of the socket, in turns short enough to see a cancellation. */
static gboolean
virTorrentTlsHostWait(VirTorrentTlsHost *host, short events)
{
    struct pollfd poller = { .fd = host->fd, .events = events };

    while (!g_cancellable_is_cancelled(host->cancellable) && g_get_monotonic_time() < host->end) {
        int rc = poll(&poller, 1, 200);

        if (rc > 0)
            return TRUE;
        if (rc < 0 && errno != EINTR)
            return virTorrentTlsHostFail(host, "poll: %s", g_strerror(errno));
    }
    return virTorrentTlsHostFail(host, _("the host does not answer"));
}

/* Whether the same call is to be made once more. */
static gboolean
virTorrentTlsHostAgain(VirTorrentTlsHost *host, int rc)
{
    unsigned long code;

    switch (SSL_get_error(host->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return virTorrentTlsHostWait(host, POLLIN);
    case SSL_ERROR_WANT_WRITE:
        return virTorrentTlsHostWait(host, POLLOUT);
    default:
        code = ERR_peek_last_error();
        return virTorrentTlsHostFail(host, _("the host cannot be spoken to by TLS: %s"),
                                     code ? ERR_reason_error_string(code) : _("it hung up"));
    }
}

static gboolean
virTorrentTlsHostWrite(VirTorrentTlsHost *host, const void *data, gsize len)
{
    int rc;

    ERR_clear_error();
    while ((rc = SSL_write(host->ssl, data, len)) <= 0) {
        if (!virTorrentTlsHostAgain(host, rc))
            return FALSE;
    }
    return TRUE;
}

static gboolean
virTorrentTlsHostRead(VirTorrentTlsHost *host, guint8 *data, gsize len)
{
    while (len > 0) {
        int rc;

        ERR_clear_error();
        rc = SSL_read(host->ssl, data, len);
        if (rc > 0) {
            data += rc;
            len -= rc;
        } else if (!virTorrentTlsHostAgain(host, rc)) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
virTorrentTlsHostBind(VirTorrentTlsHost *host, const char *from)
{
    g_autoptr(GSocketAddress) address = g_inet_socket_address_new_from_string(from, 0);
    struct sockaddr_storage native;

    return address && g_socket_address_to_native(address, &native, sizeof(native), NULL) &&
        bind(host->fd, (struct sockaddr *)&native, g_socket_address_get_native_size(address)) == 0;
}

static gboolean
virTorrentTlsHostConnect(VirTorrentTlsHost *host, GInetSocketAddress *address, const char *from)
{
    GSocketAddress *to = G_SOCKET_ADDRESS(address);
    struct sockaddr_storage native;
    int err = 0;
    socklen_t len = sizeof(err);

    if (!g_socket_address_to_native(to, &native, sizeof(native), host->error))
        return FALSE;
    host->fd = socket(native.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (host->fd < 0 || (from && !virTorrentTlsHostBind(host, from)) ||
        (connect(host->fd, (struct sockaddr *)&native, g_socket_address_get_native_size(to)) < 0 &&
         errno != EINPROGRESS))
        return virTorrentTlsHostFail(host, "%s", g_strerror(errno));
    if (!virTorrentTlsHostWait(host, POLLOUT))
        return FALSE;
    if (getsockopt(host->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err)
        return virTorrentTlsHostFail(host, "%s", g_strerror(err ? err : errno));
    return TRUE;
}

static gboolean
virTorrentTlsHostSecure(VirTorrentTlsHost *host, VirTorrentTls *tls, const VirTorrentTlsName *name)
{
    char hex[2 * SHA1_LEN + 1];
    gsize i;
    int rc;

    for (i = 0; i < SHA1_LEN; i++)
        g_snprintf(hex + 2 * i, 3, "%02x", name->hash[i]);
    host->ctx = SSL_CTX_new(TLS_method());
    if (!host->ctx || !virTorrentTlsApply(tls, host->ctx) || !(host->ssl = SSL_new(host->ctx)) ||
        !SSL_set_tlsext_host_name(host->ssl, hex) || !SSL_set_fd(host->ssl, host->fd))
        return virTorrentTlsHostFail(host, _("OpenSSL fails"));
    ERR_clear_error();
    while ((rc = SSL_connect(host->ssl)) <= 0) {
        if (!virTorrentTlsHostAgain(host, rc))
            return FALSE;
    }
    return TRUE;
}

/* BEP 3, 10 and 52 */
static gboolean
virTorrentTlsHostShake(VirTorrentTlsHost *host, const VirTorrentTlsName *name)
{
    static const char protocol[20] = "\023BitTorrent protocol";
    guint8 mine[HANDSHAKE_LEN] = { 0 };
    guint8 theirs[HANDSHAKE_LEN];
    gsize i;

    memcpy(mine, protocol, sizeof(protocol));
    mine[20 + 5] = 0x10;
    if (name->v2)
        mine[20 + 7] = 0x10;
    memcpy(mine + 28, name->hash, SHA1_LEN);
    memcpy(mine + 48, "-TP0100-", 8);
    for (i = 56; i < sizeof(mine); i++)
        mine[i] = g_random_int_range(0, 256);
    if (!virTorrentTlsHostWrite(host, mine, sizeof(mine)) ||
        !virTorrentTlsHostRead(host, theirs, sizeof(theirs)))
        return FALSE;
    if (memcmp(theirs, protocol, sizeof(protocol)) != 0 || !(theirs[20 + 5] & 0x10) ||
        memcmp(theirs + 28, name->hash, SHA1_LEN) != 0)
        return virTorrentTlsHostFail(host, _("the host does not have this torrent"));
    return TRUE;
}

static gboolean
virTorrentTlsHostSend(VirTorrentTlsHost *host, guint8 number, const char *dict)
{
    g_autoptr(GByteArray) message = g_byte_array_new();
    guint32 len = GUINT32_TO_BE(strlen(dict) + 2);
    guint8 head[] = { MSG_EXTENDED, number };

    g_byte_array_append(message, (guint8 *)&len, sizeof(len));
    g_byte_array_append(message, head, sizeof(head));
    g_byte_array_append(message, (const guint8 *)dict, strlen(dict));
    return virTorrentTlsHostWrite(host, message->data, message->len);
}

static gboolean
virTorrentTlsHostRequest(VirTorrentTlsHost *host)
{
    while (host->asked < host->parts && host->asked < host->got + PIPELINE) {
        char dict[64];

        g_snprintf(dict, sizeof(dict), "d8:msg_typei0e5:piecei%uee", host->asked++);
        if (!virTorrentTlsHostSend(host, host->number, dict))
            return FALSE;
    }
    return TRUE;
}

static gboolean
virTorrentTlsFindInt(const VirTorrentBencode *dict, const char *key, gint64 min, gint64 max, gint64 *out)
{
    VirTorrentBencode value;

    if (!virTorrentBencodeFind(dict, key, &value) || value.type != 'i' ||
        value.integer < min || value.integer > max)
        return FALSE;
    *out = value.integer;
    return TRUE;
}

static gboolean
virTorrentTlsHostHello(VirTorrentTlsHost *host, const guint8 *data, gsize len)
{
    VirTorrentBencode dict, m;
    const char *why;
    gint64 number, size;

    if (host->number)
        return TRUE;
    if (!virTorrentBencodeParse(data, len, &dict, &why) || dict.type != 'd' ||
        !virTorrentBencodeFind(&dict, "m", &m) || m.type != 'd' ||
        !virTorrentTlsFindInt(&m, "ut_metadata", 1, 255, &number) ||
        !virTorrentTlsFindInt(&dict, "metadata_size", 1, DICT_MAX, &size))
        return virTorrentTlsHostFail(host, _("the host does not have the metainfo yet"));
    host->number = number;
    host->size = size;
    host->parts = (size + PART_LEN - 1) / PART_LEN;
    host->dict = g_malloc(size);
    host->have = g_malloc0(host->parts);
    return virTorrentTlsHostRequest(host);
}

static gboolean
virTorrentTlsHostPart(VirTorrentTlsHost *host, const guint8 *data, gsize len)
{
    VirTorrentBencode dict;
    const char *why;
    gint64 type, part;
    gsize want;

    if (!virTorrentBencodeParse(data, len, &dict, &why) || dict.type != 'd' ||
        !virTorrentTlsFindInt(&dict, "msg_type", 0, 255, &type))
        return virTorrentTlsHostFail(host, _("the host sends what is no answer"));
    if (type == 0)
        return TRUE;    /* asks us: we have nothing */
    if (type != 1 || !virTorrentTlsFindInt(&dict, "piece", 0, (gint64)host->parts - 1, &part))
        return virTorrentTlsHostFail(host, _("the host refuses to send the metainfo"));
    want = MIN(PART_LEN, host->size - part * PART_LEN);
    if (len - dict.len != want)
        return virTorrentTlsHostFail(host, _("the host sends what is no answer"));
    if (!host->have[part]) {
        memcpy(host->dict + part * PART_LEN, data + dict.len, want);
        host->have[part] = TRUE;
        host->got++;
    }
    return virTorrentTlsHostRequest(host);
}

/* Everything that comes, until the dictionary is complete. */
static gboolean
virTorrentTlsHostListen(VirTorrentTlsHost *host)
{
    g_autofree guint8 *message = g_malloc(MESSAGE_MAX);
    guint i;

    for (i = 0; i < MESSAGES_MAX; i++) {
        guint32 len;

        if (!virTorrentTlsHostRead(host, (guint8 *)&len, sizeof(len)))
            return FALSE;
        len = GUINT32_FROM_BE(len);
        if (len > MESSAGE_MAX)
            break;
        if (!virTorrentTlsHostRead(host, message, len))
            return FALSE;
        if (len < 2 || message[0] != MSG_EXTENDED)
            continue;
        if (message[1] == 0 && !virTorrentTlsHostHello(host, message + 2, len - 2))
            return FALSE;
        if (message[1] == UT_METADATA && host->number &&
            !virTorrentTlsHostPart(host, message + 2, len - 2))
            return FALSE;
        if (host->number && host->got == host->parts)
            return TRUE;
    }
    return virTorrentTlsHostFail(host, _("the host sends too much"));
}

static gboolean
virTorrentTlsHostIsRight(VirTorrentTlsHost *host, const VirTorrentTlsName *name)
{
    g_autoptr(GChecksum) sum = g_checksum_new(name->v2 ? G_CHECKSUM_SHA256 : G_CHECKSUM_SHA1);
    guint8 digest[SHA256_LEN];
    gsize len = sizeof(digest);

    g_checksum_update(sum, host->dict, host->size);
    g_checksum_get_digest(sum, digest, &len);
    return memcmp(digest, name->hash, len) == 0 ||
        virTorrentTlsHostFail(host, _("the host sends the metainfo of another torrent"));
}

GBytes *
virTorrentTlsAsk(VirTorrentTls *tls,
                 GInetSocketAddress *address,
                 const char *from,
                 const VirTorrentTlsName *name,
                 GCancellable *cancellable,
                 GError **error)
{
    g_auto(VirTorrentTlsHost) host = {
        .fd = -1, .cancellable = cancellable, .error = error,
        .end = g_get_monotonic_time() + VIR_TORRENT_TLS_PATIENCE,
    };

    if (!virTorrentTlsHostConnect(&host, address, from) || !virTorrentTlsHostSecure(&host, tls, name) ||
        !virTorrentTlsHostShake(&host, name) ||
        !virTorrentTlsHostSend(&host, 0, "d1:md11:ut_metadatai3eee") ||
        !virTorrentTlsHostListen(&host) || !virTorrentTlsHostIsRight(&host, name))
        return NULL;
    return g_bytes_new_take(g_steal_pointer(&host.dict), host.size);
}

/* --- a search ------------------------------------------------------------------------ */

/* Hosts that are asked at once, hosts that are remembered, and pauses, microseconds. */
#define BUSY_MAX 4
#define HOSTS_MAX 1000
#define PAUSE_MIN (G_USEC_PER_SEC / 2)
#define PAUSE_MAX (30 * G_USEC_PER_SEC)

typedef struct {
    char *text;
    GInetSocketAddress *address;
    gboolean busy;
    gint64 again;                /* when to ask it */
    gint64 pause;
} VirTorrentTlsPeer;

struct _VirTorrentTlsSearch {
    VirTorrentTls *tls;
    VirTorrentTlsName name;
    char *from;
    GPtrArray *peers;            /* VirTorrentTlsPeer */
    guint busy;
    GCancellable *cancellable;   /* cancelled: freed, or found */
    VirTorrentTlsSearchFunc func;
    gpointer opaque;
};

typedef struct {
    VirTorrentTlsSearch *search; /* the main thread's alone */
    VirTorrentTlsPeer *peer;     /* likewise */
    VirTorrentTls *tls;
    VirTorrentTlsName name;
    char *from;
    GInetSocketAddress *address;
} VirTorrentTlsJob;

static void
virTorrentTlsPeerFree(gpointer opaque)
{
    VirTorrentTlsPeer *peer = opaque;

    g_object_unref(peer->address);
    g_free(peer->text);
    g_free(peer);
}

static void
virTorrentTlsJobFree(gpointer opaque)
{
    VirTorrentTlsJob *job = opaque;

    virTorrentTlsUnref(job->tls);
    g_object_unref(job->address);
    g_free(job->from);
    g_free(job);
}

static void
virTorrentTlsJobRun(GTask *task, gpointer source G_GNUC_UNUSED, gpointer opaque, GCancellable *cancellable)
{
    VirTorrentTlsJob *job = opaque;
    GError *err = NULL;
    GBytes *dict = virTorrentTlsAsk(job->tls, job->address, job->from, &job->name, cancellable, &err);

    if (dict)
        g_task_return_pointer(task, dict, (GDestroyNotify)g_bytes_unref);
    else
        g_task_return_error(task, err);
}

static void
virTorrentTlsJobDone(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer opaque G_GNUC_UNUSED)
{
    VirTorrentTlsJob *job = g_task_get_task_data(G_TASK(result));
    GCancellable *cancellable = g_task_get_cancellable(G_TASK(result));
    gboolean over = g_cancellable_is_cancelled(cancellable);
    g_autoptr(GError) err = NULL;
    g_autoptr(GBytes) dict = g_task_propagate_pointer(G_TASK(result), &err);

    if (over)
        return;     /* the search may be gone */
    job->search->busy--;
    job->peer->busy = FALSE;
    if (dict) {
        g_cancellable_cancel(cancellable);
        job->search->func(dict, job->search->opaque);
        return;
    }
    g_info("Metainfo from %s: %s", job->peer->text, err->message);
    job->peer->again = g_get_monotonic_time() + job->peer->pause;
    job->peer->pause = MIN(job->peer->pause * 2, PAUSE_MAX);
    virTorrentTlsSearchTick(job->search);
}

static void
virTorrentTlsSearchAsk(VirTorrentTlsSearch *search, VirTorrentTlsPeer *peer)
{
    g_autoptr(GTask) task = g_task_new(NULL, search->cancellable, virTorrentTlsJobDone, NULL);
    VirTorrentTlsJob *job = g_new0(VirTorrentTlsJob, 1);

    job->search = search;
    job->peer = peer;
    job->tls = virTorrentTlsRef(search->tls);
    job->name = search->name;
    job->from = g_strdup(search->from);
    job->address = g_object_ref(peer->address);
    peer->busy = TRUE;
    search->busy++;
    g_task_set_task_data(task, job, virTorrentTlsJobFree);
    g_task_set_check_cancellable(task, FALSE);
    g_task_run_in_thread(task, virTorrentTlsJobRun);
}

VirTorrentTlsSearch *
virTorrentTlsSearchNew(VirTorrentTls *tls,
                       const VirTorrentTlsName *name,
                       const char *from,
                       VirTorrentTlsSearchFunc func,
                       gpointer opaque)
{
    VirTorrentTlsSearch *search = g_new0(VirTorrentTlsSearch, 1);

    search->tls = virTorrentTlsRef(tls);
    search->name = *name;
    search->from = g_strdup(from);
    search->peers = g_ptr_array_new_with_free_func(virTorrentTlsPeerFree);
    search->cancellable = g_cancellable_new();
    search->func = func;
    search->opaque = opaque;
    return search;
}

void
virTorrentTlsSearchFree(VirTorrentTlsSearch *search)
{
    if (!search)
        return;
    g_cancellable_cancel(search->cancellable);
    g_object_unref(search->cancellable);
    g_ptr_array_unref(search->peers);
    virTorrentTlsUnref(search->tls);
    g_free(search->from);
    g_free(search);
}

void
virTorrentTlsSearchTick(VirTorrentTlsSearch *search)
{
    gint64 now = g_get_monotonic_time();
    guint i;

    if (g_cancellable_is_cancelled(search->cancellable))
        return;
    for (i = 0; i < search->peers->len && search->busy < BUSY_MAX; i++) {
        VirTorrentTlsPeer *peer = g_ptr_array_index(search->peers, i);

        if (!peer->busy && now >= peer->again)
            virTorrentTlsSearchAsk(search, peer);
    }
}

void
virTorrentTlsSearchAdd(VirTorrentTlsSearch *search, const char *text)
{
    g_autoptr(GInetAddress) address = NULL;
    VirTorrentTlsPeer *peer;
    guint16 port;
    guint i;

    for (i = 0; i < search->peers->len; i++) {
        peer = g_ptr_array_index(search->peers, i);
        if (strcmp(peer->text, text) == 0) {
            peer->pause = PAUSE_MIN;
            return;
        }
    }
    if (search->peers->len >= HOSTS_MAX || !virTorrentAddressParse(text, &address, &port))
        return;
    peer = g_new0(VirTorrentTlsPeer, 1);
    peer->text = g_strdup(text);
    peer->address = G_INET_SOCKET_ADDRESS(g_inet_socket_address_new(address, port));
    peer->pause = PAUSE_MIN;
    g_ptr_array_add(search->peers, peer);
    virTorrentTlsSearchTick(search);
}
