/*
 * bench-swarm.c: what ./bench swarm needs that no command of the system does
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * usage: bench-swarm VERB ARGUMENT...
 *
 *   open SOCKET DIRECTORY OPTIONS   opens a pool; OPTIONS as GVariant text
 *   publish SOCKET NAME             returns when NAME is seeded, prints its magnet
 *   metainfo SOCKET NAME FILE       writes its .torrent
 *   fetch SOCKET NAME SOURCE GATE DONE
 *   send PORT FILE | receive HOST PORT FILE     a plain TCP copy
 *   hash FILE                       SHA-256 of its blocks, on all cores
 *   change FILE PERCENT             of its blocks, each one another than before
 *   whole SIZE PIECE FILE...        waits for one copy in the swarm
 *
 * fetch: SOURCE is a magnet, or the path of a .torrent.  Connects first, then
 * waits for the gate (a file that the bench holds locked until all are ready),
 * calls, and returns when the volume is seeded, which is after the verified
 * file was given to root and got its final name.  Writes to DONE when that was,
 * as seconds since 1970.
 *
 * whole: returns when for each piece of PIECE bytes there is a FILE that has all of
 * it, judging by the holes that a sparse file still has.  Files need not exist yet.
 *
 * Nothing here waits for ever but for what never comes: whoever calls it sets
 * the limit.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID "7c0f1a52-4a0e-4c5e-9d5b-0c1b5f6f2c11"
#define OBJECT "/org/libvirt/Torrentd1"
#define INTERFACE "org.libvirt.Torrentd1"
#define BUFFER (256 * 1024)
#define MIB (1024 * 1024)
#define BLOCK 16384              /* of BitTorrent v2 */

