#!/bin/bash
# virttorrentd --status and --metrics tell a person and Prometheus what goes on.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
random_qcow2 debian.qcow2 4 100M
publish A debian.qcow2
must give_xml A B debian.qcow2
wait_state B debian.qcow2 seeding 30

step 'a table for a person'
out=$(host_exec B "$TORRENTPOOL_BUILD/src/virttorrentd" --status) || fail "it failed: $out"
matches pool "^masters \\($target\\)" "$out"
matches volume '^  debian\.qcow2 +seeding +100\.0% +4\.[0-9] MiB' "$out"

step 'metrics for Prometheus'
out=$(host_exec B "$TORRENTPOOL_BUILD/src/virttorrentd" --metrics) || fail "it failed: $out"
matches up '^torrentpool_up 1$' "$out"
matches states '^torrentpool_volumes\{pool="masters",state="seeding"\} 1$' "$out"
size=$(stat -c %s debian.qcow2)
matches done "^torrentpool_volume_done_bytes\\{pool=\"masters\",volume=\"debian\\.qcow2\"\\} $size$" "$out"
matches downloaded '^torrentpool_volume_downloaded_bytes_total\{pool="masters",volume="debian\.qcow2"\} [1-9]' "$out"
lacks 'a line that is no metric' '^[^#t]' "$out"

step 'a session without a daemon says so'
refused "virttorrentd does not answer on '.*virttorrentd-sock'" \
    host_exec B env XDG_RUNTIME_DIR="$LAB" "$TORRENTPOOL_BUILD/src/virttorrentd" --session --status
