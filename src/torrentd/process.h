/*
 * process.h: users, privileges, pid file, sockets, signals: what a daemon has to do
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Plain POSIX; used before there is a main loop.  Errors are G_FILE_ERROR with
 * a sentence that may be shown to the user.
 */

#pragma once

#include <glib.h>
#include <sys/types.h>

G_BEGIN_DECLS

/* Where things lie in one scope. */
typedef struct {
    char *socket;
    char *pidfile;
    char *rundir;                /* list of open pools; the engine's */
    char *conf;
    char *log;                   /* where a daemon without journal writes */
} VirTorrentPaths;

void virTorrentPathsInit(VirTorrentPaths *paths, gboolean session);
void virTorrentPathsClear(VirTorrentPaths *paths);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VirTorrentPaths, virTorrentPathsClear)

typedef struct {
    char *name;                  /* NULL: given by number */
    uid_t uid;
    gid_t gid;
} VirTorrentUser;

/* @user: a name or "+UID" */
gboolean virTorrentUserFind(const char *user, VirTorrentUser *found, GError **error);

/* Becomes @user for good: groups, uid, no capabilities, no way back. */
gboolean virTorrentUserBecome(const VirTorrentUser *user, GError **error);

/* Gives up what root's monitor does not need. */
gboolean virTorrentDropCapabilities(GError **error);

/* Opens and locks @path.  The lock goes with the open file, which the engine
 * inherits: so it is held until the last of the two processes is gone.  Waits
 * a few seconds where only a left-over engine holds it.  -1 with @error set. */
int virTorrentPidFileLock(const char *path, GError **error);
gboolean virTorrentPidFileWrite(int fd, GError **error);

/* The sockets that systemd passed; count, first one is fd 3. */
guint virTorrentListenFds(void);
int virTorrentListen(const char *path, GError **error);

/* Makes @path with @mode, and its parents as far as they are missing. */
gboolean virTorrentMakeDir(const char *path, mode_t mode, GError **error);

/* Closes every descriptor from 3 on that is not in @keep (@n of them). */
void virTorrentCloseOthers(const int *keep, guint n);

/* Goes into the background.  In the parent this waits for
 * virTorrentDaemonReady() and does not return. */
gboolean virTorrentDaemonize(const char *log, GError **error);
void virTorrentDaemonReady(void);
/* From now on stderr is the log of a daemon in the background. */
void virTorrentDaemonDetach(void);
int virTorrentDaemonGetLog(void);    /* -1: none */

/* Tells systemd, where it listens. */
void virTorrentNotify(const char *state);

G_END_DECLS
