#!/bin/bash
# A network that splits and heals costs the time that it was split; a slow host does not hold up a fast one.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B S
random_raw image.raw 24
publish A image.raw
progress() { vol_torrent "$1" image.raw progress; }
beyond() { awk "BEGIN{exit !($(progress "$1") > $2)}"; }
host_shape A 32mbit
host_shape S 3mbit

step 'a slow host comes first, then a fast one'
must give_xml A S image.raw
wait_for 20 beyond S 0.5 || fail 'the slow host gets nothing'
must give_xml A B image.raw
wait_for 30 beyond B 20 || fail 'the fast host gets nothing'

step 'the network splits: the origin on one side'
ip link set vA down
sleep 0.5 # what was under way
before=$(host_rx B)
at=$(progress B)
sleep 3
(($(host_rx B) - before < 2 * 1024 * 1024)) || fail 'it did not split'
is 'state on B' fetching "$(vol_torrent B image.raw state)"
echo "  B has $at %"

step 'it heals: the fast host completes, long before the slow one'
ip link set vA up
wait_state B image.raw seeding 60
echo "  S has $(progress S) %"
is 'state on S' fetching "$(vol_torrent S image.raw state)"
beyond S 75 && fail 'the slow host is not slow'
is checksum "$(sum_of image.raw)" "$(sum_of "$(in_pool B image.raw)")"
beyond S 1 || fail 'the slow host gets nothing beside a fast one'
host_shape S 100mbit
wait_state S image.raw seeding 60
is checksum "$(sum_of image.raw)" "$(sum_of "$(in_pool S image.raw)")"
