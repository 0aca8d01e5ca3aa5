#!/bin/bash
# Of many masters that are fetched at once the one that somebody waits for comes
# first, and one that nobody has holds up no other.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
names=(one two three four)
for name in "${names[@]}"; do
    random_raw $name.img 6
    cp $name.img "$(in_pool A $name.img)"
    chmod 0444 "$(in_pool A $name.img)"
done
must virsh_on A pool-refresh $pool
for name in "${names[@]}"; do
    wait_state A $name.img seeding 20
done
uuid=$(virsh_on B pool-uuid $pool)
status() { host_exec "$1" "$TORRENTPOOL_BUILD/src/virttorrentd" --status; }
# as the hook does when a guest is started
to_head() {
    must host_exec B gdbus call --address unix:path=/run/libvirt/virttorrentd-sock \
        --dest org.libvirt.Torrentd1 --object-path /org/libvirt/Torrentd1 --method org.libvirt.Torrentd1.PrioritizeVolume "$uuid" "$1"
}
has_begun() { [[ $(vol_torrent B "$1" progress) != 0* ]]; }
# when a master got its place in the pool
came() { stat -c %.Z "$(in_pool B "$1.img")"; }
before() { awk "BEGIN { exit !($(came "$1") < $(came "$2")) }" || fail "$2 came before $1"; }

step 'they all begin'
host_shape A 40mbit
for name in "${names[@]}"; do
    must give_xml A B $name.img
done
for name in "${names[@]}"; do
    wait_for 30 has_begun $name.img || fail "$name.img does not begin: $(status B)"
done

step 'two of them are put at the head, one after the other'
to_head three.img
to_head four.img
out=$(status B)
matches 'the head' '^  four\.img +fetching #1 ' "$out"
matches 'the one behind it' '^  three\.img +fetching #2 ' "$out"
lacks 'one that is not in the queue' '^  (one|two)\.img .*#' "$out"
wait_state B four.img seeding 60
wait_state B three.img seeding 60

step 'they came first, and the others after them at full speed'
for name in one two; do
    wait_state B $name.img seeding 60
done
before four three
before three one
before three two
for name in "${names[@]}"; do
    is "checksum of $name.img" "$(sum_of $name.img)" "$(sum_of "$(in_pool B $name.img)")"
done

step 'a head that nobody has holds up no other'
random_raw five.img 6
publish A five.img
cat >nobody.xml <<-X
	<volume><name>nobody.img</name><capacity>0</capacity>
	  <source><torrent magnet='magnet:?xt=urn:btmh:1220$(sha256sum <five.img | cut -d' ' -f1)'/></source>
	  <target><format type='raw'/></target></volume>
	X
must virsh_on B vol-create $pool nobody.xml
must give_xml A B five.img
to_head nobody.img
matches 'the head' '^  nobody\.img +fetching #1 ' "$(status B)"
# 16 KiB/s would take six minutes
wait_state B five.img seeding 60
in_state B nobody.img fetching || fail 'it is not being fetched any more'
must virsh_on B vol-delete --pool $pool nobody.img
