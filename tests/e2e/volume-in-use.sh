#!/bin/bash
# What a running guest writes to is neither cloned nor frozen, and the guest goes on with a split volume.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 own.qcow2 2 64M
random_raw own.raw 2
for name in own.qcow2 own.raw; do
    cp $name "$(in_pool A $name)"
done
must virsh_on A pool-refresh $pool
must virsh_on A vol-clone --pool $pool own.qcow2 first.qcow2
random_qcow2 plain.qcow2 1 64M
cp plain.qcow2 "$(in_pool A plain.qcow2)"
must virsh_on A pool-refresh $pool

# guest NAME FORMAT: a machine that does nothing but hold its disk
guest() {
    cat >"$LAB/guest-$1.xml" <<-Y
	<domain type='qemu'><name>$1</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
	  <os><type arch='x86_64' machine='pc'>hvm</type></os>
	  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
	    <disk type='file'><driver name='qemu' type='$2'/><source file='$target/$1'/><target dev='vda' bus='virtio'/></disk>
	    <controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
	Y
    must virsh_on A define "$LAB/guest-$1.xml"
    must virsh_on A start "$1"
}
state() { stat -c '%a %i %s' "$(in_pool A "$1")"; }
printf '<volume><name>no.qcow2</name><capacity>0</capacity><target><format type="qcow2"/>' >private.xml
cp private.xml frozen.xml
echo '</target></volume>' >>private.xml
echo '<permissions><mode>0444</mode></permissions></target></volume>' >>frozen.xml
says='open for writing.*guest|guest.*open for writing'

step 'guests run on a volume, on an overlay and on a raw volume'
guest plain.qcow2 qcow2
guest own.qcow2 qcow2
guest own.raw raw
before="$(state plain.qcow2) $(state own.qcow2) $(state own.raw)"

step 'none of these can be cloned'
for name in plain.qcow2 own.qcow2 own.raw; do
    refused "$says" virsh_on A vol-clone --pool $pool $name no.qcow2
    refused "$says" virsh_on A vol-create-from $pool private.xml --inputpool $pool $name
done

step 'become a backing store'
refused "$says" virsh_on A vol-create-as $pool no.qcow2 64M --format qcow2 --backing-vol plain.qcow2 --backing-vol-format qcow2
refused "$says" virsh_on A vol-create-as $pool no.qcow2 64M --format qcow2 --backing-vol own.raw --backing-vol-format raw

step 'or a master, by name or by its mode'
for name in plain.qcow2 own.raw; do
    refused "$says" virsh_on A vol-create-from $pool frozen.xml --inputpool $pool $name
done
is 'the volumes' "$before" "$(state plain.qcow2) $(state own.qcow2) $(state own.raw)"
chmod a-w "$(in_pool A own.raw)"
must virsh_on A pool-refresh $pool
is 'state of a frozen volume in use' '' "$(vol_torrent A own.raw state)"
chmod u+w "$(in_pool A own.raw)"

step 'nothing half-made is left'
absent "$(in_pool A no.qcow2)"
must virsh_on A pool-refresh $pool
! vol_listed A no.qcow2 || fail 'no.qcow2 is listed'
is 'what is in the build directory' '' "$(ls "$(in_pool A .torrentpool/build)")"

step 'what is only read is cloned: the master and its other clones'
must virsh_on A vol-clone --pool $pool own-base.qcow2 second.qcow2
clone_is_good A second.qcow2 own-base.qcow2
must virsh_on A vol-clone --pool $pool first.qcow2 third.qcow2

step 'when they are shut down they are cloned, and start again'
for name in plain.qcow2 own.qcow2 own.raw; do
    must virsh_on A destroy $name
    must virsh_on A vol-clone --pool $pool $name clone-of-$name
    must virsh_on A start $name
done
is 'backing of the volume that was split' plain-base.qcow2 "$(backing A plain.qcow2)"
must host_exec A qemu-img compare -q -U $target/clone-of-plain.qcow2 "$LAB/plain.qcow2"
