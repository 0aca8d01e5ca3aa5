/*
 * main.c: virttorrentd, its two processes
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The process that is started becomes the monitor: it reads the configuration,
 * takes the pid file, binds the socket and forks the engine, which becomes
 * another user (system scope) and does everything else.  Then it answers the
 * engine's few requests (monitor.c) and passes signals on.
 *
 * Neither outlives the other: the engine sees its socketpair hang up, the
 * monitor ends when its child does.  The pid file's lock is inherited, so that
 * a new daemon starts only when both are gone.
 */

#include <config.h>

#include <errno.h>
#include <glib-unix.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf.h"
#include "confine.h"
#include "i18n.h"
#include "log.h"
#include "manager.h"
#include "monitor.h"
#include "process.h"
#include "service.h"
#include "status.h"

/* The engine gets this long to end by itself, milliseconds. */
#define STOP_TIMEOUT 10000

typedef struct {
    gboolean daemon;
    gboolean metrics;
    gboolean scrub;
    gboolean session;
    gboolean status;
    gboolean verbose;
    gboolean version;
    int timeout;
    char *config;
    char *pidfile;
    char **names;                /* POOL and VOLUME of --scrub */
} VirTorrentArgs;

/* What the monitor prepares and the engine inherits. */
typedef struct {
    VirTorrentArgs args;
    VirTorrentPaths paths;
    VirTorrentConf *conf;
    VirTorrentUser user;         /* engine's */
    int lock;
    int listen[16];
    guint nlisten;
    gboolean activated;          /* the sockets are systemd's */
} VirTorrentDaemon;

/* engine */

typedef struct {
    GMainLoop *loop;
    VirTorrentManager *manager;
    VirTorrentService *service;
    gint64 idle_since;
    gint64 timeout;              /* microseconds */
} VirTorrentEngineProcess;

static gboolean
virTorrentEngineQuit(gpointer opaque)
{
    VirTorrentEngineProcess *self = opaque;

    g_main_loop_quit(self->loop);
    return G_SOURCE_CONTINUE;
}

/* Ends a daemon nobody needs: no pool and no client for a while. */
static gboolean
virTorrentEngineCheckIdle(gpointer opaque)
{
    VirTorrentEngineProcess *self = opaque;

    if (virTorrentManagerCountPools(self->manager) || virTorrentServiceCountClients(self->service))
        self->idle_since = g_get_monotonic_time();
    else if (g_get_monotonic_time() - self->idle_since >= self->timeout)
        g_main_loop_quit(self->loop);
    return G_SOURCE_CONTINUE;
}

/* A file per connection of a swarm, and then some. */
static void
virTorrentEngineRaiseLimits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* In the monitor and the engine: more than a unit or a container may have done already. */
static void
virTorrentForbidCalls(void)
{
    g_autoptr(GError) err = NULL;

    if (!virTorrentConfineCalls(&err))
        g_info("%s", err->message);
}

static gboolean
virTorrentEngineConfine(const VirTorrentDaemon *daemon, int fd, GError **error)
{
    int keep[20];
    guint n = 0;
    guint i;

    keep[n++] = fd;
    keep[n++] = daemon->lock;
    if (virTorrentDaemonGetLog() >= 0)
        keep[n++] = virTorrentDaemonGetLog();
    for (i = 0; i < daemon->nlisten; i++)
        keep[n++] = daemon->listen[i];
    virTorrentCloseOthers(keep, n);
    umask(077);
    virTorrentEngineRaiseLimits();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        g_warning("Cannot set no_new_privs: %s", g_strerror(errno));
    if (daemon->args.session)
        return TRUE;
    if (daemon->user.uid == 0)
        g_warning("The engine runs as root: set 'user' in the configuration");
    return virTorrentUserBecome(&daemon->user, error);
}

static gboolean
virTorrentEngineServe(VirTorrentEngineProcess *self,
                      const VirTorrentDaemon *daemon,
                      VirTorrentMonitor *monitor,
                      GError **error)
{
    guint i;

    virTorrentManagerRestore(self->manager);
    for (i = 0; i < daemon->nlisten; i++) {
        if (!virTorrentServiceListen(self->service, daemon->listen[i], error))
            return FALSE;
    }
    virTorrentDaemonDetach();
    return virTorrentMonitorReady(monitor, error);
}

