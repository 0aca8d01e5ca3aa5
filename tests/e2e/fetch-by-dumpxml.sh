#!/bin/bash
# The XML of a master from host A, created on host B, brings the master there.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
host_shape A 30mbit
random_qcow2 debian.qcow2 16 100M
publish A debian.qcow2
want=$(sum_of debian.qcow2)
file=$(in_pool B debian.qcow2)

step 'somebody listens for the pool event'
virsh_on B pool-event --pool $pool --event refresh --timeout 25 >event 2>&1 &
listener=$!
sleep 0.3

step 'vol-create on B returns at once'
start=$EPOCHREALTIME
must give_xml A B debian.qcow2
took=$(awk "BEGIN{print int(1000 * ($EPOCHREALTIME - $start))}")
((took < 2000)) || fail "it took $took ms"

step 'it is listed from the start, with its final capacity'
vol_listed B debian.qcow2 || fail 'not listed'
is capacity 104857600 "$(vol_field B debian.qcow2 /volume/capacity)"
is format qcow2 "$(vol_field B debian.qcow2 /volume/target/format/@type)"

step 'while it comes it is absent at its final path, and progress grows'
last=0 between=0 rounds=0
until in_state B debian.qcow2 seeding; do
    if in_state B debian.qcow2 fetching; then
        now=$(vol_torrent B debian.qcow2 progress)
        if in_state B debian.qcow2 fetching; then
            [[ ! -e $file ]] || in_state B debian.qcow2 seeding || fail "at $now % there is a file already"
            awk "BEGIN{exit !($now >= $last)}" || fail "progress went from $last to $now"
            awk "BEGIN{exit !($now > 5 && $now < 95)}" && between=1
            last=$now
        fi
    fi
    rounds=$((rounds + 1))
    ((rounds < 150)) || fail "still at $last %: $(vol_torrent B debian.qcow2 error)"
    sleep 0.1
done
is 'progress seen between 5 and 95 %' 1 "$between"

step 'it is the same master'
is checksum "$want" "$(sum_of "$file")"
is_master B debian.qcow2
wait_key A debian.qcow2
wait_key B debian.qcow2
is key "$(vol_field A debian.qcow2 /volume/key)" "$(vol_field B debian.qcow2 /volume/key)"
must host_exec B qemu-img check -q $target/debian.qcow2
matches vol-info 'Allocation: +1[5-7]\.' "$(virsh_on B vol-info --pool $pool debian.qcow2)"

step 'the listener was told'
wait $listener || fail "no event: $(cat event)"
matches event 'refresh' "$(cat event)"
