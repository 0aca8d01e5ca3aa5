#!/bin/bash
# Across a router, where no multicast goes, hosts find each other by DHT through a
# bootstrap host, by a peer in the magnet and what that one tells (PEX), and by a tracker.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
. "$(dirname "$0")/../lib/origin.sh"
lab_enter "$@"

# A and the bootstrap host N on one segment, the others on another one.
segment_add br1 10.78.0
number=0
for host in A N; do
    host_start $host "10.77.0.$((++number))"
    libvirtd_start $host
done
for host in B C; do
    host_start $host "10.78.0.$((++number))" br1
    libvirtd_start $host
done
off="<torrent:discovery dht='no' lsd='no' pex='no'/>"
only() { sed "s/$1='no'/$1='yes'/" <<<"$off"; }
bootstrap="<torrent:bootstrap host='10.77.0.2' port='6881'/>"
tracker="<torrent:tracker url='http://10.77.0.2:6969/announce'/>"
pool_start_new N
pool_start_new A "$bootstrap$tracker"
host_exec B bash -c 'exec 3<>/dev/tcp/10.77.0.1/6881' || fail 'the segments are not joined'
for name in dht pex tracker; do
    random_qcow2 $name.qcow2 4
    publish A $name.qcow2
    wait_key A $name.qcow2
done
tracker_start N "$(vol_field A tracker.qcow2 /volume/key)"

# ask HOST VOLUME [PEER]: by a magnet without peers, or with that one alone
ask() {
    local magnet
    magnet=$(vol_torrent A "$2" magnet | sed 's/&\(x\.pe\|tr\)=[^&]*//g')${3:+&x.pe=$3}
    cat >ask.xml <<-X
	<volume><name>$2</name><source><torrent magnet='${magnet//&/&amp;}'/></source>
	  <capacity>0</capacity><target><format type='qcow2'/></target></volume>
	X
    must virsh_on "$1" vol-create $pool "$LAB/ask.xml"
}
came() {
    wait_state "$1" "$2" seeding 60
    is "checksum of $2" "$(sum_of "$2")" "$(sum_of "$(in_pool "$1" "$2")")"
}
renew() {
    must virsh_on "$1" pool-destroy $pool
    must virsh_on "$1" pool-undefine $pool
    pool_start_new "$1" "$2"
}

step 'LSD does not cross the router'
pool_start_new B "$(only lsd)"
ask B dht.qcow2
sleep 2
in_state B dht.qcow2 fetching || fail 'it came from somewhere'

step 'by DHT'
renew B "$(only dht)$bootstrap"
came B dht.qcow2

step 'by a tracker'
# now that it lets this master in
must virsh_on A pool-destroy $pool
must virsh_on A pool-start $pool
wait_state A tracker.qcow2 seeding 20
renew B "$off$tracker"
ask B tracker.qcow2
came B tracker.qcow2

step 'by a peer in the magnet, and by what that one tells'
renew B "$(only pex)"
# half a minute for B; what C has sooner it has from A
host_shape B 1mbit
ask B pex.qcow2 10.77.0.1:6881
pool_start_new C "$(only pex)"
ask C pex.qcow2 10.78.0.3:6881
came C pex.qcow2
in_state B pex.qcow2 fetching || fail 'it may have come from B alone'
