/*
 * tls.c: who belongs to a private swarm
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See tls.h.  libtorrent would trust the certificate in the torrent itself, and
 * only hosts whose name is the torrent's.  Here the directory says whom to trust,
 * and any host of the operator may have any master: what a stranger writes into a
 * torrent makes nobody trusted, an authority can be replaced by a newer one without
 * a new info-hash (as long as ca-cert.pem has both), and libvirt's certificates
 * will do as they are.
 *
 * Sessions are not resumed: who comes back is looked at again, since his
 * certificate may have been revoked.
 *
 * Locks: 'lock' covers what is replaced by a reload; 'serial' is atomic.
 */

#include <config.h>

#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>

#include "i18n.h"

typedef enum {
    VIR_TORRENT_TLS_CA,
    VIR_TORRENT_TLS_CRL,
    VIR_TORRENT_TLS_CERT,
    VIR_TORRENT_TLS_KEY,
    VIR_TORRENT_TLS_LAST
} VirTorrentTlsFile;

static const char *const fileNames[VIR_TORRENT_TLS_LAST] = {
    "ca-cert.pem", "ca-crl.pem", "server-cert.pem", "server-key.pem",
};

/* What the files say. */
typedef struct {
    X509_STORE *store;
    X509 *cert;
    STACK_OF(X509) *chain;
    EVP_PKEY *key;
    GBytes *authority;
} VirTorrentTlsContent;

struct _VirTorrentTls {
    gatomicrefcount refs;
    char *dir;
    guint serial;
    GMutex lock;
    VirTorrentTlsContent content;
    struct stat seen[VIR_TORRENT_TLS_LAST];
    gboolean expired;            /* it was said */
};

