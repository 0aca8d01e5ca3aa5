#!/bin/bash
# A host that comes up later is found at once, whether it has a master or wants it.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# ask HOST VOLUME MAGNET
ask() {
    cat >ask.xml <<-X
	<volume><name>$2</name><source><torrent magnet='${3//&/&amp;}'/></source>
	  <capacity>0</capacity><target><format type='qcow2'/></target></volume>
	X
    must virsh_on "$1" vol-create $pool "$LAB/ask.xml"
}

number=0
for host in A B C; do
    host_start $host "10.77.0.$((++number))"
    libvirtd_start $host
done

# libtorrent by itself would look again after minutes.
step 'on their segment: the one that has it comes after the one that wants it'
pool_start_new A "<torrent:discovery dht='no' lsd='yes' pex='no'/>"
pool_start_new B "<torrent:discovery dht='no' lsd='yes' pex='no'/>"
random_qcow2 lsd.qcow2 2
publish A lsd.qcow2
bare=$(vol_torrent A lsd.qcow2 magnet | sed 's/&x\.pe=[^&]*//g')
must virsh_on A pool-destroy $pool
ask B lsd.qcow2 "$bare"
sleep 6 # past the three announcements that a fetch begins with
must virsh_on A pool-start $pool
wait_state B lsd.qcow2 seeding 20

step 'by DHT: the bootstrap host is restarted and has forgotten who has what'
only_dht="<torrent:bootstrap host='10.77.0.3' port='6881'/><torrent:discovery dht='yes' lsd='no' pex='no'/>"
for host in A B; do
    must virsh_on $host pool-destroy $pool
    must virsh_on $host pool-undefine $pool
done
pool_start_new C "<torrent:discovery dht='yes' lsd='no' pex='no'/>"
pool_start_new A "$only_dht"
random_qcow2 dht.qcow2 2
publish A dht.qcow2
bare=$(vol_torrent A dht.qcow2 magnet | sed 's/&x\.pe=[^&]*//g')
must virsh_on C pool-destroy $pool
host_kill C virttorrentd
must virsh_on C pool-start $pool
pool_start_new B "$only_dht"
ask B dht.qcow2 "$bare"
wait_state B dht.qcow2 seeding 30
is checksum "$(sum_of dht.qcow2)" "$(sum_of "$(in_pool B dht.qcow2)")"
