#!/bin/bash
# A master that is not complete is listed, is not readable, and can have clones already.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
random_qcow2 debian.qcow2 8 512M
publish A debian.qcow2
random_raw tools.iso 6
publish A tools.iso
# slow enough that all of what follows happens meanwhile
host_shape A 300kbit
must give_xml A B debian.qcow2
must give_xml A B tools.iso

step 'it is listed as what it will be'
for name in debian.qcow2 tools.iso; do
    vol_listed B $name || fail "$name is not listed"
    wait_state B $name fetching 10
    absent "$(in_pool B $name)"
done
is capacity 536870912 "$(vol_field B debian.qcow2 /volume/capacity)"
is format qcow2 "$(vol_field B debian.qcow2 /volume/target/format/@type)"

step 'it cannot be read or changed'
head -c 4096 /dev/zero >zeros
refused 'still being fetched' virsh_on B vol-download --pool $pool debian.qcow2 "$LAB/out"
refused 'still being fetched' virsh_on B vol-upload --pool $pool debian.qcow2 "$LAB/zeros"
refused 'still being fetched' virsh_on B vol-resize --pool $pool debian.qcow2 1G
refused 'still being fetched' virsh_on B vol-wipe --pool $pool debian.qcow2

step 'what needs its content says so'
refused 'not complete' virsh_on B vol-clone --pool $pool tools.iso copy.iso
must virsh_on B pool-define-as plain dir --target $images/plain
must virsh_on B pool-build plain
must virsh_on B pool-start plain
must virsh_on B pool-define-as other torrentpool --target $images/other
must virsh_on B pool-build other
printf "<pool type='torrentpool' xmlns:torrent='http://libvirt.org/schemas/storagepool/torrent/1.0'><name>other</name><uuid>%s</uuid><target><path>%s</path></target><torrent:swarm><torrent:listen port='6882'/></torrent:swarm></pool>" \
    "$(virsh_on B pool-uuid other)" $images/other >other.xml
must virsh_on B pool-define other.xml
must virsh_on B pool-start other
printf '<volume><name>no.qcow2</name><capacity>0</capacity><target><format type="qcow2"/></target></volume>' >no.xml
refused 'debian\.qcow2.*complete' virsh_on B vol-create-from other no.xml --inputpool $pool debian.qcow2
refused 'debian\.qcow2.*(complete|no such)' virsh_on B vol-create-as other no.qcow2 1G --format qcow2 --backing-vol $target/debian.qcow2 --backing-vol-format qcow2
absent "$(in_pool B copy.iso)"
absent "$(host_root B)$images/other/no.qcow2"

step 'clones are there at once'
must virsh_on B vol-clone --pool $pool debian.qcow2 web01.qcow2
must virsh_on B vol-create-as $pool web02.qcow2 1G --format qcow2 --backing-vol debian.qcow2 --backing-vol-format qcow2
must virsh_on B vol-create-as $pool data.qcow2 0 --format qcow2 --backing-vol tools.iso --backing-vol-format raw
in_state B debian.qcow2 fetching || fail 'it was too fast: nothing of this was seen'
is capacity 536870912 "$(vol_field B web01.qcow2 /volume/capacity)"
for name in web01.qcow2 web02.qcow2 data.qcow2; do
    must virsh_on B vol-info --pool $pool $name
done
must virsh_on B pool-refresh $pool
vol_listed B web01.qcow2 || fail 'the clone is not listed after a refresh'

step 'who starts too early finds no file, not zeros'
refused 'no such file' host_exec B qemu-io -r -f qcow2 -c 'read 0 512' $target/web01.qcow2
refused 'web0[12]\.qcow2' virsh_on B vol-delete --pool $pool debian.qcow2

step 'when it is complete, so are they'
tc qdisc del dev vA root
host_exec A tc qdisc del dev eth0 root
wait_state B debian.qcow2 seeding 60
wait_state B tools.iso seeding 60
clone_is_good B web01.qcow2 debian.qcow2
must host_exec B qemu-img check -q $target/web02.qcow2
must host_exec B qemu-img compare -q -f qcow2 -F raw $target/data.qcow2 $target/tools.iso