static void
virTorrentTlsContentClear(VirTorrentTlsContent *content)
{
    g_clear_pointer(&content->store, X509_STORE_free);
    g_clear_pointer(&content->cert, X509_free);
    if (content->chain)
        sk_X509_pop_free(content->chain, X509_free);
    content->chain = NULL;
    g_clear_pointer(&content->key, EVP_PKEY_free);
    g_clear_pointer(&content->authority, g_bytes_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VirTorrentTlsContent, virTorrentTlsContentClear)

static gboolean G_GNUC_PRINTF(2, 3)
virTorrentTlsFail(GError **error, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    if (error)
        *error = g_error_new_valist(G_TLS_ERROR, G_TLS_ERROR_BAD_CERTIFICATE, format, ap);
    va_end(ap);
    ERR_clear_error();
    return FALSE;
}

static char *
virTorrentTlsPath(const char *dir, VirTorrentTlsFile file)
{
    return g_build_filename(dir, fileNames[file], NULL);
}

/* The file in memory.  NULL without @error: it is missing, and may be. */
static BIO *
virTorrentTlsRead(const char *dir, VirTorrentTlsFile file, GBytes **content, GError **error)
{
    g_autofree char *path = virTorrentTlsPath(dir, file);
    g_autoptr(GError) err = NULL;
    char *text;
    gsize len;

    if (!g_file_get_contents(path, &text, &len, &err)) {
        if (file != VIR_TORRENT_TLS_CRL || !g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            g_propagate_prefixed_error(error, g_steal_pointer(&err), "%s",
                                       _("a private swarm needs certificates: "));
        return NULL;
    }
    *content = g_bytes_new_take(text, len);
    return BIO_new_mem_buf(text, (int)MIN(len, G_MAXINT));
}

/* The certificate as text of its own, without what may stand around it in the file. */
static GBytes *
virTorrentTlsFormat(X509 *cert)
{
    BIO *out = BIO_new(BIO_s_mem());
    GBytes *bytes = NULL;
    char *data;

    if (PEM_write_bio_X509(out, cert)) {
        long len = BIO_get_mem_data(out, &data);

        bytes = g_bytes_new(data, len);
    }
    BIO_free(out);
    return bytes;
}

static gboolean
virTorrentTlsReadAuthorities(VirTorrentTlsContent *content, const char *dir, GError **error)
{
    g_autoptr(GBytes) text = NULL;
    BIO *in = virTorrentTlsRead(dir, VIR_TORRENT_TLS_CA, &text, error);
    X509 *cert;

    if (!in)
        return FALSE;
    content->store = X509_STORE_new();
    while ((cert = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
        if (!content->authority)
            content->authority = virTorrentTlsFormat(cert);
        X509_STORE_add_cert(content->store, cert);
        X509_free(cert);
    }
    ERR_clear_error();
    BIO_free(in);
    if (!content->authority || g_bytes_get_size(content->authority) > VIR_TORRENT_TLS_AUTHORITY_MAX)
        return virTorrentTlsFail(error, _("'%s/%s' holds no certificate of an authority in PEM format"),
                                 dir, fileNames[VIR_TORRENT_TLS_CA]);
    return TRUE;
}

static gboolean
virTorrentTlsReadRevoked(VirTorrentTlsContent *content, const char *dir, GError **error)
{
    g_autoptr(GBytes) text = NULL;
    g_autoptr(GError) err = NULL;
    BIO *in = virTorrentTlsRead(dir, VIR_TORRENT_TLS_CRL, &text, &err);
    X509_CRL *crl;
    guint n;

    if (err) {
        g_propagate_error(error, g_steal_pointer(&err));
        return FALSE;
    }
    if (!in)
        return TRUE;
    for (n = 0; (crl = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL)); n++) {
        X509_STORE_add_crl(content->store, crl);
        X509_CRL_free(crl);
    }
    ERR_clear_error();
    BIO_free(in);
    if (n == 0)
        return virTorrentTlsFail(error, _("'%s/%s' holds no list of revoked certificates in PEM format"),
                                 dir, fileNames[VIR_TORRENT_TLS_CRL]);
    /* of the store, not of a context: it holds for connections that a context is given to late */
    X509_STORE_set_flags(content->store, X509_V_FLAG_CRL_CHECK);
    return TRUE;
}

static gboolean
virTorrentTlsReadCertificate(VirTorrentTlsContent *content, const char *dir, GError **error)
{
    g_autoptr(GBytes) text = NULL;
    BIO *in = virTorrentTlsRead(dir, VIR_TORRENT_TLS_CERT, &text, error);
    X509 *cert;

    if (!in)
        return FALSE;
    content->cert = PEM_read_bio_X509(in, NULL, NULL, NULL);
    content->chain = sk_X509_new_null();
    while (content->cert && (cert = PEM_read_bio_X509(in, NULL, NULL, NULL)))
        sk_X509_push(content->chain, cert);
    ERR_clear_error();
    BIO_free(in);
    if (!content->cert)
        return virTorrentTlsFail(error, _("'%s/%s' holds no certificate in PEM format"), dir,
                                 fileNames[VIR_TORRENT_TLS_CERT]);
    return TRUE;
}

/* A passphrase cannot be asked for. */
static int
virTorrentTlsNoPassphrase(char *buf G_GNUC_UNUSED,
                          int size G_GNUC_UNUSED,
                          int writing G_GNUC_UNUSED,
                          void *opaque G_GNUC_UNUSED)
{
    return -1;
}

static gboolean
virTorrentTlsReadKey(VirTorrentTlsContent *content, const char *dir, GError **error)
{
    g_autofree char *path = virTorrentTlsPath(dir, VIR_TORRENT_TLS_KEY);
    g_autoptr(GBytes) text = NULL;
    BIO *in = virTorrentTlsRead(dir, VIR_TORRENT_TLS_KEY, &text, error);
    struct stat st;

    if (!in)
        return FALSE;
    content->key = PEM_read_bio_PrivateKey(in, NULL, virTorrentTlsNoPassphrase, NULL);
    ERR_clear_error();
    BIO_free(in);
    if (stat(path, &st) == 0 && (st.st_mode & 0007))
        return virTorrentTlsFail(error, _("the key '%s' can be read by everybody on this host; take that "
                                          "away (chmod o-rwx)"), path);
    if (!content->key)
        return virTorrentTlsFail(error, _("'%s' holds no key in PEM format without a passphrase"), path);
    if (!X509_check_private_key(content->cert, content->key))
        return virTorrentTlsFail(error, _("'%s' is not the key of the certificate '%s'"), path,
                                 fileNames[VIR_TORRENT_TLS_CERT]);
    return TRUE;
}

/* Others will look at our certificate like this, when they call and when they are called. */
static gboolean
virTorrentTlsVerify(const VirTorrentTlsContent *content, const char *dir, GError **error)
{
    static const int purposes[] = { X509_PURPOSE_SSL_CLIENT, X509_PURPOSE_SSL_SERVER };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(purposes); i++) {
        X509_STORE_CTX *ctx = X509_STORE_CTX_new();
        gboolean ok = X509_STORE_CTX_init(ctx, content->store, content->cert, content->chain) &&
            X509_STORE_CTX_set_purpose(ctx, purposes[i]) &&
            X509_verify_cert(ctx) == 1;
        int why = X509_STORE_CTX_get_error(ctx);

        X509_STORE_CTX_free(ctx);
        if (!ok)
            return virTorrentTlsFail(error, _("other hosts would refuse the certificate '%s/%s': %s"), dir,
                                     fileNames[VIR_TORRENT_TLS_CERT],
                                     X509_verify_cert_error_string(why));
    }
    return TRUE;
}

static gboolean
virTorrentTlsLoad(VirTorrentTlsContent *content, const char *dir, GError **error)
{
    return virTorrentTlsReadAuthorities(content, dir, error) &&
        virTorrentTlsReadRevoked(content, dir, error) &&
        virTorrentTlsReadCertificate(content, dir, error) &&
        virTorrentTlsReadKey(content, dir, error) &&
        virTorrentTlsVerify(content, dir, error);
}

static void
virTorrentTlsLook(const char *dir, struct stat *seen)
{
    int i;

    for (i = 0; i < VIR_TORRENT_TLS_LAST; i++) {
        g_autofree char *path = virTorrentTlsPath(dir, i);

        if (stat(path, &seen[i]) < 0)
            memset(&seen[i], 0, sizeof(seen[i]));
    }
}

static gboolean
virTorrentTlsSame(const struct stat *a, const struct stat *b)
{
    int i;

    for (i = 0; i < VIR_TORRENT_TLS_LAST; i++) {
        if (a[i].st_dev != b[i].st_dev || a[i].st_ino != b[i].st_ino || a[i].st_size != b[i].st_size ||
            a[i].st_mode != b[i].st_mode ||
            a[i].st_ctim.tv_sec != b[i].st_ctim.tv_sec || a[i].st_ctim.tv_nsec != b[i].st_ctim.tv_nsec)
            return FALSE;
    }
    return TRUE;
}

VirTorrentTls *
virTorrentTlsNew(const char *dir, GError **error)
{
    g_auto(VirTorrentTlsContent) content = { 0 };
    struct stat seen[VIR_TORRENT_TLS_LAST];
    VirTorrentTls *tls;

    virTorrentTlsLook(dir, seen);
    if (!virTorrentTlsLoad(&content, dir, error))
        return NULL;
    tls = g_new0(VirTorrentTls, 1);
    g_atomic_ref_count_init(&tls->refs);
    g_mutex_init(&tls->lock);
    tls->dir = g_strdup(dir);
    tls->content = content;
    memcpy(tls->seen, seen, sizeof(seen));
    memset(&content, 0, sizeof(content));
    return tls;
}

VirTorrentTls *
virTorrentTlsRef(VirTorrentTls *tls)
{
    g_atomic_ref_count_inc(&tls->refs);
    return tls;
}

void
virTorrentTlsUnref(VirTorrentTls *tls)
{
    if (!tls || !g_atomic_ref_count_dec(&tls->refs))
        return;
    virTorrentTlsContentClear(&tls->content);
    g_mutex_clear(&tls->lock);
    g_free(tls->dir);
    g_free(tls);
}

GBytes *
virTorrentTlsGetAuthority(VirTorrentTls *tls)
{
    GBytes *authority;

    g_mutex_lock(&tls->lock);
    authority = g_bytes_ref(tls->content.authority);
    g_mutex_unlock(&tls->lock);
    return authority;
}

guint
virTorrentTlsGetSerial(VirTorrentTls *tls)
{
    return g_atomic_int_get((gint *)&tls->serial);
}

/* Once: from now on nobody will speak to us. */
static void
virTorrentTlsWarnExpired(VirTorrentTls *tls)
{
    if (tls->expired || X509_cmp_current_time(X509_get0_notAfter(tls->content.cert)) > 0)
        return;
    tls->expired = TRUE;
    g_warning(_("The certificate '%s/%s' has expired: other hosts refuse it; put a new one there"),
              tls->dir, fileNames[VIR_TORRENT_TLS_CERT]);
}

void
virTorrentTlsReload(VirTorrentTls *tls)
{
    g_auto(VirTorrentTlsContent) content = { 0 };
    g_autoptr(GError) err = NULL;
    struct stat now[VIR_TORRENT_TLS_LAST];
    VirTorrentTlsContent old;

    virTorrentTlsLook(tls->dir, now);
    if (virTorrentTlsSame(tls->seen, now)) {
        virTorrentTlsWarnExpired(tls);
        return;
    }
    memcpy(tls->seen, now, sizeof(now));
    if (!virTorrentTlsLoad(&content, tls->dir, &err)) {
        g_warning("%s", err->message);
        return;
    }
    g_mutex_lock(&tls->lock);
    old = tls->content;
    tls->content = content;
    g_mutex_unlock(&tls->lock);
    content = old;
    tls->expired = FALSE;
    g_atomic_int_inc((gint *)&tls->serial);
    g_message("New certificates from '%s' are in force", tls->dir);
}

gboolean
virTorrentTlsApply(VirTorrentTls *tls, SSL_CTX *ctx)
{
    gboolean ok;

    g_mutex_lock(&tls->lock);
    ok = SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
        SSL_CTX_use_cert_and_key(ctx, tls->content.cert, tls->content.key, tls->content.chain, 1);
    if (ok)
        SSL_CTX_set1_cert_store(ctx, tls->content.store);
    g_mutex_unlock(&tls->lock);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    /* OpenSSL's own judgement, nothing but */
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    ERR_clear_error();
    return ok;
}
