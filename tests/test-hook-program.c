/*
 * test-hook-program.c: virt-torrentpool-hook, run as libvirt runs it
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * At the other end of the socket stands a small server of ours, because what
 * counts here are answers that the real virttorrentd gives only at bad times.
 * It is built from the D-Bus XML itself, so that GDBus refuses calls that are
 * not in the contract.  It runs in a thread with a main context of its own.
 */

#include <config.h>

#include <gio/gio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "image-util.h"

#define DBUS_XML SRCDIR "/../src/torrentd/org.libvirt.Torrentd1.xml"
#define OBJECT "/org/libvirt/Torrentd1"
#define INTERFACE "org.libvirt.Torrentd1"
#define UUID "6f6b1c9e-0000-4000-8000-000000000001"

typedef struct {
    Scratch scratch;
    char *socket;
    char *config;
    char *pool;                  /* the directory */

    GThread *thread;             /* NULL: nobody listens */
    GMainContext *context;
    GMainLoop *loop;
    GDBusServer *server;
    GDBusNodeInfo *node;
    GMutex lock;                 /* of all below */
    guint connections;
    guint polls;
    char *prioritized;           /* the last one's name */
    const char *state;           /* of each volume; NULL: there is none */
    const char *arrives;         /* file that is complete at the third poll */
    gboolean no_pool;
    char *fetched;               /* the last FetchMagnet's name and link */
    const char *magnet;          /* of each volume, or NULL */

    int status;                  /* of the program that ran last */
    char *out;
    char *err;
    double seconds;
} Fixture;


/* --- the other end --- */

static GVariant *
serverVolume(Fixture *f)
{
    GVariantBuilder b;

    if (f->arrives && ++f->polls == 3)
        scratchWrite(&f->scratch, f->arrives, "master", 6);

    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&b, "{sv}", "state", g_variant_new_string(f->state));
    g_variant_builder_add(&b, "{sv}", "progress", g_variant_new_double(41.25));
    if (f->magnet)
        g_variant_builder_add(&b, "{sv}", "magnet", g_variant_new_string(f->magnet));
    if (g_str_equal(f->state, "failed"))
        g_variant_builder_add(&b, "{sv}", "error", g_variant_new_string("the disk is full"));
    return g_variant_new("(a{sv})", &b);
}


static void
serverCall(GDBusConnection *connection G_GNUC_UNUSED,
           const char *sender G_GNUC_UNUSED,
           const char *path G_GNUC_UNUSED,
           const char *interface G_GNUC_UNUSED,
           const char *method,
           GVariant *args,
           GDBusMethodInvocation *invocation,
           gpointer data)
{
    Fixture *f = data;
    GVariantBuilder pools;

    g_mutex_lock(&f->lock);
    if (g_str_equal(method, "ListPools")) {
        g_variant_builder_init(&pools, G_VARIANT_TYPE("a(sss)"));
        if (!f->no_pool)
            g_variant_builder_add(&pools, "(sss)", UUID, "masters", f->pool);
        g_dbus_method_invocation_return_value(invocation, g_variant_new("(a(sss))", &pools));
    } else if (g_str_equal(method, "FetchMagnet")) {
        const char *name;
        const char *magnet;

        g_variant_get(args, "(&s&s&s@a{sv})", NULL, &name, &magnet, NULL);
        g_free(f->fetched);
        f->fetched = g_strdup_printf("%s %s", name, magnet);
        f->state = "fetching";
        g_dbus_method_invocation_return_value(invocation, NULL);
    } else if (!f->state) {
        g_dbus_method_invocation_return_dbus_error(invocation, INTERFACE ".Error.NoVolume", "no such volume");
    } else if (g_str_equal(method, "PrioritizeVolume")) {
        g_free(f->prioritized);
        g_variant_get(args, "(ss)", NULL, &f->prioritized);
        g_dbus_method_invocation_return_value(invocation, NULL);
    } else {
        g_assert_cmpstr(method, ==, "GetVolume");
        g_dbus_method_invocation_return_value(invocation, serverVolume(f));
    }
    g_mutex_unlock(&f->lock);
}


static gboolean
serverConnected(GDBusServer *server G_GNUC_UNUSED, GDBusConnection *connection, gpointer data)
{
    static const GDBusInterfaceVTable vtable = { .method_call = serverCall };
    Fixture *f = data;

    g_mutex_lock(&f->lock);
    f->connections++;
    g_mutex_unlock(&f->lock);
    g_assert_cmpuint(g_dbus_connection_register_object(connection, OBJECT, f->node->interfaces[0],
                                                       &vtable, f, NULL, NULL), >, 0);
    g_object_ref(connection);
    return TRUE;
}


static gpointer
serverThread(gpointer data)
{
    Fixture *f = data;

    g_main_context_push_thread_default(f->context);
    g_main_loop_run(f->loop);
    g_main_context_pop_thread_default(f->context);
    return NULL;
}


