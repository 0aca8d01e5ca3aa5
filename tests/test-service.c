/*
 * test-service.c: org.libvirt.Torrentd1 over a real UNIX socket
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The server's side of D-Bus: who is let in, what is refused before it reaches
 * the pools, and that answers, errors and signals look as the interface says.
 */

#include <config.h>

#include <gio/gio.h>
#include <grp.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "daemon-util.h"
#include "service.h"

#define OTHER_UID 65534

typedef struct {
    Daemon d;
    char *path;
    char *address;
    VirTorrentService *service;
} Fixture;

static int
listenOn(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *) &addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fd, 64), ==, 0);
    return fd;
}

static void
setup(Fixture *f, gconstpointer clients)
{
    g_autoptr(GError) err = NULL;

    daemonSetup(&f->d, NULL);
    f->path = g_build_filename(f->d.dir, "sock", NULL);
    f->address = g_strdup_printf("unix:path=%s", f->path);
    f->service = virTorrentServiceNew(f->d.manager, geteuid(),
                                      clients ? GPOINTER_TO_UINT(clients) : 64);
    virTorrentServiceListen(f->service, listenOn(f->path), &err);
    g_assert_no_error(err);
}

static void
teardown(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    virTorrentServiceFree(f->service);
    daemonTeardown(&f->d, NULL);
    g_free(f->path);
    g_free(f->address);
}

/* The main loop is the server's, so clients are asynchronous. */
static void
keep(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer opaque)
{
    *(GAsyncResult **) opaque = g_object_ref(result);
}

static GAsyncResult *
await(GAsyncResult **result)
{
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    guint tick = g_timeout_add(20, daemonTick, NULL);

    while (!*result && g_get_monotonic_time() < end)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(tick);
    g_assert_nonnull(*result);
    return *result;
}

static GDBusConnection *
tryConnect(Fixture *f, GError **error)
{
    GAsyncResult *result = NULL;
    GDBusConnection *connection;

    g_dbus_connection_new_for_address(f->address,
                                      G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT,
                                      NULL, NULL, keep, &result);
    connection = g_dbus_connection_new_for_address_finish(await(&result), error);
    g_object_unref(result);
    return connection;
}

static GDBusConnection *
connectTo(Fixture *f)
{
    g_autoptr(GError) err = NULL;
    GDBusConnection *connection = tryConnect(f, &err);

    g_assert_no_error(err);
    return connection;
}

/* Takes @args, floating or not. */
static GVariant *
call(GDBusConnection *connection, const char *method, GVariant *args, GError **error)
{
    g_autoptr(GVariant) owned = args ? g_variant_take_ref(args) : NULL;
    GAsyncResult *result = NULL;
    GVariant *ret;

    g_dbus_connection_call(connection, NULL, VIR_TORRENT_DBUS_PATH, "org.libvirt.Torrentd1",
                           method, owned, NULL, G_DBUS_CALL_FLAGS_NONE, 5000, NULL, keep, &result);
    ret = g_dbus_connection_call_finish(connection, await(&result), error);
    g_object_unref(result);
    return ret;
}

static GVariant *
parse(const char *text)
{
    g_autoptr(GError) err = NULL;
    GVariant *value = g_variant_parse(NULL, text, NULL, NULL, &err);

    g_assert_no_error(err);
    return value;
}

static void
succeeds(GDBusConnection *connection, const char *method, GVariant *args)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GVariant) ret = call(connection, method, args, &err);

    g_assert_no_error(err);
    g_assert_nonnull(ret);
}

/* How many elements the array @ret holds, an answer of one argument. */
static gsize
count(GVariant *ret)
{
    g_autoptr(GVariant) array = g_variant_get_child_value(ret, 0);

    return g_variant_n_children(array);
}

