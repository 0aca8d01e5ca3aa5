/*
 * image-util.h: a scratch directory and QEMU's tools, for tests of src/image
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A tool that is missing or fails ends the test: QEMU's own programs are the
 * judges here, and without them nothing is proven.
 */

#pragma once

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"

typedef struct {
    char *dir;
    int dirfd;
} Scratch;

static inline void
scratchSetUp(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;

    s->dir = g_dir_make_tmp("torrentpool-image-XXXXXX", &error);
    g_assert_no_error(error);
    s->dirfd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(s->dirfd, >=, 0);
}

static inline int
scratchRemoveOne(const char *path,
                 const struct stat *sb G_GNUC_UNUSED,
                 int type G_GNUC_UNUSED,
                 struct FTW *ftw G_GNUC_UNUSED)
{
    return remove(path);
}

static inline void
scratchTearDown(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    close(s->dirfd);
    g_assert_cmpint(nftw(s->dir, scratchRemoveOne, 16, FTW_DEPTH | FTW_PHYS), ==, 0);
    g_free(s->dir);
}

/* Runs the command line @format in the scratch directory; its stdout. */
static inline char *G_GNUC_PRINTF(2, 3)
scratchRun(Scratch *s, const char *format, ...)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *command = NULL;
    g_autofree char *err = NULL;
    g_auto(GStrv) argv = NULL;
    char *out = NULL;
    int status = 0;
    va_list ap;

    va_start(ap, format);
    command = g_strdup_vprintf(format, ap);
    va_end(ap);

    g_assert_true(g_shell_parse_argv(command, NULL, &argv, &error));
    g_spawn_sync(s->dir, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status, &error);
    if (error || !g_spawn_check_wait_status(status, NULL))
        g_error("'%s' failed: %s%s%s", command, error ? error->message : "", out ? out : "", err ? err : "");
    return out;
}

#define scratchDo(...) g_free(scratchRun(__VA_ARGS__))

static inline void
scratchWrite(Scratch *s, const char *name, const void *bytes, gsize len)
{
    g_autofree char *path = g_build_filename(s->dir, name, NULL);
    g_autoptr(GError) error = NULL;

    g_file_set_contents(path, bytes, len, &error);
    g_assert_no_error(error);
}

static inline char *
scratchRead(Scratch *s, const char *name, gsize *len)
{
    g_autofree char *path = g_build_filename(s->dir, name, NULL);
    g_autoptr(GError) error = NULL;
    char *bytes = NULL;

    g_file_get_contents(path, &bytes, len, &error);
    g_assert_no_error(error);
    return bytes;
}

/* @len bytes that no compressor or zero detector takes for a pattern. */
static inline guint8 *
scratchNoise(gsize len, guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    guint8 *p = g_malloc(len);
    gsize i;

    for (i = 0; i < len; i++)
        p[i] = g_rand_int(rand) >> 24;
    return p;
}

static inline VirImageInfo *
scratchProbe(Scratch *s, const char *name, GError **error)
{
    int fd = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);
    VirImageInfo *info;

    g_assert_cmpint(fd, >=, 0);
    info = virImageProbe(fd, error);
    close(fd);
    return info;
}