static void G_GNUC_PRINTF(1, 2) G_GNUC_NORETURN
fail(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fputs("bench-swarm: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(EXIT_FAILURE);
}

/* --- the daemon --- */

static GDBusConnection *
connectTo(const char *path)
{
    g_autofree char *address = g_strdup_printf("unix:path=%s", path);
    g_autoptr(GError) err = NULL;
    GDBusConnection *connection = g_dbus_connection_new_for_address_sync(
        address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, &err);

    if (!connection)
        fail("%s: %s", path, err->message);
    return connection;
}

/* @in is consumed if floating. */
static GVariant *
call(GDBusConnection *connection, const char *method, GVariant *in)
{
    g_autoptr(GError) err = NULL;
    GVariant *out = g_dbus_connection_call_sync(connection, NULL, OBJECT, INTERFACE, method, in, NULL,
                                                G_DBUS_CALL_FLAGS_NONE, -1, NULL, &err);

    if (!out)
        fail("%s: %s", method, err->message);
    return out;
}

static GVariant *
getVolume(GDBusConnection *connection, const char *name)
{
    g_autoptr(GVariant) out = call(connection, "GetVolume", g_variant_new("(ss)", UUID, name));

    return g_variant_get_child_value(out, 0);
}

static gboolean
isSeeded(GDBusConnection *connection, const char *name)
{
    g_autoptr(GVariant) volume = getVolume(connection, name);
    const char *state = "";
    const char *reason = "unknown";

    g_variant_lookup(volume, "state", "&s", &state);
    g_variant_lookup(volume, "error", "&s", &reason);
    if (g_str_equal(state, "failed"))
        fail("volume '%s' failed: %s", name, reason);
    return g_str_equal(state, "seeding");
}

static void
onSignal(GDBusConnection *connection G_GNUC_UNUSED,
         const char *sender G_GNUC_UNUSED,
         const char *path G_GNUC_UNUSED,
         const char *interface G_GNUC_UNUSED,
         const char *signal G_GNUC_UNUSED,
         GVariant *parameters G_GNUC_UNUSED,
         gpointer data)
{
    gboolean *changed = data;

    *changed = TRUE;
}

static void
onClosed(GDBusConnection *connection G_GNUC_UNUSED,
         gboolean vanished G_GNUC_UNUSED,
         GError *error G_GNUC_UNUSED,
         gpointer data G_GNUC_UNUSED)
{
    fail("the daemon is gone");
}

static void
subscribe(GDBusConnection *connection, gboolean *changed)
{
    g_dbus_connection_signal_subscribe(connection, NULL, INTERFACE, "VolumeChanged", OBJECT, NULL,
                                       G_DBUS_SIGNAL_FLAGS_NONE, onSignal, changed, NULL);
    g_signal_connect(connection, "closed", G_CALLBACK(onClosed), NULL);
}

/* @changed is what subscribe() was given, before the work began. */
static void
waitSeeded(GDBusConnection *connection, const char *name, gboolean *changed)
{
    for (;;) {
        *changed = FALSE;
        if (isSeeded(connection, name))
            return;
        while (!*changed)
            g_main_context_iteration(NULL, TRUE);
    }
}

static int
cmdOpen(char **argv)
{
    g_autoptr(GDBusConnection) connection = connectTo(argv[0]);
    g_autoptr(GError) err = NULL;
    g_autoptr(GVariant) options = g_variant_parse(G_VARIANT_TYPE_VARDICT, argv[2], NULL, NULL, &err);
    g_autoptr(GVariant) out = NULL;

    if (!options)
        fail("%s: %s", argv[2], err->message);
    out = call(connection, "OpenPool", g_variant_new("(sss@a{sv})", UUID, "bench", argv[1], options));
    return EXIT_SUCCESS;
}

static int
cmdPublish(char **argv)
{
    g_autoptr(GDBusConnection) connection = connectTo(argv[0]);
    g_autoptr(GVariant) out = NULL;
    g_autoptr(GVariant) volume = NULL;
    const char *magnet = NULL;
    gboolean changed;

    subscribe(connection, &changed);
    out = call(connection, "PublishVolume", g_variant_new("(ssa{sv})", UUID, argv[1], NULL));
    waitSeeded(connection, argv[1], &changed);
    volume = getVolume(connection, argv[1]);
    if (!g_variant_lookup(volume, "magnet", "&s", &magnet))
        fail("volume '%s' has no magnet", argv[1]);
    puts(magnet);
    return EXIT_SUCCESS;
}

static int
cmdMetainfo(char **argv)
{
    g_autoptr(GDBusConnection) connection = connectTo(argv[0]);
    g_autoptr(GVariant) out = call(connection, "GetMetainfo", g_variant_new("(ss)", UUID, argv[1]));
    g_autoptr(GVariant) bytes = g_variant_get_child_value(out, 0);
    g_autoptr(GError) err = NULL;
    gsize len;
    const char *data = g_variant_get_fixed_array(bytes, &len, 1);

    if (!g_file_set_contents(argv[2], data, len, &err))
        fail("%s", err->message);
    return EXIT_SUCCESS;
}

/* Says that it is ready, by making the file READY, and waits. */
static void
passGate(const char *gate, const char *done)
{
    g_autofree char *ready = g_strconcat(done, ".ready", NULL);
    g_autoptr(GError) err = NULL;
    int fd = open(gate, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        fail("%s: %s", gate, g_strerror(errno));
    if (!g_file_set_contents(ready, "", 0, &err))
        fail("%s", err->message);
    while (flock(fd, LOCK_SH) < 0) {
        if (errno != EINTR)
            fail("%s: %s", gate, g_strerror(errno));
    }
    close(fd);
}

static void
sayDone(const char *path)
{
    g_autofree char *text = g_strdup_printf("%.6f\n", g_get_real_time() / 1e6);
    g_autoptr(GError) err = NULL;

    if (!g_file_set_contents(path, text, -1, &err))
        fail("%s", err->message);
}

static int
cmdFetch(char **argv)
{
    g_autoptr(GDBusConnection) connection = connectTo(argv[0]);
    g_autoptr(GVariant) out = NULL;
    g_autoptr(GError) err = NULL;
    g_autofree char *data = NULL;
    gsize len = 0;
    gboolean changed;
    gboolean magnet = g_str_has_prefix(argv[2], "magnet:");

    if (!magnet && !g_file_get_contents(argv[2], &data, &len, &err))
        fail("%s", err->message);
    subscribe(connection, &changed);
    passGate(argv[3], argv[4]);
    if (magnet) {
        out = call(connection, "FetchMagnet",
                   g_variant_new("(sssa{sv})", UUID, argv[1], argv[2], NULL));
    } else {
        GVariant *bytes = g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, data, len, 1);

        out = call(connection, "FetchMetainfo", g_variant_new("(ss@ay)", UUID, argv[1], bytes));
    }
    waitSeeded(connection, argv[1], &changed);
    sayDone(argv[4]);
    return EXIT_SUCCESS;
}

/* --- a plain TCP copy --- */

/* Returns how many bytes. */
static guint64
copy(int from, int to)
{
    guint64 sum = 0;
    g_autofree char *buffer = g_malloc(BUFFER);
    ssize_t got;

    while ((got = read(from, buffer, BUFFER)) != 0) {
        ssize_t put = 0;

        if (got < 0)
            fail("read: %s", g_strerror(errno));
        while (put < got) {
            ssize_t n = write(to, buffer + put, got - put);

            if (n < 0)
                fail("write: %s", g_strerror(errno));
            put += n;
        }
        sum += got;
    }
    return sum;
}

static int
openFile(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);

    if (fd < 0)
        fail("%s: %s", path, g_strerror(errno));
    return fd;
}

