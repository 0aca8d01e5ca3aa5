/*
 * status.c: virttorrentd --status and --metrics
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Asking is one thing, writing another: what is written depends on the answer
 * alone.  Names come from the pool directory and may be any UTF-8 without
 * control characters; Prometheus wants three characters escaped.
 */

#include <config.h>

#include <string.h>

#include "i18n.h"
#include "status.h"

#define TIMEOUT 5000             /* milliseconds */
#define PATH "/org/libvirt/Torrentd1"
#define INTERFACE "org.libvirt.Torrentd1"

static const char *const states[] = { "hashing", "fetching", "seeding", "healing", "paused", "failed" };

static GVariant *
virTorrentStatusCall(GDBusConnection *connection, const char *method, GVariant *args,
                     const char *type, GError **error)
{
    return g_dbus_connection_call_sync(connection, NULL, PATH, INTERFACE, method, args,
                                       G_VARIANT_TYPE(type), G_DBUS_CALL_FLAGS_NONE, TIMEOUT,
                                       NULL, error);
}

static GVariant *
virTorrentStatusPools(GDBusConnection *connection, GError **error)
{
    g_autoptr(GVariant) list = virTorrentStatusCall(connection, "ListPools", NULL, "(a(sss))", error);
    g_autoptr(GVariantIter) iter = NULL;
    GVariantBuilder pools;
    const char *uuid;
    const char *name;
    const char *target;

    if (!list)
        return NULL;
    g_variant_builder_init(&pools, G_VARIANT_TYPE("a(ssa(sa{sv}))"));
    g_variant_get(list, "(a(sss))", &iter);
    while (g_variant_iter_next(iter, "(&s&s&s)", &uuid, &name, &target)) {
        g_autoptr(GVariant) answer = virTorrentStatusCall(connection, "ListVolumes",
                                                          g_variant_new("(s)", uuid), "(a(sa{sv}))", NULL);
        g_autoptr(GVariant) volumes = NULL;

        /* a pool that was stopped meanwhile */
        if (!answer)
            continue;
        volumes = g_variant_get_child_value(answer, 0);
        g_variant_builder_add(&pools, "(ss@a(sa{sv}))", name, target, volumes);
    }
    return g_variant_ref_sink(g_variant_builder_end(&pools));
}

static GDBusConnection *
virTorrentStatusConnect(const char *socket, GError **error)
{
    g_autofree char *escaped = g_dbus_address_escape_value(socket);
    g_autofree char *address = g_strconcat("unix:path=", escaped, NULL);
    GDBusConnection *connection =
        g_dbus_connection_new_for_address_sync(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT,
                                               NULL, NULL, error);

    if (!connection)
        g_prefix_error(error, _("virttorrentd does not answer on '%s', start a torrentpool and it will: "),
                       socket);
    return connection;
}

GVariant *
virTorrentStatusAsk(const char *socket, GError **error)
{
    g_autoptr(GDBusConnection) connection = virTorrentStatusConnect(socket, error);

    return connection ? virTorrentStatusPools(connection, error) : NULL;
}

/* Has @volume of the pool @uuid, or all of its volumes, read again; -1: failed. */
static gint64
virTorrentStatusScrubPool(GDBusConnection *connection, const char *uuid, const char *volume, GError **error)
{
    g_autoptr(GVariant) answer = virTorrentStatusCall(connection, "ScrubVolumes",
                                                      g_variant_new("(ss)", uuid, volume ? volume : ""),
                                                      "(u)", error);
    guint32 count;

    if (!answer) {
        if (error)
            g_dbus_error_strip_remote_error(*error);
        return -1;
    }
    g_variant_get(answer, "(u)", &count);
    return count;
}

gint64
virTorrentStatusScrub(const char *socket, const char *pool, const char *volume, GError **error)
{
    g_autoptr(GDBusConnection) connection = virTorrentStatusConnect(socket, error);
    g_autoptr(GVariant) list = NULL;
    g_autoptr(GVariantIter) iter = NULL;
    gboolean found = FALSE;
    gint64 count = 0;
    const char *uuid;
    const char *name;

    if (!connection || !(list = virTorrentStatusCall(connection, "ListPools", NULL, "(a(sss))", error)))
        return -1;
    g_variant_get(list, "(a(sss))", &iter);
    while (g_variant_iter_next(iter, "(&s&s&s)", &uuid, &name, NULL)) {
        gint64 n;

        if (pool && strcmp(pool, name) != 0)
            continue;
        found = TRUE;
        n = virTorrentStatusScrubPool(connection, uuid, volume, error);
        if (n < 0)
            return -1;
        count += n;
    }
    if (pool && !found) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    _("no active torrentpool is called '%s'; start it (virsh pool-start)"), pool);
        return -1;
    }
    return count;
}

