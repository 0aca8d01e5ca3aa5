/*
 * test-daemon.c: virttorrentd as a program, both its processes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * virttorrentd-fake (the program, on the fake engine) in session scope with a
 * runtime directory of its own: start, one instance, activation, death of
 * either process, end.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dir-util.h"

#define UUID "11111111-1111-1111-1111-111111111111"
#define PROGRAM "./virttorrentd-fake"

typedef struct {
    char *dir;
    char *pool;
    char *address;
    char *pidfile;
} Fixture;

static void
setup(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *config = NULL;

    f->dir = g_dir_make_tmp("daemon-XXXXXX", NULL);
    f->pool = g_build_filename(f->dir, "pool", NULL);
    config = g_build_filename(f->dir, "config", NULL);
    f->address = g_strdup_printf("unix:path=%s/libvirt/virttorrentd-sock", f->dir);
    f->pidfile = g_build_filename(f->dir, "libvirt", "virttorrentd.pid", NULL);
    g_assert_cmpint(g_mkdir(f->pool, 0755), ==, 0);
    g_setenv("XDG_RUNTIME_DIR", f->dir, TRUE);
    g_setenv("XDG_CONFIG_HOME", config, TRUE);
    g_setenv("XDG_CACHE_HOME", f->dir, TRUE);
}

/* The monitor's pid, 0 where there is none. */
static pid_t
daemonPid(Fixture *f)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(f->pidfile, &text, NULL, NULL) ? atoi(text) : 0;
}

static gboolean
lives(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) pid);
    g_autofree char *stat = NULL;
    const char *state;

    if (!g_file_get_contents(path, &stat, NULL, NULL))
        return FALSE;
    state = strrchr(stat, ')');
    return state && !g_str_has_prefix(state, ") Z");
}

static void
waitDead(pid_t pid, double seconds)
{
    gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;

    while (lives(pid)) {
        if (g_get_monotonic_time() > end)
            g_error("process %d does not end", (int) pid);
        g_usleep(10000);
    }
}

/* The engine: the monitor's only child. */
static pid_t
enginePid(pid_t monitor)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/children", (int) monitor,
                                            (int) monitor);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return atoi(text);
}

static void
teardown(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    pid_t pid = daemonPid(f);

    if (pid && lives(pid)) {
        kill(pid, SIGTERM);
        waitDead(pid, 5);
    }
    removeTree(f->dir);
    g_free(f->dir);
    g_free(f->pool);
    g_free(f->address);
    g_free(f->pidfile);
}

/* Exit status; @err takes what it said. */
static int
run(char **err, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    int status = 0;
    va_list ap;
    char *arg;

    g_ptr_array_add(argv, (char *) PROGRAM);
    va_start(ap, err);
    while ((arg = va_arg(ap, char *)))
        g_ptr_array_add(argv, arg);
    va_end(ap);
    g_ptr_array_add(argv, NULL);
    g_assert_true(g_spawn_sync(NULL, (char **) argv->pdata, NULL, G_SPAWN_STDOUT_TO_DEV_NULL,
                               NULL, NULL, NULL, err, &status, NULL));
    return WEXITSTATUS(status);
}

static GDBusConnection *
connectTo(Fixture *f)
{
    g_autoptr(GError) err = NULL;
    GDBusConnection *c =
        g_dbus_connection_new_for_address_sync(f->address,
                                               G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT,
                                               NULL, NULL, &err);

    g_assert_no_error(err);
    return c;
}

static GVariant *
call(GDBusConnection *c, const char *method, const char *args)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GVariant) in = args ? g_variant_parse(NULL, args, NULL, NULL, &err) : NULL;
    GVariant *out;

    g_assert_no_error(err);
    out = g_dbus_connection_call_sync(c, NULL, "/org/libvirt/Torrentd1", "org.libvirt.Torrentd1",
                                      method, in, NULL, G_DBUS_CALL_FLAGS_NONE, 5000, NULL, &err);
    g_assert_no_error(err);
    return out;
}

/* A master in an open pool, seeding. */
static void
openAndPublish(Fixture *f, GDBusConnection *c)
{
    g_autofree char *path = g_build_filename(f->pool, "m", NULL);
    g_autofree char *args = g_strdup_printf("('" UUID "', 'p', '%s', {'dht': <false>})", f->pool);
    g_autofree char *text = NULL;
    g_autoptr(GVariant) opened = NULL;
    g_autoptr(GVariant) published = NULL;
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    g_assert_true(g_file_set_contents(path, "content", -1, NULL));
    g_assert_cmpint(g_chmod(path, 0444), ==, 0);
    opened = call(c, "OpenPool", args);
    published = call(c, "PublishVolume", "('" UUID "', 'm', @a{sv} {})");
    do {
        g_autoptr(GVariant) volume = call(c, "GetVolume", "('" UUID "', 'm')");

        g_free(text);
        text = g_variant_print(volume, FALSE);
        g_usleep(10000);
    } while (!strstr(text, "'seeding'") && g_get_monotonic_time() < end);
    g_assert_nonnull(strstr(text, "'seeding'"));
}