/* @args fails with org.libvirt.Torrentd1.Error.@name (or @name as it is). */
static void
assertFails(GDBusConnection *connection, const char *method, GVariant *args, const char *name)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GVariant) ret = call(connection, method, args, &err);
    g_autofree char *got = NULL;
    g_autofree char *want = strchr(name, '.') ? g_strdup(name)
        : g_strconcat("org.libvirt.Torrentd1.Error.", name, NULL);

    g_assert_null(ret);
    got = g_dbus_error_get_remote_error(err);
    if (!got)                    /* one that our side registered */
        got = g_dbus_error_encode_gerror(err);
    g_test_message("%s: %s", method, err->message);
    g_assert_cmpstr(got, ==, want);
}

static GVariant *
openArgs(Fixture *f)
{
    g_autofree char *text =
        g_strdup_printf("('" UUID_A "', 'a', '%s', {'listen-address': <'127.0.0.1'>})", f->d.a);

    return parse(text);
}

static void
changed(GDBusConnection *connection G_GNUC_UNUSED,
        const char *sender G_GNUC_UNUSED,
        const char *path G_GNUC_UNUSED,
        const char *interface G_GNUC_UNUSED,
        const char *signal G_GNUC_UNUSED,
        GVariant *args,
        gpointer opaque)
{
    const char *uuid;
    const char *name;
    const char *state;

    g_variant_get(args, "(&s&s&s)", &uuid, &name, &state);
    g_assert_cmpstr(uuid, ==, UUID_A);
    g_string_append_printf(opaque, "%s:%s ", name, state);
}

static void
testLife(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GDBusConnection) c = connectTo(f);
    g_autoptr(GDBusConnection) listener = connectTo(f);
    g_autoptr(GString) heard = g_string_new(NULL);
    g_autoptr(GVariant) ret = NULL;
    g_autoptr(GVariant) volumes = NULL;
    g_autoptr(GVariant) metainfo = NULL;
    g_autoptr(GVariant) array = NULL;
    g_autoptr(GVariant) props = NULL;
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GError) err = NULL;
    const char *state;
    guint64 size;
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    g_dbus_connection_signal_subscribe(listener, NULL, "org.libvirt.Torrentd1", "VolumeChanged",
                                       NULL, NULL, G_DBUS_SIGNAL_FLAGS_NONE, changed, heard, NULL);
    succeeds(c, "OpenPool", openArgs(f));
    succeeds(listener, "ListPools", NULL);      /* from then on it hears all */
    ret = call(c, "ListPools", NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(count(ret), ==, 1);
    makeFile(f->d.a, "m", 100000, 1, 0444);
    succeeds(c, "PublishVolume", g_variant_new("(ssa{sv})", UUID_A, "m", NULL));
    while (!strstr(heard->str, "seeding") && g_get_monotonic_time() < end)
        g_main_context_iteration(NULL, FALSE);
    g_assert_cmpstr(heard->str, ==, "m:hashing m:seeding ");
    volumes = call(c, "GetVolume", g_variant_new("(ss)", UUID_A, "m"), &err);
    g_assert_no_error(err);
    props = g_variant_get_child_value(volumes, 0);
    g_assert_true(g_variant_lookup(props, "state", "&s", &state));
    g_assert_true(g_variant_lookup(props, "size", "t", &size));
    g_assert_cmpstr(state, ==, "seeding");
    g_assert_cmpuint(size, ==, 100000);
    g_assert_false(g_variant_lookup(props, "error", "&s", &state));
    metainfo = call(c, "GetMetainfo", g_variant_new("(ss)", UUID_A, "m"), &err);
    g_assert_no_error(err);
    bytes = g_variant_get_data_as_bytes(metainfo);
    g_assert_cmpuint(g_bytes_get_size(bytes), >, 100);
    succeeds(c, "RemoveVolume", g_variant_new("(ss)", UUID_A, "m"));
    /* what was told about by bytes comes back by bytes */
    array = g_variant_get_child_value(metainfo, 0);
    assertFails(c, "FetchMetainfo", g_variant_new("(ss@ay)", UUID_A, "", array), "Exists");       /* the file is there */
    succeeds(c, "ClosePool", g_variant_new("(sb)", UUID_A, FALSE));
    assertFails(c, "ListVolumes", g_variant_new("(s)", UUID_A), "NoPool");
}

