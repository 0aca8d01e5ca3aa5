#!/bin/bash
# A running guest moves to a host that shares no storage with the first, onto
# the master that is there: only what it wrote itself goes over the wire.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

host_with_hook A 10.77.0.1 --listen
host_with_hook B 10.77.0.2 --listen
pool_start_new A
pool_start_new B
master_mib=48
writer_disk debian.qcow2 $master_mib
publish A debian.qcow2
clone() { must virsh_on A vol-clone --pool $pool debian.qcow2 "$1"; }

step 'the master is fetched, the overlay is made, the guest moves'
clone web01.qcow2
writer_start web01 "$(by_file web01.qcow2)"
must migrate web01 --copy-storage-inc --suspend
moved web01
is_master B debian.qcow2
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"

step 'at that moment both disks are equal; then it goes on'
must qemu-img convert -U -O raw "$(in_pool B web01.qcow2)" B.raw
must host_exec A qemu-img compare -q -f qcow2 -F raw $target/web01.qcow2 "$LAB/B.raw"
must virsh_on B resume web01
goes_on web01

step 'what goes over the wire'
clone web02.qcow2
writer_start web02 "$(by_file web02.qcow2)"
rx=$(host_rx B)
must migrate web02 --copy-storage-inc
inc=$(($(host_rx B) - rx))
moved web02
virsh_on B domjobinfo web02 --completed | sed -n 's/^\(Total downtime\|Time elapsed\): */  \1 /p'
goes_on web02
clone web03.qcow2
writer_start web03 "$(by_file web03.qcow2)"
rx=$(host_rx B)
must migrate web03 --copy-storage-all
all=$(($(host_rx B) - rx))
is 'backing of what was copied whole' '' "$(backing B web03.qcow2)"
goes_on web03
echo "  master $((master_mib * 1048576)) bytes; --copy-storage-inc $inc bytes, --copy-storage-all $all bytes"
((inc * 4 < master_mib * 1048576)) || fail "$inc bytes for a master of $master_mib MiB"
((all > master_mib * 1048576)) || fail "--copy-storage-all is no measure: $all bytes"

step 'two disks of type volume on two masters, moved by the daemon of the source itself'
random_qcow2 data.qcow2 2 64M
publish A data.qcow2
clone web04.qcow2
must virsh_on A vol-clone --pool $pool data.qcow2 web04-data.qcow2
must host_exec A qemu-io -c 'write -P 5 1M 64k' $target/web04-data.qcow2
second="<disk type='volume'><driver name='qemu' type='qcow2'/><source pool='$pool' volume='web04-data.qcow2'/><target dev='vdb' bus='virtio'/></disk>"
writer_start web04 "$(by_volume web04.qcow2)" '' "$second"
must migrate web04 --copy-storage-inc --p2p
moved web04
is 'backing of the second disk' data.qcow2 "$(backing B web04-data.qcow2)"
goes_on web04
must host_exec B qemu-img convert -O raw $target/web04-data.qcow2 "$LAB/B.raw"
must host_exec A qemu-img compare -q -f qcow2 -F raw $target/web04-data.qcow2 "$LAB/B.raw"

step 'a clone that is larger than its master'
must virsh_on A vol-create-as $pool web05.qcow2 200M --format qcow2 --backing-vol debian.qcow2 --backing-vol-format qcow2
writer_start web05 "$(by_file web05.qcow2)"
must migrate web05 --copy-storage-inc
moved web05
goes_on web05

step 'there and back: what the guest leaves behind on B is not taken for a failure'
clone web06.qcow2
writer_start web06 "$(by_file web06.qcow2)"
must migrate web06 --copy-storage-inc
must virsh_on B migrate --live --copy-storage-inc web06 qemu+tcp://10.77.0.1/system --migrateuri tcp://10.77.0.1
present "$(in_pool B web06.qcow2)"

step 'and there again: but then it is in the way'
left=$(stat -c '%i %w' "$(in_pool B web06.qcow2)")
must migrate web06 --copy-storage-inc
moved web06
[[ $(stat -c '%i %w' "$(in_pool B web06.qcow2)") != "$left" ]] || fail 'what was left is written over'
goes_on web06
