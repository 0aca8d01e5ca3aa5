#!/bin/bash
# Whoever comes first, a clone or the deletion of its master: no clone is left without one.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_raw data 1
rounds=40

for n in $(seq $rounds); do
    install -m 444 data "$(in_pool A m$n.raw)"
done
must virsh_on A pool-refresh $pool

step 'both at once, often'
deleted=0 kept=0
delete() { virsh_on A vol-delete --pool $pool m$1.raw >delete.out 2>&1; }
clone() {
    virsh_on A vol-create-as $pool c$1.qcow2 0 --format qcow2 \
        --backing-vol $target/m$1.raw --backing-vol-format raw >clone.out 2>&1
}
for n in $(seq $rounds); do
    # they take about as long; whose turn it is to begin changes
    if ((n % 2)); then first=delete second=clone; else first=clone second=delete; fi
    $first $n &
    pids=($!)
    $second $n &
    pids+=($!)
    wait "${pids[@]}"
    if [[ -e $(in_pool A m$n.raw) ]]; then
        kept=$((kept + 1))
        is "backing of c$n" m$n.raw "$(basename "$(backing A c$n.qcow2)")"
    else
        deleted=$((deleted + 1))
        absent "$(in_pool A c$n.qcow2)"
    fi
done
echo "$deleted deleted, $kept kept"
is masters $rounds $((deleted + kept))

step 'what is listed is there'
must virsh_on A pool-refresh $pool
for name in $(virsh_on A vol-list $pool | awk '/\// {print $1}'); do
    present "$(in_pool A "$name")"
done
