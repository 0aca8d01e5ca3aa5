#!/bin/bash
# A fetch survives a stopped pool and a lost origin, and leaves nothing when it is deleted.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
host_shape A 40mbit
random_qcow2 debian.qcow2 20 64M
publish A debian.qcow2
file=$(in_pool B debian.qcow2)
percent() { local p; p=$(vol_torrent B debian.qcow2 progress); echo "${p%.*}"; }
beyond() { local p; p=$(percent); ((${p:-0} >= $1)); }

step 'the pool is stopped in the middle, and started again'
must give_xml A B debian.qcow2
wait_for 10 beyond 30 || fail "no progress: $(percent)"
must virsh_on B pool-destroy $pool
absent "$file"
sleep 2 # what was under way in buffers
before=$(host_rx B)
sleep 1
(($(host_rx B) - before < 200000)) || fail 'it is still being fetched'
must virsh_on B pool-start $pool
vol_listed B debian.qcow2 || fail 'not listed after the start'
wait_for 5 beyond 20 || fail "what was there is fetched again: $(percent) %"

step 'the origin goes away and comes back'
must virsh_on A pool-destroy $pool
sleep 1
in_state B debian.qcow2 fetching || fail "state $(vol_torrent B debian.qcow2 state)"
absent "$file"
must virsh_on A pool-start $pool
wait_state B debian.qcow2 seeding 25
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$file")"

step 'deleted while it comes, it leaves nothing'
random_qcow2 second.qcow2 10
publish A second.qcow2
must give_xml A B second.qcow2
in_state B second.qcow2 fetching || fail "state $(vol_torrent B second.qcow2 state)"
must virsh_on B vol-delete --pool $pool second.qcow2
! vol_listed B second.qcow2 || fail 'still listed'
# (what was being written at that moment is unlinked when it is written)
left() { find "$(in_pool B .)" -name '*second*'; }
gone() { [[ -z $(left) ]]; }
wait_for 5 gone || fail "this is left of it: $(left)"

step 'and can be fetched again, under another name'
sed 's|<name>.*</name>|<name>third.qcow2</name>|' second.qcow2.xml >third.xml
must virsh_on B vol-create $pool third.xml
wait_state B third.qcow2 seeding 20
is checksum "$(sum_of second.qcow2)" "$(sum_of "$(in_pool B third.qcow2)")"
! vol_listed B second.qcow2 || fail 'second.qcow2 came back'

step 'what is here already is not fetched again'
rx=$(host_rx B)
refused 'exist|taken|in use' virsh_on B vol-create $pool third.xml
virsh_on B vol-create $pool second.qcow2.xml >again.out 2>&1 || matches vol-create 'third|already|exist' "$(cat again.out)"
sleep 1
(($(host_rx B) - rx < 1000000)) || fail 'the same bytes were fetched twice'
in_state B third.qcow2 seeding || fail 'third.qcow2 suffered'