/* Serves one copy of FILE to whoever comes first. */
static int
cmdSend(char **argv)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[0])) };
    int in = openFile(argv[1], O_RDONLY);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    int peer;

    if (server < 0 || setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(server, (struct sockaddr *) &addr, sizeof(addr)) < 0 || listen(server, 1) < 0 ||
        (peer = accept(server, NULL, NULL)) < 0)
        fail("port %s: %s", argv[0], g_strerror(errno));
    copy(in, peer);
    close(peer);
    return EXIT_SUCCESS;
}

/* Prints the payload's bytes per second. */
static int
cmdReceive(char **argv)
{
    struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
    struct addrinfo *addr = NULL;
    int out = openFile(argv[2], O_WRONLY | O_CREAT | O_TRUNC);
    gint64 begin;
    guint64 sum;
    int fd = -1;
    int tries;

    if (getaddrinfo(argv[0], argv[1], &hints, &addr) != 0)
        fail("no such address: %s", argv[0]);
    for (tries = 0; tries < 200; tries++) {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, addr->ai_addr, addr->ai_addrlen) == 0)
            break;
        close(fd);
        fd = -1;
        g_usleep(10000);
    }
    freeaddrinfo(addr);
    if (fd < 0)
        fail("%s port %s does not answer", argv[0], argv[1]);
    begin = g_get_monotonic_time();
    sum = copy(fd, out);
    close(out);
    printf("%.0f\n", sum * 1e6 / (g_get_monotonic_time() - begin));
    return EXIT_SUCCESS;
}

/* --- blocks --- */

typedef struct {
    const char *path;
    off_t next;                  /* atomic: MiB that nobody has taken */
} Hashing;

/* As quick as the library does it: asking it for the algorithm for each block, as
 * EVP_Digest() does, would cost a part of what hashing the block costs. */
static gpointer
hashWorker(gpointer opaque)
{
    Hashing *self = opaque;
    g_autofree guint8 *data = g_malloc(MIB);
    guint8 out[EVP_MAX_MD_SIZE];
    EVP_MD *sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int fd = openFile(self->path, O_RDONLY);

    if (!sha256 || !ctx)
        fail("the crypto library offers no SHA-256");

    for (;;) {
        ssize_t got = pread(fd, data, MIB, __atomic_fetch_add(&self->next, 1, __ATOMIC_RELAXED) * MIB);
        ssize_t at;

        if (got <= 0)
            break;
        for (at = 0; at < got; at += BLOCK) {
            if (EVP_DigestInit_ex2(ctx, sha256, NULL) != 1 ||
                EVP_DigestUpdate(ctx, data + at, MIN(BLOCK, got - at)) != 1 ||
                EVP_DigestFinal_ex(ctx, out, NULL) != 1)
                fail("SHA-256 failed");
        }
    }
    EVP_MD_CTX_free(ctx);
    EVP_MD_free(sha256);
    close(fd);
    return NULL;
}

