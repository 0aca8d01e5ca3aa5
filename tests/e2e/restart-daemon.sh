#!/bin/bash
# Killed while it fetches and while it seeds, virttorrentd goes on where it was.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
host_shape A 40mbit
random_qcow2 debian.qcow2 24 64M
publish A debian.qcow2
must give_xml A B debian.qcow2
some_progress() { awk "BEGIN{exit !($(vol_torrent B debian.qcow2 progress) > ${1:-10})}"; }

step 'kill -9 on B in the middle of the fetch'
wait_for 10 some_progress 20 || fail 'no progress'
host_kill B virttorrentd KILL
absent "$(in_pool B debian.qcow2)"
pool_active B || fail 'the pool on B is not active any more'

step 'the fetch goes on and completes'
must virsh_on B pool-refresh $pool
wait_for 10 host_pids B virttorrentd || fail 'no virttorrentd on B'
vol_listed B debian.qcow2 || fail 'not listed any more'
wait_state B debian.qcow2 seeding 20
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"

step 'kill -9 on the seeding host'
key=$(vol_field A debian.qcow2 /volume/key)
host_kill A virttorrentd KILL
must virsh_on A pool-refresh $pool
wait_state A debian.qcow2 seeding 10
is key "$key" "$(vol_field A debian.qcow2 /volume/key)"
pool_active A || fail 'the pool on A is not active any more'

step 'kill -9 while it hashes'
random_raw big.raw 256
cp big.raw "$(in_pool A big.raw)"
chmod 0444 "$(in_pool A big.raw)"
must virsh_on A pool-refresh $pool
in_state A big.raw hashing || fail "not hashing but '$(vol_torrent A big.raw state)': too fast to be killed in time"
host_kill A virttorrentd KILL
must virsh_on A pool-refresh $pool
wait_state A big.raw seeding 15
is checksum "$(sum_of big.raw)" "$(sum_of "$(in_pool A big.raw)")"
is_master A big.raw

step 'no two daemons, no orphaned engine'
count=$(host_pids A virttorrentd | wc -l)
((count <= 2)) || fail "$count processes named virttorrentd"
