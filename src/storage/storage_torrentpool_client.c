/*
 * storage_torrentpool_client.c: what libvirt asks of virttorrentd
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * virttorrentd is spoken to over peer-to-peer D-Bus on a UNIX socket. There
 * is one connection per process for all torrent pools, made when it is needed
 * and made anew after it broke. Where nobody listens virttorrentd is spawned:
 * systemd would have started it, and a user's session has no systemd unit.
 *
 * Whoever calls this holds the lock of a pool, so nothing here may wait for
 * long: connecting, spawning and each call are bounded, and after a failure to
 * get through further attempts fail at once for a while.
 *
 * Failures are GErrors, since a refresh wants to warn where the creation of a
 * volume has to fail; virStorageTorrentClientReportError() translates them.
 *
 * Locks: clientLock guards the members of client. It is held while connecting
 * and not during calls; no other lock is taken under it.
 */

#include <config.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>

#include "configmake.h"
#include "storage_torrentpool_client.h"
#include "viralloc.h"
#include "vircommand.h"
#include "virerror.h"
#include "virfile.h"
#include "virlog.h"
#include "virthread.h"
#include "virutil.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_client");

#define TORRENTD_PATH "/org/libvirt/Torrentd1"
#define TORRENTD_INTERFACE "org.libvirt.Torrentd1"
#define TORRENTD_ERROR TORRENTD_INTERFACE ".Error."

#define CALL_TIMEOUT_MS (5 * 1000)
/* The engine parses up to 64 MiB for this one. */
#define METAINFO_TIMEOUT_MS (15 * 1000)
#define CONNECT_TIMEOUT_S 3
#define SPAWN_TIMEOUT_US (5 * G_USEC_PER_SEC)
#define SPAWN_RETRY_US (50 * 1000)
#define HOLDOFF_US (30 * G_USEC_PER_SEC)
/* Of what a virttorrentd that fails to start has to say */
#define SPAWN_MAX_OUTPUT 1024

static virMutex clientLock = VIR_MUTEX_INITIALIZER;
static struct {
    GDBusConnection *conn;
    unsigned int serial;    /* which connection this is, for those who have to
                             * open their pool again on each */
    gint64 holdoff;         /* fail until then, monotonic time */
    char *reason;           /* why the last attempt failed */
    virStorageTorrentClientEvent event;
} client;


void
virStorageTorrentVolumeFree(virStorageTorrentVolume *vol)
{
    if (!vol)
        return;

    g_free(vol->name);
    g_free(vol->format);
    g_free(vol->key);
    g_free(vol->magnet);
    g_free(vol->error);
    g_free(vol);
}


void
virStorageTorrentClientSetEvent(virStorageTorrentClientEvent event)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&clientLock);

    client.event = event;
}


static char *
virStorageTorrentClientRunDir(void)
{
    if (geteuid() == 0)
        return g_strdup(RUNSTATEDIR "/libvirt");

    return virGetUserRuntimeDirectory();
}


static char *
virStorageTorrentClientDaemonPath(void)
{
    const char *env = getenv("VIRTTORRENTD_PATH");

    if (env && !virFileIsDir(env))
        return g_strdup(env);

    return virFileFindResourceFull("virttorrentd", NULL, NULL,
                                   abs_top_builddir "/src",
                                   SBINDIR,
                                   "VIRTTORRENTD_PATH");
}


/* Runs in a thread of GDBus, which stops reading until this returns. */
static GDBusMessage *
virStorageTorrentClientFilter(GDBusConnection *conn G_GNUC_UNUSED,
                              GDBusMessage *message,
                              gboolean incoming,
                              gpointer opaque)
{
    virStorageTorrentClientEvent event = opaque;
    GVariant *body = g_dbus_message_get_body(message);
    const char *uuid;
    const char *name;
    const char *state;

    if (!incoming || !body ||
        g_dbus_message_get_message_type(message) != G_DBUS_MESSAGE_TYPE_SIGNAL ||
        STRNEQ_NULLABLE(g_dbus_message_get_interface(message), TORRENTD_INTERFACE) ||
        STRNEQ_NULLABLE(g_dbus_message_get_member(message), "VolumeChanged") ||
        !g_variant_is_of_type(body, G_VARIANT_TYPE("(sss)")))
        return message;

    g_variant_get(body, "(&s&s&s)", &uuid, &name, &state);
    event(uuid, name, state);

    return message;
}


static void
virStorageTorrentClientClosed(GDBusConnection *conn G_GNUC_UNUSED,
                              gboolean vanished G_GNUC_UNUSED,
                              GError *error,
                              gpointer opaque)
{
    virStorageTorrentClientEvent event = opaque;

    VIR_WARN("virttorrentd went away: %s",
             error ? error->message : "connection closed");
    event(NULL, NULL, NULL);
}


