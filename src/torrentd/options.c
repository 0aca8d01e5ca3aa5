/*
 * options.c: what a pool's XML says about its swarm
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One table: key, D-Bus type, where the value goes, and how a string is
 * checked.  Values are checked here, before anything is changed, so that an
 * engine only ever sees settings that can be meant; what an engine still
 * refuses (an address that is not this host's, say) it reports itself.
 */

#include <config.h>

#include "options.h"

#include <gio/gio.h>
#include <string.h>

#include "i18n.h"
#include "pool.h"

typedef gboolean (*VirTorrentOptionCheck)(const char *text);

static gboolean
virTorrentCheckAddress(const char *text)
{
    return g_hostname_is_ip_address(text);
}

/* "10.0.0.1:6881", "host.example:6881", "[fd00::1]:6881" */
static gboolean
virTorrentCheckHostPort(const char *text)
{
    const char *colon = strrchr(text, ':');
    guint64 port;
    const char *p;

    if (!colon || colon == text ||
        !g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &port, NULL))
        return FALSE;
    if (*text == '[') {
        g_autofree char *host = g_strndup(text + 1, colon - text - 1);
        char *bracket = strchr(host, ']');

        if (!bracket || bracket[1])
            return FALSE;
        *bracket = '\0';
        return g_hostname_is_ip_address(host) && strchr(host, ':');
    }
    for (p = text; p < colon; p++) {
        if (!g_ascii_isalnum(*p) && !strchr(".-_", *p))
            return FALSE;
    }
    return TRUE;
}

static gboolean
virTorrentCheckCidr(const char *text)
{
    g_autoptr(GInetAddressMask) mask = g_inet_address_mask_new_from_string(text, NULL);

    return mask != NULL;
}

static gboolean
virTorrentCheckTracker(const char *text)
{
    g_autoptr(GUri) uri = g_uri_parse(text, G_URI_FLAGS_NONE, NULL);

    return uri && g_uri_get_host(uri) && *g_uri_get_host(uri) &&
        (strcmp(g_uri_get_scheme(uri), "http") == 0 ||
         strcmp(g_uri_get_scheme(uri), "https") == 0 ||
         strcmp(g_uri_get_scheme(uri), "udp") == 0);
}

static gboolean
virTorrentCheckWebSeed(const char *text)
{
    return virTorrentCheckTracker(text) && g_str_has_prefix(text, "http");
}

static gboolean
virTorrentCheckSeed(const char *text)
{
    return strcmp(text, "always") == 0;
}

static const struct {
    const char *key;
    const char *type;            /* D-Bus signature */
    gsize offset;
    VirTorrentOptionCheck check;
} table[] = {
    { "listen-address", "s", G_STRUCT_OFFSET(VirTorrentOptions, listen_address), virTorrentCheckAddress },
    { "listen-port", "q", G_STRUCT_OFFSET(VirTorrentOptions, listen_port), NULL },
    { "bootstrap", "as", G_STRUCT_OFFSET(VirTorrentOptions, bootstrap), virTorrentCheckHostPort },
    { "trackers", "as", G_STRUCT_OFFSET(VirTorrentOptions, trackers), virTorrentCheckTracker },
    { "webseeds", "as", G_STRUCT_OFFSET(VirTorrentOptions, webseeds), virTorrentCheckWebSeed },
    { "allow", "as", G_STRUCT_OFFSET(VirTorrentOptions, allow), virTorrentCheckCidr },
    { "upload-limit", "t", G_STRUCT_OFFSET(VirTorrentOptions, upload_limit), NULL },
    { "download-limit", "t", G_STRUCT_OFFSET(VirTorrentOptions, download_limit), NULL },
    { "dht", "b", G_STRUCT_OFFSET(VirTorrentOptions, dht), NULL },
    { "lsd", "b", G_STRUCT_OFFSET(VirTorrentOptions, lsd), NULL },
    { "pex", "b", G_STRUCT_OFFSET(VirTorrentOptions, pex), NULL },
    { "tls", "b", G_STRUCT_OFFSET(VirTorrentOptions, tls), NULL },
    { "seed", "s", G_STRUCT_OFFSET(VirTorrentOptions, seed), virTorrentCheckSeed },
};

void
virTorrentOptionsFree(VirTorrentOptions *options)
{
    if (!options)
        return;
    g_free(options->listen_address);
    g_strfreev(options->bootstrap);
    g_strfreev(options->trackers);
    g_strfreev(options->webseeds);
    g_strfreev(options->allow);
    g_free(options->seed);
    g_free(options);
}

VirTorrentOptions *
virTorrentOptionsNew(void)
{
    VirTorrentOptions *options = g_new0(VirTorrentOptions, 1);

    options->bootstrap = g_new0(char *, 1);
    options->trackers = g_new0(char *, 1);
    options->webseeds = g_new0(char *, 1);
    options->allow = g_new0(char *, 1);
    options->dht = options->lsd = options->pex = TRUE;
    options->seed = g_strdup("always");
    return options;
}

static gboolean
virTorrentOptionsRefuse(const char *key, const char *value, GError **error)
{
    g_set_error(error, VIR_TORRENT_POOL_ERROR, VIR_TORRENT_POOL_ERROR_INVALID_OPTION,
                _("'%s' is no value for pool option '%s'"), value, key);
    return FALSE;
}

