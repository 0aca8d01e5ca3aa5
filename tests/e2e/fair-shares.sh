#!/bin/bash
# What a pool's limit lets through is dealt out fairly: masters that are fetched at once come at
# the same pace, a host with one fetch gets its share beside one with many, and a host
# that comes late gets bytes at once.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

host_start A 10.77.0.1
libvirtd_start A
pool_start_new A "<torrent:limit upload='8' unit='MiB/s'/>"
number=1
for host in B C D; do
    host_start $host "10.77.0.$((++number))"
    libvirtd_start $host
    pool_start_new $host
done
masters=(m1 m2 m3 m4 m5 m6 m7 m8)
for name in "${masters[@]}" alone; do
    random_raw $name.img 4
    cp $name.img "$(in_pool A $name.img)"
    chmod 0444 "$(in_pool A $name.img)"
done
must virsh_on A pool-refresh $pool
for name in "${masters[@]}" alone; do
    wait_state A $name.img seeding 20
    vol_xml A $name.img >$name.xml
done
# percents HOST: what is there of its masters, in one breath
percents() {
    host_exec "$1" "$TORRENTPOOL_BUILD/src/virttorrentd" --status |
        awk '/\.img /{ sub("%", "", $3); print $1, $3 }' | sort
}
# one_at HOST PERCENT: the first one of them has it
one_at() { percents "$1" >now && awk -v n="$2" '$2 >= n { found = 1 } END { exit !found }' now; }
all_at() { percents "$1" >now && awk -v n="$2" '$2 < n { bad = 1 } END { exit bad || NR < 8 }' now; }

step 'eight at once, and one on another host'
for name in "${masters[@]}"; do
    must virsh_on B vol-create $pool $name.xml
done
must virsh_on C vol-create $pool alone.xml
# from when all have begun
wait_for 60 all_at B 5 || fail "none comes: $(percents B)"
{ cat now; percents C; } >early
wait_for 60 one_at B 70 || fail "none comes on: $(percents B)"
{ cat now; percents C; } >later
join early later | awk '{ printf "  %-10s %5.1f %% more\n", $1, $3 - $2 }' | tee gained
awk '$2 > most { most = $2 } { gain[$1] = $2 }
     END { for (m in gain) if (gain[m] < most / 4) { print m " starves"; bad = 1 } exit bad }' gained >starves ||
    fail "$(cat starves)"

step 'a host that comes when another one is nearly done gets bytes at once'
must virsh_on D vol-create $pool alone.xml
wait_for 60 one_at D 10 || fail "it gets nothing: $(percents D)"
awk '$2 < 100 { busy = 1 } END { exit !busy }' <(percents B) || fail 'it had to wait until the others were done'
for name in "${masters[@]}"; do
    wait_state B $name.img seeding 60
done
wait_state C alone.img seeding 60
wait_state D alone.img seeding 60