static GDBusConnection *
virStorageTorrentClientDial(const char *path,
                            GError **error)
{
    g_autoptr(GSocketClient) dialer = g_socket_client_new();
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
    g_autoptr(GSocketConnection) stream = NULL;
    g_autoptr(GDBusConnection) conn = NULL;

    /* It bounds connecting and the handshake. */
    g_socket_client_set_timeout(dialer, CONNECT_TIMEOUT_S);

    if (!(stream = g_socket_client_connect(dialer,
                                           G_SOCKET_CONNECTABLE(address),
                                           NULL, error)))
        return NULL;

    if (!(conn = g_dbus_connection_new_sync(G_IO_STREAM(stream), NULL,
                                            G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                            G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                                            NULL, NULL, error)))
        return NULL;

    g_socket_set_timeout(g_socket_connection_get_socket(stream), 0);

    return g_steal_pointer(&conn);
}


/* Whether nobody listens, as opposed to somebody who does not answer */
static bool
virStorageTorrentClientIsAbsent(const GError *error)
{
    return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND) ||
           g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
}


/* virttorrentd forks when its socket listens, so it is there when this
 * returns; what it says until then is the reason of a failure. It is collected
 * in a file, since waiting for the end of a pipe would be waiting for the end
 * of virttorrentd if it kept its standard error. */
static bool
virStorageTorrentClientSpawn(GError **error)
{
    g_autofree char *daemon = virStorageTorrentClientDaemonPath();
    g_autoptr(virCommand) cmd = NULL;
    g_autofree char *output = NULL;
    VIR_AUTOCLOSE fd = -1;
    int outfd;
    int status = -1;

    if (!virFileIsExecutable(daemon)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    _("there is no program '%1$s'"), daemon);
        return false;
    }

    if ((fd = memfd_create("virttorrentd-stderr", MFD_CLOEXEC)) < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    _("cannot make a file for its messages: %1$s"),
                    g_strerror(errno));
        return false;
    }

    outfd = fd;
    cmd = virCommandNewArgList(daemon, "--daemon", NULL);
    virCommandSetOutputFD(cmd, &outfd);
    virCommandSetErrorFD(cmd, &outfd);

    if (virCommandRun(cmd, &status) == 0 && status == 0)
        return true;

    if (lseek(fd, 0, SEEK_SET) == 0)
        ignore_value(virFileReadLimFD(fd, SPAWN_MAX_OUTPUT, &output));

    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                _("'%1$s --daemon' failed with status %2$d: %3$s"),
                daemon, status, output ? g_strstrip(output) : "");
    virResetLastError();
    return false;
}


/* Spawns virttorrentd, unless another process did so just now. */
static GDBusConnection *
virStorageTorrentClientSpawnAndDial(const char *rundir,
                                    const char *path,
                                    GError **error)
{
    g_autofree char *lockpath = g_strdup_printf("%s/virttorrentd-spawn.lock", rundir);
    gint64 deadline = g_get_monotonic_time() + SPAWN_TIMEOUT_US;
    g_autoptr(GError) err = NULL;
    GDBusConnection *conn;
    VIR_AUTOCLOSE lockfd = -1;

    if (g_mkdir_with_parents(rundir, 0700) < 0 ||
        (lockfd = open(lockpath, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    _("cannot open '%1$s': %2$s"), lockpath, g_strerror(errno));
        return NULL;
    }

    while (virFileLock(lockfd, false, 0, 1, false) < 0 &&
           g_get_monotonic_time() < deadline)
        g_usleep(SPAWN_RETRY_US);

    if ((conn = virStorageTorrentClientDial(path, &err)))
        return conn;

    if (virStorageTorrentClientIsAbsent(err) &&
        !virStorageTorrentClientSpawn(error))
        return NULL;

    while (true) {
        g_clear_error(&err);

        if ((conn = virStorageTorrentClientDial(path, &err)))
            return conn;

        if (!virStorageTorrentClientIsAbsent(err) ||
            g_get_monotonic_time() >= deadline)
            break;

        g_usleep(SPAWN_RETRY_US);
    }

    g_propagate_error(error, g_steal_pointer(&err));
    return NULL;
}


static GDBusConnection *
virStorageTorrentClientDialOrSpawn(GError **error)
{
    g_autofree char *rundir = virStorageTorrentClientRunDir();
    g_autofree char *path = g_strdup_printf("%s/virttorrentd-sock", rundir);
    g_autoptr(GError) err = NULL;
    GDBusConnection *conn;

    if ((conn = virStorageTorrentClientDial(path, &err)))
        return conn;

    if (virStorageTorrentClientIsAbsent(err)) {
        g_clear_error(&err);

        if ((conn = virStorageTorrentClientSpawnAndDial(rundir, path, &err)))
            return conn;
    }

    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED,
                _("cannot reach virttorrentd at '%1$s': %2$s"),
                path, err->message);
    return NULL;
}


