/*
 * test-names.c: names.h keeps what it promises
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include <string.h>

#include "engine.h"
#include "names.h"

typedef struct {
    const char *test;
    const char *name;
    gboolean local, remote;
} Case;

static const Case cases[] = {
    { "plain", "debian-12.qcow2", TRUE, TRUE },
    { "spaces and umlauts", "Größe 1.img", TRUE, TRUE },
    { "dots inside", "a..b", TRUE, TRUE },
    { "joiner of an Indic script", "\u0915\u094d\u200d\u0937", TRUE, TRUE },
    { "empty", "", FALSE, FALSE },
    { "no name", NULL, FALSE, FALSE },
    { "dot", ".", FALSE, FALSE },
    { "dotdot", "..", FALSE, FALSE },
    { "hidden", ".bashrc", FALSE, FALSE },
    { "slash", "a/b", FALSE, FALSE },
    { "absolute", "/etc/shadow", FALSE, FALSE },
    { "parent", "../x", FALSE, FALSE },
    { "newline", "a\nb", FALSE, FALSE },
    { "escape", "a\033[2Jb", FALSE, FALSE },
    { "delete", "a\177", FALSE, FALSE },
    { "C1 control", "a\xc2\x85", FALSE, FALSE },
    { "not UTF-8", "a\xff\xfe", FALSE, FALSE },
    { "overlong slash", "a\xc0\xaf", FALSE, FALSE },
    { "option", "-rf", TRUE, FALSE },
    { "bidi override", "a\u202e2wocq", TRUE, FALSE },
    { "bidi isolate", "a\u2066b", TRUE, FALSE },
    { "arabic letter mark", "a\u061cb", TRUE, FALSE },
    { "line separator", "a\u2028b", TRUE, FALSE },
};

static void
checkOne(const Case *c,
         const char *who,
         gboolean (*func)(const char *, GError **),
         gboolean expected)
{
    g_autoptr(GError) error = NULL;
    gboolean ok = func(c->name, &error);

    if (ok != expected)
        g_error("%s, %s: got %d", c->test, who, ok);
    if (expected) {
        g_assert_no_error(error);
        return;
    }
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_INVALID_NAME);
    /* what is shown to people must not carry the trick along */
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    g_assert_null(strpbrk(error->message, "\n\033\177"));
    g_assert_null(strstr(error->message, "\u202e"));
}

static void
testTable(void)
{
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        checkOne(&cases[i], "local", virTorrentNameCheckLocal, cases[i].local);
        checkOne(&cases[i], "remote", virTorrentNameCheckRemote, cases[i].remote);
    }
}

static void
testLength(void)
{
    g_autofree char *longest = g_strnfill(VIR_TORRENT_NAME_MAX, 'x');
    g_autofree char *longer = g_strnfill(VIR_TORRENT_NAME_MAX + 1, 'x');
    g_autoptr(GError) error = NULL;

    g_assert_true(virTorrentNameCheckLocal(longest, NULL));
    g_assert_true(virTorrentNameCheckRemote(longest, NULL));
    g_assert_false(virTorrentNameCheckLocal(longer, NULL));
    g_assert_false(virTorrentNameCheckRemote(longer, &error));
    g_assert_cmpuint(strlen(error->message), <, VIR_TORRENT_NAME_MAX);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/names/table", testTable);
    g_test_add_func("/names/length", testLength);
    return g_test_run();
}