static void
testErrors(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    static const struct {
        const char *method;
        const char *args;
        const char *error;
    } cases[] = {
        { "OpenPool", "('x', 'a', '/tmp', @a{sv} {})", "InvalidOption" },
        { "OpenPool", "('" UUID_B "', 'b', 'tmp', @a{sv} {})", "InvalidOption" },
        { "OpenPool", "('" UUID_B "', 'b', '/nonexistent', @a{sv} {})", "Failed" },
        { "OpenPool", "('" UUID_B "', 'b', '/tmp', {'nonsense': <1>})", "InvalidOption" },
        { "OpenPool", "('" UUID_B "', 'b', '/tmp', {'dht': <'yes'>})", "InvalidOption" },
        { "ClosePool", "('" UUID_B "', false)", "NoPool" },
        { "ListVolumes", "('" UUID_B "',)", "NoPool" },
        { "GetVolume", "('" UUID_A "', 'x')", "NoVolume" },
        { "GetMetainfo", "('" UUID_A "', 'x')", "NoVolume" },
        { "RemoveVolume", "('" UUID_A "', 'x')", "NoVolume" },
        { "PrioritizeVolume", "('" UUID_A "', 'x')", "NoVolume" },
        { "PublishVolume", "('" UUID_A "', 'x', @a{sv} {})", "NoVolume" },
        { "PublishVolume", "('" UUID_A "', '../x', @a{sv} {})", "InvalidName" },
        { "PublishVolume", "('" UUID_A "', 'x', {'capacity': <'big'>})", "InvalidOption" },
        { "FetchMagnet", "('" UUID_A "', 'x', 'http://x', @a{sv} {})", "InvalidMagnet" },
        { "FetchMagnet", "('" UUID_A "', '', 'magnet:?xt=', @a{sv} {})", "InvalidName" },
        { "FetchMetainfo", "('" UUID_A "', 'x', @ay [])", "InvalidMetainfo" },
        { "FetchMetainfo", "('" UUID_A "', 'x', b'd4:infoi1ee')", "InvalidMetainfo" },
        /* malformed: other types, too few, unknown */
        { "OpenPool", "('x',)", "org.freedesktop.DBus.Error.InvalidArgs" },
        { "GetVolume", "(1, 2)", "org.freedesktop.DBus.Error.InvalidArgs" },
        { "FetchMetainfo", "('" UUID_A "', 'x', 'text')",
          "org.freedesktop.DBus.Error.InvalidArgs" },
        { "Nonsense", "()", "org.freedesktop.DBus.Error.UnknownMethod" },
    };
    g_autoptr(GDBusConnection) c = connectTo(f);
    g_autoptr(GError) err = NULL;
    g_autoptr(GVariant) ret = NULL;
    gsize i;

    succeeds(c, "OpenPool", openArgs(f));
    for (i = 0; i < G_N_ELEMENTS(cases); i++)
        assertFails(c, cases[i].method, parse(cases[i].args), cases[i].error);
    ret = call(c, "ListVolumes", g_variant_new("(s)", UUID_A), &err);
    g_assert_no_error(err);
    g_assert_cmpuint(count(ret), ==, 0);
}