static void
serverStart(Fixture *f)
{
    g_autofree char *address = g_strdup_printf("unix:path=%s", f->socket);
    g_autofree char *guid = g_dbus_generate_guid();
    g_autofree char *xml = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(g_file_get_contents(DBUS_XML, &xml, NULL, NULL));
    f->node = g_dbus_node_info_new_for_xml(xml, &error);
    g_assert_no_error(error);

    f->context = g_main_context_new();
    f->loop = g_main_loop_new(f->context, FALSE);
    g_main_context_push_thread_default(f->context);
    f->server = g_dbus_server_new_sync(address, G_DBUS_SERVER_FLAGS_NONE, guid, NULL, NULL, &error);
    g_assert_no_error(error);
    g_signal_connect(f->server, "new-connection", G_CALLBACK(serverConnected), f);
    g_dbus_server_start(f->server);
    g_main_context_pop_thread_default(f->context);
    f->thread = g_thread_new("server", serverThread, f);
}


static void
serverStop(Fixture *f)
{
    if (!f->thread)
        return;

    g_main_loop_quit(f->loop);
    g_thread_join(f->thread);
    g_dbus_server_stop(f->server);
    g_object_unref(f->server);
    g_main_loop_unref(f->loop);
    g_main_context_unref(f->context);
    g_dbus_node_info_unref(f->node);
}


/* --- the program --- */

static void
hookRun(Fixture *f, const char *operation, const char *sub_operation, const char *xml)
{
    g_autofree char *program = g_test_build_filename(G_TEST_BUILT, "..", "src", "virt-torrentpool-hook", NULL);
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE |
                                                                        G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_autoptr(GSubprocess) child = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *run = g_build_filename(f->scratch.dir, "run", NULL);
    gint64 start = g_get_monotonic_time();
    int input = memfd_create("domain", MFD_CLOEXEC);

    /* No pipe: a hook that ends without reading would break it. */
    g_assert_cmpint(input, >=, 0);
    g_assert_cmpint(write(input, xml, strlen(xml)), ==, strlen(xml));
    g_assert_cmpint(lseek(input, 0, SEEK_SET), ==, 0);
    g_subprocess_launcher_take_stdin_fd(launcher, input);

    g_subprocess_launcher_setenv(launcher, "VIRTTORRENTD_SOCKET", f->socket, TRUE);
    g_subprocess_launcher_setenv(launcher, "VIRTTORRENTD_CONFIG", f->config, TRUE);
    g_subprocess_launcher_setenv(launcher, "VIRT_TORRENTPOOL_RUN", run, TRUE);
    g_subprocess_launcher_setenv(launcher, "VIRT_TORRENTPOOL_STATUS", f->scratch.dir, TRUE);
    g_subprocess_launcher_setenv(launcher, "LC_ALL", "C", TRUE);
    child = g_subprocess_launcher_spawn(launcher, &error, program, "web01", operation, sub_operation, "-", NULL);
    g_assert_no_error(error);

    g_clear_pointer(&f->out, g_free);
    g_clear_pointer(&f->err, g_free);
    g_subprocess_communicate_utf8(child, NULL, NULL, &f->out, &f->err, NULL);
    g_subprocess_wait(child, NULL, NULL);
    g_assert_true(g_subprocess_get_if_exited(child));
    f->status = g_subprocess_get_exit_status(child);
    f->seconds = (g_get_monotonic_time() - start) / 1e6;
    g_test_message("%d after %.3f s: %s", f->status, f->seconds, f->err);
}


/* Its stdout must stay empty, but where it changes the domain. */
static void
hook(Fixture *f, const char *operation, const char *sub_operation, const char *xml)
{
    hookRun(f, operation, sub_operation, xml);
    g_assert_cmpstr(f->out, ==, "");
}


static void
prepare(Fixture *f, const char *disk)
{
    g_autofree char *xml = g_strdup_printf("<domain type='qemu'><name>web01</name><devices>%s</devices></domain>", disk);

    hook(f, "prepare", "begin", xml);
}


/* Starts a guest with the file @name as disk; @more goes into <disk>. */
static void
prepareFile(Fixture *f, const char *name, const char *format, const char *attributes, const char *more)
{
    g_autofree char *disk = g_strdup_printf("<disk type='file' %s><driver type='%s'/><source file='%s/%s'/>"
                                            "<target dev='vda'/>%s</disk>",
                                            attributes, format, f->scratch.dir, name, more);

    prepare(f, disk);
}


static void
assertPassed(Fixture *f)
{
    g_assert_cmpstr(f->err, ==, "");
    g_assert_cmpint(f->status, ==, 0);
}


/* One line on stderr that names the guest and has all of the strings, up to NULL, in it. */
static void G_GNUC_NULL_TERMINATED
assertFailed(Fixture *f, ...)
{
    const char *word;
    va_list ap;

    g_assert_cmpint(f->status, ==, 1);
    g_assert_true(g_str_has_prefix(f->err, "torrentpool: guest 'web01': "));
    g_assert_true(strchr(f->err, '\n') == f->err + strlen(f->err) - 1);
    va_start(ap, f);
    while ((word = va_arg(ap, const char *)))
        if (!strstr(f->err, word))
            g_error("no '%s' in: %s", word, f->err);
    va_end(ap);
}


