/*
 * hook_xen.c: whether a Xen guest has its disks
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An image is opened for a Xen guest by its device model, a QEMU that libxl
 * starts.  Where that fails the disk's backend is never offered to the guest;
 * libxl waits for the device model, but not for its disks, and the guest starts
 * and finds none.
 *
 * A backend tells its state in xenstore, below
 *
 *     /local/domain/0/backend/qdisk/DOMAIN/DEVICE
 *
 * It is 1 (XenbusStateInitialising), as libxl wrote it, until the image is open.
 * Why it stays 1 only the device model's log says, in a line with
 *
 *     failed to create 'qdisk' device 'DEVICE': REASON
 *
 * libxl begins a new log with each start.  Its directory and the protocol of
 * xenstore (xen/io/xs_wire.h) are parts of Xen that have not changed since 4.0.
 *
 * Rule: a guest is ended only for a disk that is known not to be open.  Whatever
 * cannot be found out is not held against it.
 */

#include <config.h>

#include "hook_xen.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hook_domain.h"
#include "i18n.h"

#define XENSTORE_DIRECTORY 1
#define XENSTORE_READ 2
#define XENSTORE_PAYLOAD_MAX 4096
#define XENSTORE_ANSWER_MS 5000

#define INITIALISING "1"
#define POLL_US (50 * 1000)

/* In the machine's byte order; the payload follows. */
typedef struct {
    guint32 type;
    guint32 request;
    guint32 transaction;
    guint32 len;
} VirHookXenMessage;

G_STATIC_ASSERT(sizeof(VirHookXenMessage) == 16);


static int
virHookXenConnect(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct stat sb;
    int fd;

    if (stat(path, &sb) < 0)
        return -1;
    if (!S_ISSOCK(sb.st_mode))
        return open(path, O_RDWR | O_CLOEXEC);

    if (g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path)) >= sizeof(addr.sun_path) ||
        (fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        g_close(fd, NULL);
        return -1;
    }
    return fd;
}


static gboolean
virHookXenWait(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    int n;

    do {
        n = poll(&pfd, 1, XENSTORE_ANSWER_MS);
    } while (n < 0 && errno == EINTR);
    return n > 0;
}


/* Without a poll(): the device never says that it can be written to. */
static gboolean
virHookXenSend(int fd, const char *buf, gsize len)
{
    gsize done = 0;

    while (done < len) {
        /* a broken connection must not be the end of us, and so of the guest */
        ssize_t n = send(fd, buf + done, len - done, MSG_NOSIGNAL);

        if (n < 0 && errno == ENOTSOCK)
            n = write(fd, buf + done, len - done);
        if (n < 0 && errno != EINTR)
            return FALSE;
        done += MAX(n, 0);
    }
    return TRUE;
}


static gboolean
virHookXenReceive(int fd, void *buf, gsize len)
{
    gsize done = 0;

    while (done < len) {
        ssize_t n;

        if (!virHookXenWait(fd))
            return FALSE;
        n = read(fd, (char *)buf + done, len - done);
        if (n == 0 || (n < 0 && errno != EINTR))
            return FALSE;
        done += MAX(n, 0);
    }
    return TRUE;
}


/* The value of @path, or with XENSTORE_DIRECTORY its children's names, each with
 * a NUL: @len bytes and one NUL more, for g_free().  NULL where there is none. */
static char *
virHookXenAsk(int fd, guint32 type, const char *path, gsize *len)
{
    VirHookXenMessage message = { .type = type, .len = strlen(path) + 1 };
    g_autoptr(GString) request = g_string_new_len((const char *)&message, sizeof(message));
    g_autofree char *answer = NULL;

    g_string_append_len(request, path, message.len);
    if (!virHookXenSend(fd, request->str, request->len) ||
        !virHookXenReceive(fd, &message, sizeof(message)) ||
        message.len > XENSTORE_PAYLOAD_MAX)
        return NULL;

    answer = g_malloc0(message.len + 1);
    if (!virHookXenReceive(fd, answer, message.len) || message.type != type)
        return NULL;
    *len = message.len;
    return g_steal_pointer(&answer);
}


static char *
virHookXenRead(int fd, const char *device, const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s", device, name);
    gsize len;

    return virHookXenAsk(fd, XENSTORE_READ, path, &len);
}


/* What the device model complained about when it made @device, or NULL. */
static char *
virHookXenReason(const char *log, const char *device)
{
    g_autofree char *name = g_path_get_basename(device);
    g_autofree char *complaint = g_strdup_printf("failed to create 'qdisk' device '%s': ", name);
    g_autofree char *text = NULL;
    char *reason;

    if (!g_file_get_contents(log, &text, NULL, NULL) ||
        !(reason = strstr(text, complaint)))
        return NULL;

    reason += strlen(complaint);
    if (g_str_has_prefix(reason, "failed to create drive: "))
        reason += strlen("failed to create drive: ");
    return g_strndup(reason, strcspn(reason, "\r\n"));
}


static void
virHookXenNotOpened(int fd, const char *device, const char *log, const char *reason, GError **error)
{
    g_autofree char *target = virHookXenRead(fd, device, "dev");
    g_autofree char *params = virHookXenRead(fd, device, "params");
    g_autofree char *silent = NULL;
    const char *path = params ? strchr(params, ':') : NULL;

    if (!reason)
        reason = silent = g_strdup_printf(_("its log '%1$s' does not say why"), log);
    g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_MISSING,
                _("Xen's device model did not open '%1$s', and the guest would have no disk '%2$s': %3$s"),
                path ? path + 1 : "?", target ? target : "?", reason);
}


static gboolean
virHookXenAwait(int fd, const char *device, const char *log, gint64 deadline, GError **error)
{
    for (;;) {
        g_autofree char *state = virHookXenRead(fd, device, "state");
        g_autofree char *reason = NULL;

        /* without a state: the guest has ended already */
        if (g_strcmp0(state, INITIALISING) != 0)
            return TRUE;

        reason = virHookXenReason(log, device);
        if (reason || g_get_monotonic_time() >= deadline) {
            virHookXenNotOpened(fd, device, log, reason, error);
            return FALSE;
        }
        g_usleep(POLL_US);
    }
}


gboolean
virHookXenOpened(guint id,
                 const char *log,
                 const char *xenstore,
                 guint seconds,
                 GError **error)
{
    gint64 deadline = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
    g_autofree char *dir = g_strdup_printf("/local/domain/0/backend/qdisk/%u", id);
    g_autofree char *names = NULL;
    gboolean opened = TRUE;
    const char *name;
    gsize len = 0;
    int fd = virHookXenConnect(xenstore);

    if (fd < 0)
        return TRUE;

    names = virHookXenAsk(fd, XENSTORE_DIRECTORY, dir, &len);
    for (name = names; opened && name && name < names + len; name += strlen(name) + 1) {
        g_autofree char *device = g_strdup_printf("%s/%s", dir, name);

        opened = virHookXenAwait(fd, device, log, deadline, error);
    }
    g_close(fd, NULL);
    return opened;
}
