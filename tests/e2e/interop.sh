#!/bin/bash
# Hosts of a pool and BitTorrent clients that know nothing of it share masters, in both
# directions: torrents of version 1, 2 and both, aria2, Transmission and libtorrent.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
. "$(dirname "$0")/../lib/origin.sh"
lab_enter "$@"

number=0
for host in A B C; do
    host_start $host "10.77.0.$((++number))"
    libvirtd_start $host
    pool_start_new $host "<torrent:discovery dht='no' lsd='no' pex='no'/>"
done
# a host each for libtorrent, Transmission, aria2 and the tracker, without libvirt
for host in L T U N; do
    host_start $host "10.77.0.$((++number))"
    mkdir "$LAB/$host/files"
done
announce=http://10.77.0.$number:6969/announce

# stock HOST COMMAND…: in the background
stock() {
    local host=$1
    shift
    host_exec "$host" setsid "$@" </dev/null >>"$LAB/$host/log/client.log" 2>&1 &
    disown $!
}
libtorrent() { stock L "$top/tests/lib/stock-client.py" run "$LAB/L/files" "$@"; }
end_libtorrent() { host_exec L pkill -x stock-client.py || fail 'libtorrent does not run'; }
same() { is "checksum of ${2##*/}" "$(sum_of "$1")" "$(sum_of "$2")"; }
give_torrent() {
    cp "$2.torrent" "$(in_pool "$1" "$2.torrent")"
    must virsh_on "$1" pool-refresh $pool
}

for kind in v1 v2 hybrid; do
    random_raw $kind.img 4
    "$top/tests/lib/stock-client.py" make $kind "$LAB/$kind.img" $kind.img.torrent "$announce" >>hashes ||
        fail "there is no torrent of kind $kind"
    cp $kind.img L/files/
done
random_qcow2 own.qcow2 4
publish A own.qcow2
wait_key A own.qcow2
# shellcheck disable=SC2046
tracker_start N $(cat hashes) "$(vol_field A own.qcow2 /volume/key)"

step 'we fetch from them'
libtorrent - v1.img.torrent v2.img.torrent hybrid.img.torrent
for kind in v1 v2 hybrid; do
    wait_for 30 test -e L/files/$kind.img.done || fail "libtorrent does not seed $kind.img"
done
for kind in v1 v2 hybrid; do
    give_torrent A $kind.img
done
for kind in v1 v2 hybrid; do
    wait_state A $kind.img seeding 60
    same $kind.img "$(in_pool A $kind.img)"
    is_master A $kind.img
done
end_libtorrent
rm L/files/*

step 'they fetch from our origin, which is alone: aria2 (v1), libtorrent (v2, and what we publish)'
# what it has from the start it is the origin of, and shows piece by piece to its like
host_kill A virttorrentd KILL
must virsh_on A pool-refresh $pool
for volume in v1.img v2.img hybrid.img own.qcow2; do
    wait_state A $volume seeding 20
done
must timeout 60 nsenter --target "${host_pid[U]}" --net \
    aria2c --no-conf --quiet --enable-dht=false --bt-enable-lpd=false --listen-port=6881 --seed-time=0 \
    --file-allocation=none --dir="$LAB/U/files" v1.img.torrent
same v1.img U/files/v1.img
cp "$(torrent_file A own.qcow2)" own.torrent
libtorrent 10.77.0.1:6881 v2.img.torrent own.torrent
for name in v2.img own.qcow2; do
    wait_for 60 test -e L/files/$name.done || fail "libtorrent does not get $name"
    same $name L/files/$name
done
end_libtorrent

step 'all in one swarm'
host_shape A 20mbit
mkdir T/conf
echo '{ "preallocation": 0 }' >T/conf/settings.json
# Transmission 3.00 refuses hybrid torrents
stock T transmission-cli --no-portmap --port 6881 --config-dir "$LAB/T/conf" --download-dir "$LAB/T/files" \
    "$LAB/v1.img.torrent"
libtorrent - v1.img.torrent hybrid.img.torrent
for kind in v1 hybrid; do
    give_torrent B $kind.img
done
wait_for 60 test -e T/files/v1.img || fail 'Transmission does not get it'
same v1.img T/files/v1.img
for kind in v1 hybrid; do
    wait_for 60 test -e L/files/$kind.img.done || fail "libtorrent does not get $kind.img"
    same $kind.img L/files/$kind.img
    wait_state B $kind.img seeding 60
    same $kind.img "$(in_pool B $kind.img)"
done

step 'they serve a host of the pool when no other host of it is left'
host_stop A
host_stop B
for kind in v1 hybrid; do
    give_torrent C $kind.img
    wait_state C $kind.img seeding 60
    same $kind.img "$(in_pool C $kind.img)"
done
