#!/bin/bash
# The origin dies when one full copy of a master is in the swarm: the others complete from each other.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B C
mib=8
random_raw image.raw $mib
publish A image.raw
# what hosts give on is slower than what the origin gives
egress() { host_exec "$1" tc qdisc add dev eth0 root tbf rate "$2" burst 64kb latency 50ms || fail "tc on $1"; }
egress A 16mbit
egress B 2mbit
egress C 2mbit
sent() { host_exec A "$TORRENTPOOL_BUILD/src/virttorrentd" --metrics | sed -n 's/^torrentpool_volume_uploaded_bytes_total{.*} //p'; }
injected() { (($(sent) >= mib * 1024 * 1024 * 108 / 100)); }

step 'the origin has sent each piece once, and goes'
for host in B C; do
    must give_xml A $host image.raw
done
wait_for 60 injected || fail "the origin has sent $(sent) bytes"
host_stop A
for host in B C; do
    is "state on $host when the origin died" fetching "$(vol_torrent $host image.raw state)"
    echo "  $host has $(vol_torrent $host image.raw progress) %"
done

step 'the others complete'
for host in B C; do
    wait_state $host image.raw seeding 90
    is "checksum on $host" "$(sum_of image.raw)" "$(sum_of "$(in_pool $host image.raw)")"
done
