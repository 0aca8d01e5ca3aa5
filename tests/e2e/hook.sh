#!/bin/bash
# libvirt's hook keeps masters from being written to and waits for those that
# are still coming.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# Before libvirtd starts: it looks for hooks only then.
host_start A 10.77.0.1
host_start B 10.77.0.2
for host in A B; do
    mkdir -p "$(host_root $host)/etc/libvirt/hooks/qemu.d"
    cp "$TORRENTPOOL_BUILD/src/virt-torrentpool-hook" "$(host_root $host)/etc/libvirt/hooks/qemu.d/50-torrentpool"
done
libvirtd_start A
# of B's it can be taken away later
VIRTTORRENTD_PATH=$LAB/virttorrentd
ln -s "$TORRENTPOOL_BUILD/src/virttorrentd" "$VIRTTORRENTD_PATH"
libvirtd_start B
pool_start_new A
pool_start_new B

# guest_define HOST NAME DISK-XML: a machine that does nothing
guest_define() {
    cat >"$2.xml" <<-X
	<domain type='qemu'><name>$2</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
	  <os><type arch='x86_64' machine='pc'>hvm</type></os>
	  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>$3
	    <controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
	X
    must virsh_on "$1" define "$2.xml"
}
file_disk() { echo "<disk type='file'><driver name='qemu' type='qcow2'/><source file='$1'/><target dev='vda' bus='virtio'/>${2:-}</disk>"; }
volume_disk() { echo "<disk type='volume'><driver name='qemu' type='qcow2'/><source pool='$pool' volume='$1'/><target dev='vda' bus='virtio'/></disk>"; }

# start_refused HOST GUEST PATTERN: libvirt shows the client what the hook says
start_refused() {
    local out
    if out=$(virsh_on "$1" start --paused "$2" 2>&1); then
        fail "the start of $2 should have been refused"
    fi
    matches "the refusal of $2" "torrentpool: guest '$2': .*$3" "$out"
}
starts() {
    must virsh_on "$1" start --paused "$2"
    must virsh_on "$1" destroy "$2"
}

random_qcow2 debian.qcow2 24 1G
publish A debian.qcow2
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2

step 'a guest that would write to a master is refused, with the way out'
guest_define A by-file "$(file_disk $target/debian.qcow2)"
start_refused A by-file 'vol-clone'
guest_define A by-volume "$(volume_disk debian.qcow2)"
start_refused A by-volume 'vol-clone'
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool A debian.qcow2)")"
is_master A debian.qcow2

step 'on clones, and on what only reads the master, guests start'
guest_define A clone-by-file "$(file_disk $target/web01.qcow2)"
starts A clone-by-file
guest_define A clone-by-volume "$(volume_disk web01.qcow2)"
starts A clone-by-volume
guest_define A reader "$(file_disk $target/debian.qcow2 '<readonly/>')"
starts A reader

step 'a clone whose master is still coming: too little time, and the progress is told'
host_shape A 30mbit
must give_xml A B debian.qcow2
must host_exec B qemu-img create -q -f qcow2 -u -b debian.qcow2 -F qcow2 $target/web02.qcow2 1G
printf '[hook]\ntimeout = 1\n' >"$(host_root B)/etc/libvirt/virttorrentd.conf"
guest_define B waiting "$(file_disk $target/web02.qcow2)"
start_refused B waiting "debian.qcow2.* not here: .*[0-9.]+ % of it"
absent "$(in_pool B debian.qcow2)"

step 'with time enough the start waits and goes on'
printf '[hook]\ntimeout = 60\n' >"$(host_root B)/etc/libvirt/virttorrentd.conf"
starts B waiting
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"

step 'a running guest survives a restart of libvirtd, whatever the hook would say'
must virsh_on B start --paused waiting
chmod 0444 "$(in_pool B web02.qcow2)"
libvirtd_restart B
is state paused "$(virsh_on B domstate waiting | head -n1)"
must virsh_on B destroy waiting
chmod 0644 "$(in_pool B web02.qcow2)"

step 'a master that nobody here has heard of'
must host_exec B qemu-img create -q -f qcow2 -u -b other.qcow2 -F qcow2 $target/web03.qcow2 1G
guest_define B orphan "$(file_disk $target/web03.qcow2)"
start_refused B orphan 'other.qcow2.* does not know it'

step 'without virttorrentd: what is complete starts, what is not is refused with the reason'
rm "$VIRTTORRENTD_PATH"
host_kill B virttorrentd KILL
starts B waiting
start_refused B orphan 'virttorrentd does not answer'
