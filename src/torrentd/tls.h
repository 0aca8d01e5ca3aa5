/*
 * tls.h: who belongs to a private swarm
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A host of a private swarm has a certificate that the operator's authority (CA)
 * signed.  They lie in one directory under the names that libvirt gives those of
 * its guests' daemons (/etc/pki/qemu):
 *
 *   ca-cert.pem      the authorities that are believed; the first one stands in what
 *                    is published here
 *   ca-crl.pem       what they revoked; may be missing
 *   server-cert.pem  this host's certificate, with those between it and the authority
 *   server-key.pem   its key, which nobody else may read
 */

#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

typedef struct _VirTorrentTls VirTorrentTls;

/* Whom peers connect to, when @port is what is told in a pool's XML: there, DHT
 * nodes are listened for. */
#define VIR_TORRENT_TLS_PORT(port) ((guint16)((port) + 1))

/* The longest certificate that a metainfo may have, bytes. */
#define VIR_TORRENT_TLS_AUTHORITY_MAX 16384

/* Reads what is in @dir.  NULL with @error (G_FILE_ERROR or G_TLS_ERROR), which names the file
 * that is wrong: one that is missing, a certificate that no authority signed for a host, that
 * has expired or is revoked, a key that is not its key or that everybody may read. */
VirTorrentTls *virTorrentTlsNew(const char *dir, GError **error);
VirTorrentTls *virTorrentTlsRef(VirTorrentTls *tls);
void virTorrentTlsUnref(VirTorrentTls *tls);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentTls, virTorrentTlsUnref)

/* The first authority's certificate, PEM, as a metainfo has it.  Any thread; g_bytes_unref() it. */
GBytes *virTorrentTlsGetAuthority(VirTorrentTls *tls);

/* Reads the directory again where it has changed; what is wrong is logged, and what was read
 * before stays in force.  The directory's owner calls it now and then, in one thread. */
void virTorrentTlsReload(VirTorrentTls *tls);

/* Another number after each change.  Any thread. */
guint virTorrentTlsGetSerial(VirTorrentTls *tls);

/* Makes @ctx (OpenSSL's SSL_CTX, which no other thread uses) show our certificate, and accept
 * nobody who has none.  FALSE where memory or OpenSSL fails.  Any thread. */
struct ssl_ctx_st;
gboolean virTorrentTlsApply(VirTorrentTls *tls, struct ssl_ctx_st *ctx);

/* What is asked for: an info dictionary by its hash. */
typedef struct {
    gboolean v2;
    guint8 hash[32];             /* SHA-256; of v1 torrents the first 20 bytes are SHA-1 */
} VirTorrentTlsName;

/* Asks one host for an info dictionary (BEP 9), which it gives those only whom it accepts;
 * blocks for VIR_TORRENT_TLS_PATIENCE at most.  @from: address to connect from, or NULL.
 * What is returned has the hash that was asked for, no more is known of it. */
#define VIR_TORRENT_TLS_PATIENCE (60 * G_USEC_PER_SEC)
GBytes *virTorrentTlsAsk(VirTorrentTls *tls, GInetSocketAddress *host, const char *from,
                         const VirTorrentTlsName *name, GCancellable *cancellable, GError **error);

/* Asks all hosts that it is told of until one has answered. */
typedef struct _VirTorrentTlsSearch VirTorrentTlsSearch;
typedef void (*VirTorrentTlsSearchFunc)(GBytes *dict, gpointer opaque);

/* @func is called at most once, in the thread-default main context of now, and not after
 * virTorrentTlsSearchFree(), which it may call. */
VirTorrentTlsSearch *virTorrentTlsSearchNew(VirTorrentTls *tls, const VirTorrentTlsName *name,
                                            const char *from, VirTorrentTlsSearchFunc func,
                                            gpointer opaque);
void virTorrentTlsSearchFree(VirTorrentTlsSearch *search);
/* "10.0.0.5:6882"; one that is known already is asked soon. */
void virTorrentTlsSearchAdd(VirTorrentTlsSearch *search, const char *peer);
/* To be called every now and then: hosts that did not answer are asked again. */
void virTorrentTlsSearchTick(VirTorrentTlsSearch *search);

G_END_DECLS
