#!/bin/bash
# vol-create-from a dir pool with mode 0444 makes a master that is seeded.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
must virsh_on A pool-define-as default dir --target $images
must virsh_on A pool-start default
random_qcow2 "$(host_root A)$images/debian.qcow2" 6 64M
must virsh_on A pool-refresh default
cat >new.xml <<-X
	<volume><name>debian.qcow2</name><capacity>0</capacity>
	  <target><format type='qcow2'/><permissions><mode>0444</mode></permissions></target></volume>
	X

step 'vol-create-from'
must virsh_on A vol-create-from $pool new.xml --inputpool default debian.qcow2

step 'it becomes a seeded master of the same content'
wait_state A debian.qcow2 seeding 15
is_master A debian.qcow2
must host_exec A qemu-img compare -q $images/debian.qcow2 $target/debian.qcow2
wait_key A debian.qcow2
matches magnet "^magnet:\\?xt=urn:btmh:1220[0-9a-f]{64}.*dn=debian\\.qcow2.*x\\.pe=10\\.77\\.0\\.1:" \
        "$(vol_torrent A debian.qcow2 magnet)"
is format qcow2 "$(vol_field A debian.qcow2 /volume/target/format/@type)"
is capacity 67108864 "$(vol_field A debian.qcow2 /volume/capacity)"

step 'its metainfo is on disk, and publishing again is refused because the name is taken'
present "$(torrent_file A debian.qcow2)"
refused 'exists|taken|in use' virsh_on A vol-create-from $pool new.xml --inputpool default debian.qcow2
wait_state A debian.qcow2 seeding 5

step 'without the mode it is a private volume'
sed 's/debian.qcow2/private.qcow2/; s/<permissions>.*<.permissions>//' new.xml >private.xml
must virsh_on A vol-create-from $pool private.xml --inputpool default debian.qcow2
is state '' "$(vol_torrent A private.qcow2 state)"
[[ -w $(in_pool A private.qcow2) ]]
matches mode '^6' "$(stat -c %a "$(in_pool A private.qcow2)")"
