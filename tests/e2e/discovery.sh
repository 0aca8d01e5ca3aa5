#!/bin/bash
# Hosts find each other on their segment, and through one bootstrap host.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

step 'on one segment, with nothing set up (LSD), from a magnet without peers'
hosts_with_pool A B
random_qcow2 debian.qcow2 2
publish A debian.qcow2
bare=$(vol_torrent A debian.qcow2 magnet | sed 's/&x\.pe=[^&]*//g')
lacks magnet 'x\.pe' "$bare"
cat >bare.xml <<-X
	<volume><name>debian.qcow2</name><source><torrent magnet='${bare//&/&amp;}'/></source>
	  <capacity>0</capacity><target><format type='qcow2'/></target></volume>
	X
must virsh_on B vol-create $pool bare.xml
wait_state B debian.qcow2 seeding 10
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"

step 'by DHT alone, through a third host that has nothing of it'
host_start C 10.77.0.3
host_start D 10.77.0.4
host_start E 10.77.0.5
only_dht="<torrent:discovery dht='yes' lsd='no' pex='no'/>"
for host in C D E; do
    libvirtd_start $host
done
pool_start_new C "$only_dht"
pool_start_new D "<torrent:bootstrap host='10.77.0.3' port='6881'/>$only_dht"
pool_start_new E "<torrent:bootstrap host='10.77.0.3' port='6881'/>$only_dht"
random_qcow2 other.qcow2 2
publish D other.qcow2
bare=$(vol_torrent D other.qcow2 magnet | sed 's/&x\.pe=[^&]*//g')
sed "s|debian.qcow2|other.qcow2|; s|magnet='[^']*'|magnet='${bare//&/\\&amp;}'|" bare.xml >other.xml
must virsh_on E vol-create $pool other.xml
wait_state E other.qcow2 seeding 20
is checksum "$(sum_of other.qcow2)" "$(sum_of "$(in_pool E other.qcow2)")"
