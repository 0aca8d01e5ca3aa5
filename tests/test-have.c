/*
 * test-have.c: the list of verified pieces is believed where it can be, and nowhere else
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "dir-util.h"
#include "have.h"

typedef struct {
    char *dir, *path, *file;
    VirTorrentHave *have;
} Fixture;

static void
renew(Fixture *f, const char *key)
{
    virTorrentHaveFree(f->have);
    f->have = virTorrentHaveNew(f->path, f->file, key);
}

static void
setup(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    f->dir = g_dir_make_tmp("have-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "m.have", NULL);
    f->file = g_build_filename(f->dir, "m", NULL);
    g_assert_true(g_file_set_contents(f->file, "x", 1, NULL));
    renew(f, "urn:btmh:1");
}

static void
teardown(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    virTorrentHaveFree(f->have);
    removeTree(f->dir);
    g_free(f->dir);
    g_free(f->path);
    g_free(f->file);
}

/* What is loaded, as text. */
static void
loads(Fixture *f, const char *expected)
{
    g_autoptr(GArray) list = virTorrentHaveLoad(f->have, 100);
    g_autoptr(GString) text = g_string_new(NULL);
    guint i;

    for (i = 0; i < list->len; i++)
        g_string_append_printf(text, "%u ", g_array_index(list, guint32, i));
    g_assert_cmpstr(text->str, ==, expected);
}

/* Another process goes on with the list. */
static void
testGoesOn(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    loads(f, "");
    virTorrentHaveAdd(f->have, 7);
    virTorrentHaveAdd(f->have, 99);
    virTorrentHaveAdd(f->have, 100);         /* there are 100 */
    renew(f, "urn:btmh:1");
    loads(f, "7 99 ");
    virTorrentHaveAdd(f->have, 0);
    loads(f, "7 99 0 ");
}

static void
testOtherTorrent(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    virTorrentHaveAdd(f->have, 7);
    renew(f, "urn:btmh:2");
    loads(f, "");
    virTorrentHaveAdd(f->have, 8);
    loads(f, "8 ");
    renew(f, "urn:btmh:1");
    loads(f, "");
}

/* Its bytes are not those that were verified. */
static void
testOtherFile(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *old = g_build_filename(f->dir, "old", NULL);

    virTorrentHaveAdd(f->have, 7);
    g_assert_cmpint(g_rename(f->file, old), ==, 0);
    loads(f, "");
    g_assert_true(g_file_set_contents(f->file, "x", 1, NULL));
    renew(f, "urn:btmh:1");
    loads(f, "");
    virTorrentHaveAdd(f->have, 8);
    loads(f, "8 ");
}

/* What the kernel had not written is gone. */
static void
testOtherBoot(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *text = NULL;
    gsize len;
    char *boot;

    virTorrentHaveAdd(f->have, 7);
    g_assert_true(g_file_get_contents(f->path, &text, &len, NULL));
    boot = text + strlen("torrentpool have 1 ");
    *boot = *boot == '0' ? '1' : '0';
    g_assert_true(g_file_set_contents(f->path, text, len, NULL));
    renew(f, "urn:btmh:1");
    loads(f, "");
}

static void
testDamaged(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *text = NULL;
    gsize len;

    virTorrentHaveAdd(f->have, 7);
    virTorrentHaveAdd(f->have, 8);
    g_assert_true(g_file_get_contents(f->path, &text, &len, NULL));
    g_assert_true(g_file_set_contents(f->path, text, len - 1, NULL));
    loads(f, "7 ");
    g_assert_true(g_file_set_contents(f->path, "torrentpool", -1, NULL));
    loads(f, "");
    g_assert_true(g_file_set_contents(f->path, "", 0, NULL));
    loads(f, "");
    renew(f, "urn:btmh:1");
    virTorrentHaveAdd(f->have, 9);
    loads(f, "9 ");
    /* not through a link */
    g_assert_cmpint(g_unlink(f->path), ==, 0);
    g_assert_cmpint(symlink("m", f->path), ==, 0);
    renew(f, "urn:btmh:1");
    virTorrentHaveAdd(f->have, 9);
    loads(f, "");
    g_clear_pointer(&text, g_free);
    g_assert_true(g_file_get_contents(f->file, &text, &len, NULL));
    g_assert_cmpuint(len, ==, 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add("/have/" path, Fixture, NULL, setup, func, teardown)
    ADD("goes-on", testGoesOn);
    ADD("other-torrent", testOtherTorrent);
    ADD("other-file", testOtherFile);
    ADD("other-boot", testOtherBoot);
    ADD("damaged", testDamaged);
    return g_test_run();
}
