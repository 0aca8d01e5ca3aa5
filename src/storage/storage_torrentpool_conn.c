/*
 * storage_torrentpool_conn.c: the connection to virttorrentd
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
 * Locks: connLock guards the members of theConn. It is held while connecting
 * and not during calls; no other lock is taken under it.
 */

#include <config.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <gio/gunixsocketaddress.h>

#include "configmake.h"
#include "storage_torrentpool_conn.h"
#include "viralloc.h"
#include "vircommand.h"
#include "virerror.h"
#include "virfile.h"
#include "virlog.h"
#include "virthread.h"
#include "virutil.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_conn");

#define TORRENTD_PATH "/org/libvirt/Torrentd1"

#define CONNECT_TIMEOUT_S 3
#define SPAWN_TIMEOUT_US (5 * G_USEC_PER_SEC)
#define SPAWN_RETRY_US (50 * 1000)
#define HOLDOFF_US (30 * G_USEC_PER_SEC)
/* Of what a virttorrentd that fails to start has to say */
#define SPAWN_MAX_OUTPUT 1024

static virMutex connLock = VIR_MUTEX_INITIALIZER;
static struct {
    GDBusConnection *conn;
    unsigned int serial;    /* which connection this is, for those who have to
                             * open their pool again on each */
    gint64 holdoff;         /* fail until then, monotonic time */
    char *reason;           /* why the last attempt failed */
    virStorageTorrentConnEvent event;
} theConn;


void
virStorageTorrentConnSetEvent(virStorageTorrentConnEvent event)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&connLock);

    theConn.event = event;
}


static char *
virStorageTorrentConnRunDir(void)
{
    if (geteuid() == 0)
        return g_strdup(RUNSTATEDIR "/libvirt");

    return virGetUserRuntimeDirectory();
}


static char *
virStorageTorrentConnDaemonPath(void)
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
virStorageTorrentConnFilter(GDBusConnection *conn G_GNUC_UNUSED,
                            GDBusMessage *message,
                            gboolean incoming,
                            gpointer opaque)
{
    virStorageTorrentConnEvent event = opaque;
    GVariant *body = g_dbus_message_get_body(message);
    const char *uuid;
    const char *name;
    const char *state;

    if (!incoming || !body ||
        g_dbus_message_get_message_type(message) != G_DBUS_MESSAGE_TYPE_SIGNAL ||
        STRNEQ_NULLABLE(g_dbus_message_get_interface(message), VIR_STORAGE_TORRENT_INTERFACE) ||
        STRNEQ_NULLABLE(g_dbus_message_get_member(message), "VolumeChanged") ||
        !g_variant_is_of_type(body, G_VARIANT_TYPE("(sss)")))
        return message;

    g_variant_get(body, "(&s&s&s)", &uuid, &name, &state);
    event(uuid, name, state);

    return message;
}


static void
virStorageTorrentConnClosed(GDBusConnection *conn G_GNUC_UNUSED,
                            gboolean vanished G_GNUC_UNUSED,
                            GError *error,
                            gpointer opaque)
{
    virStorageTorrentConnEvent event = opaque;

    VIR_WARN("virttorrentd went away: %s",
             error ? error->message : "connection closed");
    event(NULL, NULL, NULL);
}


static GDBusConnection *
virStorageTorrentConnDial(const char *path,
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
virStorageTorrentConnIsAbsent(const GError *error)
{
    return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND) ||
           g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
}


/* virttorrentd forks when its socket listens, so it is there when this
 * returns; what it says until then is the reason of a failure. It is collected
 * in a file, since waiting for the end of a pipe would be waiting for the end
 * of virttorrentd if it kept its standard error. */
static bool
virStorageTorrentConnSpawn(GError **error)
{
    g_autofree char *daemon = virStorageTorrentConnDaemonPath();
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
virStorageTorrentConnSpawnAndDial(const char *rundir,
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

    if ((conn = virStorageTorrentConnDial(path, &err)))
        return conn;

    if (virStorageTorrentConnIsAbsent(err) &&
        !virStorageTorrentConnSpawn(error))
        return NULL;

    while (true) {
        g_clear_error(&err);

        if ((conn = virStorageTorrentConnDial(path, &err)))
            return conn;

        if (!virStorageTorrentConnIsAbsent(err) ||
            g_get_monotonic_time() >= deadline)
            break;

        g_usleep(SPAWN_RETRY_US);
    }

    g_propagate_error(error, g_steal_pointer(&err));
    return NULL;
}


static GDBusConnection *
virStorageTorrentConnDialOrSpawn(GError **error)
{
    g_autofree char *rundir = virStorageTorrentConnRunDir();
    g_autofree char *path = g_strdup_printf("%s/virttorrentd-sock", rundir);
    g_autoptr(GError) err = NULL;
    GDBusConnection *conn;

    if ((conn = virStorageTorrentConnDial(path, &err)))
        return conn;

    if (virStorageTorrentConnIsAbsent(err)) {
        g_clear_error(&err);

        if ((conn = virStorageTorrentConnSpawnAndDial(rundir, path, &err)))
            return conn;
    }

    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED,
                _("cannot reach virttorrentd at '%1$s': %2$s"),
                path, err->message);
    return NULL;
}