/* The engine's life.  @fd: its end of the socketpair. */
static int
virTorrentEngineMain(const VirTorrentDaemon *daemon, int fd)
{
    VirTorrentEngineProcess self = { NULL, NULL, NULL, g_get_monotonic_time(), 0 };
    VirTorrentMonitor *monitor;
    g_autoptr(GError) err = NULL;
    int rc = EXIT_SUCCESS;

    virTorrentLogInit("engine", daemon->args.verbose);
    if (!virTorrentEngineConfine(daemon, fd, &err)) {
        g_critical("%s", err->message);
        return EXIT_FAILURE;
    }
    virTorrentForbidCalls();
    monitor = virTorrentMonitorNew(fd);
    self.loop = g_main_loop_new(NULL, FALSE);
    self.manager = virTorrentManagerNew(daemon->conf, monitor, daemon->paths.rundir);
    self.service = virTorrentServiceNew(self.manager, daemon->args.session ? geteuid() : 0,
                                        daemon->conf->max_clients);
    self.timeout = daemon->args.timeout * G_USEC_PER_SEC;
    g_unix_signal_add(SIGTERM, virTorrentEngineQuit, &self);
    g_unix_signal_add(SIGINT, virTorrentEngineQuit, &self);
    virTorrentMonitorWatch(monitor, virTorrentEngineQuit, &self);
    if (self.timeout)
        g_timeout_add(500, virTorrentEngineCheckIdle, &self);
    if (virTorrentEngineServe(&self, daemon, monitor, &err)) {
        g_main_loop_run(self.loop);
    } else {
        g_critical("%s", err->message);
        rc = EXIT_FAILURE;
    }
    virTorrentServiceFree(self.service);
    virTorrentManagerFree(self.manager);
    /* @monitor stays: an adoption may still be waiting for it */
    g_main_loop_unref(self.loop);
    return rc;
}

/* monitor */

typedef struct {
    int fd;                      /* to the engine; -1: it hung up */
    int signals;
    pid_t engine;                /* 0: it ended */
    int status;
    gint64 deadline;             /* 0: nobody wants to stop */
} VirTorrentMonitorProcess;

static void
virTorrentMonitorStop(VirTorrentMonitorProcess *self)
{
    if (self->deadline)
        return;
    virTorrentNotify("STOPPING=1");
    kill(self->engine, SIGTERM);
    self->deadline = g_get_monotonic_time() + STOP_TIMEOUT * 1000;
}