/* No further attempt is made for a while. Called with clientLock held. */
static void
virStorageTorrentClientHoldOff(const char *reason)
{
    client.holdoff = g_get_monotonic_time() + HOLDOFF_US;
    g_free(client.reason);
    client.reason = g_strdup(reason);
}


static GDBusConnection *
virStorageTorrentClientGet(bool insist,
                           unsigned int *serial,
                           GError **error)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&clientLock);
    g_autoptr(GError) err = NULL;

    if (client.conn && g_dbus_connection_is_closed(client.conn))
        g_clear_object(&client.conn);

    if (!insist && g_get_monotonic_time() < client.holdoff) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED,
                            client.reason);
        return NULL;
    }

    if (!client.conn) {
        if (!(client.conn = virStorageTorrentClientDialOrSpawn(&err))) {
            virStorageTorrentClientHoldOff(err->message);
            g_propagate_error(error, g_steal_pointer(&err));
            return NULL;
        }

        client.serial++;

        if (client.event) {
            g_dbus_connection_add_filter(client.conn,
                                         virStorageTorrentClientFilter,
                                         client.event, NULL);
            g_signal_connect(client.conn, "closed",
                             G_CALLBACK(virStorageTorrentClientClosed),
                             client.event);
        }
        g_dbus_connection_set_exit_on_close(client.conn, FALSE);
        g_dbus_connection_start_message_processing(client.conn);
        client.holdoff = 0;
    }

    if (serial)
        *serial = client.serial;

    return g_object_ref(client.conn);
}


/**
 * virStorageTorrentClientConnect:
 * @insist: try although an attempt failed just now
 * @serial: filled with the number of the connection; a pool has to be
 *          opened once on each
 * @error: filled on failure
 *
 * Connects to virttorrentd and starts it if nobody listens.
 */
bool
virStorageTorrentClientConnect(bool insist,
                               unsigned int *serial,
                               GError **error)
{
    g_autoptr(GDBusConnection) conn = NULL;

    return !!(conn = virStorageTorrentClientGet(insist, serial, error));
}


/* Takes the floating @params. Returns the reply, of type @reply. */
static GVariant *
virStorageTorrentClientCallOn(GDBusConnection *conn,
                              const char *method,
                              GVariant *params,
                              const char *reply,
                              int timeout,
                              GError **error)
{
    g_autoptr(GError) err = NULL;
    GVariant *ret;

    VIR_DEBUG("method=%s", method);

    ret = g_dbus_connection_call_sync(conn, NULL, TORRENTD_PATH,
                                      TORRENTD_INTERFACE, method, params,
                                      G_VARIANT_TYPE(reply),
                                      G_DBUS_CALL_FLAGS_NONE, timeout,
                                      NULL, &err);

    VIR_WITH_MUTEX_LOCK_GUARD(&clientLock) {
        if (ret)
            client.holdoff = 0;
        else if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
            virStorageTorrentClientHoldOff(_("virttorrentd does not answer"));
    }

    if (!ret) {
        VIR_DEBUG("method=%s error=%s", method, err->message);
        g_propagate_error(error, g_steal_pointer(&err));
    }

    return ret;
}


static GVariant *
virStorageTorrentClientCall(const char *method,
                            GVariant *params,
                            const char *reply,
                            int timeout,
                            GError **error)
{
    g_autoptr(GVariant) args = g_variant_ref_sink(params);
    g_autoptr(GDBusConnection) conn = NULL;

    if (!(conn = virStorageTorrentClientGet(false, NULL, error)))
        return NULL;

    return virStorageTorrentClientCallOn(conn, method, args, reply, timeout, error);
}


/* Whether virttorrentd is there and answers; tried although it did not just
 * now. Not to be called with a pool locked. */
bool
virStorageTorrentClientPing(void)
{
    g_autoptr(GDBusConnection) conn = NULL;
    g_autoptr(GVariant) ret = NULL;

    if (!(conn = virStorageTorrentClientGet(true, NULL, NULL)))
        return false;

    ret = virStorageTorrentClientCallOn(conn, "ListPools", g_variant_new("()"),
                                        "(a(sss))", CALL_TIMEOUT_MS, NULL);
    return !!ret;
}


