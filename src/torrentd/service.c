/*
 * service.c: org.libvirt.Torrentd1 on a UNIX socket
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Decode, call, encode; no logic of its own, and the only file of the daemon
 * that knows D-Bus.  GDBus has checked every message's types against the
 * interface before a handler is called.
 *
 * The kernel tells who connects (SO_PEERCRED); whoever is not the one user
 * that is served is dropped before a byte is read from him.  One skeleton is
 * exported on every connection, so that signals go to all.
 *
 * Every call answers at once, in the main thread.
 */

#include <config.h>

#include "service.h"

#include <gio/gio.h>
#include <gio/gunixconnection.h>
#include <string.h>

#include "i18n.h"
#include "torrentd-dbus.h"

struct _VirTorrentService {
    VirTorrentManager *manager;
    uid_t uid;
    guint max_clients;
    GSocketService *listener;
    VirTorrentDbusTorrentd1 *skeleton;
    GDBusNodeInfo *bus;
    GHashTable *connections;     /* set of GDBusConnection, exported */
    GCancellable *cancellable;   /* of connections that are being made */
    guint connecting;
    char *guid;
};

static const GDBusErrorEntry errorNames[] = {
#define NAME(code, name) \
    { VIR_TORRENT_POOL_ERROR_ ## code, "org.libvirt.Torrentd1.Error." name }
    NAME(FAILED, "Failed"),
    NAME(NO_POOL, "NoPool"),
    NAME(NO_VOLUME, "NoVolume"),
    NAME(EXISTS, "Exists"),
    NAME(BUSY, "Busy"),
    NAME(INVALID_NAME, "InvalidName"),
    NAME(INVALID_MAGNET, "InvalidMagnet"),
    NAME(INVALID_METAINFO, "InvalidMetainfo"),
    NAME(INVALID_OPTION, "InvalidOption"),
    NAME(NOT_STANDALONE, "NotStandalone"),
    NAME(DENIED, "Denied"),
#undef NAME
};
G_STATIC_ASSERT(G_N_ELEMENTS(errorNames) == VIR_TORRENT_POOL_ERROR_LAST);

static void
virTorrentServiceRegisterErrors(void)
{
    static gsize quark;

    VIR_TORRENT_POOL_ERROR;      /* the domain's name is known from here on */
    g_dbus_error_register_error_domain("vir-torrent-pool-error-quark", &quark,
                                       errorNames, G_N_ELEMENTS(errorNames));
}

/* calls */

/* Answers with @error, which is taken.  TRUE: handled. */
static gboolean
virTorrentServiceFail(GDBusMethodInvocation *call, GError *error)
{
    g_debug("%s: %s", g_dbus_method_invocation_get_method_name(call), error->message);
    g_dbus_method_invocation_take_error(call, error);
    return TRUE;
}

/* "format" and "capacity" of an a{sv}; others are ignored, as hints are. */
static gboolean
virTorrentServiceHints(GVariant *dict, const char **format, guint64 *capacity, GError **error)
{
    g_autoptr(GVariant) f = g_variant_lookup_value(dict, "format", NULL);
    g_autoptr(GVariant) c = g_variant_lookup_value(dict, "capacity", NULL);

    *format = NULL;
    *capacity = 0;
    if ((f && !g_variant_is_of_type(f, G_VARIANT_TYPE_STRING)) ||
        (c && !g_variant_is_of_type(c, G_VARIANT_TYPE_UINT64))) {
        g_set_error_literal(error, VIR_TORRENT_POOL_ERROR, VIR_TORRENT_POOL_ERROR_INVALID_OPTION,
                            _("'format' must have the type 's' and 'capacity' the type 't'"));
        return FALSE;
    }
    if (f && *g_variant_get_string(f, NULL))
        *format = g_variant_get_string(f, NULL);     /* lives as long as @dict */
    if (c)
        *capacity = g_variant_get_uint64(c);
    return TRUE;
}

static gboolean
virTorrentServiceOpenPool(VirTorrentDbusTorrentd1 *skeleton,
                          GDBusMethodInvocation *call,
                          const char *uuid,
                          const char *name,
                          const char *target,
                          GVariant *options,
                          gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;

    if (!virTorrentManagerOpenPool(service->manager, uuid, name, target, options, &err))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_open_pool(skeleton, call);
    return TRUE;
}

static gboolean
virTorrentServiceClosePool(VirTorrentDbusTorrentd1 *skeleton,
                           GDBusMethodInvocation *call,
                           const char *uuid,
                           gboolean purge,
                           gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;

    if (!virTorrentManagerClosePool(service->manager, uuid, purge, &err))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_close_pool(skeleton, call);
    return TRUE;
}

static gboolean
virTorrentServiceListPools(VirTorrentDbusTorrentd1 *skeleton,
                           GDBusMethodInvocation *call,
                           gpointer opaque)
{
    VirTorrentService *service = opaque;
    g_autoptr(GList) pools = virTorrentManagerListPools(service->manager);
    GVariantBuilder builder;
    GList *l;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sss)"));
    for (l = pools; l; l = l->next)
        g_variant_builder_add(&builder, "(sss)", virTorrentPoolGetUuid(l->data),
                              virTorrentPoolGetName(l->data), virTorrentPoolGetTarget(l->data));
    vir_torrent_dbus_torrentd1_complete_list_pools(skeleton, call,
                                                   g_variant_builder_end(&builder));
    return TRUE;
}

