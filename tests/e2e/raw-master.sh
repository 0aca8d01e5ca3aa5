#!/bin/bash
# A raw master gives raw copies, and an overlay to whoever asks for one.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
random_raw installer.iso 5
truncate -s 8M installer.iso
publish A installer.iso

step 'vol-clone gives a raw file of its own'
must virsh_on A vol-clone --pool $pool installer.iso copy.iso
is checksum "$(sum_of installer.iso)" "$(sum_of "$(in_pool A copy.iso)")"
is format raw "$(vol_field A copy.iso /volume/target/format/@type)"
[[ $(stat -c %a "$(in_pool A copy.iso)") == *6* ]] || fail 'the copy cannot be written'
is state '' "$(vol_torrent A copy.iso state)"

step 'an overlay where the format is named'
must virsh_on A vol-create-as $pool web01.qcow2 8M --format qcow2 --backing-vol installer.iso --backing-vol-format raw
is backing installer.iso "$(basename "$(backing A web01.qcow2)")"
matches 'backing format' '"backing-filename-format": "raw"' "$(qemu-img info --output=json "$(in_pool A web01.qcow2)")"
must host_exec A qemu-img compare -q -f qcow2 -F raw $target/web01.qcow2 $target/installer.iso
cat >overlay.xml <<-X
	<volume><name>web02.qcow2</name><capacity>0</capacity><target><format type='qcow2'/></target></volume>
	X
must virsh_on A vol-create-from $pool overlay.xml --inputpool $pool installer.iso
is backing installer.iso "$(basename "$(backing A web02.qcow2)")"
must host_exec A qemu-img compare -q -f qcow2 -F raw $target/web02.qcow2 $target/installer.iso

step 'it travels like any other'
must give_xml A B installer.iso
wait_state B installer.iso seeding 20
is checksum "$(sum_of installer.iso)" "$(sum_of "$(in_pool B installer.iso)")"
is format raw "$(vol_field B installer.iso /volume/target/format/@type)"
