/*
 * process.c: users, privileges, pid file, sockets: what a daemon has to do
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Everything here happens before a thread is started and before the first byte
 * comes from a network.
 */

#include <config.h>

#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "i18n.h"

/* A dying engine saves its state within two seconds. */
#define LOCK_TRIES 50
#define LOCK_PAUSE (100 * 1000)
/* One that was just killed may still be seen. */
#define OWNER_TRIES 3

static int daemonPipe = -1;
static int daemonLog = -1;       /* takes the place of stderr */

static gboolean G_GNUC_PRINTF(3, 4)
virTorrentProcessFail(GError **error, int errnum, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (error)
        *error = g_error_new_valist(G_FILE_ERROR, g_file_error_from_errno(errnum), fmt, ap);
    va_end(ap);
    return FALSE;
}

void
virTorrentPathsInit(VirTorrentPaths *paths, gboolean session)
{
    if (session) {
        const char *run = g_get_user_runtime_dir();

        paths->socket = g_build_filename(run, "libvirt", "virttorrentd-sock", NULL);
        paths->pidfile = g_build_filename(run, "libvirt", "virttorrentd.pid", NULL);
        paths->rundir = g_build_filename(run, "libvirt", "virttorrentd", NULL);
        paths->conf = g_build_filename(g_get_user_config_dir(), "libvirt", "virttorrentd.conf",
                                       NULL);
        paths->log = g_build_filename(g_get_user_cache_dir(), "libvirt", "virttorrentd.log", NULL);
    } else {
        paths->socket = g_strdup(RUNSTATEDIR "/libvirt/virttorrentd-sock");
        paths->pidfile = g_strdup(RUNSTATEDIR "/virttorrentd.pid");
        paths->rundir = g_strdup(RUNSTATEDIR "/libvirt/virttorrentd");
        paths->conf = g_strdup(SYSCONFDIR "/libvirt/virttorrentd.conf");
        paths->log = g_strdup(LOCALSTATEDIR "/log/libvirt/virttorrentd.log");
    }
}

void
virTorrentPathsClear(VirTorrentPaths *paths)
{
    g_free(paths->socket);
    g_free(paths->pidfile);
    g_free(paths->rundir);
    g_free(paths->conf);
    g_free(paths->log);
}

gboolean
virTorrentUserFind(const char *user, VirTorrentUser *found, GError **error)
{
    const struct passwd *pw;
    guint64 uid;

    memset(found, 0, sizeof(*found));
    if (*user == '+') {
        if (!g_ascii_string_to_unsigned(user + 1, 10, 0, G_MAXINT32, &uid, NULL))
            return virTorrentProcessFail(error, EINVAL, _("'%s' is no user number"), user);
        pw = getpwuid(uid);
        found->uid = uid;
        found->gid = pw ? pw->pw_gid : uid;
        return TRUE;
    }
    pw = getpwnam(user);
    if (!pw)
        return virTorrentProcessFail(error, ENOENT,
                                     _("there is no user '%s' for the engine to run as; create it "
                                       "(useradd --system %s) or set 'user' in the configuration"),
                                     user, user);
    found->name = g_strdup(pw->pw_name);
    found->uid = pw->pw_uid;
    found->gid = pw->pw_gid;
    return TRUE;
}

gboolean
virTorrentUserBecome(const VirTorrentUser *user, GError **error)
{
    int rc = user->name ? initgroups(user->name, user->gid) : setgroups(0, NULL);

    if (rc < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        return virTorrentProcessFail(error, errno, _("cannot become user %u: %s"),
                                     (unsigned) user->uid, g_strerror(errno));
    if (user->uid != 0 && (setuid(0) == 0 || geteuid() == 0))
        return virTorrentProcessFail(error, EPERM, _("root's rights could not be given up"));
    return TRUE;
}

gboolean
virTorrentDropCapabilities(GError **error)
{
    /* chown and chmod of the engine's files, walking its private directories,
     * linking by descriptor, and ending the engine */
    const guint32 keep = 1u << CAP_CHOWN | 1u << CAP_FOWNER | 1u << CAP_DAC_OVERRIDE |
        1u << CAP_DAC_READ_SEARCH | 1u << CAP_KILL;
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];

    memset(data, 0, sizeof(data));
    if (syscall(SYS_capget, &header, data) < 0)
        return virTorrentProcessFail(error, errno, _("cannot read capabilities: %s"),
                                     g_strerror(errno));
    data[0].permitted &= keep;
    data[0].effective = data[0].permitted;
    data[0].inheritable = 0;
    memset(&data[1], 0, sizeof(data[1]));
    if (syscall(SYS_capset, &header, data) < 0)
        return virTorrentProcessFail(error, errno, _("cannot drop capabilities: %s"),
                                     g_strerror(errno));
    return TRUE;
}

gboolean
virTorrentMakeDir(const char *path, mode_t mode, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);

    if (g_mkdir_with_parents(parent, mode) < 0 || (mkdir(path, mode) < 0 && errno != EEXIST))
        return virTorrentProcessFail(error, errno, _("cannot make directory '%s': %s"),
                                     path, g_strerror(errno));
    return TRUE;
}

/* A zombie waits for its parent only. */
static gboolean
virTorrentProcessLives(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) pid);
    g_autofree char *stat = NULL;
    const char *state;

    if (!g_file_get_contents(path, &stat, NULL, NULL))
        return kill(pid, 0) == 0 || errno != ESRCH;
    state = strrchr(stat, ')');
    return !state || strncmp(state, ") Z", 3) != 0;
}