/* No further attempt is made for a while. Called with connLock held. */
static void
virStorageTorrentConnHoldOff(const char *reason)
{
    theConn.holdoff = g_get_monotonic_time() + HOLDOFF_US;
    g_free(theConn.reason);
    theConn.reason = g_strdup(reason);
}


static GDBusConnection *
virStorageTorrentConnGet(bool insist,
                         unsigned int *serial,
                         GError **error)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&connLock);
    g_autoptr(GError) err = NULL;

    if (theConn.conn && g_dbus_connection_is_closed(theConn.conn))
        g_clear_object(&theConn.conn);

    if (!insist && g_get_monotonic_time() < theConn.holdoff) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED,
                            theConn.reason);
        return NULL;
    }

    if (!theConn.conn) {
        if (!(theConn.conn = virStorageTorrentConnDialOrSpawn(&err))) {
            virStorageTorrentConnHoldOff(err->message);
            g_propagate_error(error, g_steal_pointer(&err));
            return NULL;
        }

        theConn.serial++;

        if (theConn.event) {
            g_dbus_connection_add_filter(theConn.conn,
                                         virStorageTorrentConnFilter,
                                         theConn.event, NULL);
            g_signal_connect(theConn.conn, "closed",
                             G_CALLBACK(virStorageTorrentConnClosed),
                             theConn.event);
        }
        g_dbus_connection_set_exit_on_close(theConn.conn, FALSE);
        g_dbus_connection_start_message_processing(theConn.conn);
        theConn.holdoff = 0;
    }

    if (serial)
        *serial = theConn.serial;

    return g_object_ref(theConn.conn);
}


/**
 * virStorageTorrentConnConnect:
 * @insist: try although an attempt failed just now
 * @serial: filled with the number of the connection; a pool has to be
 *          opened once on each
 * @error: filled on failure
 *
 * Connects to virttorrentd and starts it if nobody listens.
 */
bool
virStorageTorrentConnConnect(bool insist,
                             unsigned int *serial,
                             GError **error)
{
    g_autoptr(GDBusConnection) conn = NULL;

    return !!(conn = virStorageTorrentConnGet(insist, serial, error));
}


/* Takes the floating @params. Returns the reply, of type @reply. */
static GVariant *
virStorageTorrentConnCallOn(GDBusConnection *conn,
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
                                      VIR_STORAGE_TORRENT_INTERFACE, method, params,
                                      G_VARIANT_TYPE(reply),
                                      G_DBUS_CALL_FLAGS_NONE, timeout,
                                      NULL, &err);

    VIR_WITH_MUTEX_LOCK_GUARD(&connLock) {
        if (ret)
            theConn.holdoff = 0;
        else if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
            virStorageTorrentConnHoldOff(_("virttorrentd does not answer"));
    }

    if (!ret) {
        VIR_DEBUG("method=%s error=%s", method, err->message);
        g_propagate_error(error, g_steal_pointer(&err));
    }

    return ret;
}


GVariant *
virStorageTorrentConnCall(const char *method,
                          GVariant *params,
                          const char *reply,
                          int timeout,
                          GError **error)
{
    g_autoptr(GVariant) args = g_variant_ref_sink(params);
    g_autoptr(GDBusConnection) conn = NULL;

    if (!(conn = virStorageTorrentConnGet(false, NULL, error)))
        return NULL;

    return virStorageTorrentConnCallOn(conn, method, args, reply, timeout, error);
}


/* Whether virttorrentd is there and answers; tried although it did not just
 * now. Not to be called with a pool locked. */
bool
virStorageTorrentConnPing(void)
{
    g_autoptr(GDBusConnection) conn = NULL;
    g_autoptr(GVariant) ret = NULL;

    if (!(conn = virStorageTorrentConnGet(true, NULL, NULL)))
        return false;

    ret = virStorageTorrentConnCallOn(conn, "ListPools", g_variant_new("()"),
                                      "(a(sss))", VIR_STORAGE_TORRENT_CALL_TIMEOUT_MS, NULL);
    return !!ret;
}