static bool
virStorageTorrentClientCallVoid(const char *method,
                                GVariant *params,
                                GError **error)
{
    g_autoptr(GVariant) ret = NULL;

    ret = virStorageTorrentClientCall(method, params, "()", CALL_TIMEOUT_MS,
                                      error);
    return !!ret;
}


static GVariant *
virStorageTorrentClientProperties(const char *format,
                                  unsigned long long capacity)
{
    g_auto(GVariantDict) dict = G_VARIANT_DICT_INIT(NULL);

    if (format)
        g_variant_dict_insert(&dict, "format", "s", format);
    if (capacity)
        g_variant_dict_insert(&dict, "capacity", "t", (guint64)capacity);

    return g_variant_dict_end(&dict);
}


static virStorageTorrentVolume *
virStorageTorrentClientParseVolume(const char *name,
                                   GVariant *properties)
{
    g_auto(GVariantDict) dict = G_VARIANT_DICT_INIT(properties);
    virStorageTorrentVolume *vol = g_new0(virStorageTorrentVolume, 1);
    const char *state = NULL;
    guint64 number;
    int value;

    vol->name = g_strdup(name);

    if (g_variant_dict_lookup(&dict, "state", "&s", &state) &&
        (value = virStorageVolTorrentStateTypeFromString(state)) > 0)
        vol->state = value;

    if (g_variant_dict_lookup(&dict, "capacity", "t", &number))
        vol->capacity = number;
    if (g_variant_dict_lookup(&dict, "size", "t", &number))
        vol->size = number;
    if (g_variant_dict_lookup(&dict, "done", "t", &number))
        vol->done = number;

    g_variant_dict_lookup(&dict, "progress", "d", &vol->progress);
    g_variant_dict_lookup(&dict, "format", "s", &vol->format);
    g_variant_dict_lookup(&dict, "key", "s", &vol->key);
    g_variant_dict_lookup(&dict, "magnet", "s", &vol->magnet);
    g_variant_dict_lookup(&dict, "error", "s", &vol->error);

    return vol;
}


bool
virStorageTorrentClientOpenPool(const char *uuid,
                                const char *name,
                                const char *target,
                                GVariant *options,
                                GError **error)
{
    return virStorageTorrentClientCallVoid("OpenPool",
                                           g_variant_new("(sss@a{sv})", uuid,
                                                         name, target, options),
                                           error);
}


bool
virStorageTorrentClientClosePool(const char *uuid,
                                 bool purge,
                                 GError **error)
{
    return virStorageTorrentClientCallVoid("ClosePool",
                                           g_variant_new("(sb)", uuid, purge),
                                           error);
}


bool
virStorageTorrentClientListTargets(char ***targets,
                                   GError **error)
{
    g_autoptr(GVariant) ret = NULL;
    g_autoptr(GVariantIter) iter = NULL;
    const char *target;
    size_t n = 0;

    if (!(ret = virStorageTorrentClientCall("ListPools", g_variant_new("()"),
                                            "(a(sss))", CALL_TIMEOUT_MS, error)))
        return false;

    g_variant_get(ret, "(a(sss))", &iter);
    *targets = g_new0(char *, g_variant_iter_n_children(iter) + 1);

    while (g_variant_iter_next(iter, "(&s&s&s)", NULL, NULL, &target))
        (*targets)[n++] = g_strdup(target);

    return true;
}


bool
virStorageTorrentClientListVolumes(const char *uuid,
                                   GPtrArray **vols,
                                   GError **error)
{
    g_autoptr(GVariant) ret = NULL;
    g_autoptr(GVariantIter) iter = NULL;
    const char *name;
    GVariant *properties;

    if (!(ret = virStorageTorrentClientCall("ListVolumes",
                                            g_variant_new("(s)", uuid),
                                            "(a(sa{sv}))", CALL_TIMEOUT_MS,
                                            error)))
        return false;

    g_variant_get(ret, "(a(sa{sv}))", &iter);
    *vols = g_ptr_array_new_with_free_func((GDestroyNotify)virStorageTorrentVolumeFree);

    while (g_variant_iter_next(iter, "(&s@a{sv})", &name, &properties)) {
        g_ptr_array_add(*vols,
                        virStorageTorrentClientParseVolume(name, properties));
        g_variant_unref(properties);
    }

    return true;
}