static void
virTorrentServiceAddString(GVariantBuilder *builder, const char *key, const char *value)
{
    if (value)
        g_variant_builder_add(builder, "{sv}", key, g_variant_new_string(value));
}

static void
virTorrentServiceAddNumber(GVariantBuilder *builder, const char *key, guint64 value)
{
    g_variant_builder_add(builder, "{sv}", key, g_variant_new_uint64(value));
}

static GVariant *
virTorrentServiceEncodeVolume(const VirTorrentVolumeInfo *info)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    virTorrentServiceAddString(&builder, "state", info->state);
    g_variant_builder_add(&builder, "{sv}", "progress", g_variant_new_double(info->progress));
    virTorrentServiceAddString(&builder, "format", info->format);
    if (info->capacity)
        virTorrentServiceAddNumber(&builder, "capacity", info->capacity);
    if (info->size) {
        virTorrentServiceAddNumber(&builder, "size", info->size);
        virTorrentServiceAddNumber(&builder, "done", info->done);
    }
    virTorrentServiceAddString(&builder, "key", info->key);
    virTorrentServiceAddString(&builder, "magnet", info->magnet);
    virTorrentServiceAddString(&builder, "error", info->error);
    if (info->damaged)
        g_variant_builder_add(&builder, "{sv}", "damaged", g_variant_new_uint32(info->damaged));
    if (info->scrubbed)
        virTorrentServiceAddNumber(&builder, "scrubbed", info->scrubbed);
    if (info->scrub >= 0)
        g_variant_builder_add(&builder, "{sv}", "scrub", g_variant_new_double(info->scrub));
    g_variant_builder_add(&builder, "{sv}", "peers", g_variant_new_uint32(info->peers));
    if (info->place)
        g_variant_builder_add(&builder, "{sv}", "place", g_variant_new_uint32(info->place));
    virTorrentServiceAddNumber(&builder, "download-rate", info->download_rate);
    virTorrentServiceAddNumber(&builder, "upload-rate", info->upload_rate);
    virTorrentServiceAddNumber(&builder, "downloaded", info->downloaded);
    virTorrentServiceAddNumber(&builder, "uploaded", info->uploaded);
    return g_variant_builder_end(&builder);
}

