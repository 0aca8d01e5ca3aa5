#!/bin/bash
# Of a fetch whose daemon is killed nothing that was verified crosses the wire again.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# 5 MB/s: what was saved is up to 5 s old, and the pieces since are noted (have.h)
hosts_with_pool A B
host_shape A 40mbit
random_qcow2 debian.qcow2 96
size=$(stat -c %s debian.qcow2)
publish A debian.qcow2
must give_xml A B debian.qcow2
beyond() { awk "BEGIN{exit !($(vol_torrent B debian.qcow2 progress) > $1)}"; }

step 'kill -9 when three quarters are there'
rx=$(host_rx B)
wait_for 60 beyond 75 || fail 'no progress'
host_kill B virttorrentd KILL

step 'the rest is fetched, and what was in flight'
must virsh_on B pool-refresh $pool
wait_state B debian.qcow2 seeding 60
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"
again=$(($(host_rx B) - rx - size))
((again < size * 5 / 100)) || fail "$again of $size bytes crossed the wire again"
