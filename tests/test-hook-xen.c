/*
 * test-hook-xen.c: the disks of Xen's guests, as src/hooks/hook_xen.c sees them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * At the other end is a small xenstore of ours, on a socket and with the protocol
 * of Xen's own header.  tests/xen has the real one.
 */

#include <config.h>

#include <gio/gio.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <xen/io/xs_wire.h>

#include "hook_domain.h"
#include "hook_xen.h"
#include "image-util.h"

#define GUEST "/local/domain/0/backend/qdisk/7"
#define XVDA GUEST "/51712"
#define XVDB GUEST "/51728"
#define LOG_LINE(device, why) "xen-qemu-system-i386: failed to create 'qdisk' device '" device "': " why "\n"

typedef enum {
    ANSWERS,
    HANGS_UP,                    /* in the middle of an answer */
    BABBLES,                     /* says that more follows than can be */
} Manners;

typedef struct {
    Scratch scratch;
    char *socket;
    char *log;
    int listener;
    GThread *thread;
    gint manners;                /* Manners; atomic */

    GMutex lock;                 /* of all below */
    GHashTable *values;          /* path -> value; of a directory, its children, each with a NUL */
    gint connections;            /* atomic */
    guint reads;                 /* of XVDA's state */
    guint change_at;             /* at this one it becomes ... */
    const char *change_to;       /* ... this; NULL: there is none */
} Fixture;


/* --- the other end --- */

static gboolean
transfer(int fd, void *buf, gsize len, gboolean out)
{
    gsize done = 0;

    while (done < len) {
        char *at = (char *)buf + done;
        ssize_t n = out ? send(fd, at, len - done, MSG_NOSIGNAL) : recv(fd, at, len - done, 0);

        if (n <= 0)
            return FALSE;
        done += n;
    }
    return TRUE;
}


static char *
lookUp(Fixture *f, const char *path)
{
    char *value;

    g_mutex_lock(&f->lock);
    if (g_str_equal(path, XVDA "/state") && ++f->reads == f->change_at) {
        if (f->change_to)
            g_hash_table_insert(f->values, g_strdup(path), g_strdup(f->change_to));
        else
            g_hash_table_remove(f->values, path);
    }
    value = g_strdup(g_hash_table_lookup(f->values, path));
    g_mutex_unlock(&f->lock);
    return value;
}


static gboolean
answer(Fixture *f, int fd, struct xsd_sockmsg *message, const char *path)
{
    g_autofree char *value = lookUp(f, path);
    Manners manners;

    if (!value) {
        message->type = XS_ERROR;
        value = g_strdup("ENOENT");
    }
    manners = g_atomic_int_get(&f->manners);
    message->len = strlen(value) + (message->type == XS_ERROR);
    /* the list of children, written with commas */
    if (message->type == XS_DIRECTORY) {
        g_strdelimit(value, ",", '\0');
        message->len++;
    }
    if (manners == BABBLES)
        message->len = 1024 * 1024;
    return transfer(fd, message, sizeof(*message), TRUE) && manners == ANSWERS &&
        transfer(fd, value, message->len, TRUE);
}


static void
serve(Fixture *f, int fd)
{
    struct xsd_sockmsg message;
    char path[XENSTORE_PAYLOAD_MAX];

    while (transfer(fd, &message, sizeof(message), FALSE)) {
        g_assert_true(message.type == XS_READ || message.type == XS_DIRECTORY);
        g_assert_cmpuint(message.len, >, 1);
        g_assert_cmpuint(message.len, <=, sizeof(path));
        g_assert_true(transfer(fd, path, message.len, FALSE));
        g_assert_cmpint(path[message.len - 1], ==, '\0');
        if (!answer(f, fd, &message, path))
            break;
    }
    close(fd);
}