static void
fixtureSetUp(Fixture *f, gconstpointer data)
{
    VirImageOverlayOptions options = {
        .capacity = 1024 * 1024,
        .backing_file = "coming.qcow2",
        .backing_format = "qcow2",
        .mode = 0600,
        .uid = -1,
        .gid = -1,
    };
    int dirfd;

    scratchSetUp(&f->scratch, NULL);
    g_mutex_init(&f->lock);
    f->socket = g_build_filename(f->scratch.dir, "sock", NULL);
    f->config = g_build_filename(f->scratch.dir, "conf", NULL);
    f->pool = g_build_filename(f->scratch.dir, "pool", NULL);
    g_assert_cmpint(mkdirat(f->scratch.dirfd, "pool", 0755), ==, 0);
    g_assert_cmpint(mkdirat(f->scratch.dirfd, "pool/.torrentpool", 0755), ==, 0);
    scratchWrite(&f->scratch, "conf", "[hook]\ntimeout = 1\n", 19);

    scratchWrite(&f->scratch, "pool/master", "master", 6);
    g_assert_cmpint(fchmodat(f->scratch.dirfd, "pool/master", 0444, 0), ==, 0);
    scratchWrite(&f->scratch, "plain", "plain", 5);
    dirfd = open(f->pool, O_RDONLY | O_DIRECTORY);
    g_assert_true(virImageOverlayCreate(dirfd, "waiting", &options, NULL));
    options.backing_file = "master";
    options.backing_format = "raw";
    g_assert_true(virImageOverlayCreate(dirfd, "clone", &options, NULL));
    close(dirfd);

    f->state = "fetching";
    if (data)
        serverStart(f);
}


static void
fixtureTearDown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    serverStop(f);
    scratchTearDown(&f->scratch, NULL);
    g_mutex_clear(&f->lock);
    g_free(f->socket);
    g_free(f->config);
    g_free(f->pool);
    g_free(f->prioritized);
    g_free(f->fetched);
    g_free(f->out);
    g_free(f->err);
}


/* --- tests --- */

static void
testElsewhere(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    prepareFile(f, "plain", "raw", "", "");
    assertPassed(f);
    prepareFile(f, "not-there", "qcow2", "", "");
    assertPassed(f);
    prepare(f, "");
    assertPassed(f);
    g_assert_cmpuint(f->connections, ==, 0);
}


static void
testClone(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    prepareFile(f, "pool/clone", "qcow2", "", "");
    assertPassed(f);
    g_assert_cmpuint(f->connections, ==, 0);
}


/* Of a clone the guest would see the container. */
static void
testRawClone(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    prepareFile(f, "pool/clone", "raw", "", "");
    assertFailed(f, "'vda'", "/pool/clone'", "<driver name='qemu' type='qcow2'/>", NULL);
    prepareFile(f, "pool/clone", "raw", "", "<readonly/>");
    assertFailed(f, "type='qcow2'", NULL);

    /* but a guest may have written anything into a raw disk */
    scratchDo(&f->scratch, "qemu-img create -q -f qcow2 pool/private 1M");
    prepareFile(f, "pool/private", "raw", "", "");
    assertPassed(f);
    prepareFile(f, "pool/waiting", "raw", "", "");
    assertPassed(f);
    g_assert_cmpint(renameat(f->scratch.dirfd, "pool/clone", f->scratch.dirfd, "clone"), ==, 0);
    prepareFile(f, "clone", "raw", "", "");
    assertPassed(f);
}


static void
testWritableMaster(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    prepareFile(f, "pool/master", "raw", "", "");
    assertFailed(f, "'vda'", f->pool, "master", "vol-clone", NULL);
    g_assert_cmpint(symlinkat("pool/master", f->scratch.dirfd, "link"), ==, 0);
    prepareFile(f, "link", "raw", "", "");
    assertFailed(f, "vol-clone", NULL);
    g_assert_cmpuint(f->connections, ==, 0);
}


static void
testReadOnlyMaster(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    prepareFile(f, "pool/master", "raw", "", "<readonly/>");
    assertPassed(f);
    prepareFile(f, "pool/master", "raw", "", "<transient/>");
    assertPassed(f);
    prepareFile(f, "pool/master", "raw", "device='cdrom'", "");
    assertPassed(f);
}


static void
testVolumeDisk(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    prepare(f, "<disk type='volume'><source pool='masters' volume='master'/><target dev='vdb'/></disk>");
    assertFailed(f, "'vdb'", "vol-clone", NULL);
    prepare(f, "<disk type='volume'><source pool='other' volume='master'/><target dev='vdb'/></disk>");
    assertPassed(f);
    prepare(f, "<disk type='volume'><source pool='masters' volume='../pool/master'/></disk>");
    assertPassed(f);
}


/* Other pools' guests start without virttorrentd. */
static void
testVolumeDiskAlone(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    prepare(f, "<disk type='volume'><source pool='default' volume='disk'/></disk>");
    assertPassed(f);
}


static void
testWaits(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    scratchWrite(&f->scratch, "conf", "[hook]\ntimeout = 60\n", 20);
    f->arrives = "pool/coming.qcow2";
    prepareFile(f, "pool/waiting", "qcow2", "", "");
    assertPassed(f);
    g_assert_cmpstr(f->prioritized, ==, "coming.qcow2");
    g_assert_cmpuint(f->polls, ==, 3);
    g_assert_cmpuint(f->connections, ==, 1);
}


