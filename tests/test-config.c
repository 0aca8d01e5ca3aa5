/*
 * test-config.c: virttorrentd.conf, and that code, sample and manual agree
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"

static char *
slurp(const char *name)
{
    g_autofree char *path = g_build_filename(SRCDIR, "..", name, NULL);
    g_autoptr(GError) err = NULL;
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, &err);
    g_assert_no_error(err);
    return text;
}

/* Our group of the sample; others belong to others. */
static char *
slurpSample(void)
{
    char *sample = slurp("src/torrentd/virttorrentd.conf");
    char *begin = strstr(sample, "\n[" VIR_TORRENT_CONF_GROUP "]\n");
    char *end = begin ? strstr(begin + 2, "\n[") : NULL;

    g_assert_nonnull(begin);
    if (end)
        *end = '\0';
    return sample;
}

/* Each option stands in the sample as "#key = default", and nothing else does. */
static void
testSample(void)
{
    g_autofree char *sample = slurpSample();
    g_auto(GStrv) lines = g_strsplit(sample, "\n", -1);
    const VirTorrentConfOption *opt;
    guint shown = 0;
    guint i;

    for (i = 0; lines[i]; i++)
        shown += *lines[i] == '#' && g_ascii_isalpha(lines[i][1]);
    for (opt = virTorrentConfOptions; opt->key; opt++, shown--) {
        g_autofree char *line = g_strdup_printf("#%s = %s", opt->key, opt->fallback);

        if (!g_strv_contains((const char *const *) lines, line))
            g_error("the sample has no line '%s'", line);
    }
    g_assert_cmpuint(shown, ==, 0);
}

/* With every line uncommented it is valid and says what holds without it. */
static void
testSampleLoads(void)
{
    g_autofree char *sample = slurpSample();
    g_auto(GStrv) lines = g_strsplit(sample, "\n", -1);
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "test-config-sample", NULL);
    g_autofree char *text = NULL;
    g_autoptr(VirTorrentConf) conf = NULL;
    g_autoptr(VirTorrentConf) defaults = virTorrentConfNew();
    g_autoptr(GError) err = NULL;
    guint i;

    for (i = 0; lines[i]; i++) {
        if (*lines[i] == '#' && g_ascii_isalpha(lines[i][1]))
            *lines[i] = ' ';
    }
    text = g_strjoinv("\n", lines);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    conf = virTorrentConfLoad(path, TRUE, &err);
    unlink(path);
    g_assert_no_error(err);
    g_assert_cmpstr(conf->user, ==, defaults->user);
    g_assert_cmpuint(conf->max_clients, ==, defaults->max_clients);
    g_assert_cmpuint(conf->max_hashes, ==, defaults->max_hashes);
    g_assert_cmpuint(conf->hash_threads, ==, defaults->hash_threads);
    g_assert_cmpuint(conf->resume_interval, ==, defaults->resume_interval);
    g_assert_cmpuint(conf->scrub_interval, ==, defaults->scrub_interval);
    g_assert_cmpuint(conf->scrub_rate, ==, defaults->scrub_rate);
    g_assert_cmpuint(conf->verity, ==, defaults->verity);
    g_assert_cmpstr(conf->tls_dir, ==, defaults->tls_dir);
}

/* The manual has "``key``" as a term, and its default. */
static void
testManual(void)
{
    g_autofree char *manual = slurp("docs/virttorrentd.conf.rst");
    const VirTorrentConfOption *opt;
    g_auto(GStrv) terms = g_strsplit(manual, "\n``", -1);

    for (opt = virTorrentConfOptions; opt->key; opt++) {
        g_autofree char *term = g_strdup_printf("\n``%s``", opt->key);
        g_autofree char *value = g_strdup_printf("Default: ``%s``.", opt->fallback);
        const char *at = strstr(manual, term);
        const char *next = at ? strstr(at + 1, "\n``") : NULL;
        g_autofree char *part = NULL;

        if (!at)
            g_error("the manual does not explain '%s'", opt->key);
        part = g_strndup(at, next ? (gsize) (next - at) : strlen(at));
        if (!strstr(part, value))
            g_error("the manual does not say of '%s': %s", opt->key, value);
    }
    /* and explains nothing that is not there */
    g_assert_cmpuint(g_strv_length(terms) - 1, ==, opt - virTorrentConfOptions);
}

/* --help, as the program prints it, and the manual name the same options. */
static void
testHelp(void)
{
    g_autofree char *manual = slurp("docs/virttorrentd.rst");
    g_autofree char *help = NULL;
    g_autoptr(GError) err = NULL;
    const char *argv[] = { "./virttorrentd-fake", "--help", NULL };
    g_auto(GStrv) words = NULL;
    guint found = 0;
    guint i;

    g_spawn_sync(NULL, (char **) argv, NULL, 0, NULL, NULL, &help, NULL, NULL, &err);
    g_assert_no_error(err);
    words = g_strsplit_set(help, " ,=\n", -1);
    for (i = 0; words[i]; i++) {
        g_autofree char *option = g_strdup_printf("``%s", words[i]);

        if (!g_str_has_prefix(words[i], "--"))
            continue;
        found++;
        if (!strstr(manual, option))
            g_error("the manual does not explain '%s'", words[i]);
    }
    g_assert_cmpuint(found, >=, 8);
}

static void
testValues(void)
{
    static const struct {
        const char *text;
        const char *says;        /* NULL: fine */
    } cases[] = {
        { "[virttorrentd]\nuser = +65534\n", NULL },
        { "[virttorrentd]\nmax_clients=  7 \n", NULL },
        { "[hook]\nanything = goes\n", NULL },
        { "", NULL },
        { "[virttorrentd]\nuser =\n", "user" },
        { "[virttorrentd]\nmax_clients = 0\n", "max_clients" },
        { "[virttorrentd]\nmax_clients = many\n", "many" },
        { "[virttorrentd]\nmax_clients = -1\n", "max_clients" },
        { "[virttorrentd]\nresume_interval = 99999\n", "3600" },
        { "[virttorrentd]\nmax_klients = 7\n", "max_klients" },
        { "user = nobody\n", "" },
    };
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "test-config-values", NULL);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(VirTorrentConf) conf = NULL;
        g_autoptr(GError) err = NULL;

        g_assert_true(g_file_set_contents(path, cases[i].text, -1, NULL));
        conf = virTorrentConfLoad(path, TRUE, &err);
        if (!cases[i].says) {
            g_assert_no_error(err);
            continue;
        }
        g_assert_null(conf);
        g_assert_nonnull(strstr(err->message, path));
        g_assert_nonnull(strstr(err->message, cases[i].says));
    }
    unlink(path);
}

static void
testMissing(void)
{
    g_autoptr(VirTorrentConf) conf = virTorrentConfLoad("/nonexistent/conf", FALSE, NULL);
    g_autoptr(GError) err = NULL;

    g_assert_cmpstr(conf->user, ==, ENGINE_USER);
    g_assert_null(virTorrentConfLoad("/nonexistent/conf", TRUE, &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_NOENT);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/config/sample", testSample);
    g_test_add_func("/config/sample-loads", testSampleLoads);
    g_test_add_func("/config/manual", testManual);
    g_test_add_func("/config/help", testHelp);
    g_test_add_func("/config/values", testValues);
    g_test_add_func("/config/missing", testMissing);
    return g_test_run();
}