static void
assertStillSeeding(GDBusConnection *c)
{
    g_autofree char *text = NULL;
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    do {
        g_autoptr(GVariant) volumes = call(c, "ListVolumes", "('" UUID "',)");

        g_free(text);
        text = g_variant_print(volumes, FALSE);
        g_usleep(10000);
    } while (!strstr(text, "'seeding'") && g_get_monotonic_time() < end);
    g_assert_nonnull(strstr(text, "'seeding'"));
    g_assert_nonnull(strstr(text, "'m'"));
}

/* --daemon returns when clients can connect. */
/* Both processes have forbidden themselves what they do not need. */
static void
isConfined(pid_t monitor)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/children", (int)monitor, (int)monitor);
    g_autofree char *children = NULL;
    g_auto(GStrv) pids = NULL;
    guint i;

    g_assert_true(g_file_get_contents(path, &children, NULL, NULL));
    pids = g_strsplit(g_strstrip(children), " ", -1);
    g_assert_cmpuint(g_strv_length(pids), ==, 1);
    for (i = 0; i < 2; i++) {
        g_autofree char *file = i ? g_strdup_printf("/proc/%s/status", pids[0])
                                  : g_strdup_printf("/proc/%d/status", (int)monitor);
        g_autofree char *status = NULL;

        g_assert_true(g_file_get_contents(file, &status, NULL, NULL));
        g_assert_nonnull(strstr(status, "\nSeccomp:\t2\n"));
        g_assert_nonnull(strstr(status, "\nNoNewPrivs:\t1\n"));
    }
}

static void
testStart(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GDBusConnection) c = NULL;
    g_autoptr(GVariant) ret = NULL;
    g_autofree char *err = NULL;
    g_autofree char *sock = g_build_filename(f->dir, "libvirt", "virttorrentd-sock", NULL);
    GStatBuf st;
    pid_t pid;

    g_assert_cmpint(run(NULL, "--session", "--daemon", NULL), ==, 0);
    c = connectTo(f);
    ret = call(c, "ListPools", NULL);
    g_assert_cmpint(g_stat(sock, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
    pid = daemonPid(f);
    isConfined(pid);
    /* there is one */
    g_assert_cmpint(run(&err, "--session", "--daemon", NULL), ==, 1);
    g_assert_nonnull(strstr(err, "running already"));
    g_assert_cmpint(daemonPid(f), ==, pid);
    kill(pid, SIGTERM);
    waitDead(pid, 4);
    g_assert_false(g_file_test(sock, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(f->pidfile, G_FILE_TEST_EXISTS));
}

static void
testArguments(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *err = NULL;
    g_autofree char *conf = g_build_filename(f->dir, "conf", NULL);

    g_assert_cmpint(run(NULL, "--version", NULL), ==, 0);
    g_assert_cmpint(run(NULL, "--help", NULL), ==, 0);
    g_assert_cmpint(run(NULL, "--nonsense", NULL), ==, 1);
    g_assert_cmpint(run(NULL, "--session", "word", NULL), ==, 1);
    g_assert_cmpint(run(NULL, "--session", "--timeout", "-1", NULL), ==, 1);
    g_assert_cmpint(run(&err, "--session", "--config", conf, NULL), ==, 1);
    g_assert_nonnull(strstr(err, conf));
    g_clear_pointer(&err, g_free);
    g_assert_true(g_file_set_contents(conf, "[virttorrentd]\nmax_klients=1\n", -1, NULL));
    g_assert_cmpint(run(&err, "--session", "--config", conf, NULL), ==, 1);
    g_assert_nonnull(strstr(err, "max_klients"));
}

/* As root and without the engine's user: a way out is named. */
static void
testNoUser(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *conf = g_build_filename(f->dir, "conf", NULL);
    g_autofree char *err = NULL;

    if (geteuid() != 0) {
        g_test_message("left out: needs root");
        return;
    }
    g_assert_true(g_file_set_contents(conf, "[virttorrentd]\nuser=no-such-user\n", -1, NULL));
    g_assert_cmpint(run(&err, "--config", conf, "--pid-file", f->pidfile, NULL), ==, 1);
    g_assert_nonnull(strstr(err, "no-such-user"));
    g_assert_nonnull(strstr(err, "useradd"));
}

/* kill -9 of either process: the other ends, and the next daemon goes on. */
static void
testKilled(Fixture *f, gconstpointer whom)
{
    g_autoptr(GDBusConnection) c = NULL;
    g_autoptr(GDBusConnection) again = NULL;
    pid_t monitor;
    pid_t engine;

    g_assert_cmpint(run(NULL, "--session", "--daemon", NULL), ==, 0);
    c = connectTo(f);
    openAndPublish(f, c);
    monitor = daemonPid(f);
    engine = enginePid(monitor);
    g_assert_cmpint(engine, >, 0);
    kill(strcmp(whom, "engine") == 0 ? engine : monitor, SIGKILL);
    waitDead(monitor, 5);
    waitDead(engine, 5);
    g_assert_cmpint(run(NULL, "--session", "--daemon", NULL), ==, 0);
    again = connectTo(f);
    assertStillSeeding(again);
}

/* A new daemon does not begin before the old engine has ended. */
static void
testRestartAtOnce(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GDBusConnection) c = NULL;
    g_autoptr(GDBusConnection) again = NULL;
    pid_t monitor;
    pid_t engine;

    g_assert_cmpint(run(NULL, "--session", "--daemon", NULL), ==, 0);
    c = connectTo(f);
    openAndPublish(f, c);
    monitor = daemonPid(f);
    engine = enginePid(monitor);
    kill(monitor, SIGKILL);
    g_assert_cmpint(run(NULL, "--session", "--daemon", NULL), ==, 0);
    g_assert_false(lives(engine));
    again = connectTo(f);
    assertStillSeeding(again);
}

static void
testRestart(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GDBusConnection) c = NULL;
    g_autoptr(GDBusConnection) again = NULL;
    pid_t pid;

    g_assert_cmpint(run(NULL, "--session", "--daemon", NULL), ==, 0);
    c = connectTo(f);
    openAndPublish(f, c);
    pid = daemonPid(f);
    kill(pid, SIGTERM);
    waitDead(pid, 4);
    g_assert_cmpint(run(NULL, "--session", "--daemon", NULL), ==, 0);
    again = connectTo(f);
    assertStillSeeding(again);
}