/* The disk itself is what comes. */
static void
testWaitsForDisk(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    scratchWrite(&f->scratch, "conf", "[hook]\ntimeout = 60\n", 20);
    f->arrives = "pool/coming.qcow2";
    prepareFile(f, "pool/coming.qcow2", "qcow2", "", "<readonly/>");
    assertPassed(f);
    g_assert_cmpuint(f->polls, ==, 3);

    scratchWrite(&f->scratch, "conf", "[hook]\ntimeout = 0\n", 19);
    prepareFile(f, "pool/coming2.qcow2", "qcow2", "", "<readonly/>");
    assertFailed(f, "the volume", "coming2.qcow2", NULL);
}


static void
testTimeIsOver(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    prepareFile(f, "pool/waiting", "qcow2", "", "");
    assertFailed(f, "coming.qcow2", "waiting", "41.2 %", "fetching", NULL);
    g_assert_cmpfloat(f->seconds, >=, 1.0);
    g_assert_cmpfloat(f->seconds, <, 10.0);
}


static void
testFetchFailed(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->state = "failed";
    prepareFile(f, "pool/waiting", "qcow2", "", "");
    assertFailed(f, "coming.qcow2", "the disk is full", NULL);
}


static void
testUnknownMaster(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->state = NULL;
    prepareFile(f, "pool/waiting", "qcow2", "", "");
    assertFailed(f, "coming.qcow2", "does not know it", "vol-create", NULL);
}


/* ... but the domain tells where it can be had. */
static void
testToldMaster(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *xml = NULL;

    f->state = NULL;
    xml = g_strdup_printf("<domain type='qemu'><metadata><t:guest xmlns:t='http://libvirt.org/schemas/storagepool/torrent/1.0'>"
                          "<t:disk target='vda' master='coming.qcow2' magnet='magnet:?x'/></t:guest></metadata><devices>"
                          "<disk type='file'><driver type='qcow2'/><source file='%s/waiting'/><target dev='vda'/></disk>"
                          "</devices></domain>", f->pool);
    hook(f, "prepare", "begin", xml);
    g_assert_cmpstr(f->fetched, ==, "coming.qcow2 magnet:?x");
    g_assert_cmpstr(f->prioritized, ==, "coming.qcow2");
    assertFailed(f, "coming.qcow2", "41.2 %", NULL);
}


static void
testPoolNotStarted(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->no_pool = TRUE;
    prepareFile(f, "pool/waiting", "qcow2", "", "");
    assertFailed(f, "coming.qcow2", "pool-start", NULL);
}


static void
testOptional(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *disk = g_strdup_printf("<disk type='file'><source file='%s/coming.qcow2' startupPolicy='optional'/></disk>",
                                            f->pool);

    prepare(f, disk);
    assertPassed(f);
    g_assert_cmpuint(f->connections, ==, 0);
}


static void
testNobodyListens(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    prepareFile(f, "pool/waiting", "qcow2", "", "");
    assertFailed(f, "coming.qcow2", "does not answer", f->socket, NULL);
    g_assert_cmpfloat(f->seconds, <, 5.0);
}


/* Somebody took the socket and sleeps. */
static void
testNobodyAnswers(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(addr.sun_path, f->socket, sizeof(addr.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fd, 5), ==, 0);
    prepareFile(f, "pool/waiting", "qcow2", "", "");
    assertFailed(f, "coming.qcow2", "does not answer", NULL);
    g_assert_cmpfloat(f->seconds, <, 30.0);
    close(fd);
}


static void
testBadConfig(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    scratchWrite(&f->scratch, "conf", "[hook]\ntimeout = long\n", 22);
    prepareFile(f, "pool/clone", "qcow2", "", "");
    assertPassed(f);
    prepareFile(f, "pool/waiting", "qcow2", "", "");
    assertFailed(f, f->config, "'long'", NULL);
}


static void
testBadXml(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    hook(f, "prepare", "begin", "<domain>");
    assertFailed(f, "XML", NULL);
    hook(f, "prepare", "begin", "");
    assertFailed(f, "XML", NULL);
    hook(f, "migrate", "begin", "<domain>");
    assertFailed(f, "XML", NULL);
}


/* --- the destination of a migration --- */

#define DISK(name, target) \
    "<disk type='file'><driver type='qcow2'/><source file='%1$s/" name "'/><target dev='" target "'/></disk>"
#define TOLD(disks) \
    "<metadata><t:guest xmlns:t='http://libvirt.org/schemas/storagepool/torrent/1.0'>" disks "</t:guest></metadata>"
#define ON_MASTER(target) \
    "<t:disk target='" target "' master='master' format='raw' capacity='1048576'/>"
#define COMING "<t:disk target='vda' master='coming.qcow2' magnet='magnet:?xt=urn:btih:0&amp;dn=x'/>"

/* @body has the pool's directory where it says %1$s. */
static void
migrateRun(Fixture *f, const char *type, const char *body)
{
    g_auto(GStrv) parts = g_strsplit(body, "%1$s", -1);
    g_autofree char *filled = g_strjoinv(f->pool, parts);
    g_autofree char *xml = g_strdup_printf("<domain type='%s'><name>web01</name>%s</domain>", type, filled);

    hookRun(f, "migrate", "begin", xml);
}


