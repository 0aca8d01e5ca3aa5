#!/bin/bash
# virt-clone makes guests from a guest on a master, several at a time.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

command -v virt-clone >/dev/null || fail 'virt-clone is missing; build-aux/install-deps installs it'
hosts_with_pool A
writer_disk debian.qcow2 4
random_qcow2 data.qcow2 2 64M
publish A debian.qcow2
publish A data.qcow2
writer_xml debian "$(by_file debian.qcow2)" >debian.xml
sed -i -e '/<serial/d' -e "/<controller/i <disk type='file'><driver name='qemu' type='qcow2'/><source file='$target/data.qcow2'/><target dev='vdb' bus='virtio'/></disk><interface type='user'><model type='virtio'/></interface>" debian.xml
must virsh_on A define "$LAB/debian.xml"

clone() { host_exec A virt-clone --connect qemu:///system "$@"; }
disks_of() { virsh_on A domblklist "$1" | awk '{ print $2 }' | sort | tr '\n' ' '; }

step 'names found by itself; whoever asks for a reflink gets something better'
must clone --original debian --auto-clone --reflink
is disks "$target/data-clone.qcow2 $target/debian-clone.qcow2 " "$(disks_of debian-clone)"
clone_is_good A debian-clone.qcow2 debian.qcow2
clone_is_good A data-clone.qcow2 data.qcow2

step 'four at the same time'
for n in 1 2 3 4; do
    clone --original debian --name web$n --file $target/web$n.qcow2 --file $target/web$n-data.qcow2 >clone$n.out 2>&1 &
    pids[n]=$!
done
for n in 1 2 3 4; do
    wait "${pids[n]}" || fail "clone $n: $(cat clone$n.out)"
    clone_is_good A web$n.qcow2 debian.qcow2
    clone_is_good A web$n-data.qcow2 data.qcow2
done
is 'UUIDs and MAC addresses that occur twice' '' "$(for guest in $(virsh_on A list --all --name); do
    virsh_on A dumpxml "$guest" | grep -E '<uuid>|<mac '
done | sort | uniq -d)"

step 'a clone starts'
must virsh_on A start web3
grown() { (($(stat -c '%b*%B' "$(in_pool A web3.qcow2)") > 1048576)); }
wait_for 60 grown || fail 'the guest writes nothing'
must virsh_on A destroy web3
blocks_of A web3
((blocks > 10)) || fail "the guest wrote $blocks blocks"

step 'a clone of a clone keeps the writes and stands on the same master'
must clone --original web3 --name web5 --file $target/web5.qcow2 --file $target/web5-data.qcow2
is backing debian.qcow2 "$(basename "$(backing A web5.qcow2)")"
must host_exec A qemu-img compare -q $target/web3.qcow2 $target/web5.qcow2

step 'a guest whose disk is no master: its content becomes one'
random_qcow2 own.qcow2 3
cp own.qcow2 "$(in_pool A own.qcow2)"
must virsh_on A pool-refresh $pool
writer_xml own "$(by_file own.qcow2)" >own.xml
must virsh_on A define "$LAB/own.xml"
must clone --original own --auto-clone
is 'the two have the same master' "$(backing A own.qcow2)" "$(backing A own-clone.qcow2)"
must host_exec A qemu-img compare -q "$LAB/own.qcow2" $target/own-clone.qcow2

step 'a running original is refused'
must virsh_on A start web3
refused 'shutoff|shut off|paused|running|in use' clone --original web3 --auto-clone
for disk in debian.qcow2 data.qcow2; do
    is "checksum of $disk" "$(sum_of $disk)" "$(sum_of "$(in_pool A $disk)")"
done