static void
virTorrentMonitorSignal(VirTorrentMonitorProcess *self)
{
    struct signalfd_siginfo info;

    if (read(self->signals, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
        virTorrentMonitorStop(self);
    else if (waitpid(self->engine, &self->status, WNOHANG) == self->engine)
        self->engine = 0;
}

static void
virTorrentMonitorLoop(VirTorrentMonitorProcess *self, const VirTorrentMonitorPolicy *policy)
{
    while (self->engine) {
        struct pollfd fds[] = {
            { .fd = self->signals, .events = POLLIN },
            { .fd = self->fd, .events = POLLIN },
        };
        gboolean ready = FALSE;
        int wait = -1;

        if (self->deadline)
            wait = MAX(0, (self->deadline - g_get_monotonic_time()) / 1000);
        if (poll(fds, G_N_ELEMENTS(fds), wait) == 0) {
            g_warning("The engine does not end; it is killed");
            kill(self->engine, SIGKILL);
            self->deadline = g_get_monotonic_time() + STOP_TIMEOUT * 1000;
        }
        if (fds[1].revents && !virTorrentMonitorServe(self->fd, policy, &ready)) {
            close(self->fd);
            self->fd = -1;
            virTorrentMonitorStop(self);
        }
        if (ready) {
            virTorrentNotify("READY=1");
            virTorrentDaemonReady();
        }
        if (fds[0].revents)
            virTorrentMonitorSignal(self);
    }
}

static int
virTorrentMonitorReport(int status)
{
    if (WIFSIGNALED(status))
        g_critical("The engine was killed by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) != EXIT_SUCCESS)
        g_critical("The engine ended with status %d", WEXITSTATUS(status));
    else
        return EXIT_SUCCESS;
    return EXIT_FAILURE;
}

/* Forks the engine and looks after it. */
static int
virTorrentMonitorMain(VirTorrentDaemon *daemon)
{
    VirTorrentMonitorProcess self = { -1, -1, 0, 0, 0 };
    VirTorrentMonitorPolicy policy = {
        .owner_uid = geteuid(), .owner_gid = getegid(),
        .engine_uid = geteuid(), .engine_gid = getegid(),
    };
    g_autoptr(GError) err = NULL;
    sigset_t mask;
    sigset_t old;
    int pair[2];
    guint i;

    if (!daemon->args.session) {
        policy.marked = TRUE;
        policy.engine_uid = daemon->user.uid;
        policy.engine_gid = daemon->user.gid;
        policy.verity = daemon->conf->verity;
    }
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, &old);
    signal(SIGIO, SIG_IGN);      /* a lease that is broken while it is taken back */
    signal(SIGPIPE, SIG_IGN);
    self.signals = signalfd(-1, &mask, SFD_CLOEXEC);
    if (self.signals < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
        (self.engine = fork()) < 0) {
        g_critical("Cannot start the engine: %s", g_strerror(errno));
        return EXIT_FAILURE;
    }
    if (self.engine == 0) {
        sigprocmask(SIG_SETMASK, &old, NULL);
        close(pair[0]);
        /* everything is on the disk: do not wait for the swarm to say goodbye */
        _exit(virTorrentEngineMain(daemon, pair[1]));
    }
    close(pair[1]);
    self.fd = pair[0];
    for (i = 0; i < daemon->nlisten; i++)
        close(daemon->listen[i]);
    umask(022);
    if (!virTorrentDropCapabilities(&err) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        g_warning("%s", err ? err->message : g_strerror(errno));
    virTorrentForbidCalls();
    virTorrentMonitorLoop(&self, &policy);
    return virTorrentMonitorReport(self.status);
}

/* start */

static gboolean
virTorrentParseArgs(VirTorrentArgs *args, int *argc, char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        { "daemon", 'd', 0, G_OPTION_ARG_NONE, &args->daemon,
          N_("Go into the background once clients can connect"), NULL },
        { "session", 0, 0, G_OPTION_ARG_NONE, &args->session,
          N_("Serve the calling user's session, even if he is root"), NULL },
        { "config", 'f', 0, G_OPTION_ARG_FILENAME, &args->config,
          N_("Read the configuration from FILE"), N_("FILE") },
        { "pid-file", 'p', 0, G_OPTION_ARG_FILENAME, &args->pidfile,
          N_("Write the process number to FILE, and lock it"), N_("FILE") },
        { "status", 's', 0, G_OPTION_ARG_NONE, &args->status,
          N_("Show what the running virttorrentd does, and end"), NULL },
        { "metrics", 0, 0, G_OPTION_ARG_NONE, &args->metrics,
          N_("The same for Prometheus"), NULL },
        { "scrub", 0, 0, G_OPTION_ARG_NONE, &args->scrub,
          N_("Have masters read again and compared with their hashes: all, those of POOL, or VOLUME of it"), NULL },
        { "timeout", 't', 0, G_OPTION_ARG_INT, &args->timeout,
          N_("End after SECONDS without pool and client"), N_("SECONDS") },
        { "verbose", 'v', 0, G_OPTION_ARG_NONE, &args->verbose,
          N_("Log everything"), NULL },
        { "version", 'V', 0, G_OPTION_ARG_NONE, &args->version,
          N_("Show the version and end"), NULL },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &args->names, NULL, "[POOL [VOLUME]]" },
        { NULL, 0, 0, 0, NULL, NULL, NULL },
    };
    guint names;
    g_autoptr(GOptionContext) context =
        g_option_context_new(_("- BitTorrent engine of libvirt's torrentpools"));

    g_option_context_add_main_entries(context, entries, "torrentpool");
    if (!g_option_context_parse(context, argc, argv, error))
        return FALSE;
    names = args->names ? g_strv_length(args->names) : 0;
    if (names > (args->scrub ? 2 : 0) || args->timeout < 0) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    _("'%s' is not understood; see --help"),
                    names ? args->names[names - 1] : "--timeout");
        return FALSE;
    }
    return TRUE;
}

/* The engine writes to the run directory; where root is asked for, root made it. */
static gboolean
virTorrentMakeRunDirs(const VirTorrentDaemon *daemon, GError **error)
{
    mode_t mode = daemon->args.session ? 0700 : 0755;
    g_autofree char *parent = g_path_get_dirname(daemon->paths.socket);
    const char *rundir = daemon->paths.rundir;

    if (!virTorrentMakeDir(parent, mode, error) || !virTorrentMakeDir(rundir, 0700, error))
        return FALSE;
    if (!daemon->args.session &&
        lchown(rundir, daemon->user.uid, daemon->user.gid) < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    _("cannot hand over directory '%s': %s"), rundir, g_strerror(errno));
        return FALSE;
    }
    return TRUE;
}

