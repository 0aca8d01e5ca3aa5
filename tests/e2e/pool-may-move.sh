#!/bin/bash
# The directory of a pool can move, and hosts can differ in it: clones find their master.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 debian.qcow2 2 64M
publish A debian.qcow2
random_raw tools.iso 1
publish A tools.iso
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2
must virsh_on A vol-create-as $pool data.qcow2 0 --format qcow2 --backing-vol tools.iso --backing-vol-format raw
# by path as well: what is stored is a name
must virsh_on A vol-create-as $pool web02.qcow2 0 --format qcow2 --backing-vol $target/debian.qcow2 --backing-vol-format qcow2
for name in web01 web02; do
    is "backing name of $name" debian.qcow2 "$(backing A $name.qcow2)"
done
is 'backing name of data' tools.iso "$(backing A data.qcow2)"
must host_exec A qemu-io -f qcow2 -c 'write -P 0x5a 1M 64k' $target/web01.qcow2
key=$(vol_field A debian.qcow2 /volume/key)

step 'the directory moves, and the pool is defined anew'
must virsh_on A pool-destroy $pool
must virsh_on A pool-undefine $pool
old=$target target=$images/elsewhere/deep
mkdir -p "$(host_root A)$images/elsewhere"
mv "$(host_root A)$old" "$(host_root A)$target"
pool_start_new A

step 'everything is listed, with its master in the new place'
for name in debian.qcow2 tools.iso web01.qcow2 web02.qcow2 data.qcow2; do
    vol_listed A $name || fail "$name is not listed"
done
is 'backing store of web01' $target/debian.qcow2 "$(vol_field A web01.qcow2 /volume/backingStore/path)"
is 'backing store of data' $target/tools.iso "$(vol_field A data.qcow2 /volume/backingStore/path)"
must host_exec A qemu-io -r -f qcow2 -c 'read -P 0x5a 1M 64k' $target/web01.qcow2
clone_is_good A web02.qcow2 debian.qcow2

step 'masters are seeded as what they are, and protected'
wait_state A debian.qcow2 seeding 20
wait_key A debian.qcow2
is key "$key" "$(vol_field A debian.qcow2 /volume/key)"
refused 'web0[12]\.qcow2' virsh_on A vol-delete --pool $pool debian.qcow2
refused 'data\.qcow2' virsh_on A vol-delete --pool $pool tools.iso
refused 'master' virsh_on A vol-resize --pool $pool debian.qcow2 128M

step 'new clones, of masters and of clones'
must virsh_on A vol-clone --pool $pool debian.qcow2 web03.qcow2
clone_is_good A web03.qcow2 debian.qcow2
must virsh_on A vol-clone --pool $pool web01.qcow2 web04.qcow2
is 'backing name of web04' debian.qcow2 "$(backing A web04.qcow2)"
must host_exec A qemu-img compare -q $target/web01.qcow2 $target/web04.qcow2

step 'a libvirtd that is started now knows nothing of the old place'
libvirtd_restart A
wait_for 10 pool_active A || fail 'the pool is not active after a restart'
is 'backing store of web01' $target/debian.qcow2 "$(vol_field A web01.qcow2 /volume/backingStore/path)"

step 'another host has the pool elsewhere: the clone that was copied there works'
there=$target
host_start B 10.77.0.2
libvirtd_start B
target=/srv/masters
pool_start_new B
vol_xml A debian.qcow2 >debian.xml
must virsh_on B vol-create $pool debian.xml
wait_state B debian.qcow2 seeding 30
cp --sparse=always "$(host_root A)$there/web01.qcow2" "$(in_pool B web01.qcow2)"
must virsh_on B pool-refresh $pool
is 'backing store on B' $target/debian.qcow2 "$(vol_field B web01.qcow2 /volume/backingStore/path)"
must host_exec B qemu-io -r -f qcow2 -c 'read -P 0x5a 1M 64k' $target/web01.qcow2
refused 'web01\.qcow2' virsh_on B vol-delete --pool $pool debian.qcow2
