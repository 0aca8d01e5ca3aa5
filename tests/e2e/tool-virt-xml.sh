#!/bin/bash
# virt-xml gives guests disks of a pool, changes and takes them.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

command -v virt-xml >/dev/null || fail 'virt-xml is missing; build-aux/install-deps installs it'
hosts_with_pool A
writer_disk debian.qcow2 2
random_qcow2 data.qcow2 2 64M
publish A debian.qcow2
publish A data.qcow2
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2
must virsh_on A vol-clone --pool $pool debian.qcow2 web02.qcow2
writer_xml web01 "$(by_file web01.qcow2)" >web01.xml
must virsh_on A define "$LAB/web01.xml"

xml() { host_exec A virt-xml --connect qemu:///system "$@"; }
disk() { virsh_on A domblklist "$1" --details | awk -v dev="$2" '$3 == dev { print $1, $4 }'; }

step 'add a disk: an overlay on a master, made for it'
must xml web01 --add-device --disk "path=$target/more.qcow2,size=1,format=qcow2,backing_store=$target/data.qcow2,backing_format=qcow2,target.bus=virtio,target.dev=vdb"
is vdb "file $target/more.qcow2" "$(disk web01 vdb)"
is 'backing of the new disk' data.qcow2 "$(basename "$(backing A more.qcow2)")"

step 'add the clone that there is, as a volume'
must xml web01 --add-device --disk "vol=$pool/web02.qcow2,target.bus=virtio,target.dev=vdc"
is vdc "file $target/web02.qcow2" "$(disk web01 vdc)"
must xml web01 --edit target=vdc --disk "type=volume,source.file=,source.pool=$pool,source.volume=web02.qcow2"
is vdc 'volume web02.qcow2' "$(disk web01 vdc)"

step 'add a master to read from'
must xml web01 --add-device --disk "vol=$pool/data.qcow2,readonly=yes,target.bus=virtio,target.dev=vdd"
is vdd "file $target/data.qcow2" "$(disk web01 vdd)"

step 'the guest runs on all of them'
must virsh_on A start web01
wait_for 60 has_written A web01 20 || fail 'the guest writes nothing'
must virsh_on A destroy web01
blocks_of A web01
is 'checksum of the master' "$(sum_of data.qcow2)" "$(sum_of "$(in_pool A data.qcow2)")"

step 'take one away, and give another in its place'
must xml web01 --remove-device --disk target=vdd
is vdd '' "$(disk web01 vdd)"
must xml web01 --remove-device --disk target=vdc
must xml web01 --edit target=vda --disk "path=$target/web02.qcow2"
is vda "file $target/web02.qcow2" "$(disk web01 vda)"