static void
migrate(Fixture *f, const char *body)
{
    migrateRun(f, "kvm", body);
    g_assert_cmpstr(f->out, ==, "");
}


static gboolean
inPool(Fixture *f, const char *name)
{
    g_autofree char *path = g_build_filename(f->pool, name, NULL);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}


static void
assertOverlay(Fixture *f, const char *name)
{
    g_autofree char *path = g_build_filename(f->pool, name, NULL);
    g_autoptr(VirImageInfo) info = NULL;
    int fd = open(path, O_RDONLY);

    g_assert_cmpint(fd, >=, 0);
    info = virImageProbe(fd, NULL);
    close(fd);
    g_assert_nonnull(info);
    g_assert_cmpstr(info->format, ==, "qcow2");
    g_assert_cmpuint(info->capacity, ==, 1024 * 1024);
    g_assert_cmpstr(info->backing_file, ==, "master");
    g_assert_cmpstr(info->backing_format, ==, "raw");
}


/* How many notes there are; ages them by @age_s. */
static guint
notes(Fixture *f, gint64 age_s)
{
    g_autofree char *run = g_build_filename(f->scratch.dir, "run", NULL);
    g_autoptr(GDir) dir = g_dir_open(run, 0, NULL);
    const char *name;
    guint n = 0;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(run, name, NULL);
        g_autoptr(GKeyFile) note = g_key_file_new();

        g_assert_true(g_key_file_load_from_file(note, file, G_KEY_FILE_NONE, NULL));
        g_key_file_set_int64(note, "guest", "time",
                             g_key_file_get_int64(note, "guest", "time", NULL) - age_s * G_TIME_SPAN_SECOND);
        g_assert_true(g_key_file_save_to_file(note, file, NULL));
        n++;
    }
    return n;
}


/* What libvirt keeps of the guest. */
static void
status(Fixture *f, const char *state, const char *job)
{
    g_autofree char *xml = g_strdup_printf("<domstatus %s pid='1'><job type='none' %s/></domstatus>", state, job);

    scratchWrite(&f->scratch, "web01.xml", xml, strlen(xml));
}


static void
grow(Fixture *f, const char *name)
{
    g_autofree char *path = g_build_filename(f->pool, name, NULL);

    g_assert_cmpint(truncate(path, 4 * 1024 * 1024), ==, 0);
}


static void
testMigrateMakes(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    migrate(f, TOLD(ON_MASTER("vda")) "<devices>" DISK("new", "vda") "</devices>");
    assertPassed(f);
    assertOverlay(f, "new");
    g_assert_cmpuint(notes(f, 0), ==, 1);
    g_assert_cmpuint(f->connections, ==, 0);
}


/* What the user wrote as <backingStore> does as well. */
static void
testMigrateBackingStore(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    migrate(f, TOLD("<t:disk target='vda' capacity='1048576'/>")
            "<devices><disk type='file'><driver type='qcow2'/><source file='%1$s/new'/>"
            "<backingStore type='file'><format type='raw'/><source file='%1$s/master'/><backingStore/></backingStore>"
            "<target dev='vda'/></disk></devices>");
    assertPassed(f);
    assertOverlay(f, "new");
}


static void
testMigrateNothing(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const bodies[] = {
        /* told nothing, or of another disk */
        "<devices>" DISK("new", "vda") "</devices>",
        TOLD(ON_MASTER("vdb")) "<devices>" DISK("new", "vda") "</devices>",
        /* not in a pool; a master elsewhere */
        TOLD(ON_MASTER("vda")) "<devices>" DISK("../new", "vda") "</devices>",
        TOLD("<t:disk target='vda' master='../plain' format='raw'/>") "<devices>" DISK("new", "vda") "</devices>",
        TOLD("<t:disk target='vda' master='/etc/passwd' format='raw'/>") "<devices>" DISK("new", "vda") "</devices>",
        /* not libvirt's metadata */
        "<metadata><guest><disk target='vda' master='master' format='raw'/></guest></metadata>"
        "<devices>" DISK("new", "vda") "</devices>",
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(bodies); i++) {
        migrate(f, bodies[i]);
        assertPassed(f);
        g_assert_false(inPool(f, "new"));
    }
    /* Xen copies no storage */
    migrateRun(f, "xen", TOLD(ON_MASTER("vda")) "<devices>" DISK("new", "vda") "</devices>");
    assertPassed(f);
    g_assert_false(inPool(f, "new"));
    g_assert_cmpuint(notes(f, 0), ==, 0);
}


static void
testMigrateExists(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *path = g_build_filename(f->pool, "mine", NULL);
    g_autofree char *content = NULL;

    scratchWrite(&f->scratch, "pool/mine", "mine", 4);
    migrate(f, TOLD(ON_MASTER("vda")) "<devices>" DISK("mine", "vda") "</devices>");
    assertPassed(f);
    hook(f, "prepare", "begin", "<domain/>");
    hook(f, "stopped", "end", "<domain/>");
    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "mine");
}