static void
testTimeout(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    GDBusConnection *c;
    pid_t pid;

    g_assert_cmpint(run(NULL, "--session", "--daemon", "--timeout", "1", NULL), ==, 0);
    c = connectTo(f);
    pid = daemonPid(f);
    g_usleep(2 * G_USEC_PER_SEC);
    g_assert_true(lives(pid));       /* there is a client */
    g_object_unref(c);
    waitDead(pid, 4);
}

static void
childSetup(gpointer opaque)
{
    int *fds = opaque;
    char pid[32];

    /* as systemd does it: the socket is descriptor 3 */
    if (dup2(fds[0], 3) < 0)
        _exit(126);
    g_snprintf(pid, sizeof(pid), "%d", (int) getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
}

/* systemd's socket is used and left alone, and systemd is told. */
static void
testActivation(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autofree char *path = g_build_filename(f->dir, "activated", NULL);
    g_autofree char *notify = g_build_filename(f->dir, "notify", NULL);
    g_autofree char *own = g_build_filename(f->dir, "libvirt", "virttorrentd-sock", NULL);
    const char *argv[] = { PROGRAM, "--session", NULL };
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct timeval wait = { .tv_sec = 5 };
    g_autoptr(GDBusConnection) c = NULL;
    g_autoptr(GVariant) ret = NULL;
    char said[64] = "";
    int fds[2];
    GPid pid;

    fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    g_assert_cmpint(bind(fds[0], (struct sockaddr *) &addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fds[0], 10), ==, 0);
    fds[1] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_strlcpy(addr.sun_path, notify, sizeof(addr.sun_path));
    g_assert_cmpint(bind(fds[1], (struct sockaddr *) &addr, sizeof(addr)), ==, 0);
    setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    g_setenv("NOTIFY_SOCKET", notify, TRUE);
    g_assert_true(g_spawn_async(NULL, (char **) argv, NULL,
                                G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_LEAVE_DESCRIPTORS_OPEN,
                                childSetup, fds, &pid, NULL));
    g_unsetenv("NOTIFY_SOCKET");
    g_assert_cmpint(recv(fds[1], said, sizeof(said) - 1, 0), >, 0);
    g_assert_cmpstr(said, ==, "READY=1");
    g_assert_false(g_file_test(own, G_FILE_TEST_EXISTS));
    g_free(f->address);
    f->address = g_strdup_printf("unix:path=%s", path);
    c = connectTo(f);
    ret = call(c, "ListPools", NULL);
    kill(pid, SIGTERM);
    memset(said, 0, sizeof(said));
    g_assert_cmpint(recv(fds[1], said, sizeof(said) - 1, 0), >, 0);
    g_assert_cmpstr(said, ==, "STOPPING=1");
    waitDead(pid, 3);
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
    close(fds[0]);
    close(fds[1]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func, data) g_test_add("/daemon/" path, Fixture, data, setup, func, teardown)
    ADD("start", testStart, NULL);
    ADD("arguments", testArguments, NULL);
    ADD("no-user", testNoUser, NULL);
    ADD("engine-killed", testKilled, "engine");
    ADD("monitor-killed", testKilled, "monitor");
    ADD("restart-at-once", testRestartAtOnce, NULL);
    ADD("restart", testRestart, NULL);
    ADD("timeout", testTimeout, NULL);
    ADD("activation", testActivation, NULL);
    return g_test_run();
}
