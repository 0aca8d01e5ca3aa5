/*
 * storage_torrentpool_client.c: what libvirt asks of virttorrentd
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One function per method of org.libvirt.Torrentd1, and nothing else that
 * knows how these are encoded.
 *
 * Failures are GErrors, since a refresh wants to warn where the creation of a
 * volume has to fail; virStorageTorrentClientReportError() translates them.
 */

#include <config.h>

#include "storage_torrentpool_client.h"
#include "storage_torrentpool_conn.h"
#include "viralloc.h"
#include "virerror.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

#define TORRENTD_ERROR VIR_STORAGE_TORRENT_INTERFACE ".Error."

/* The engine parses up to 64 MiB for this one. */
#define METAINFO_TIMEOUT_MS (15 * 1000)


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


static bool
virStorageTorrentClientCallVoid(const char *method,
                                GVariant *params,
                                GError **error)
{
    g_autoptr(GVariant) ret = NULL;

    ret = virStorageTorrentConnCall(method, params, "()", VIR_STORAGE_TORRENT_CALL_TIMEOUT_MS,
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

    if (g_variant_dict_lookup(&dict, "state", "&s", &state)) {
        if ((value = virStorageVolTorrentStateTypeFromString(state)) > 0)
            vol->state = value;
        else if (STREQ(state, "healing")) /* libvirt's way to tell what is wrong */
            vol->state = VIR_STORAGE_VOL_TORRENT_STATE_FAILED;
    }

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

    if (!(ret = virStorageTorrentConnCall("ListPools", g_variant_new("()"),
                                          "(a(sss))", VIR_STORAGE_TORRENT_CALL_TIMEOUT_MS, error)))
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

    if (!(ret = virStorageTorrentConnCall("ListVolumes",
                                            g_variant_new("(s)", uuid),
                                            "(a(sa{sv}))", VIR_STORAGE_TORRENT_CALL_TIMEOUT_MS,
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

    if (!(ret = virStorageTorrentConnCall("GetVolume",
                                            g_variant_new("(ss)", uuid, name),
                                            "(a{sv})", VIR_STORAGE_TORRENT_CALL_TIMEOUT_MS, error)))
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

    if (!(ret = virStorageTorrentConnCall("FetchMetainfo",
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