/* What is no D-Bus at all. */
static void
testGarbage(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    g_autoptr(GDBusConnection) c = NULL;
    g_autofree char *junk = g_strnfill(100000, 'x');
    gint64 end = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    char byte;

    g_strlcpy(addr.sun_path, f->path, sizeof(addr.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *) &addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(send(fd, junk, 100000, MSG_NOSIGNAL), >, 0);
    g_assert_cmpint(shutdown(fd, SHUT_WR), ==, 0);
    while (g_get_monotonic_time() < end) {
        ssize_t n = recv(fd, &byte, 1, 0);

        if (n == 0 || (n < 0 && errno != EAGAIN))
            break;
        g_main_context_iteration(NULL, FALSE);
    }
    g_assert_cmpint(g_get_monotonic_time(), <, end);
    close(fd);
    c = connectTo(f);            /* others are not disturbed */
    g_assert_nonnull(c);
}

/* Calls that are none: an error each, and nothing else. */
static void
testMalformed(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    static const struct {
        const char *method, *args;
    } calls[] = {
        { "OpenPool", "(1, 2)" },
        { "OpenPool", "('', '', '', @a{sv} {})" },
        { "OpenPool", "('x', 'x', 'relative', @a{sv} {})" },
        { "OpenPool", "('b7b1a0f2-9d4d-4c3e-8a60-000000000000', 'x', '/nonexistent/../etc', @a{sv} {})" },
        { "OpenPool", "('b7b1a0f2-9d4d-4c3e-8a60-000000000000', 'x', '/tmp', {'allow': <1>})" },
        { "OpenPool", "('b7b1a0f2-9d4d-4c3e-8a60-000000000000', 'x', '/tmp', {'webseeds': <['http://h/']>, 'tls': <true>})" },
        { "GetVolume", "('x', '../../etc/passwd')" },
        { "GetVolume", "('x', '\\u202egpj.exe')" },
        { "Publish", "@mv nothing" },
        { "NoSuchMethod", "('x',)" },
        { "ClosePool", "(true, 'x')" },
    };
    g_autoptr(GDBusConnection) c = connectTo(f);
    g_autofree char *huge = g_strnfill(16 * 1024 * 1024, 'x');
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(calls); i++) {
        g_autoptr(GVariant) args = parse(calls[i].args);
        g_autoptr(GError) err = NULL;
        g_autoptr(GVariant) ret = NULL;

        if (g_variant_is_of_type(args, G_VARIANT_TYPE_TUPLE))
            ret = call(c, calls[i].method, g_variant_ref(args), &err);
        else
            ret = call(c, calls[i].method, g_variant_new("(v)", args), &err);
        g_assert_null(ret);
        g_assert_nonnull(err);
    }
    for (i = 0; i < 3; i++) {
        g_autoptr(GError) err = NULL;
        g_autoptr(GVariant) ret = call(c, "GetVolume", g_variant_new("(ss)", "x", huge), &err);

        g_assert_null(ret);
        g_assert_nonnull(err);
    }
    succeeds(c, "ListPools", NULL);
}

static gsize
residentMiB(void)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) fields = NULL;

    g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
    fields = g_strsplit(text, " ", 3);
    return g_ascii_strtoull(fields[1], NULL, 10) * sysconf(_SC_PAGESIZE) >> 20;
}

/* Somebody who calls and calls; the others are served meanwhile. */
static void
testFlood(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GDBusConnection) flooder = connectTo(f);
    g_autoptr(GDBusConnection) other = connectTo(f);
    gsize before = residentMiB();
    guint i;

    for (i = 0; i < 10000; i++) {
        g_autoptr(GDBusMessage) message =
            g_dbus_message_new_method_call(NULL, VIR_TORRENT_DBUS_PATH, "org.libvirt.Torrentd1", "GetVolume");
        g_autoptr(GError) err = NULL;

        g_dbus_message_set_body(message, g_variant_new("(ss)", "no such pool", "no such volume"));
        g_dbus_connection_send_message(flooder, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, &err);
        g_assert_no_error(err);
        if (i % 2500 == 0)
            succeeds(other, "ListPools", NULL);
    }
    succeeds(other, "ListPools", NULL);
    succeeds(flooder, "ListPools", NULL);       /* which comes after all of them */
    /* client and server, both are in here */
    g_assert_cmpuint(residentMiB(), <, before + 128);
}