static void
testMigrateFetches(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    scratchWrite(&f->scratch, "conf", "[hook]\ntimeout = 60\n", 20);
    f->state = NULL;
    f->arrives = "pool/coming.qcow2";
    migrate(f, TOLD(COMING) "<devices>" DISK("new", "vda") "</devices>");
    /* what comes is no qcow2 image, and not frozen */
    assertFailed(f, "'vda'", "coming.qcow2", "no master", NULL);
    g_assert_cmpstr(f->fetched, ==, "coming.qcow2 magnet:?xt=urn:btih:0&dn=x");
    g_assert_cmpstr(f->prioritized, ==, "coming.qcow2");
    g_assert_false(inPool(f, "new"));

    g_assert_cmpint(fchmodat(f->scratch.dirfd, "pool/coming.qcow2", 0444, 0), ==, 0);
    migrate(f, TOLD(COMING) "<devices>" DISK("new", "vda") "</devices>");
    assertFailed(f, "'vda'", "coming.qcow2", "format", NULL);
    g_assert_false(inPool(f, "new"));
}


static void
testMigrateUnknown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->state = NULL;
    migrate(f, TOLD("<t:disk target='vda' master='coming.qcow2'/>") "<devices>" DISK("new", "vda") "</devices>");
    assertFailed(f, "coming.qcow2", "does not know it", "vol-create", NULL);
    g_assert_null(f->fetched);
    g_assert_false(inPool(f, "new"));
}


/* All disks or none. */
static void
testMigrateUndone(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    scratchWrite(&f->scratch, "pool/private", "private", 7);
    migrate(f, TOLD(ON_MASTER("vda") "<t:disk target='vdb' master='private' format='raw'/>")
            "<devices>" DISK("new", "vda") DISK("new2", "vdb") "</devices>");
    assertFailed(f, "'vdb'", "no master", NULL);
    g_assert_false(inPool(f, "new"));
    g_assert_false(inPool(f, "new2"));
    g_assert_cmpuint(notes(f, 0), ==, 0);
}


static void
testMigrateVolume(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    migrateRun(f, "kvm", TOLD(ON_MASTER("vda"))
               "<devices><disk type='volume'><driver type='qcow2'/><source pool='masters' volume='new' index='1'/>"
               "<target dev='vda'/></disk><disk type='volume'><source pool='other' volume='x'/></disk></devices>");
    assertPassed(f);
    assertOverlay(f, "new");
    g_assert_nonnull(strstr(f->out, "<disk type=\"file\">"));
    g_assert_nonnull(strstr(f->out, "/pool/new\""));
    g_assert_null(strstr(f->out, "pool=\"masters\""));
    g_assert_nonnull(strstr(f->out, "pool=\"other\""));
}


/* --- the source of a migration --- */

static void
migrateOut(Fixture *f, const char *body)
{
    g_auto(GStrv) parts = g_strsplit(body, "%1$s", -1);
    g_autofree char *filled = g_strjoinv(f->pool, parts);
    g_autofree char *xml = g_strdup_printf("<domain type='kvm'><name>web01</name>%s</domain>", filled);

    hookRun(f, "migrate-out", "begin", xml);
    assertPassed(f);
}


static void
testMigrateOut(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->state = "seeding";
    f->magnet = "magnet:?xt=urn:btmh:1220&dn=x";
    migrateOut(f, "<devices>" DISK("clone", "vda")
               "<disk type='volume'><driver type='qcow2'/><source pool='masters' volume='clone'/><target dev='vdb'/></disk>"
               "</devices>");
    g_assert_nonnull(strstr(f->out, "<torrent-migration:disk target=\"vda\" master=\"master\" format=\"raw\""
                            " magnet=\"magnet:?xt=urn:btmh:1220&amp;dn=x\" capacity=\"1048576\"/>"));
    g_assert_nonnull(strstr(f->out, "<torrent-migration:disk target=\"vdb\" master=\"master\""));
    g_assert_cmpuint(f->connections, ==, 1);
}


/* Without virttorrentd all but the magnet. */
static void
testMigrateOutAlone(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    migrateOut(f, TOLD("<t:disk target='vda' master='old' magnet='old'/>") "<devices>" DISK("clone", "vda") "</devices>");
    g_assert_nonnull(strstr(f->out, "<torrent-migration:disk target=\"vda\" master=\"master\" format=\"raw\""
                            " capacity=\"1048576\"/>"));
}


static void
testMigrateOutNothing(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const bodies[] = {
        "",
        /* no clone; not there; one that stands on something that is no master, or is not there */
        "<devices>" DISK("master", "vda") "</devices>",
        "<devices>" DISK("new", "vda") "</devices>",
        "<devices>" DISK("snapshot", "vda") "</devices>",
        "<devices>" DISK("waiting", "vda") "</devices>",
        /* not in a pool; not the guest's to write */
        "<devices>" DISK("../clone", "vda") "</devices>",
        "<devices><disk type='file'><driver type='qcow2'/><source file='%1$s/clone'/><target dev='vda'/>"
        "<readonly/></disk></devices>",
        "<devices><disk type='file'><driver type='raw'/><source file='%1$s/clone'/><target dev='vda'/></disk></devices>",
    };
    VirImageOverlayOptions options = {
        .capacity = 1024 * 1024, .backing_file = "clone", .backing_format = "qcow2",
        .mode = 0600, .uid = -1, .gid = -1,
    };
    int dirfd = open(f->pool, O_RDONLY | O_DIRECTORY);
    gsize i;

    g_assert_true(virImageOverlayCreate(dirfd, "snapshot", &options, NULL));
    close(dirfd);
    options.backing_file = "pool/master";
    options.backing_format = "raw";
    g_assert_true(virImageOverlayCreate(f->scratch.dirfd, "clone", &options, NULL));

    for (i = 0; i < G_N_ELEMENTS(bodies); i++) {
        migrateOut(f, bodies[i]);
        g_assert_cmpstr(f->out, ==, "");
    }
    g_assert_cmpuint(f->connections, ==, 0);
}


