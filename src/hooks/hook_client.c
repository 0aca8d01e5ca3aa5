/*
 * hook_client.c: what the hook asks of virttorrentd
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Peer-to-peer D-Bus with plain GDBus.  One thread, the default main context;
 * the calls are synchronous, signals are taken while the client sleeps.
 */

#include <config.h>

#include "hook_client.h"

#include <gio/gio.h>
#include <sys/stat.h>

#include "hook_domain.h"
#include "i18n.h"

#define TORRENTD_PATH "/org/libvirt/Torrentd1"
#define TORRENTD_INTERFACE "org.libvirt.Torrentd1"
#define TORRENTD_ERROR_NO_VOLUME TORRENTD_INTERFACE ".Error.NoVolume"

/* virttorrentd answers each call at once, or it is not well. */
#define ANSWER_MS 5000

struct _VirHookClient {
    char *socket;
    GDBusConnection *connection; /* NULL: not asked yet */
    GError *refusal;             /* nobody answered: not asked again */
    gboolean changed;            /* a signal came since virHookClientSleep() began */
};


VirHookClient *
virHookClientNew(const char *socket)
{
    VirHookClient *client = g_new0(VirHookClient, 1);

    client->socket = g_strdup(socket);
    return client;
}


void
virHookClientFree(VirHookClient *client)
{
    if (!client)
        return;

    if (client->connection)
        g_dbus_connection_close_sync(client->connection, NULL, NULL);
    g_clear_object(&client->connection);
    g_clear_error(&client->refusal);
    g_free(client->socket);
    g_free(client);
}


void
virHookVolumeFree(VirHookVolume *volume)
{
    if (!volume)
        return;

    g_free(volume->state);
    g_free(volume->error);
    g_free(volume->magnet);
    g_free(volume);
}


static void
virHookClientSignal(GDBusConnection *connection G_GNUC_UNUSED,
                    const char *sender G_GNUC_UNUSED,
                    const char *path G_GNUC_UNUSED,
                    const char *interface G_GNUC_UNUSED,
                    const char *signal G_GNUC_UNUSED,
                    GVariant *parameters G_GNUC_UNUSED,
                    gpointer data)
{
    VirHookClient *client = data;

    client->changed = TRUE;
}


static gboolean
virHookTimerFired(gpointer data)
{
    gboolean *fired = data;

    *fired = TRUE;
    return G_SOURCE_CONTINUE;
}


static void
virHookConnected(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer data)
{
    GAsyncResult **taken = data;

    *taken = g_object_ref(result);
}


/* Not ..._new_for_address_sync(): who listens and never answers must not
 * hold the guest's start for ever. */
gboolean
virHookClientConnect(VirHookClient *client, GError **error)
{
    g_autofree char *escaped = g_dbus_address_escape_value(client->socket);
    g_autofree char *address = g_strdup_printf("unix:path=%s", escaped);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(GAsyncResult) result = NULL;
    g_autoptr(GError) local = NULL;
    gboolean expired = FALSE;
    guint timer;

    if (client->connection)
        return TRUE;
    if (client->refusal) {
        g_propagate_error(error, g_error_copy(client->refusal));
        return FALSE;
    }

    timer = g_timeout_add(ANSWER_MS, virHookTimerFired, &expired);
    g_dbus_connection_new_for_address(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT,
                                      NULL, cancellable, virHookConnected, &result);
    while (!result) {
        g_main_context_iteration(NULL, TRUE);
        if (expired)
            g_cancellable_cancel(cancellable);
    }
    g_source_remove(timer);

    if (!(client->connection = g_dbus_connection_new_for_address_finish(result, &local))) {
        g_set_error(&client->refusal, VIR_HOOK_ERROR, VIR_HOOK_ERROR_DAEMON,
                    _("virttorrentd does not answer at '%1$s' (%2$s); start it (systemctl start virttorrentd.socket,"
                      " or virsh pool-refresh of the torrentpool)"), client->socket, local->message);
        g_propagate_error(error, g_error_copy(client->refusal));
        return FALSE;
    }

    g_dbus_connection_signal_subscribe(client->connection, NULL, TORRENTD_INTERFACE, "VolumeChanged",
                                       TORRENTD_PATH, NULL, G_DBUS_SIGNAL_FLAGS_NONE,
                                       virHookClientSignal, client, NULL);
    return TRUE;
}


