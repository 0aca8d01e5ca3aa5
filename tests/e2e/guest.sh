#!/bin/bash
# A guest boots from a clone and its writes stay in the clone.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

image=$("$top/tests/lib/make-image") || fail 'no image'
hosts_with_pool A
publish A "$image" debian.qcow2
want=$(sum_of "$image")
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2

guest_xml() {
    cat <<-X
	<domain type='qemu'><name>$1</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>
	  <sysinfo type='smbios'><system><entry name='serial'>$1</entry></system></sysinfo>
	  <os><type arch='x86_64' machine='pc'>hvm</type><smbios mode='sysinfo'/></os>
	  <features><acpi/></features>
	  <devices>
	    <emulator>/usr/bin/qemu-system-x86_64</emulator>
	    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
	      <source file='$target/$2'/><target dev='vda' bus='virtio'/></disk>
	    <serial type='file'><source path='/var/log/libvirt/$1.serial'/></serial>
	    <controller type='usb' model='none'/><memballoon model='none'/>
	  </devices></domain>
	X
}

step 'start on the clone'
guest_xml web01 web01.qcow2 >web01.xml
must virsh_on A define web01.xml
must virsh_on A start web01
log=$LAB/A/log/web01.serial

step 'a volume that a running guest writes to cannot be cloned'
refused 'use|running|lock|guest|open' virsh_on A vol-clone --pool $pool web01.qcow2 web09.qcow2
absent "$(in_pool A web09.qcow2)"

step 'it says who it is and goes'
stopped() { virsh_on A domstate web01 | grep -q 'shut off'; }
wait_for 60 stopped || fail "the guest does not stop; it said: $(tail -c 500 "$log")"
matches 'serial console' 'TORRENTPOOL GUEST clone=web01 .* debian=12.* boot=1' "$(cat "$log")"

step 'the master is untouched, the write is in the clone'
is checksum "$want" "$(sum_of "$(in_pool A debian.qcow2)")"
is_master A debian.qcow2
must host_exec A qemu-img check -q $target/web01.qcow2
! host_exec A qemu-img compare -q $target/web01.qcow2 $target/debian.qcow2 >/dev/null 2>&1 ||
    fail 'the clone is still equal to its master'