/* The migration went on as far as QEMU on this side. */
static void
migrateStarted(Fixture *f)
{
    migrate(f, TOLD(ON_MASTER("vda")) "<devices>" DISK("new", "vda") "</devices>");
    hook(f, "prepare", "begin", "<domain/>");
    assertPassed(f);
    status(f, "state='paused' reason='migration'", "async='migration in' phase='prepare' flags='0x81'");
    hook(f, "started", "begin", "<domain/>");
    assertPassed(f);
    grow(f, "new");
}


static void
testMigrateFails(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    migrateStarted(f);
    status(f, "state='paused' reason='migration'", "async='migration in' phase='finish3' flags='0x81'");
    hook(f, "stopped", "end", "<domain/>");
    assertPassed(f);
    g_assert_false(inPool(f, "new"));
    g_assert_cmpuint(notes(f, 0), ==, 0);
}


/* The client died and libvirt forgot that this was a migration: what is left goes
 * with the next attempt of this very guest. */
static void
testMigrateForgotten(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *uuid;
        gboolean written;
        gboolean anew;
    } cases[] = {
        { "11", FALSE, TRUE }, { "22", FALSE, FALSE }, { "11", TRUE, FALSE },
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_build_filename(f->pool, "new", NULL);
        g_autofree char *body = g_strdup_printf("<uuid>%s</uuid>%s", cases[i].uuid,
                                                TOLD(ON_MASTER("vda")) "<devices>" DISK("new", "vda") "</devices>");
        struct stat sb;

        migrate(f, "<uuid>11</uuid>" TOLD(ON_MASTER("vda")) "<devices>" DISK("new", "vda") "</devices>");
        hook(f, "prepare", "begin", "<domain/>");
        status(f, "state='paused' reason='migration'", "async='migration in' phase='prepare' flags='0x81'");
        hook(f, "started", "begin", "<domain/>");
        grow(f, "new");
        status(f, "state='shutdown' reason='unknown'", "async='none'");
        hook(f, "stopped", "end", "<domain/>");
        hook(f, "stopped", "end", "<domain/>");
        g_assert_true(inPool(f, "new"));
        g_assert_cmpuint(notes(f, 60), ==, 1);
        if (cases[i].written)
            g_assert_cmpint(truncate(path, 5 * 1024 * 1024), ==, 0);

        migrate(f, body);
        assertPassed(f);
        g_assert_cmpint(stat(path, &sb), ==, 0);
        g_assert_cmpint(sb.st_size < 4 * 1024 * 1024, ==, cases[i].anew);
        g_assert_cmpuint(notes(f, 0), ==, cases[i].anew);
        g_assert_cmpint(unlinkat(f->scratch.dirfd, "pool/new", 0), ==, 0);
        hook(f, "prepare", "begin", "<domain/>");
        hook(f, "stopped", "end", "<domain/>");
    }
}


/* Once the guest may have run, its disk is its own. */
static void
testMigrateSucceeds(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const statuses[][2] = {
        { "state='running' reason='migrated'", "async='migration in' phase='finish3' flags='0x81'" },
        { "state='paused' reason='user'", "async='migration in' phase='finish3' flags='0x81'" },
        { "state='paused' reason='migration'", "async='migration out' phase='confirm3' flags='0x81'" },
        { "state='shutoff' reason='shutdown'", "async='none'" },
        { "", "" },
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(statuses); i++) {
        migrateStarted(f);
        status(f, statuses[i][0], statuses[i][1]);
        hook(f, "stopped", "end", "<domain/>");
        assertPassed(f);
        g_assert_true(inPool(f, "new"));
        g_assert_cmpuint(notes(f, 0), ==, 1);
        g_assert_cmpint(unlinkat(f->scratch.dirfd, "pool/new", 0), ==, 0);
    }

    migrateStarted(f);
    g_assert_cmpint(unlinkat(f->scratch.dirfd, "web01.xml", 0), ==, 0);
    hook(f, "stopped", "end", "<domain/>");
    g_assert_true(inPool(f, "new"));
}


/* An empty overlay is for a migration that fills it. */
static void
testMigrateWithoutCopy(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const jobs[] = { "async='migration in' flags='0x1'", "async='start'", "" };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(jobs); i++) {
        migrate(f, TOLD(ON_MASTER("vda")) "<devices>" DISK("new", "vda") "</devices>");
        hook(f, "prepare", "begin", "<domain/>");
        status(f, "state='paused' reason='migration'", jobs[i]);
        hook(f, "started", "begin", "<domain/>");
        assertFailed(f, "--copy-storage-inc", NULL);
        hook(f, "stopped", "end", "<domain/>");
        g_assert_false(inPool(f, "new"));
    }
}