/* NULL without @error: virttorrentd says that there is no such volume. */
static GVariant *
virHookClientCall(VirHookClient *client,
                  const char *method,
                  GVariant *parameters,
                  const char *reply,
                  GError **error)
{
    g_autoptr(GVariant) args = g_variant_ref_sink(parameters);
    g_autoptr(GError) local = NULL;
    g_autofree char *remote = NULL;
    GVariant *result;

    if (!virHookClientConnect(client, error))
        return NULL;

    result = g_dbus_connection_call_sync(client->connection, NULL, TORRENTD_PATH, TORRENTD_INTERFACE,
                                         method, args, G_VARIANT_TYPE(reply),
                                         G_DBUS_CALL_FLAGS_NONE, ANSWER_MS, NULL, &local);
    if (result)
        return result;

    remote = g_dbus_error_get_remote_error(local);
    if (g_strcmp0(remote, TORRENTD_ERROR_NO_VOLUME) == 0)
        return NULL;

    g_dbus_error_strip_remote_error(local);
    if (remote && g_str_has_prefix(remote, TORRENTD_INTERFACE))
        g_set_error_literal(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_DAEMON, local->message);
    else
        g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_DAEMON,
                    _("virttorrentd did not answer %1$s (%2$s)"), method, local->message);
    return NULL;
}


static gboolean
virHookSameDir(const char *a, const char *b)
{
    struct stat sa;
    struct stat sb;

    return stat(a, &sa) == 0 && stat(b, &sb) == 0 &&
        sa.st_ino == sb.st_ino && sa.st_dev == sb.st_dev;
}


char *
virHookClientPoolTarget(VirHookClient *client, const char *name, GError **error)
{
    g_autoptr(GVariant) reply = virHookClientCall(client, "ListPools", g_variant_new("()"), "(a(sss))", error);
    g_autoptr(GVariantIter) pools = NULL;
    const char *pool;
    const char *target;

    if (!reply)
        return NULL;

    g_variant_get(reply, "(a(sss))", &pools);
    while (g_variant_iter_next(pools, "(&s&s&s)", NULL, &pool, &target)) {
        if (g_str_equal(pool, name))
            return g_strdup(target);
    }
    return NULL;
}


char *
virHookClientPoolUuid(VirHookClient *client, const char *dir, GError **error)
{
    g_autoptr(GVariant) reply = virHookClientCall(client, "ListPools", g_variant_new("()"), "(a(sss))", error);
    g_autoptr(GVariantIter) pools = NULL;
    const char *uuid;
    const char *target;

    if (!reply)
        return NULL;

    g_variant_get(reply, "(a(sss))", &pools);
    while (g_variant_iter_next(pools, "(&s&s&s)", &uuid, NULL, &target)) {
        if (virHookSameDir(target, dir))
            return g_strdup(uuid);
    }
    return NULL;
}


gboolean
virHookClientPrioritize(VirHookClient *client, const char *uuid, const char *name, GError **error)
{
    g_autoptr(GVariant) reply = virHookClientCall(client, "PrioritizeVolume",
                                                  g_variant_new("(ss)", uuid, name), "()", error);

    return !!reply;
}


VirHookVolume *
virHookClientGetVolume(VirHookClient *client, const char *uuid, const char *name, GError **error)
{
    g_autoptr(GVariant) reply = virHookClientCall(client, "GetVolume",
                                                  g_variant_new("(ss)", uuid, name), "(a{sv})", error);
    g_autoptr(GVariant) properties = NULL;
    g_autoptr(VirHookVolume) volume = g_new0(VirHookVolume, 1);

    if (!reply)
        return NULL;

    properties = g_variant_get_child_value(reply, 0);
    g_variant_lookup(properties, "state", "s", &volume->state);
    g_variant_lookup(properties, "error", "s", &volume->error);
    g_variant_lookup(properties, "progress", "d", &volume->progress);
    g_variant_lookup(properties, "magnet", "s", &volume->magnet);
    if (!volume->state) {
        g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_DAEMON,
                    _("virttorrentd tells no state of the volume '%1$s'"), name);
        return NULL;
    }
    return g_steal_pointer(&volume);
}


gboolean
virHookClientFetch(VirHookClient *client, const char *uuid, const char *name, const char *magnet, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VirHookVolume) known = virHookClientGetVolume(client, uuid, name, &local);
    g_autoptr(GVariant) reply = NULL;

    if (known)
        return TRUE;
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }

    reply = virHookClientCall(client, "FetchMagnet",
                              g_variant_new("(sss@a{sv})", uuid, name, magnet,
                                            g_variant_new_array(G_VARIANT_TYPE("{sv}"), NULL, 0)),
                              "()", error);
    return !!reply;
}


void
virHookClientSleep(VirHookClient *client, guint ms)
{
    gboolean expired = FALSE;
    guint timer = g_timeout_add(ms, virHookTimerFired, &expired);

    client->changed = FALSE;
    while (!expired && !client->changed)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(timer);
}
