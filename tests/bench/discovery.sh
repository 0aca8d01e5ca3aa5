#!/bin/bash
# from vol-create on a new host to its first payload byte, in each way of discovery
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A seeds and can be found in every way.  C is the DHT's bootstrap host, runs the
# tracker and the web server, and is a slow leecher that knows A and has nothing
# yet.  R is a new host each time: its pool is defined anew, with one way alone,
# started, and asked for the master at once.  Then the other way round: R has
# been waiting for ten seconds, and A comes up.
. "$(dirname "$0")/../lib/pool.sh"
. "$(dirname "$0")/../lib/origin.sh"
lab_enter "$@"

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# wait_byte HOST VOLUME: until the host has bytes of it
wait_byte() {
    local part final end=$((SECONDS + 90))
    part=$(in_pool "$1" ".torrentpool/partial/$2")
    final=$(in_pool "$1" "$2")
    until [[ $(stat -c %b "$part" 2>/dev/null) -gt 0 || -e $final ]]; do
        ((SECONDS < end)) || fail "no byte of $2 on $1 within 90 s"
    done
}

volume_xml() {
    cat <<-X
	<volume><name>first.img</name><source><torrent magnet='${1//&/&amp;}'/></source>
	  <capacity>0</capacity><target><format type='raw'/></target></volume>
	X
}

# pool_renew HOST SWARM: as if the host had never had one
pool_renew() {
    virsh_on "$1" pool-destroy $pool >/dev/null 2>&1
    virsh_on "$1" pool-undefine $pool >/dev/null 2>&1
    host_kill "$1" virttorrentd
    rm -rf "$(in_pool "$1" '')"
    pool_start_new "$1" "$2"
}

ask() {
    volume_xml "$2" >"ask-$1.xml"
    must virsh_on "$1" vol-create $pool "$LAB/ask-$1.xml"
}

# took WAY START
took() { printf '%s\t%d\n' "$1" $(($(now_ms) - $2)) | tee -a times; }

# measure WAY SWARM MAGNET
measure() {
    local round start
    for ((round = 0; round < rounds; round++)); do
        pool_renew R "$2"
        start=$(now_ms)
        ask R "$3"
        wait_byte R first.img
        took "$1" "$start"
    done
}

# PEX tells of peers, here of one that has nothing itself yet: between A and C there is
# a slow link of their own.
measure_pex() {
    local round start slow
    must ip link add slowA netns "${host_pid[A]}" type veth peer name slowC netns "${host_pid[C]}"
    must host_exec A ip addr add 10.78.0.1/24 dev slowA
    must host_exec C ip addr add 10.78.0.3/24 dev slowC
    must host_exec A ip link set slowA up
    must host_exec C ip link set slowC up
    must host_exec A tc qdisc add dev slowA root tbf rate 300kbit burst 16kb latency 50ms
    must host_exec R ip route add 10.78.0.0/24 via 10.77.0.1
    slow=$bare\&x.pe=10.78.0.1:6881
    for ((round = 0; round < rounds; round++)); do
        pool_renew C "$(only pex)"
        ask C "$slow"
        wait_byte C first.img
        pool_renew R "$(only pex)"
        start=$(now_ms)
        ask R "$bare&x.pe=10.77.0.3:6881"
        wait_byte R first.img
        took PEX "$start"
    done
    must host_exec C ip link del slowC
}

# Nobody has it: A is down.
measure_web() {
    local round start
    must virsh_on A pool-destroy $pool
    must virsh_on C pool-destroy $pool
    for ((round = 0; round < rounds; round++)); do
        pool_renew R "$off"
        cp web.torrent "$(in_pool R web.torrent)"
        start=$(now_ms)
        must virsh_on R pool-refresh $pool
        wait_byte R first.img
        took 'web seed' "$start"
    done
    must virsh_on C pool-start $pool
    must virsh_on A pool-start $pool
}

# measure_late WAY SWARM
measure_late() {
    local round start
    for ((round = 0; round < (rounds + 1) / 2; round++)); do
        must virsh_on A pool-destroy $pool
        host_kill A virttorrentd
        pool_renew C ''
        pool_renew R "$2"
        ask R "$bare"
        sleep 10
        start=$(now_ms)
        must virsh_on A pool-start $pool
        wait_byte R first.img
        took "$1, who has it comes late" "$start"
    done
}

off="<torrent:discovery dht='no' lsd='no' pex='no'/>"
only() { sed "s/$1='no'/$1='yes'/" <<<"$off"; }
bootstrap="<torrent:bootstrap host='10.77.0.3' port='6881'/>"
tracker="<torrent:tracker url='http://10.77.0.3:6969/announce'/>"

rounds=5
((BENCH_QUICK)) && rounds=2
number=0
for host in A R C; do
    host_start $host "10.77.0.$((++number))"
    libvirtd_start $host
done
pool_start_new C
pool_start_new A "$bootstrap$tracker"
random_raw first.img 16
publish A first.img
wait_key A first.img
web_start C
cp first.img "$(web_dir C)/"
tracker_start C "$(vol_field A first.img /volume/key)"
# now that the tracker lets it in
must virsh_on A pool-destroy $pool
must virsh_on A pool-start $pool
wait_state A first.img seeding 10
magnet=$(vol_torrent A first.img magnet)
bare=$(sed 's/&\(x\.pe\|tr\)=[^&]*//g' <<<"$magnet")
url=http://10.77.0.3/first.img
{ head -c -1 "$(torrent_file A first.img)"; printf '8:url-list%d:%se' ${#url} $url; } >web.torrent

measure 'LSD' "$(only lsd)" "$bare"
measure 'DHT' "$(only dht)$bootstrap" "$bare"
measure 'tracker' "$off$tracker" "$bare"
measure 'peer in the magnet' "$off" "$bare&x.pe=10.77.0.1:6881"
measure_pex
measure_web
measure_late 'LSD' "$(only lsd)"
measure_late 'DHT' "$(only dht)$bootstrap"
measure_late 'tracker' "$off$tracker"

awk -F '\t' '
    !($1 in n) { order[++ways] = $1 }
    { sum[$1] += $2; n[$1]++; if ($2 > max[$1]) max[$1] = $2 }
    END { for (i = 1; i <= ways; i++) { w = order[i]; printf "%s\t%.2f\t%.2f\n", w, sum[w] / n[w] / 1000, max[w] / 1000 } }' \
    times >"$BENCH_OUT/discovery.tsv"
printf '%-40s %8s %8s   (seconds; %d rounds)\n' '' mean longest $rounds
awk -F '\t' '{ printf "%-40s %8.2f %8.2f\n", $1, $2, $3 }' "$BENCH_OUT/discovery.tsv"
awk -v title='From vol-create to the first payload byte' -v unit=s \
    -f "$top/tests/bench/bars.awk" "$BENCH_OUT/discovery.tsv" >"$BENCH_OUT/discovery.svg"
awk -F '\t' '$3 > max { max = $3 } END { printf "figure discovery.seconds_max %.2f\n", max }' \
    "$BENCH_OUT/discovery.tsv" >>"$BENCH_FIGURES"