static gpointer
serverThread(gpointer data)
{
    Fixture *f = data;
    int fd;

    while ((fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        g_atomic_int_inc(&f->connections);
        serve(f, fd);
    }
    return NULL;
}


/* --- fixture --- */

static void
put(Fixture *f, const char *path, const char *value)
{
    g_mutex_lock(&f->lock);
    g_hash_table_insert(f->values, g_strdup(path), g_strdup(value));
    g_mutex_unlock(&f->lock);
}


static void
fixtureSetUp(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    scratchSetUp(&f->scratch, NULL);
    g_mutex_init(&f->lock);
    f->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    f->socket = g_build_filename(f->scratch.dir, "xenstore", NULL);
    f->log = g_build_filename(f->scratch.dir, "qemu-dm-web01.log", NULL);

    g_strlcpy(addr.sun_path, f->socket, sizeof(addr.sun_path));
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(f->listener, 8), ==, 0);
    f->thread = g_thread_new("xenstore", serverThread, f);

    put(f, GUEST, "51712");
    put(f, XVDA "/state", "4");
    put(f, XVDA "/dev", "xvda");
    put(f, XVDA "/params", "qcow2:/pool/web01.qcow2");
}


static void
fixtureTearDown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    shutdown(f->listener, SHUT_RDWR);
    g_thread_join(f->thread);
    close(f->listener);
    scratchTearDown(&f->scratch, NULL);
    g_hash_table_unref(f->values);
    g_mutex_clear(&f->lock);
    g_free(f->socket);
    g_free(f->log);
}


static void
opened(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(virHookXenOpened(7, f->log, f->socket, 60, &error));
    g_assert_no_error(error);
}


static void
notOpened(Fixture *f, guint seconds, const char *message)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(virHookXenOpened(7, f->log, f->socket, seconds, &error));
    g_assert_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_MISSING);
    g_assert_cmpstr(error->message, ==, message);
}


static void
logSays(Fixture *f, const char *text)
{
    scratchWrite(&f->scratch, "qemu-dm-web01.log", text, strlen(text));
}


/* --- tests --- */

static void
testOpened(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    opened(f);
    /* not connected yet, but open */
    put(f, XVDA "/state", "2");
    opened(f);
    put(f, GUEST, "51712,51728");
    put(f, XVDB "/state", "4");
    opened(f);
}


static void
testWaits(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    put(f, XVDA "/state", "1");
    logSays(f, LOG_LINE("51728", "not ours"));
    f->change_at = 4;
    f->change_to = "2";
    opened(f);
    g_assert_cmpuint(f->reads, ==, 4);
}


static void
testReason(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    put(f, XVDA "/state", "1");
    logSays(f, "something else\n" LOG_LINE("51712", "failed to create drive: Image is not in qcow2 format") "and more\n");
    notOpened(f, 60, "Xen's device model did not open '/pool/web01.qcow2', and the guest would have no disk 'xvda': "
              "Image is not in qcow2 format");
    logSays(f, LOG_LINE("51712", "Block node is read-only"));
    notOpened(f, 60, "Xen's device model did not open '/pool/web01.qcow2', and the guest would have no disk 'xvda': "
              "Block node is read-only");
}


static void
testSecondDisk(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    put(f, GUEST, "51712,51728");
    put(f, XVDB "/state", "1");
    put(f, XVDB "/dev", "xvdb");
    put(f, XVDB "/params", "aio:/data");
    logSays(f, LOG_LINE("51728", "no"));
    notOpened(f, 60, "Xen's device model did not open '/data', and the guest would have no disk 'xvdb': no");
}


static void
testSilent(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *message = g_strdup_printf("Xen's device model did not open '/pool/web01.qcow2', and the guest would"
                                               " have no disk 'xvda': its log '%s' does not say why", f->log);

    put(f, XVDA "/state", "1");
    notOpened(f, 0, message);
}


static void
testEnds(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    put(f, XVDA "/state", "1");
    f->change_at = 3;
    opened(f);
    g_hash_table_remove_all(f->values);
    opened(f);
}


/* What cannot be found out is not held against the guest. */
static void
testNoAnswer(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    put(f, XVDA "/state", "1");
    g_atomic_int_set(&f->manners, HANGS_UP);
    opened(f);
    g_atomic_int_set(&f->manners, BABBLES);
    opened(f);
    g_assert_cmpint(unlink(f->socket), ==, 0);
    opened(f);
}