static gboolean
virTorrentServiceListVolumes(VirTorrentDbusTorrentd1 *skeleton,
                             GDBusMethodInvocation *call,
                             const char *uuid,
                             gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;
    VirTorrentPool *pool = virTorrentManagerFindPool(service->manager, uuid, &err);
    g_autoptr(GPtrArray) volumes = NULL;
    GVariantBuilder builder;
    guint i;

    if (!pool)
        return virTorrentServiceFail(call, err);
    volumes = virTorrentPoolListVolumes(pool);
    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sa{sv})"));
    for (i = 0; i < volumes->len; i++) {
        const VirTorrentVolumeInfo *info = g_ptr_array_index(volumes, i);

        g_variant_builder_add(&builder, "(s@a{sv})", info->name,
                              virTorrentServiceEncodeVolume(info));
    }
    vir_torrent_dbus_torrentd1_complete_list_volumes(skeleton, call,
                                                     g_variant_builder_end(&builder));
    return TRUE;
}

static gboolean
virTorrentServiceGetVolume(VirTorrentDbusTorrentd1 *skeleton,
                           GDBusMethodInvocation *call,
                           const char *uuid,
                           const char *name,
                           gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;
    VirTorrentPool *pool = virTorrentManagerFindPool(service->manager, uuid, &err);
    g_autoptr(VirTorrentVolumeInfo) info = NULL;

    if (!pool || !(info = virTorrentPoolGetVolume(pool, name, &err)))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_get_volume(skeleton, call,
                                                   virTorrentServiceEncodeVolume(info));
    return TRUE;
}

static gboolean
virTorrentServicePublishVolume(VirTorrentDbusTorrentd1 *skeleton,
                               GDBusMethodInvocation *call,
                               const char *uuid,
                               const char *name,
                               GVariant *properties,
                               gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;
    VirTorrentPool *pool = virTorrentManagerFindPool(service->manager, uuid, &err);
    const char *format;
    guint64 capacity;

    if (!pool || !virTorrentServiceHints(properties, &format, &capacity, &err) ||
        !virTorrentPoolPublish(pool, name, format, capacity, &err))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_publish_volume(skeleton, call);
    return TRUE;
}

static gboolean
virTorrentServiceFetchMagnet(VirTorrentDbusTorrentd1 *skeleton,
                             GDBusMethodInvocation *call,
                             const char *uuid,
                             const char *name,
                             const char *magnet,
                             GVariant *hints,
                             gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;
    VirTorrentPool *pool = virTorrentManagerFindPool(service->manager, uuid, &err);
    const char *format;
    guint64 capacity;

    if (!pool || !virTorrentServiceHints(hints, &format, &capacity, &err) ||
        !virTorrentPoolFetchMagnet(pool, name, magnet, format, capacity, &err))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_fetch_magnet(skeleton, call);
    return TRUE;
}

static gboolean
virTorrentServiceFetchMetainfo(VirTorrentDbusTorrentd1 *skeleton,
                               GDBusMethodInvocation *call,
                               const char *uuid,
                               const char *name,
                               GVariant *metainfo,
                               gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;
    VirTorrentPool *pool = virTorrentManagerFindPool(service->manager, uuid, &err);
    g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(metainfo);
    const char *volume;

    if (!pool || !(volume = virTorrentPoolFetchMetainfo(pool, name, bytes, &err)))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_fetch_metainfo(skeleton, call, volume);
    return TRUE;
}

static gboolean
virTorrentServiceGetMetainfo(VirTorrentDbusTorrentd1 *skeleton,
                             GDBusMethodInvocation *call,
                             const char *uuid,
                             const char *name,
                             gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;
    VirTorrentPool *pool = virTorrentManagerFindPool(service->manager, uuid, &err);
    g_autoptr(GBytes) metainfo = NULL;

    if (!pool || !(metainfo = virTorrentPoolGetMetainfo(pool, name, &err)))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_get_metainfo(
        skeleton, call, g_variant_new_from_bytes(G_VARIANT_TYPE_BYTESTRING, metainfo, TRUE));
    return TRUE;
}