static guint64
virTorrentStatusNumber(GVariant *volume, const char *key)
{
    guint64 number = 0;
    guint32 small;

    if (!g_variant_lookup(volume, key, "t", &number) && g_variant_lookup(volume, key, "u", &small))
        number = small;
    return number;
}

static const char *
virTorrentStatusString(GVariant *volume, const char *key)
{
    const char *string = NULL;

    return g_variant_lookup(volume, key, "&s", &string) ? string : NULL;
}

/* Characters, since names are not ASCII alone. */
static void
virTorrentStatusPad(GString *out, const char *text, gsize width)
{
    gsize have = g_utf8_strlen(text, -1);

    g_string_append(out, text);
    for (; have < width; have++)
        g_string_append_c(out, ' ');
}

static char *
virTorrentStatusBytes(guint64 bytes, gboolean rate)
{
    g_autofree char *text = g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);
    g_auto(GStrv) parts = g_strsplit(text, "\302\240", -1); /* a no-break space, of two bytes */
    g_autofree char *joined = g_strjoinv(" ", parts);

    if (!bytes)
        return g_strdup("-");
    return rate ? g_strconcat(joined, "/s", NULL) : g_steal_pointer(&joined);
}

/* Who goes first of those that are being fetched: "fetching #1" */
static char *
virTorrentStatusState(GVariant *volume)
{
    const char *state = virTorrentStatusString(volume, "state");
    guint64 place = virTorrentStatusNumber(volume, "place");

    if (!state)
        state = "?";
    return place ? g_strdup_printf("%s #%" G_GUINT64_FORMAT, state, place) : g_strdup(state);
}

static void
virTorrentStatusRow(GString *out, const char *name, gsize width, GVariant *volume)
{
    g_autofree char *state = virTorrentStatusState(volume);
    const char *why = virTorrentStatusString(volume, "error");
    double scrub = 0;
    g_autofree char *size = virTorrentStatusBytes(virTorrentStatusNumber(volume, "size"), FALSE);
    g_autofree char *down = virTorrentStatusBytes(virTorrentStatusNumber(volume, "download-rate"), TRUE);
    g_autofree char *up = virTorrentStatusBytes(virTorrentStatusNumber(volume, "upload-rate"), TRUE);
    double progress = 0;

    g_variant_lookup(volume, "progress", "d", &progress);
    g_string_append(out, "  ");
    virTorrentStatusPad(out, name, width);
    g_string_append_printf(out, "  %-11s %5.1f%%  %10s  %5" G_GUINT64_FORMAT "  %12s  %12s\n",
                           state, progress, size,
                           virTorrentStatusNumber(volume, "peers"), down, up);
    if (why)
        g_string_append_printf(out, "    %s\n", why);
    if (g_variant_lookup(volume, "scrub", "d", &scrub))
        g_string_append_printf(out, _("    %.1f%% of it are read again\n"), scrub);
}

static gsize
virTorrentStatusWidth(GVariant *volumes)
{
    g_autoptr(GVariantIter) iter = g_variant_iter_new(volumes);
    gsize width = g_utf8_strlen(_("Volume"), -1);
    const char *name;

    while (g_variant_iter_next(iter, "(&s@a{sv})", &name, NULL))
        width = MAX(width, (gsize)g_utf8_strlen(name, -1));
    return width;
}

char *
virTorrentStatusTable(GVariant *pools)
{
    GString *out = g_string_new(NULL);
    g_autoptr(GVariantIter) iter = g_variant_iter_new(pools);
    const char *pool;
    const char *target;
    GVariant *volumes;

    if (g_variant_n_children(pools) == 0)
        g_string_append(out, _("no torrentpool is active\n"));
    while (g_variant_iter_loop(iter, "(&s&s@a(sa{sv}))", &pool, &target, &volumes)) {
        gsize width = virTorrentStatusWidth(volumes);
        g_autoptr(GVariantIter) each = g_variant_iter_new(volumes);
        const char *name;
        GVariant *volume;

        g_string_append_printf(out, "%s%s (%s)\n", out->len ? "\n" : "", pool, target);
        g_string_append(out, "  ");
        virTorrentStatusPad(out, _("Volume"), width);
        g_string_append_printf(out, "  %-11s %6s  %10s  %5s  %12s  %12s\n", _("State"), _("Done"), _("Size"),
                               _("Peers"), _("Down"), _("Up"));
        while (g_variant_iter_loop(each, "(&s@a{sv})", &name, &volume))
            virTorrentStatusRow(out, name, width, volume);
    }
    return g_string_free(out, FALSE);
}

