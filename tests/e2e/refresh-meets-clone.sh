#!/bin/bash
# Refreshing a pool in which clones are made all the time is never refused.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"
count=200

hosts_with_pool A
random_qcow2 master.qcow2 1 1G
publish A master.qcow2

for ((n = 0; n < count; n++)); do
    echo "vol-clone --pool $pool master.qcow2 c$n.qcow2" >>clone
    echo "vol-clone --pool $pool master.qcow2 d$n.qcow2" >>clone2
    echo "pool-refresh $pool" >>refresh
done

step 'two clients clone, a third one refreshes'
virsh_on A <clone >clone.out 2>&1 &
virsh_on A <clone2 >clone2.out 2>&1 &
virsh_on A <refresh >refresh.out 2>&1
wait
lacks 'what the refreshing client is told' '^error' "$(cat refresh.out)"
lacks 'what the cloning clients are told' '^error' "$(cat clone.out clone2.out)"
is 'clones' $((2 * count)) "$(virsh_on A vol-list $pool | grep -c '[cd][0-9]*\.qcow2')"
clone_is_good A c7.qcow2 master.qcow2
clone_is_good A d$((count - 1)).qcow2 master.qcow2
