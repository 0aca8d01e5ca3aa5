/*
 * daemon-util.h: a daemon's rooms in one test process
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The real manager, pools, durable files and monitor (in a thread of its own,
 * with the session's policy), on the fake engine.
 */

#pragma once

#include <glib.h>
#include <glib/gstdio.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"
#include "dir-util.h"
#include "engine-fake.h"
#include "manager.h"
#include "monitor.h"

#define UUID_A "11111111-1111-1111-1111-111111111111"
#define UUID_B "22222222-2222-2222-2222-222222222222"

typedef struct {
    char *dir;
    char *rundir;
    char *a, *b;                 /* two pool directories */
    VirTorrentConf *conf;
    VirTorrentMonitor *monitor;
    VirTorrentMonitorPolicy policy;
    int fd;
    GThread *thread;
    VirTorrentManager *manager;
    GString *log;                /* "NAME:STATE " for each change */
} Daemon;

static gpointer
daemonMonitor(gpointer opaque)
{
    Daemon *d = opaque;
    gboolean ready = FALSE;

    while (virTorrentMonitorServe(d->fd, &d->policy, &ready))
        ;
    return NULL;
}

static void
daemonChanged(const char *uuid G_GNUC_UNUSED, const char *name, const char *state, gpointer opaque)
{
    Daemon *d = opaque;

    g_string_append_printf(d->log, "%s:%s ", name, state);
}

static inline void
daemonStart(Daemon *d)
{
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
    d->fd = pair[0];
    d->monitor = virTorrentMonitorNew(pair[1]);
    d->thread = g_thread_new("monitor", daemonMonitor, d);
    d->manager = virTorrentManagerNew(d->conf, d->monitor, d->rundir);
    virTorrentManagerSetChangedFunc(d->manager, daemonChanged, d);
    g_string_truncate(d->log, 0);
}

/* As SIGTERM does it. */
static inline void
daemonStop(Daemon *d)
{
    g_clear_pointer(&d->manager, virTorrentManagerFree);
    g_clear_pointer(&d->monitor, virTorrentMonitorFree);
    g_thread_join(d->thread);
    close(d->fd);
}

static inline void
daemonSetup(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    virTorrentFakeReset();
    d->dir = g_dir_make_tmp("torrentpool-XXXXXX", NULL);
    d->rundir = g_build_filename(d->dir, "run", NULL);
    d->a = g_build_filename(d->dir, "a", NULL);
    d->b = g_build_filename(d->dir, "b", NULL);
    g_assert_cmpint(g_mkdir(d->rundir, 0700), ==, 0);
    g_assert_cmpint(g_mkdir(d->a, 0755), ==, 0);
    g_assert_cmpint(g_mkdir(d->b, 0755), ==, 0);
    d->conf = virTorrentConfNew();
    d->policy.owner_uid = d->policy.engine_uid = geteuid();
    d->policy.owner_gid = d->policy.engine_gid = getegid();
    d->log = g_string_new(NULL);
    daemonStart(d);
}

static inline void
daemonTeardown(Daemon *d, gconstpointer unused G_GNUC_UNUSED)
{
    if (d->manager)
        daemonStop(d);
    removeTree(d->dir);
    virTorrentConfFree(d->conf);
    g_string_free(d->log, TRUE);
    g_free(d->dir);
    g_free(d->rundir);
    g_free(d->a);
    g_free(d->b);
}

static inline VirTorrentPool *
daemonOpen(Daemon *d, const char *uuid, const char *target)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GVariant) options = NULL;
    GVariantDict dict;

    g_variant_dict_init(&dict, NULL);
    g_variant_dict_insert(&dict, "listen-address", "s", "127.0.0.1");
    /* a port of its own, so that magnets hold after a restart */
    g_variant_dict_insert(&dict, "listen-port", "q", (guint16) (7000 + *uuid - '0'));
    g_variant_dict_insert(&dict, "dht", "b", FALSE);
    g_variant_dict_insert(&dict, "lsd", "b", FALSE);
    options = g_variant_ref_sink(g_variant_dict_end(&dict));
    virTorrentManagerOpenPool(d->manager, uuid, target + strlen(d->dir) + 1, target, options, &err);
    g_assert_no_error(err);
    return virTorrentManagerFindPool(d->manager, uuid, NULL);
}

/* A file of @size bytes that differ from those of another @seed, with @mode. */
static inline void
makeFile(const char *dir, const char *name, gsize size, guint32 seed, mode_t mode)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree guint32 *data = g_malloc(size + 4);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autoptr(GError) err = NULL;
    gsize i;

    for (i = 0; i < size / 4 + 1; i++)
        data[i] = g_rand_int(rand);
    g_file_set_contents(path, (char *) data, size, &err);
    g_assert_no_error(err);
    g_assert_cmpint(g_chmod(path, mode), ==, 0);
}

static inline gboolean
sameFile(const char *dir1, const char *dir2, const char *name)
{
    g_autofree char *path1 = g_build_filename(dir1, name, NULL);
    g_autofree char *path2 = g_build_filename(dir2, name, NULL);
    g_autofree char *data1 = NULL;
    g_autofree char *data2 = NULL;
    gsize len1 = 0;
    gsize len2 = 1;

    return g_file_get_contents(path1, &data1, &len1, NULL) &&
        g_file_get_contents(path2, &data2, &len2, NULL) &&
        len1 == len2 && memcmp(data1, data2, len1) == 0;
}

static gboolean
daemonTick(gpointer unused G_GNUC_UNUSED)
{
    return G_SOURCE_CONTINUE;
}

/* Runs the main loop until @name is in @state: the test fails after ten seconds. */
static inline void
waitState(VirTorrentPool *pool, const char *name, const char *state)
{
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    guint tick = g_timeout_add(20, daemonTick, NULL);

    for (;;) {
        g_autoptr(VirTorrentVolumeInfo) info = virTorrentPoolGetVolume(pool, name, NULL);

        if (info && strcmp(info->state, state) == 0)
            break;
        if (g_get_monotonic_time() > end)
            g_error("'%s' is %s (%s), not %s", name, info ? info->state : "nowhere",
                    info && info->error ? info->error : "", state);
        g_main_context_iteration(NULL, TRUE);
    }
    g_source_remove(tick);
}