bool
virStorageTorrentClientGetVolume(const char *uuid,
                                 const char *name,
                                 virStorageTorrentVolume **vol,
                                 GError **error)
{
    g_autoptr(GVariant) ret = NULL;
    g_autoptr(GVariant) properties = NULL;

    if (!(ret = virStorageTorrentClientCall("GetVolume",
                                            g_variant_new("(ss)", uuid, name),
                                            "(a{sv})", CALL_TIMEOUT_MS, error)))
        return false;

    properties = g_variant_get_child_value(ret, 0);
    *vol = virStorageTorrentClientParseVolume(name, properties);

    return true;
}


bool
virStorageTorrentClientPublishVolume(const char *uuid,
                                     const char *name,
                                     const char *format,
                                     unsigned long long capacity,
                                     GError **error)
{
    return virStorageTorrentClientCallVoid("PublishVolume",
                                           g_variant_new("(ss@a{sv})", uuid, name,
                                                         virStorageTorrentClientProperties(format, capacity)),
                                           error);
}


bool
virStorageTorrentClientFetchMagnet(const char *uuid,
                                   const char *name,
                                   const char *magnet,
                                   const char *format,
                                   unsigned long long capacity,
                                   GError **error)
{
    return virStorageTorrentClientCallVoid("FetchMagnet",
                                           g_variant_new("(sss@a{sv})", uuid, name, magnet,
                                                         virStorageTorrentClientProperties(format, capacity)),
                                           error);
}


bool
virStorageTorrentClientFetchMetainfo(const char *uuid,
                                     const char *metainfo,
                                     size_t len,
                                     char **name,
                                     GError **error)
{
    GVariant *bytes = g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE,
                                                metainfo, len, 1);
    g_autoptr(GVariant) ret = NULL;

    if (!(ret = virStorageTorrentClientCall("FetchMetainfo",
                                            g_variant_new("(ss@ay)", uuid, "", bytes),
                                            "(s)", METAINFO_TIMEOUT_MS, error)))
        return false;

    g_variant_get(ret, "(s)", name);

    return true;
}


bool
virStorageTorrentClientRemoveVolume(const char *uuid,
                                    const char *name,
                                    GError **error)
{
    return virStorageTorrentClientCallVoid("RemoveVolume",
                                           g_variant_new("(ss)", uuid, name),
                                           error);
}


/* What stands behind org.libvirt.Torrentd1.Error. in @error, or NULL; to be
 * freed by the caller */
static char *
virStorageTorrentClientErrorName(const GError *error)
{
    g_autofree char *name = g_dbus_error_get_remote_error(error);

    if (!name || !STRPREFIX(name, TORRENTD_ERROR))
        return NULL;

    return g_strdup(name + strlen(TORRENTD_ERROR));
}


bool
virStorageTorrentClientIsUnknown(const GError *error)
{
    g_autofree char *name = virStorageTorrentClientErrorName(error);

    return STREQ_NULLABLE(name, "NoVolume") || STREQ_NULLABLE(name, "NoPool");
}


bool
virStorageTorrentClientIsRefusal(const GError *error)
{
    g_autofree char *name = virStorageTorrentClientErrorName(error);

    return !!name;
}


char *
virStorageTorrentClientErrorMessage(const GError *error)
{
    g_autoptr(GError) copy = g_error_copy(error);

    g_dbus_error_strip_remote_error(copy);

    return g_strdup(copy->message);
}


static const struct {
    const char *name;
    virErrorNumber code;
} virStorageTorrentClientErrors[] = {
    { "NoPool", VIR_ERR_NO_STORAGE_POOL },
    { "NoVolume", VIR_ERR_NO_STORAGE_VOL },
    { "Busy", VIR_ERR_RESOURCE_BUSY },
    { "InvalidName", VIR_ERR_INVALID_ARG },
    { "InvalidMagnet", VIR_ERR_INVALID_ARG },
    { "InvalidMetainfo", VIR_ERR_INVALID_ARG },
    { "InvalidOption", VIR_ERR_INVALID_ARG },
    { "NotStandalone", VIR_ERR_OPERATION_UNSUPPORTED },
    { "Denied", VIR_ERR_ACCESS_DENIED },
};


/**
 * virStorageTorrentClientReportError:
 * @error: what one of these functions failed with
 *
 * Makes it libvirt's error.
 */
void
virStorageTorrentClientReportError(const GError *error)
{
    g_autofree char *name = virStorageTorrentClientErrorName(error);
    g_autofree char *message = virStorageTorrentClientErrorMessage(error);
    virErrorNumber code = VIR_ERR_OPERATION_FAILED;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(virStorageTorrentClientErrors); i++) {
        if (STREQ_NULLABLE(name, virStorageTorrentClientErrors[i].name))
            code = virStorageTorrentClientErrors[i].code;
    }

    virReportError(code, "%s", message);
}