/* @i: line of the table, @value has its type */
static gboolean
virTorrentOptionsSet(VirTorrentOptions *options, gsize i, GVariant *value, GError **error)
{
    gpointer member = G_STRUCT_MEMBER_P(options, table[i].offset);
    char ***list = member;
    char **string = member;
    gsize n;

    switch (*table[i].type) {
    case 'q':
        *(guint16 *) member = g_variant_get_uint16(value);
        return TRUE;
    case 't':
        *(guint64 *) member = g_variant_get_uint64(value);
        return TRUE;
    case 'b':
        *(gboolean *) member = g_variant_get_boolean(value);
        return TRUE;
    case 's':
        g_free(*string);
        *string = g_variant_dup_string(value, NULL);
        return table[i].check(*string) ||
            virTorrentOptionsRefuse(table[i].key, *string, error);
    default:
        g_strfreev(*list);
        *list = g_variant_dup_strv(value, NULL);
        for (n = 0; (*list)[n]; n++) {
            if (!table[i].check((*list)[n]))
                return virTorrentOptionsRefuse(table[i].key, (*list)[n], error);
        }
        return TRUE;
    }
}

/* What a private swarm cannot have beside it: content that goes over the wire in the clear. */
static gboolean
virTorrentOptionsCheckTls(const VirTorrentOptions *options, GError **error)
{
    gsize i;

    for (i = 0; options->tls && options->webseeds[i]; i++) {
        if (!g_str_has_prefix(options->webseeds[i], "https:")) {
            g_set_error(error, VIR_TORRENT_POOL_ERROR, VIR_TORRENT_POOL_ERROR_INVALID_OPTION,
                        _("web seed '%s' would tell everybody what is in a private swarm; only https can be "
                          "used with tls"), options->webseeds[i]);
            return FALSE;
        }
    }
    if (options->tls && options->listen_port == 65535) {
        g_set_error(error, VIR_TORRENT_POOL_ERROR, VIR_TORRENT_POOL_ERROR_INVALID_OPTION,
                    _("a private swarm needs the port after listen port %u, too"), options->listen_port);
        return FALSE;
    }
    return TRUE;
}

VirTorrentOptions *
virTorrentOptionsParse(GVariant *dict, GError **error)
{
    g_autoptr(VirTorrentOptions) options = virTorrentOptionsNew();
    GVariantIter iter;
    const char *key;
    GVariant *value;

    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_loop(&iter, "{&sv}", &key, &value)) {
        gboolean ok;
        gsize i;

        for (i = 0; i < G_N_ELEMENTS(table) && strcmp(table[i].key, key) != 0; i++)
            ;
        if (i == G_N_ELEMENTS(table)) {
            g_set_error(error, VIR_TORRENT_POOL_ERROR, VIR_TORRENT_POOL_ERROR_INVALID_OPTION,
                        _("there is no pool option '%s'"), key);
            ok = FALSE;
        } else if (!g_variant_is_of_type(value, G_VARIANT_TYPE(table[i].type))) {
            g_set_error(error, VIR_TORRENT_POOL_ERROR, VIR_TORRENT_POOL_ERROR_INVALID_OPTION,
                        _("pool option '%s' must have the type '%s', not '%s'"), key,
                        table[i].type, g_variant_get_type_string(value));
            ok = FALSE;
        } else {
            ok = virTorrentOptionsSet(options, i, value, error);
        }
        if (!ok) {
            g_variant_unref(value);
            return NULL;
        }
    }
    if (!virTorrentOptionsCheckTls(options, error))
        return NULL;
    return g_steal_pointer(&options);
}

GVariant *
virTorrentOptionsFormat(const VirTorrentOptions *options)
{
    GVariantBuilder builder;
    gsize i;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    for (i = 0; i < G_N_ELEMENTS(table); i++) {
        gconstpointer member = G_STRUCT_MEMBER_P(options, table[i].offset);
        GVariant *value = NULL;

        switch (*table[i].type) {
        case 'q':
            value = g_variant_new_uint16(*(const guint16 *) member);
            break;
        case 't':
            value = g_variant_new_uint64(*(const guint64 *) member);
            break;
        case 'b':
            value = g_variant_new_boolean(*(const gboolean *) member);
            break;
        case 's':
            if (*(char *const *) member)
                value = g_variant_new_string(*(char *const *) member);
            break;
        default:
            value = g_variant_new_strv(*(const char *const *const *) member, -1);
            break;
        }
        if (value)
            g_variant_builder_add(&builder, "{sv}", table[i].key, value);
    }
    return g_variant_builder_end(&builder);
}

gboolean
virTorrentOptionsEqual(const VirTorrentOptions *a, const VirTorrentOptions *b)
{
    g_autoptr(GVariant) va = g_variant_ref_sink(virTorrentOptionsFormat(a));
    g_autoptr(GVariant) vb = g_variant_ref_sink(virTorrentOptionsFormat(b));

    return g_variant_equal(va, vb);
}

void
virTorrentOptionsToSettings(const VirTorrentOptions *options, VirTorrentEngineSettings *settings)
{
    memset(settings, 0, sizeof(*settings));
    settings->listen_address = options->listen_address;
    settings->listen_port = options->listen_port;
    settings->bootstrap = (const char *const *) options->bootstrap;
    settings->trackers = (const char *const *) options->trackers;
    settings->webseeds = (const char *const *) options->webseeds;
    if (*options->allow)
        settings->allow = (const char *const *) options->allow;
    settings->upload_limit = options->upload_limit;
    settings->download_limit = options->download_limit;
    settings->dht = options->dht;
    settings->lsd = options->lsd;
    settings->pex = options->pex;
}
