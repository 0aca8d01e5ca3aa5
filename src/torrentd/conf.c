/*
 * conf.c: what virttorrentd.conf says
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Every option stands once, in virTorrentConfOptions: its key, its default and
 * its bounds.  tests/test-config.c holds the sample file and the manual page
 * to that table.  A key that is not in the table is an error, so that a typing
 * mistake does not go unnoticed; other groups belong to others.
 */

#include <config.h>

#include "conf.h"

#include <string.h>

#include "i18n.h"

const VirTorrentConfOption virTorrentConfOptions[] = {
    { "user", ENGINE_USER, 0, 0, G_STRUCT_OFFSET(VirTorrentConf, user) },
    { "max_clients", "64", 1, 10000, G_STRUCT_OFFSET(VirTorrentConf, max_clients) },
    { "max_hashes", "2", 1, 64, G_STRUCT_OFFSET(VirTorrentConf, max_hashes) },
    { "hash_threads", "0", 0, 256, G_STRUCT_OFFSET(VirTorrentConf, hash_threads) },
    { "resume_interval", "5", 1, 3600, G_STRUCT_OFFSET(VirTorrentConf, resume_interval) },
    { "scrub_interval", "30", 0, 3650, G_STRUCT_OFFSET(VirTorrentConf, scrub_interval) },
    { "scrub_rate", "50", 1, 100000, G_STRUCT_OFFSET(VirTorrentConf, scrub_rate) },
    { "verity", "1", 0, 1, G_STRUCT_OFFSET(VirTorrentConf, verity) },
    { "tls_dir", "/etc/pki/torrentpool", 0, 0, G_STRUCT_OFFSET(VirTorrentConf, tls_dir) },
    { NULL, NULL, 0, 0, 0 },
};

void
virTorrentConfFree(VirTorrentConf *conf)
{
    if (!conf)
        return;
    g_free(conf->user);
    g_free(conf->tls_dir);
    g_free(conf);
}

/* FALSE with @error set where @text is no value for @opt. */
static gboolean
virTorrentConfSet(VirTorrentConf *conf,
                  const VirTorrentConfOption *opt,
                  const char *text,
                  GError **error)
{
    gpointer member = G_STRUCT_MEMBER_P(conf, opt->offset);
    guint64 number = 0;

    if (opt->max == 0) {
        char **string = member;

        if (!*text) {
            g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                        _("'%s' must not be empty"), opt->key);
            return FALSE;
        }
        g_free(*string);
        *string = g_strdup(text);
        return TRUE;
    }
    if (!g_ascii_string_to_unsigned(text, 10, opt->min, opt->max, &number, NULL)) {
        g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                    _("'%s' must be a number from %llu to %llu, not '%s'"), opt->key,
                    (unsigned long long)opt->min, (unsigned long long)opt->max, text);
        return FALSE;
    }
    *(guint *) member = number;
    return TRUE;
}

VirTorrentConf *
virTorrentConfNew(void)
{
    g_autoptr(VirTorrentConf) conf = g_new0(VirTorrentConf, 1);
    const VirTorrentConfOption *opt;

    for (opt = virTorrentConfOptions; opt->key; opt++) {
        if (!virTorrentConfSet(conf, opt, opt->fallback, NULL))
            g_assert_not_reached();
    }
    return g_steal_pointer(&conf);
}

static const VirTorrentConfOption *
virTorrentConfFind(const char *key)
{
    const VirTorrentConfOption *opt;

    for (opt = virTorrentConfOptions; opt->key; opt++) {
        if (strcmp(opt->key, key) == 0)
            return opt;
    }
    return NULL;
}

static gboolean
virTorrentConfApply(VirTorrentConf *conf, GKeyFile *file, GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, VIR_TORRENT_CONF_GROUP, NULL, NULL);
    guint i;

    for (i = 0; keys && keys[i]; i++) {
        const VirTorrentConfOption *opt = virTorrentConfFind(keys[i]);
        g_autofree char *text = NULL;

        if (!opt) {
            g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_KEY_NOT_FOUND,
                        _("there is no option '%s'"), keys[i]);
            return FALSE;
        }
        text = g_key_file_get_string(file, VIR_TORRENT_CONF_GROUP, keys[i], error);
        if (!text || !virTorrentConfSet(conf, opt, g_strstrip(text), error))
            return FALSE;
    }
    return TRUE;
}

VirTorrentConf *
virTorrentConfLoad(const char *file, gboolean required, GError **error)
{
    g_autoptr(VirTorrentConf) conf = virTorrentConfNew();
    g_autoptr(GKeyFile) keyfile = g_key_file_new();
    g_autoptr(GError) err = NULL;

    if (!g_key_file_load_from_file(keyfile, file, G_KEY_FILE_NONE, &err)) {
        if (!required && g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return g_steal_pointer(&conf);
        g_propagate_prefixed_error(error, g_steal_pointer(&err),
                                   _("cannot read configuration '%s': "), file);
        return NULL;
    }
    if (!virTorrentConfApply(conf, keyfile, &err)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&err),
                                   _("configuration '%s' is wrong: "), file);
        return NULL;
    }
    return g_steal_pointer(&conf);
}