static gboolean
virTorrentServiceRemoveVolume(VirTorrentDbusTorrentd1 *skeleton,
                              GDBusMethodInvocation *call,
                              const char *uuid,
                              const char *name,
                              gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;
    VirTorrentPool *pool = virTorrentManagerFindPool(service->manager, uuid, &err);

    if (!pool || !virTorrentPoolRemove(pool, name, &err))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_remove_volume(skeleton, call);
    return TRUE;
}

static gboolean
virTorrentServicePrioritizeVolume(VirTorrentDbusTorrentd1 *skeleton,
                                  GDBusMethodInvocation *call,
                                  const char *uuid,
                                  const char *name,
                                  gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;
    VirTorrentPool *pool = virTorrentManagerFindPool(service->manager, uuid, &err);

    if (!pool || !virTorrentPoolPrioritize(pool, name, &err))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_prioritize_volume(skeleton, call);
    return TRUE;
}

static gboolean
virTorrentServiceScrubVolumes(VirTorrentDbusTorrentd1 *skeleton,
                              GDBusMethodInvocation *call,
                              const char *uuid,
                              const char *name,
                              gpointer opaque)
{
    VirTorrentService *service = opaque;
    GError *err = NULL;
    VirTorrentPool *pool = virTorrentManagerFindPool(service->manager, uuid, &err);
    guint count;

    if (!pool || !virTorrentPoolScrub(pool, name, &count, &err))
        return virTorrentServiceFail(call, err);
    vir_torrent_dbus_torrentd1_complete_scrub_volumes(skeleton, call, count);
    return TRUE;
}

static const struct {
    const char *signal;
    GCallback handler;
} handlers[] = {
    { "handle-open-pool", G_CALLBACK(virTorrentServiceOpenPool) },
    { "handle-close-pool", G_CALLBACK(virTorrentServiceClosePool) },
    { "handle-list-pools", G_CALLBACK(virTorrentServiceListPools) },
    { "handle-list-volumes", G_CALLBACK(virTorrentServiceListVolumes) },
    { "handle-get-volume", G_CALLBACK(virTorrentServiceGetVolume) },
    { "handle-publish-volume", G_CALLBACK(virTorrentServicePublishVolume) },
    { "handle-fetch-magnet", G_CALLBACK(virTorrentServiceFetchMagnet) },
    { "handle-fetch-metainfo", G_CALLBACK(virTorrentServiceFetchMetainfo) },
    { "handle-get-metainfo", G_CALLBACK(virTorrentServiceGetMetainfo) },
    { "handle-remove-volume", G_CALLBACK(virTorrentServiceRemoveVolume) },
    { "handle-prioritize-volume", G_CALLBACK(virTorrentServicePrioritizeVolume) },
    { "handle-scrub-volumes", G_CALLBACK(virTorrentServiceScrubVolumes) },
};

/* manners of a message bus */

/* gdbus and busctl always talk to us as to a message bus: they say hello, and
 * ask for signals that everybody gets here anyway. */
static const char busXml[] =
    "<node><interface name='org.freedesktop.DBus'>"
    "<method name='Hello'><arg type='s' direction='out'/></method>"
    "<method name='AddMatch'><arg type='s' direction='in'/></method>"
    "<method name='RemoveMatch'><arg type='s' direction='in'/></method>"
    "<method name='GetNameOwner'><arg type='s' direction='in'/>"
    "<arg type='s' direction='out'/></method>"
    "<method name='StartServiceByName'><arg type='s' direction='in'/>"
    "<arg type='u' direction='in'/><arg type='u' direction='out'/></method>"
    "</interface></node>";

