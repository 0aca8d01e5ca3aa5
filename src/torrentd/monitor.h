/*
 * monitor.h: the few verbs that need root, and how they are asked for
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Between monitor (root, in system scope) and engine (its own user) runs a
 * SOCK_SEQPACKET socketpair.  One request, one reply, both of fixed size, in
 * the machine's own representation: both ends are the same program, forked.
 */

#pragma once

#include <glib.h>
#include <sys/types.h>

#include "names.h"

G_BEGIN_DECLS

typedef enum {
    VIR_TORRENT_MONITOR_READY = 1,   /* the engine serves clients now */
    VIR_TORRENT_MONITOR_PREPARE,     /* make the private directories in @target */
    VIR_TORRENT_MONITOR_ADOPT,       /* partial/@name becomes the master @target/@name */
    VIR_TORRENT_MONITOR_SEAL,        /* notes what the master @target/@name contains; fs-verity */
    VIR_TORRENT_MONITOR_REPLACE,     /* partial/@name takes the place of the master @target/@name,
                                        if that is sealed and had the same content */
} VirTorrentMonitorVerb;

#define VIR_TORRENT_TARGET_MAX 4096

typedef struct {
    guint32 verb;
    char target[VIR_TORRENT_TARGET_MAX];     /* NUL-terminated within the array */
    char name[VIR_TORRENT_NAME_MAX + 1];
} VirTorrentMonitorRequest;

typedef struct {
    gint32 failed;               /* errno, 0: done; EAGAIN: ask again */
    char message[1024];          /* NUL-terminated; one sentence where it failed */
} VirTorrentMonitorReply;

/* Whose the files are. */
typedef struct {
    uid_t owner_uid;             /* masters and .torrentpool: root, or the session's user */
    gid_t owner_gid;
    uid_t engine_uid;
    gid_t engine_gid;
    gboolean marked;             /* .torrentpool has to be there: root makes it, never we */
    gboolean verity;             /* masters get fs-verity where there is it */
    gboolean no_links;           /* for tests: as on a file system without hard links */
} VirTorrentMonitorPolicy;

/* The monitor's side: does what is asked and fills in @reply.  Knows PREPARE,
 * ADOPT, SEAL and REPLACE, everything else is refused. */
void virTorrentMonitorHandle(const VirTorrentMonitorPolicy *policy,
                             const VirTorrentMonitorRequest *request,
                             VirTorrentMonitorReply *reply);

/* Takes one message from @fd and answers it.  FALSE when the engine is gone or
 * does not keep to the protocol.  @ready is set where it said READY. */
gboolean virTorrentMonitorServe(int fd,
                                const VirTorrentMonitorPolicy *policy,
                                gboolean *ready);

/* The engine's side; may be used by several threads, one waits for the other. */
typedef struct _VirTorrentMonitor VirTorrentMonitor;

VirTorrentMonitor *virTorrentMonitorNew(int fd);   /* takes @fd */
/* For its owner: hangs up, and drops the reference that virTorrentMonitorNew() gave. */
void virTorrentMonitorFree(VirTorrentMonitor *monitor);
/* For threads that ask. */
VirTorrentMonitor *virTorrentMonitorRef(VirTorrentMonitor *monitor);
void virTorrentMonitorUnref(VirTorrentMonitor *monitor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentMonitor, virTorrentMonitorFree)

/* FALSE with @error (G_FILE_ERROR) set where the monitor refused or is gone. */
gboolean virTorrentMonitorReady(VirTorrentMonitor *monitor, GError **error);
gboolean virTorrentMonitorPrepare(VirTorrentMonitor *monitor, const char *target,
                                  GError **error);
/* G_FILE_ERROR_EXIST: the name is taken, nothing was changed.  Blocks while
 * the file is brought to the disk. */
gboolean virTorrentMonitorAdopt(VirTorrentMonitor *monitor, const char *target,
                                const char *name, GError **error);

/* Both may take as long as reading the file does, which is waited for.  In
 * session scope there is nothing to be sealed. */
gboolean virTorrentMonitorSeal(VirTorrentMonitor *monitor, const char *target,
                               const char *name, GError **error);
gboolean virTorrentMonitorReplace(VirTorrentMonitor *monitor, const char *target,
                                  const char *name, GError **error);

/* Calls @func in the main context when the monitor is gone. */
void virTorrentMonitorWatch(VirTorrentMonitor *monitor, GSourceFunc func, gpointer opaque);

G_END_DECLS