/* systemd's sockets, or one of our own. */
static gboolean
virTorrentMakeSockets(VirTorrentDaemon *daemon, GError **error)
{
    guint n = virTorrentListenFds();

    daemon->activated = n > 0;
    for (; daemon->nlisten < n; daemon->nlisten++)
        daemon->listen[daemon->nlisten] = 3 + daemon->nlisten;
    if (n == 0) {
        daemon->listen[0] = virTorrentListen(daemon->paths.socket, error);
        if (daemon->listen[0] < 0)
            return FALSE;
        daemon->nlisten = 1;
    }
    return TRUE;
}

static gboolean
virTorrentPrepare(VirTorrentDaemon *daemon, GError **error)
{
    const char *config = daemon->args.config ? daemon->args.config : daemon->paths.conf;

    daemon->conf = virTorrentConfLoad(config, daemon->args.config != NULL, error);
    if (!daemon->conf ||
        (!daemon->args.session &&
         !virTorrentUserFind(daemon->conf->user, &daemon->user, error)) ||
        !virTorrentMakeRunDirs(daemon, error))
        return FALSE;
    daemon->lock = virTorrentPidFileLock(daemon->paths.pidfile, error);
    return daemon->lock >= 0 && virTorrentMakeSockets(daemon, error) &&
        (!daemon->args.daemon || virTorrentDaemonize(daemon->paths.log, error)) &&
        virTorrentPidFileWrite(daemon->lock, error);
}

/* What a running daemon does.  That none is running is an answer to who collects
 * metrics, and a failure to a person. */
static int
virTorrentShowStatus(const VirTorrentDaemon *daemon)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GVariant) pools = virTorrentStatusAsk(daemon->paths.socket, &err);
    g_autofree char *text = NULL;

    if (!pools && !daemon->args.metrics) {
        fprintf(stderr, "virttorrentd: %s\n", err->message);
        return EXIT_FAILURE;
    }
    text = daemon->args.metrics ? virTorrentStatusMetrics(pools) : virTorrentStatusTable(pools);
    return fputs(text, stdout) < 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int
virTorrentScrubMain(const VirTorrentDaemon *daemon)
{
    const char *pool = daemon->args.names ? daemon->args.names[0] : NULL;
    const char *volume = pool ? daemon->args.names[1] : NULL;
    g_autoptr(GError) err = NULL;
    gint64 count = virTorrentStatusScrub(daemon->paths.socket, pool, volume, &err);

    if (count < 0) {
        fprintf(stderr, "virttorrentd: %s\n", err->message);
        return EXIT_FAILURE;
    }
    printf(_("masters that are read again: %lld (virttorrentd --status tells how far that is)\n"),
           (long long) count);
    return EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
    VirTorrentDaemon daemon = { .lock = -1 };
    g_autoptr(GError) err = NULL;
    int rc;

    setlocale(LC_ALL, "");
    bindtextdomain("torrentpool", LOCALEDIR);
    bind_textdomain_codeset("torrentpool", "UTF-8");
    if (!virTorrentParseArgs(&daemon.args, &argc, &argv, &err)) {
        fprintf(stderr, "virttorrentd: %s\n", err->message);
        return EXIT_FAILURE;
    }
    if (daemon.args.version) {
        printf("virttorrentd %s\n", PACKAGE_VERSION);
        return EXIT_SUCCESS;
    }
    virTorrentLogInit("monitor", daemon.args.verbose);
    daemon.args.session |= geteuid() != 0;
    virTorrentPathsInit(&daemon.paths, daemon.args.session);
    if (daemon.args.status || daemon.args.metrics)
        return virTorrentShowStatus(&daemon);
    if (daemon.args.scrub)
        return virTorrentScrubMain(&daemon);
    if (daemon.args.pidfile) {
        g_free(daemon.paths.pidfile);
        daemon.paths.pidfile = g_canonicalize_filename(daemon.args.pidfile, NULL);
    }
    if (!virTorrentPrepare(&daemon, &err)) {
        fprintf(stderr, "virttorrentd: %s\n", err->message);
        return EXIT_FAILURE;
    }
    rc = virTorrentMonitorMain(&daemon);
    if (!daemon.activated)
        unlink(daemon.paths.socket);
    unlink(daemon.paths.pidfile);
    virTorrentConfFree(daemon.conf);
    virTorrentPathsClear(&daemon.paths);
    return rc;
}
