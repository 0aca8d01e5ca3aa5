#!/bin/bash
# The start of a guest gets the master that it needs: before others that are
# being fetched, again if it was lost, or for the first time.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

host_with_hook A 10.77.0.1
host_with_hook B 10.77.0.2
hook_timeout B 100
pool_start_new A
pool_start_new B
writer_disk debian.qcow2 16
random_qcow2 other.qcow2 64
for master in debian other; do
    publish A $master.qcow2
done
# starts GUEST: on B, where it runs on the master
starts() {
    must virsh_on B start "$1"
    is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"
    wait_for 60 has_written B "$1" 20 || fail "$1 does not write: $(cat "$LAB/B/log/$1.serial")"
    must virsh_on B destroy "$1"
}
# guest NAME [<torrent:disk> attributes]: on B, on the master by its name
guest() {
    must host_exec B qemu-img create -q -f qcow2 -u -b debian.qcow2 -F qcow2 "$target/$1.qcow2" 128M
    writer_xml "$1" "$(by_file "$1.qcow2")" "${@:2}" >"$1.xml"
    must virsh_on B define "$1.xml"
}
# has_percent VOLUME N: of it is on B
has_percent() { awk "BEGIN { exit !($(vol_torrent B "$1" progress) >= $2) }"; }

step 'it comes before another one that has a start'
host_shape A 20mbit
must give_xml A B other.qcow2
wait_for 60 has_percent other.qcow2 5 || fail 'the fetch does not begin'
must give_xml A B debian.qcow2
guest web01
must virsh_on B start web01
is 'state of the other' fetching "$(vol_torrent B other.qcow2 state)"
must virsh_on B destroy web01
echo "  the other one is here to $(vol_torrent B other.qcow2 progress) %"
tc qdisc del dev vA root && host_exec A tc qdisc del dev eth0 root
starts web01

step 'its file was removed behind the back of virttorrentd'
rm "$(in_pool B debian.qcow2)"
starts web01

step 'the same, while virttorrentd was away'
host_kill B virttorrentd KILL
rm "$(in_pool B debian.qcow2)"
must virsh_on B pool-refresh $pool
starts web01

step 'this host has not heard of it, but its XML tells the magnet'
must virsh_on B undefine web01
must virsh_on B vol-delete --pool $pool web01.qcow2
must virsh_on B vol-delete --pool $pool debian.qcow2
magnet=$(vol_torrent A debian.qcow2 magnet | sed 's/&/\&amp;/g')
guest web02
! virsh_on B start web02 >start.log 2>&1 || fail 'the start should have been refused'
matches 'the refusal' "torrentpool: guest 'web02': .*debian.qcow2.* does not know it" "$(cat start.log)"
must virsh_on B undefine web02
rm "$(in_pool B web02.qcow2)"
guest web02 "master='debian.qcow2' magnet='$magnet'"
starts web02