/* The process that wrote @fd, if it lives. */
static pid_t
virTorrentPidFileOwner(int fd)
{
    char text[32] = "";
    guint64 pid = 0;
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    if (n <= 0 || !g_ascii_string_to_unsigned(g_strstrip(text), 10, 1, G_MAXINT32, &pid, NULL) ||
        !virTorrentProcessLives(pid))
        return 0;
    return pid;
}

/* Whether @path still names @fd: the daemon before us removes it when it ends. */
static gboolean
virTorrentPidFileIsCurrent(int fd, const char *path)
{
    struct stat a;
    struct stat b;

    return fstat(fd, &a) == 0 && stat(path, &b) == 0 &&
        a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

int
virTorrentPidFileLock(const char *path, GError **error)
{
    int i;

    for (i = 0; i < LOCK_TRIES; i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        pid_t pid;

        if (fd < 0) {
            virTorrentProcessFail(error, errno, _("cannot open pid file '%s': %s"),
                                  path, g_strerror(errno));
            return -1;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            if (virTorrentPidFileIsCurrent(fd, path))
                return fd;
        } else if ((pid = virTorrentPidFileOwner(fd)) && i >= OWNER_TRIES) {
            virTorrentProcessFail(error, EBUSY, _("virttorrentd is running already (pid %d)"),
                                  (int) pid);
            close(fd);
            return -1;
        } else {
            g_usleep(LOCK_PAUSE);
        }
        close(fd);
    }
    virTorrentProcessFail(error, EBUSY, _("another virttorrentd holds pid file '%s'"), path);
    return -1;
}

gboolean
virTorrentPidFileWrite(int fd, GError **error)
{
    g_autofree char *text = g_strdup_printf("%d\n", (int) getpid());

    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) != (ssize_t) strlen(text))
        return virTorrentProcessFail(error, errno, _("cannot write the pid file: %s"),
                                     g_strerror(errno));
    return TRUE;
}

guint
virTorrentListenFds(void)
{
    const char *pid = g_getenv("LISTEN_PID");
    const char *fds = g_getenv("LISTEN_FDS");
    guint64 want = 0;
    guint64 n = 0;
    guint i;

    if (!pid || !g_ascii_string_to_unsigned(pid, 10, 1, G_MAXINT32, &want, NULL) ||
        want != (guint64) getpid() ||
        !fds || !g_ascii_string_to_unsigned(fds, 10, 1, 16, &n, NULL))
        n = 0;
    for (i = 0; i < n; i++)
        fcntl(3 + i, F_SETFD, FD_CLOEXEC);
    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
    return n;
}

int
virTorrentListen(const char *path, GError **error)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    mode_t mask;
    int saved;
    int fd;
    int rc;

    if (g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path)) >= sizeof(addr.sun_path)) {
        virTorrentProcessFail(error, ENAMETOOLONG, _("socket path '%s' is too long"), path);
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);                /* the lock says that nobody uses it */
    mask = umask(0177);
    rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *) &addr, sizeof(addr));
    saved = errno;
    umask(mask);
    errno = saved;
    if (rc < 0 || listen(fd, SOMAXCONN) < 0) {
        virTorrentProcessFail(error, errno, _("cannot listen on '%s': %s"),
                              path, g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

void
virTorrentCloseOthers(const int *keep, guint n)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        guint64 fd;
        guint i;

        if (!g_ascii_string_to_unsigned(entry->d_name, 10, 3, G_MAXINT, &fd, NULL) ||
            (int) fd == dirfd(dir))
            continue;
        for (i = 0; i < n && keep[i] != (int) fd; i++)
            ;
        if (i == n)
            close(fd);
    }
    if (dir)
        closedir(dir);
}

/* The parent's part: ends as the daemon's start ends. */
static void G_GNUC_NORETURN
virTorrentDaemonWait(int fd)
{
    char byte;
    ssize_t n;

    do {
        n = read(fd, &byte, 1);
    } while (n < 0 && errno == EINTR);
    _exit(n == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

gboolean
virTorrentDaemonize(const char *log, GError **error)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int fds[2];
    pid_t pid;

    if (null < 0 || pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0)
        return virTorrentProcessFail(error, errno, _("cannot go into the background: %s"),
                                     g_strerror(errno));
    if (pid > 0) {
        close(fds[1]);
        virTorrentDaemonWait(fds[0]);
    }
    close(fds[0]);
    daemonPipe = fds[1];
    setsid();
    if (chdir("/") < 0)
        g_warning("Cannot enter '/': %s", g_strerror(errno));
    if (log) {
        g_autofree char *dir = g_path_get_dirname(log);

        g_mkdir_with_parents(dir, 0700);
        daemonLog = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    /* what goes wrong until virTorrentDaemonDetach() is still seen on stderr */
    if (daemonLog >= 0)
        close(null);
    else
        daemonLog = null;
    return TRUE;
}

int
virTorrentDaemonGetLog(void)
{
    return daemonLog;
}

void
virTorrentDaemonDetach(void)
{
    if (daemonLog < 0)
        return;
    dup2(daemonLog, STDERR_FILENO);
    close(daemonLog);
    daemonLog = -1;
}

void
virTorrentDaemonReady(void)
{
    virTorrentDaemonDetach();
    if (daemonPipe < 0)
        return;
    if (write(daemonPipe, "", 1) != 1)
        g_warning("Nobody waited for the daemon");
    close(daemonPipe);
    daemonPipe = -1;
}

void
virTorrentNotify(const char *state)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    socklen_t length;
    int fd;

    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof(addr.sun_path))
        return;
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    length = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (*path == '@')
        addr.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *) &addr, length) < 0)
        g_debug("Cannot notify '%s': %s", path, g_strerror(errno));
    close(fd);
}
