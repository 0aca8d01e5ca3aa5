/*
 * monitor-client.c: how the engine asks the monitor for something
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Adoption waits for the disk, so it is asked for by worker threads; a mutex
 * keeps request and reply together.  While one thread waits for an adoption,
 * another one's PREPARE waits too: the callers keep adoptions short by bringing
 * the file to the disk themselves first.
 *
 * A thread that asks holds a reference, since the main thread does not wait for it when
 * it ends: from virTorrentMonitorFree() on whoever asks is told that the monitor is gone.
 */

#include <config.h>

#include "monitor.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "i18n.h"

/* Between two questions whether something is done, microseconds. */
#define ASK_AGAIN (100 * 1000)

struct _VirTorrentMonitor {
    gatomicrefcount refs;
    int fd;                      /* open as long as there are references */
    GMutex mutex;
    GSource *watch;
    GSourceFunc func;
    gpointer opaque;
};

VirTorrentMonitor *
virTorrentMonitorNew(int fd)
{
    VirTorrentMonitor *monitor = g_new0(VirTorrentMonitor, 1);

    g_atomic_ref_count_init(&monitor->refs);
    monitor->fd = fd;
    g_mutex_init(&monitor->mutex);
    return monitor;
}

VirTorrentMonitor *
virTorrentMonitorRef(VirTorrentMonitor *monitor)
{
    g_atomic_ref_count_inc(&monitor->refs);
    return monitor;
}

void
virTorrentMonitorUnref(VirTorrentMonitor *monitor)
{
    if (!g_atomic_ref_count_dec(&monitor->refs))
        return;
    close(monitor->fd);
    g_mutex_clear(&monitor->mutex);
    g_free(monitor);
}

void
virTorrentMonitorFree(VirTorrentMonitor *monitor)
{
    if (!monitor)
        return;
    if (monitor->watch) {
        g_source_destroy(monitor->watch);
        g_source_unref(monitor->watch);
    }
    shutdown(monitor->fd, SHUT_RDWR);
    virTorrentMonitorUnref(monitor);
}

static gboolean
virTorrentMonitorExchange(int fd,
                          const VirTorrentMonitorRequest *request,
                          VirTorrentMonitorReply *reply)
{
    ssize_t n;

    do {
        n = send(fd, request, sizeof(*request), MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t) sizeof(*request))
        return FALSE;
    do {
        n = recv(fd, reply, sizeof(*reply), 0);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t) sizeof(*reply);
}

static gboolean
virTorrentMonitorAsk(VirTorrentMonitor *monitor,
                     VirTorrentMonitorVerb verb,
                     const char *target,
                     const char *name,
                     GError **error)
{
    g_autofree VirTorrentMonitorRequest *request = g_new0(VirTorrentMonitorRequest, 1);
    VirTorrentMonitorReply reply;
    gboolean ok;

    request->verb = verb;
    if (g_strlcpy(request->target, target, sizeof(request->target)) >= sizeof(request->target) ||
        g_strlcpy(request->name, name, sizeof(request->name)) >= sizeof(request->name)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NAMETOOLONG,
                    _("path '%s/%s' is too long"), target, name);
        return FALSE;
    }
    g_mutex_lock(&monitor->mutex);
    ok = virTorrentMonitorExchange(monitor->fd, request, &reply);
    g_mutex_unlock(&monitor->mutex);
    if (!ok) {
        g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_PIPE,
                            _("virttorrentd's monitor process is gone"));
        return FALSE;
    }
    if (reply.failed) {
        /* it may have been cut within a character */
        g_autofree char *message = g_utf8_make_valid(reply.message,
                                                     strnlen(reply.message,
                                                             sizeof(reply.message)));

        g_set_error_literal(error, G_FILE_ERROR, g_file_error_from_errno(reply.failed), message);
        return FALSE;
    }
    return TRUE;
}

gboolean
virTorrentMonitorReady(VirTorrentMonitor *monitor, GError **error)
{
    return virTorrentMonitorAsk(monitor, VIR_TORRENT_MONITOR_READY, "", "", error);
}

gboolean
virTorrentMonitorPrepare(VirTorrentMonitor *monitor, const char *target, GError **error)
{
    return virTorrentMonitorAsk(monitor, VIR_TORRENT_MONITOR_PREPARE, target, "", error);
}

gboolean
virTorrentMonitorAdopt(VirTorrentMonitor *monitor,
                       const char *target,
                       const char *name,
                       GError **error)
{
    return virTorrentMonitorAsk(monitor, VIR_TORRENT_MONITOR_ADOPT, target, name, error);
}

/* What takes long is asked for again and again, so that others are served meanwhile. */
static gboolean
virTorrentMonitorAskLong(VirTorrentMonitor *monitor,
                         VirTorrentMonitorVerb verb,
                         const char *target,
                         const char *name,
                         GError **error)
{
    g_autoptr(GError) err = NULL;

    while (!virTorrentMonitorAsk(monitor, verb, target, name, &err)) {
        if (!g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_AGAIN)) {
            g_propagate_error(error, g_steal_pointer(&err));
            return FALSE;
        }
        g_clear_error(&err);
        g_usleep(ASK_AGAIN);
    }
    return TRUE;
}

gboolean
virTorrentMonitorSeal(VirTorrentMonitor *monitor,
                      const char *target,
                      const char *name,
                      GError **error)
{
    return virTorrentMonitorAskLong(monitor, VIR_TORRENT_MONITOR_SEAL, target, name, error);
}

gboolean
virTorrentMonitorReplace(VirTorrentMonitor *monitor,
                         const char *target,
                         const char *name,
                         GError **error)
{
    return virTorrentMonitorAskLong(monitor, VIR_TORRENT_MONITOR_REPLACE, target, name, error);
}

static gboolean
virTorrentMonitorHangup(gint fd G_GNUC_UNUSED,
                        GIOCondition condition G_GNUC_UNUSED,
                        gpointer opaque)
{
    VirTorrentMonitor *monitor = opaque;

    return monitor->func(monitor->opaque);
}

void
virTorrentMonitorWatch(VirTorrentMonitor *monitor, GSourceFunc func, gpointer opaque)
{
    monitor->func = func;
    monitor->opaque = opaque;
    monitor->watch = g_unix_fd_source_new(monitor->fd, G_IO_HUP | G_IO_ERR);
    g_source_set_callback(monitor->watch, G_SOURCE_FUNC(virTorrentMonitorHangup), monitor, NULL);
    g_source_attach(monitor->watch, g_main_context_get_thread_default());
}