/* The program, for a guest with this disk. */
static int
started(Fixture *f, const char *path, char **err)
{
    g_autofree char *program = g_test_build_filename(G_TEST_BUILT, "..", "src", "virt-torrentpool-hook", NULL);
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDIN_PIPE |
                                                                        G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_autoptr(GSubprocess) child = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = g_strdup_printf("<domain type='xen' id='7'><devices><disk type='file'>"
                                           "<source file='%s/%s'/></disk></devices></domain>", f->scratch.dir, path);

    g_subprocess_launcher_setenv(launcher, "VIRT_TORRENTPOOL_XENSTORE", f->socket, TRUE);
    g_subprocess_launcher_setenv(launcher, "VIRT_TORRENTPOOL_XEN_LOGS", f->scratch.dir, TRUE);
    g_subprocess_launcher_setenv(launcher, "VIRTTORRENTD_SOCKET", f->log, TRUE);
    g_subprocess_launcher_setenv(launcher, "LC_ALL", "C", TRUE);
    child = g_subprocess_launcher_spawn(launcher, &error, program, "web01", "started", "begin", "-", NULL);
    g_assert_no_error(error);
    g_assert_true(g_subprocess_communicate_utf8(child, xml, NULL, NULL, err, &error));
    g_assert_true(g_subprocess_get_if_exited(child));
    return g_subprocess_get_exit_status(child);
}


static void
testProgram(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *err = NULL;
    g_autofree char *none = NULL;

    g_assert_cmpint(mkdirat(f->scratch.dirfd, "pool", 0755), ==, 0);
    g_assert_cmpint(mkdirat(f->scratch.dirfd, "pool/.torrentpool", 0755), ==, 0);
    put(f, XVDA "/state", "1");
    logSays(f, LOG_LINE("51712", "no"));
    g_assert_cmpint(started(f, "pool/web01.qcow2", &err), ==, 1);
    g_assert_cmpstr(err, ==, "torrentpool: guest 'web01': Xen's device model did not open '/pool/web01.qcow2',"
                    " and the guest would have no disk 'xvda': no\n");
    g_assert_cmpint(g_atomic_int_get(&f->connections), ==, 1);

    /* other guests are none of its business */
    g_assert_cmpint(started(f, "elsewhere.qcow2", &none), ==, 0);
    g_assert_cmpstr(none, ==, "");
    g_assert_cmpint(g_atomic_int_get(&f->connections), ==, 1);
}


static void
testXenId(void)
{
    static const struct {
        const char *xml;
        guint id;                /* 0: none */
    } cases[] = {
        { "<domain type='xen' id='12'/>", 12 },
        { "<domain type='xen'/>", 0 },
        { "<domain type='xen' id='0'/>", 0 },
        { "<domain type='xen' id='-1'/>", 0 },
        { "<domain type='xen' id='x'/>", 0 },
        { "<domain type='kvm' id='12'/>", 0 },
        { "<domain id='12'/>", 0 },
        { "<pool type='xen' id='12'/>", 0 },
        { "no XML", 0 },
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint id = 0;

        g_assert_cmpint(virHookDomainXenId(cases[i].xml, strlen(cases[i].xml), &id), ==, cases[i].id != 0);
        g_assert_cmpuint(id, ==, cases[i].id);
    }
}


int
main(int argc, char **argv)
{
    g_setenv("LC_ALL", "C", TRUE);
    g_test_init(&argc, &argv, NULL);

#define TEST(name, func) \
    g_test_add("/hook-xen/" name, Fixture, NULL, fixtureSetUp, func, fixtureTearDown)
    TEST("opened", testOpened);
    TEST("waits", testWaits);
    TEST("reason", testReason);
    TEST("second-disk", testSecondDisk);
    TEST("silent", testSilent);
    TEST("ends", testEnds);
    TEST("no-answer", testNoAnswer);
    TEST("program", testProgram);
    g_test_add_func("/hook-xen/id", testXenId);

    return g_test_run();
}