static void
testTooMany(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    g_autoptr(GDBusConnection) one = connectTo(f);
    g_autoptr(GDBusConnection) two = connectTo(f);
    g_autoptr(GDBusConnection) three = NULL;
    GAsyncResult *result = NULL;
    gint64 end;

    three = tryConnect(f, NULL);
    g_assert_null(three);
    g_assert_cmpuint(virTorrentServiceCountClients(f->service), ==, 2);
    /* one goes, another one may come */
    g_dbus_connection_close(one, NULL, keep, &result);
    await(&result);
    g_object_unref(result);
    end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (virTorrentServiceCountClients(f->service) == 2 && g_get_monotonic_time() < end)
        g_main_context_iteration(NULL, FALSE);
    three = connectTo(f);
    g_assert_nonnull(three);
}

/* Who hangs up as soon as he is connected is not counted for ever. */
static void
testComeAndGo(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    gint64 end;
    guint i;

    for (i = 0; i < 200; i++) {
        g_autoptr(GDBusConnection) connection = connectTo(f);

        g_dbus_connection_close(connection, NULL, NULL, NULL);
        if (i % 2)               /* the other thread sees the end before the main loop the beginning */
            g_usleep(1000);
    }
    end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (virTorrentServiceCountClients(f->service) > 0 && g_get_monotonic_time() < end)
        g_main_context_iteration(NULL, FALSE);
    g_assert_cmpuint(virTorrentServiceCountClients(f->service), ==, 0);
}

/* Another user: dropped before he has said a word. */
static void
testWrongUser(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    int status = -1;
    pid_t pid;

    if (geteuid() != 0) {
        g_test_message("left out: needs root");
        return;
    }
    g_assert_cmpint(chmod(f->path, 0666), ==, 0);
    g_assert_cmpint(chmod(f->d.dir, 0711), ==, 0);
    pid = fork();
    if (pid == 0) {
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        char byte;
        int fd;

        if (setgroups(0, NULL) < 0 || setgid(OTHER_UID) < 0 || setuid(OTHER_UID) < 0)
            _exit(3);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        g_strlcpy(addr.sun_path, f->path, sizeof(addr.sun_path));
        if (connect(fd, (struct sockaddr *) &addr, sizeof(addr)) < 0)
            _exit(4);
        _exit(recv(fd, &byte, 1, 0) == 0 ? 0 : 5);
    }
    while (waitpid(pid, &status, WNOHANG) == 0 && g_get_monotonic_time() < end)
        g_main_context_iteration(NULL, FALSE);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpuint(virTorrentServiceCountClients(f->service), ==, 0);
}

/* gdbus and busctl greet first. */
static void
testGreeting(Fixture *f, gconstpointer unused G_GNUC_UNUSED)
{
    GAsyncResult *result = NULL;
    g_autoptr(GDBusConnection) c = NULL;
    g_autoptr(GError) err = NULL;

    g_dbus_connection_new_for_address(f->address,
                                      G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                      G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                                      NULL, NULL, keep, &result);
    c = g_dbus_connection_new_for_address_finish(await(&result), &err);
    g_object_unref(result);
    g_assert_no_error(err);
    g_assert_nonnull(g_dbus_connection_get_unique_name(c));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR);
#define ADD(path, func, clients) \
    g_test_add("/service/" path, Fixture, GUINT_TO_POINTER(clients), setup, func, teardown)
    ADD("life", testLife, 0);
    ADD("errors", testErrors, 0);
    ADD("garbage", testGarbage, 0);
    ADD("malformed", testMalformed, 0);
    ADD("flood", testFlood, 0);
    ADD("too-many-clients", testTooMany, 2);
    ADD("come-and-go", testComeAndGo, 0);
    ADD("wrong-user", testWrongUser, 0);
    ADD("greeting", testGreeting, 0);
    return g_test_run();
}