static void
virTorrentServiceBusCall(GDBusConnection *connection G_GNUC_UNUSED,
                         const char *sender G_GNUC_UNUSED,
                         const char *path G_GNUC_UNUSED,
                         const char *interface G_GNUC_UNUSED,
                         const char *method,
                         GVariant *args,
                         GDBusMethodInvocation *call,
                         gpointer opaque G_GNUC_UNUSED)
{
    const char *name;

    if (strcmp(method, "Hello") == 0) {
        g_dbus_method_invocation_return_value(call, g_variant_new("(s)", ":1.0"));
    } else if (strcmp(method, "GetNameOwner") == 0) {
        g_variant_get(args, "(&s)", &name);
        g_dbus_method_invocation_return_value(call, g_variant_new("(s)", name));
    } else if (strcmp(method, "StartServiceByName") == 0) {
        g_dbus_method_invocation_return_value(call, g_variant_new("(u)", 2));
    } else {
        g_dbus_method_invocation_return_value(call, NULL);
    }
}

static const GDBusInterfaceVTable busTable = { .method_call = virTorrentServiceBusCall };

/* connections */

static void
virTorrentServiceVolumeChanged(const char *uuid,
                               const char *name,
                               const char *state,
                               gpointer opaque)
{
    VirTorrentService *service = opaque;

    vir_torrent_dbus_torrentd1_emit_volume_changed(service->skeleton, uuid, name, state);
}

static gboolean
virTorrentServiceMayUse(VirTorrentService *service, GCredentials *credentials)
{
    return credentials &&
        g_credentials_get_unix_user(credentials, NULL) == service->uid;
}

static gboolean
virTorrentServiceAllowMechanism(GDBusAuthObserver *observer G_GNUC_UNUSED,
                                const char *mechanism,
                                gpointer opaque G_GNUC_UNUSED)
{
    return g_str_equal(mechanism, "EXTERNAL");
}

static gboolean
virTorrentServiceAuthorize(GDBusAuthObserver *observer G_GNUC_UNUSED,
                           GIOStream *stream G_GNUC_UNUSED,
                           GCredentials *credentials,
                           gpointer opaque)
{
    return virTorrentServiceMayUse(opaque, credentials);
}

static void
virTorrentServiceDrop(VirTorrentService *service, GDBusConnection *connection)
{
    g_signal_handlers_disconnect_by_data(connection, service);
    g_dbus_interface_skeleton_unexport_from_connection(
        G_DBUS_INTERFACE_SKELETON(service->skeleton), connection);
}

static void
virTorrentServiceClosed(GDBusConnection *connection,
                        gboolean vanished G_GNUC_UNUSED,
                        GError *error G_GNUC_UNUSED,
                        gpointer opaque)
{
    VirTorrentService *service = opaque;

    virTorrentServiceDrop(service, connection);
    g_hash_table_remove(service->connections, connection);
}

