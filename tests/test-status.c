/*
 * test-status.c: what --status and --metrics make of an answer
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include <string.h>

#include "status.h"

#define POOLS \
    "[('masters', '/srv/masters', [" \
    "('a.qcow2', {'state': <'seeding'>, 'progress': <100.0>, 'size': <uint64 1048576>, 'done': <uint64 1048576>," \
    "  'peers': <uint32 3>, 'upload-rate': <uint64 2048>, 'uploaded': <uint64 4096>, 'scrubbed': <uint64 1700000000>," \
    "  'scrub': <12.34>})," \
    "('b.qcow2', {'state': <'fetching'>, 'progress': <50.0>, 'size': <uint64 1048576>, 'place': <uint32 2>})," \
    "('rot', {'state': <'healing'>, 'damaged': <uint32 2>, 'error': <'2 of 9'>})," \
    "('Größe \"x\"', {'state': <'failed'>, 'progress': <12.5>, 'error': <'the disk is full'>})])," \
    " ('none', '/srv/none', @a(sa{sv}) [])]"


static GVariant *
parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    GVariant *pools = g_variant_parse(G_VARIANT_TYPE("a(ssa(sa{sv}))"), text, NULL, NULL, &error);

    g_assert_no_error(error);
    return pools;
}


static void
has(const char *text, const char *line)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    if (!g_strv_contains((const char *const *)lines, line))
        g_error("no line '%s' in:\n%s", line, text);
}


static void
testTable(void)
{
    g_autoptr(GVariant) pools = parse(POOLS);
    g_autofree char *text = virTorrentStatusTable(pools);

    has(text, "masters (/srv/masters)");
    has(text, "  Volume     State         Done        Size  Peers          Down            Up");
    has(text, "  a.qcow2    seeding     100.0%     1.0 MiB      3             -     2.0 KiB/s");
    has(text, "  b.qcow2    fetching #2  50.0%     1.0 MiB      0             -             -");
    has(text, "  Größe \"x\"  failed       12.5%           -      0             -             -");
    has(text, "    the disk is full");
    has(text, "    12.3% of it are read again");
    has(text, "  rot        healing       0.0%           -      0             -             -");
    has(text, "    2 of 9");
    has(text, "none (/srv/none)");
}


static void
testNoPool(void)
{
    g_autoptr(GVariant) pools = parse("[]");
    g_autofree char *text = virTorrentStatusTable(pools);

    g_assert_cmpstr(text, ==, "no torrentpool is active\n");
}


static void
testMetrics(void)
{
    g_autoptr(GVariant) pools = parse(POOLS);
    g_autofree char *text = virTorrentStatusMetrics(pools);

    has(text, "torrentpool_up 1");
    has(text, "torrentpool_volumes{pool=\"masters\",state=\"seeding\"} 1");
    has(text, "torrentpool_volumes{pool=\"masters\",state=\"failed\"} 1");
    has(text, "torrentpool_volumes{pool=\"masters\",state=\"fetching\"} 1");
    has(text, "torrentpool_volumes{pool=\"none\",state=\"seeding\"} 0");
    has(text, "torrentpool_volumes{pool=\"masters\",state=\"healing\"} 1");
    has(text, "torrentpool_volume_damaged_pieces{pool=\"masters\",volume=\"rot\"} 2");
    has(text, "torrentpool_volume_good_timestamp_seconds{pool=\"masters\",volume=\"a.qcow2\"} 1700000000");
    has(text, "torrentpool_volume_size_bytes{pool=\"masters\",volume=\"a.qcow2\"} 1048576");
    has(text, "torrentpool_volume_peers{pool=\"masters\",volume=\"a.qcow2\"} 3");
    has(text, "torrentpool_volume_uploaded_bytes_total{pool=\"masters\",volume=\"a.qcow2\"} 4096");
    has(text, "torrentpool_volume_peers{pool=\"masters\",volume=\"Größe \\\"x\\\"\"} 0");
    has(text, "# TYPE torrentpool_volume_uploaded_bytes_total counter");
}


static void
testNobody(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) pools = virTorrentStatusAsk("/nonexistent/sock", &error);
    g_autofree char *text = virTorrentStatusMetrics(pools);

    g_assert_null(pools);
    g_assert_nonnull(strstr(error->message, "'/nonexistent/sock'"));
    has(text, "torrentpool_up 0");
    g_assert_null(strstr(text, "torrentpool_volumes"));
}


int
main(int argc, char **argv)
{
    g_setenv("LC_ALL", "C.UTF-8", TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/status/table", testTable);
    g_test_add_func("/status/no-pool", testNoPool);
    g_test_add_func("/status/metrics", testMetrics);
    g_test_add_func("/status/nobody", testNobody);
    return g_test_run();
}
