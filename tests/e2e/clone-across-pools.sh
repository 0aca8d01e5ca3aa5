#!/bin/bash
# A master may have clones in other torrent pools of its host, and stays while it has.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
other=clones there=$images/clones
must virsh_on A pool-define-as $other torrentpool --target $there
must virsh_on A pool-build $other
# both listen: each needs a port of its own
virsh_on A pool-dumpxml --inactive $other | sed "s|<pool type='torrentpool'>|<pool type='torrentpool' xmlns:torrent='http://libvirt.org/schemas/storagepool/torrent/1.0'>|; s|</pool>|<torrent:swarm><torrent:listen port='6882'/></torrent:swarm></pool>|" >other.xml
must virsh_on A pool-define other.xml
must virsh_on A pool-start $other
random_qcow2 debian.qcow2 2 64M
publish A debian.qcow2
want=$(sum_of debian.qcow2)
in_other() { echo "$(host_root A)$there/$1"; }
stands_on() { is "backing of $1" "$2" "$(qemu-img info -U --output=json "$(in_other "$1")" | sed -n 's/^ *"backing-filename": "\(.*\)",*$/\1/p')"; }
stays() { refused "debian\.qcow2.*$there.*$1" virsh_on A vol-delete --pool $pool debian.qcow2; present "$(in_pool A debian.qcow2)"; }

step 'by vol-clone with another pool, by path, and of another clone'
printf '<volume><name>web01.qcow2</name><capacity>0</capacity><target><format type="qcow2"/></target></volume>' >web01.xml
must virsh_on A vol-create-from $other web01.xml --inputpool $pool debian.qcow2
must virsh_on A vol-create-as $other web02.qcow2 128M --format qcow2 --backing-vol $target/debian.qcow2 --backing-vol-format qcow2
must virsh_on A vol-clone --pool $other web01.qcow2 web03.qcow2
for name in web01 web02 web03; do
    stands_on $name.qcow2 $target/debian.qcow2
    must host_exec A qemu-img check -q $there/$name.qcow2
done
must host_exec A qemu-img compare -q $there/web03.qcow2 $target/debian.qcow2
is capacity 134217728 "$(virsh_on A vol-dumpxml --pool $other web02.qcow2 | xmllint --xpath 'string(/volume/capacity)' -)"
is checksum "$want" "$(sum_of "$(in_pool A debian.qcow2)")"

step 'its master stays while both pools are active'
stays 'web0[123]\.qcow2'

step 'and while the other is not'
must virsh_on A pool-destroy $other
stays 'web0[123]\.qcow2'

step 'after a restart of libvirtd and virttorrentd, and when the other is not even defined'
must virsh_on A pool-undefine $other
libvirtd_stop A
host_kill A virttorrentd
libvirtd_start A
wait_for 10 pool_active A || fail 'the pool is not active after a restart'
stays 'web0[123]\.qcow2'

step 'when the file system of the other is not mounted, who knows'
mv "$(in_other .)" "$(host_root A)$images/away" 2>/dev/null || mv "$(host_root A)$there" "$(host_root A)$images/away"
mkdir "$(host_root A)$there"
refused "$there.*mount" virsh_on A vol-delete --pool $pool debian.qcow2
present "$(in_pool A debian.qcow2)"

step 'when it has moved, the pool that is there now says so'
rmdir "$(host_root A)$there"
there=$images/away
sed "s|$images/clones|$there|; /<uuid>/d" other.xml >away.xml
must virsh_on A pool-define away.xml
must virsh_on A pool-start $other
must virsh_on A pool-destroy $other
stays 'web0[123]\.qcow2'
must virsh_on A pool-start $other

step 'a writable volume of another pool is no backing store'
must virsh_on A vol-create-as $other own.qcow2 8M --format qcow2
refused 'own\.qcow2.*master' virsh_on A vol-create-as $pool no.qcow2 8M --format qcow2 --backing-vol $there/own.qcow2 --backing-vol-format qcow2
refused 'web01\.qcow2.*master' virsh_on A vol-create-as $pool no.qcow2 64M --format qcow2 --backing-vol $there/web01.qcow2 --backing-vol-format qcow2
absent "$(in_pool A no.qcow2)"

step 'without clones it goes'
for name in web01 web02; do
    must virsh_on A vol-delete --pool $other $name.qcow2
done
stays 'web03\.qcow2'
must virsh_on A vol-delete --pool $other web03.qcow2
must virsh_on A vol-delete --pool $pool debian.qcow2
absent "$(in_pool A debian.qcow2)"