/* A second attempt has all of the time again. */
static void
testMigrateAgain(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char body[] = TOLD(ON_MASTER("vda")) "<devices>" DISK("new", "vda") "</devices>";

    migrate(f, body);
    g_assert_cmpuint(notes(f, 25), ==, 1);
    migrate(f, body);
    assertOverlay(f, "new");
    g_assert_cmpuint(notes(f, 10), ==, 1);
    hook(f, "prepare", "begin", "<domain/>");
    g_assert_true(inPool(f, "new"));
    g_assert_cmpuint(notes(f, 60), ==, 1);
    hook(f, "prepare", "end", "<domain/>");
    g_assert_true(inPool(f, "new"));
}


/* Nobody came: it goes, unless somebody uses it now. */
static void
testMigrateNobodyCame(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char body[] = TOLD(ON_MASTER("vda")) "<devices>" DISK("new", "vda") "</devices>";

    migrate(f, body);
    hook(f, "stopped", "end", "<domain/>");
    g_assert_true(inPool(f, "new"));
    g_assert_cmpuint(notes(f, 60), ==, 1);
    hook(f, "prepare", "begin", "<domain/>");
    g_assert_false(inPool(f, "new"));
    g_assert_cmpuint(notes(f, 0), ==, 0);

    migrate(f, body);
    grow(f, "new");
    g_assert_cmpuint(notes(f, 60), ==, 1);
    hook(f, "prepare", "begin", "<domain/>");
    g_assert_true(inPool(f, "new"));
    g_assert_cmpuint(notes(f, 0), ==, 0);
}


/* What is not in its table succeeds, whatever it is given. */
static void
testOtherOperations(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const operations[][2] = {
        { "reconnect", "begin" }, { "start", "begin" }, { "started", "begin" }, { "stopped", "end" },
        { "release", "end" }, { "migrate", "end" }, { "restore", "begin" }, { "attach", "begin" },
        { "prepare", "end" }, { "no-such-operation", "begin" }, { "", "" },
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(operations); i++) {
        hook(f, operations[i][0], operations[i][1], "no domain XML at all");
        assertPassed(f);
    }
}


#define TEST(name, listens, func) \
    g_test_add("/hook-program/" name, Fixture, GINT_TO_POINTER(listens), fixtureSetUp, func, fixtureTearDown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("elsewhere-passes-unconnected", TRUE, testElsewhere);
    TEST("clone-passes-unconnected", TRUE, testClone);
    TEST("refuses-clone-as-raw", TRUE, testRawClone);
    TEST("refuses-writable-master", TRUE, testWritableMaster);
    TEST("allows-read-only-master", FALSE, testReadOnlyMaster);
    TEST("volume-disk", TRUE, testVolumeDisk);
    TEST("volume-disk-of-other-pool-alone", FALSE, testVolumeDiskAlone);
    TEST("waits-for-master", TRUE, testWaits);
    TEST("waits-for-disk", TRUE, testWaitsForDisk);
    TEST("time-is-over", TRUE, testTimeIsOver);
    TEST("fetch-failed", TRUE, testFetchFailed);
    TEST("unknown-master", TRUE, testUnknownMaster);
    TEST("told-master", TRUE, testToldMaster);
    TEST("pool-not-started", TRUE, testPoolNotStarted);
    TEST("optional-disk", TRUE, testOptional);
    TEST("nobody-listens", FALSE, testNobodyListens);
    TEST("nobody-answers", FALSE, testNobodyAnswers);
    TEST("bad-config", FALSE, testBadConfig);
    TEST("bad-xml", FALSE, testBadXml);
    TEST("migrate/makes-overlay", TRUE, testMigrateMakes);
    TEST("migrate/backing-store", FALSE, testMigrateBackingStore);
    TEST("migrate/nothing-to-make", TRUE, testMigrateNothing);
    TEST("migrate/never-over-what-exists", FALSE, testMigrateExists);
    TEST("migrate/fetches-master", TRUE, testMigrateFetches);
    TEST("migrate/unknown-master", TRUE, testMigrateUnknown);
    TEST("migrate/all-or-nothing", FALSE, testMigrateUndone);
    TEST("migrate/volume-becomes-file", TRUE, testMigrateVolume);
    TEST("migrate-out/tells-master", TRUE, testMigrateOut);
    TEST("migrate-out/without-daemon", FALSE, testMigrateOutAlone);
    TEST("migrate-out/nothing-to-tell", TRUE, testMigrateOutNothing);
    TEST("migrate/fails", FALSE, testMigrateFails);
    TEST("migrate/forgotten", FALSE, testMigrateForgotten);
    TEST("migrate/succeeds", FALSE, testMigrateSucceeds);
    TEST("migrate/without-copy", FALSE, testMigrateWithoutCopy);
    TEST("migrate/again", FALSE, testMigrateAgain);
    TEST("migrate/nobody-came", FALSE, testMigrateNobodyCame);
    TEST("other-operations-succeed", FALSE, testOtherOperations);
    return g_test_run();
}