/* A label's value: backslash, quote and newline are escaped. */
static char *
virTorrentStatusLabel(const char *value)
{
    GString *out = g_string_new(NULL);

    for (; *value; value++) {
        if (*value == '\n') {
            g_string_append(out, "\\n");
            continue;
        }
        if (*value == '\\' || *value == '"')
            g_string_append_c(out, '\\');
        g_string_append_c(out, *value);
    }
    return g_string_free(out, FALSE);
}

static void
virTorrentStatusHead(GString *out, const char *name, const char *type, const char *help)
{
    g_string_append_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* How many volumes of each pool are in each state. */
static void
virTorrentStatusCount(GString *out, GVariant *pools)
{
    g_autoptr(GVariantIter) iter = g_variant_iter_new(pools);
    const char *pool;
    GVariant *volumes;

    virTorrentStatusHead(out, "torrentpool_volumes", "gauge", "Masters of a pool in a state.");
    while (g_variant_iter_loop(iter, "(&s&s@a(sa{sv}))", &pool, NULL, &volumes)) {
        g_autofree char *label = virTorrentStatusLabel(pool);
        gsize i;

        for (i = 0; i < G_N_ELEMENTS(states); i++) {
            g_autoptr(GVariantIter) each = g_variant_iter_new(volumes);
            GVariant *volume;
            guint n = 0;

            while (g_variant_iter_loop(each, "(&s@a{sv})", NULL, &volume))
                n += g_strcmp0(virTorrentStatusString(volume, "state"), states[i]) == 0;
            g_string_append_printf(out, "torrentpool_volumes{pool=\"%s\",state=\"%s\"} %u\n", label, states[i], n);
        }
    }
}

/* One metric of every volume. */
static void
virTorrentStatusEach(GString *out, GVariant *pools, const char *key, const char *metric)
{
    g_autoptr(GVariantIter) iter = g_variant_iter_new(pools);
    const char *pool;
    GVariant *volumes;

    while (g_variant_iter_loop(iter, "(&s&s@a(sa{sv}))", &pool, NULL, &volumes)) {
        g_autofree char *label = virTorrentStatusLabel(pool);
        g_autoptr(GVariantIter) each = g_variant_iter_new(volumes);
        const char *name;
        GVariant *volume;

        while (g_variant_iter_loop(each, "(&s@a{sv})", &name, &volume)) {
            g_autofree char *of = virTorrentStatusLabel(name);

            g_string_append_printf(out, "%s{pool=\"%s\",volume=\"%s\"} %" G_GUINT64_FORMAT "\n", metric, label, of,
                                   virTorrentStatusNumber(volume, key));
        }
    }
}

char *
virTorrentStatusMetrics(GVariant *pools)
{
    static const struct {
        const char *key;             /* as in org.libvirt.Torrentd1.xml */
        const char *metric;
        const char *type;
        const char *help;
    } metrics[] = {
        { "size", "torrentpool_volume_size_bytes", "gauge", "Length of a master." },
        { "done", "torrentpool_volume_done_bytes", "gauge", "Bytes of a master that are here and verified." },
        { "damaged", "torrentpool_volume_damaged_pieces", "gauge", "Pieces of a master's file that are damaged." },
        { "scrubbed", "torrentpool_volume_good_timestamp_seconds", "gauge",
          "When a master was last found good as a whole." },
        { "peers", "torrentpool_volume_peers", "gauge", "Connected peers." },
        { "downloaded", "torrentpool_volume_downloaded_bytes_total", "counter",
          "Payload received since virttorrentd started." },
        { "uploaded", "torrentpool_volume_uploaded_bytes_total", "counter",
          "Payload sent since virttorrentd started." },
    };
    GString *out = g_string_new(NULL);
    gsize i;

    virTorrentStatusHead(out, "torrentpool_up", "gauge", "Whether virttorrentd answers.");
    g_string_append_printf(out, "torrentpool_up %d\n", pools != NULL);
    if (!pools)
        return g_string_free(out, FALSE);
    virTorrentStatusCount(out, pools);
    for (i = 0; i < G_N_ELEMENTS(metrics); i++) {
        virTorrentStatusHead(out, metrics[i].metric, metrics[i].type, metrics[i].help);
        virTorrentStatusEach(out, pools, metrics[i].key, metrics[i].metric);
    }
    return g_string_free(out, FALSE);
}
