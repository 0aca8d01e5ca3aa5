#!/bin/bash
# A fetch leaves the host usable: it takes a bounded share of memory, its I/O comes
# after that of guests, and holes take neither disk nor wire.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
random_raw big.img 256
truncate -s 4G big.img
publish A big.img
engine() { host_exec "$1" pgrep -u $engine_user -x virttorrentd; }
engine_mib() { host_exec "$1" awk '/^VmHWM/ { print int($2 / 1024) }' /proc/"$(engine "$1")"/status; }

step 'of 4 GiB, 256 MiB are fetched'
rx=$(host_rx B)
must give_xml A B big.img
wait_state B big.img seeding 90
is 'data on both hosts' "$(sum_of <(head -c 256M big.img))" "$(sum_of <(head -c 256M "$(in_pool B big.img)"))"
rx=$(((($(host_rx B) - rx)) >> 20))
echo "  $rx MiB over the wire, $(($(stat -c %b "$(in_pool B big.img)") / 2048)) MiB on disk"
((rx < 320)) || fail "$rx MiB crossed the wire"
(($(stat -c %b "$(in_pool B big.img)") / 2048 < 270)) || fail 'the holes are filled'

step 'memory'
for host in A B; do
    echo "  $host: at most $(engine_mib $host) MiB"
    (($(engine_mib $host) < 160)) || fail "virttorrentd on $host took $(engine_mib $host) MiB"
done

step 'I/O comes after that of guests'
classes=$(host_exec B bash -c 'for t in /proc/'"$(engine B)"'/task/*; do echo "$(cat $t/comm): $(ionice -p ${t##*/})"; done')
matches 'I/O class of a thread that writes' 'disk.*: (best-effort: prio 7|idle)' "$classes"