static void
virTorrentServiceConnected(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer opaque)
{
    VirTorrentService *service = opaque;
    g_autoptr(GError) err = NULL;
    g_autoptr(GDBusConnection) connection = g_dbus_connection_new_finish(result, &err);

    if (g_error_matches(err, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return;                  /* @service may be gone */
    service->connecting--;
    if (!connection) {
        g_info("A client could not connect: %s", err->message);
        return;
    }
    g_dbus_connection_register_object(connection, "/org/freedesktop/DBus",
                                      service->bus->interfaces[0], &busTable, NULL, NULL, NULL);
    if (!g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(service->skeleton),
                                          connection, VIR_TORRENT_DBUS_PATH, &err)) {
        g_warning("Cannot serve a client: %s", err->message);
        return;
    }
    g_signal_connect(connection, "closed", G_CALLBACK(virTorrentServiceClosed), service);
    /* Who came only to go has gone already, and the signal may have been emitted before. */
    if (g_dbus_connection_is_closed(connection)) {
        virTorrentServiceDrop(service, connection);
        return;
    }
    g_hash_table_add(service->connections, g_object_ref(connection));
    g_dbus_connection_start_message_processing(connection);
}

/* TRUE: the connection is dealt with */
static gboolean
virTorrentServiceIncoming(GSocketService *listener G_GNUC_UNUSED,
                          GSocketConnection *connection,
                          GObject *source G_GNUC_UNUSED,
                          gpointer opaque)
{
    VirTorrentService *service = opaque;
    g_autoptr(GCredentials) peer =
        g_socket_get_credentials(g_socket_connection_get_socket(connection), NULL);
    g_autoptr(GDBusAuthObserver) observer = NULL;

    if (!virTorrentServiceMayUse(service, peer)) {
        g_warning("A connection of user %d was refused",
                  peer ? (int) g_credentials_get_unix_user(peer, NULL) : -1);
        return TRUE;
    }
    if (virTorrentServiceCountClients(service) >= service->max_clients) {
        g_warning("A connection was refused: there are %u already (max_clients)",
                  service->max_clients);
        return TRUE;
    }
    observer = g_dbus_auth_observer_new();
    g_signal_connect(observer, "allow-mechanism",
                     G_CALLBACK(virTorrentServiceAllowMechanism), service);
    g_signal_connect(observer, "authorize-authenticated-peer",
                     G_CALLBACK(virTorrentServiceAuthorize), service);
    service->connecting++;
    g_dbus_connection_new(G_IO_STREAM(connection), service->guid,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER |
                          G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                          observer, service->cancellable, virTorrentServiceConnected, service);
    return TRUE;
}

VirTorrentService *
virTorrentServiceNew(VirTorrentManager *manager, uid_t uid, guint max_clients)
{
    VirTorrentService *service = g_new0(VirTorrentService, 1);
    gsize i;

    virTorrentServiceRegisterErrors();
    service->manager = manager;
    service->uid = uid;
    service->max_clients = max_clients;
    service->guid = g_dbus_generate_guid();
    service->cancellable = g_cancellable_new();
    service->connections = g_hash_table_new_full(NULL, NULL, g_object_unref, NULL);
    service->bus = g_dbus_node_info_new_for_xml(busXml, NULL);
    service->skeleton = vir_torrent_dbus_torrentd1_skeleton_new();
    vir_torrent_dbus_torrentd1_set_version(service->skeleton, PACKAGE_VERSION);
    for (i = 0; i < G_N_ELEMENTS(handlers); i++)
        g_signal_connect(service->skeleton, handlers[i].signal, handlers[i].handler, service);
    service->listener = g_socket_service_new();
    g_signal_connect(service->listener, "incoming", G_CALLBACK(virTorrentServiceIncoming),
                     service);
    virTorrentManagerSetChangedFunc(manager, virTorrentServiceVolumeChanged, service);
    return service;
}

void
virTorrentServiceFree(VirTorrentService *service)
{
    GHashTableIter iter;
    gpointer connection;

    if (!service)
        return;
    virTorrentManagerSetChangedFunc(service->manager, NULL, NULL);
    g_signal_handlers_disconnect_by_data(service->listener, service);
    g_socket_service_stop(service->listener);
    g_socket_listener_close(G_SOCKET_LISTENER(service->listener));
    g_object_unref(service->listener);
    g_cancellable_cancel(service->cancellable);
    g_object_unref(service->cancellable);
    g_hash_table_iter_init(&iter, service->connections);
    while (g_hash_table_iter_next(&iter, &connection, NULL)) {
        virTorrentServiceDrop(service, connection);
        g_dbus_connection_close(connection, NULL, NULL, NULL);
    }
    g_hash_table_unref(service->connections);
    g_signal_handlers_disconnect_by_data(service->skeleton, service);
    g_object_unref(service->skeleton);
    g_dbus_node_info_unref(service->bus);
    g_free(service->guid);
    g_free(service);
}

gboolean
virTorrentServiceListen(VirTorrentService *service, int fd, GError **error)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, error);

    return socket &&
        g_socket_listener_add_socket(G_SOCKET_LISTENER(service->listener), socket, NULL, error);
}

guint
virTorrentServiceCountClients(VirTorrentService *service)
{
    return service->connecting + g_hash_table_size(service->connections);
}