static int
cmdHash(char **argv)
{
    Hashing self = { argv[0], 0 };
    guint n = g_get_num_processors();
    g_autofree GThread **threads = g_new(GThread *, n);
    guint i;

    for (i = 0; i < n; i++)
        threads[i] = g_thread_new("hash", hashWorker, &self);
    for (i = 0; i < n; i++)
        g_thread_join(threads[i]);
    return EXIT_SUCCESS;
}

/* Evenly spread, each at a random place of its stretch: a new version of an image. */
static int
cmdChange(char **argv)
{
    double stretch = 100.0 / g_ascii_strtod(argv[1], NULL);
    int fd = openFile(argv[0], O_RDWR);
    off_t blocks = lseek(fd, 0, SEEK_END) / BLOCK;
    guint8 data[BLOCK];
    double at;
    gsize i;

    for (at = 0; at + stretch <= blocks; at += stretch) {
        off_t block = at + g_random_double() * stretch;

        for (i = 0; i < sizeof(data); i++)
            data[i] = g_random_int();
        if (pwrite(fd, data, sizeof(data), block * BLOCK) != sizeof(data))
            fail("%s: %s", argv[0], g_strerror(errno));
    }
    close(fd);
    return EXIT_SUCCESS;
}

/* --- one copy in the swarm --- */

/* Takes the pieces that @path has all of out of @missing; those it has no more
 * than a part of are not counted.  Returns the file's length, 0: not there. */
static off_t
dropPieces(const char *path, off_t piece, GHashTable *missing)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t size;
    off_t data = 0;

    if (fd < 0)
        return 0;
    size = lseek(fd, 0, SEEK_END);
    while (size > 0 && (data = lseek(fd, data, SEEK_DATA)) >= 0) {
        off_t hole = lseek(fd, data, SEEK_HOLE);
        off_t at;

        for (at = (data + piece - 1) / piece * piece; MIN(at + piece, size) <= hole && at < size; at += piece)
            g_hash_table_remove(missing, GINT_TO_POINTER(at / piece));
        data = hole;
    }
    close(fd);
    return MAX(size, 0);
}

/* argv: SIZE PIECE FILE... */
static int
cmdWhole(char **argv)
{
    off_t size = g_ascii_strtoll(argv[0], NULL, 10);
    off_t piece = g_ascii_strtoll(argv[1], NULL, 10);
    g_autoptr(GHashTable) missing = g_hash_table_new(NULL, NULL);
    off_t at;
    char **file;

    if (size <= 0 || piece <= 0)
        fail("SIZE and PIECE are numbers of bytes");
    for (at = 0; at < size; at += piece)
        g_hash_table_add(missing, GINT_TO_POINTER(at / piece));
    while (g_hash_table_size(missing) > 0) {
        for (file = argv + 2; *file; file++)
            dropPieces(*file, piece, missing);
        g_usleep(100000);
    }
    return EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *verb;
        int least, most;
        int (*run)(char **argv);
    } verbs[] = {
        { "open", 3, 3, cmdOpen },
        { "publish", 2, 2, cmdPublish },
        { "metainfo", 3, 3, cmdMetainfo },
        { "fetch", 5, 5, cmdFetch },
        { "send", 2, 2, cmdSend },
        { "receive", 3, 3, cmdReceive },
        { "hash", 1, 1, cmdHash },
        { "change", 2, 2, cmdChange },
        { "whole", 3, G_MAXINT, cmdWhole },
    };
    gsize i;

    for (i = 0; argc > 1 && i < G_N_ELEMENTS(verbs); i++) {
        if (g_str_equal(argv[1], verbs[i].verb) && argc - 2 >= verbs[i].least && argc - 2 <= verbs[i].most)
            return verbs[i].run(argv + 2);
    }
    fail("usage: see the head of bench-swarm.c");
}
