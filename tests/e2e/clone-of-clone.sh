#!/bin/bash
# A clone of a clone is a copy of its small overlay: chains never grow.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 debian.qcow2 8 256M
publish A debian.qcow2
random_raw tools.iso 1
publish A tools.iso
must virsh_on A vol-clone --pool $pool debian.qcow2 g0.qcow2
# (QEMU 9 and newer list the nodes of each layer, too, further to the right)
depth() { qemu-img info -U --backing-chain --output=json "$(in_pool A "$1")" | grep -c '^        "filename": ".*qcow2"'; }

step 'generations: each has what those before it wrote'
for n in 0 1 2 3 4; do
    must host_exec A qemu-io -f qcow2 -c "write -P $((n + 1)) ${n}M 64k" $target/g$n.qcow2
    must virsh_on A vol-clone --pool $pool g$n.qcow2 g$((n + 1)).qcow2
done
for n in 0 1 2 3 4; do
    must host_exec A qemu-io -r -f qcow2 -c "read -P $((n + 1)) ${n}M 64k" $target/g5.qcow2
done
! host_exec A qemu-io -r -f qcow2 -c 'read -P 5 4M 64k' $target/g3.qcow2 >read.out 2>&1 || ! grep -q 'verification failed' read.out && grep -q 'verification failed' read.out ||
    fail 'g3 has what was written to g4'

step 'all of them stand on the master alone, and are small'
for n in 1 2 3 4 5; do
    is "backing of g$n" debian.qcow2 "$(backing A g$n.qcow2)"
    is "layers of g$n" 2 "$(depth g$n.qcow2)"
    must host_exec A qemu-img check -q $target/g$n.qcow2
    size=$(($(stat -c '%b*%B' "$(in_pool A g$n.qcow2)")))
    ((size <= 2097152)) || fail "g$n takes $size bytes"
done

step 'a clone of an overlay on a raw master'
must virsh_on A vol-create-as $pool data.qcow2 0 --format qcow2 --backing-vol tools.iso --backing-vol-format raw
must virsh_on A vol-clone --pool $pool data.qcow2 data2.qcow2
is backing tools.iso "$(backing A data2.qcow2)"
must host_exec A qemu-img compare -q -f qcow2 -F raw $target/data2.qcow2 $target/tools.iso

step 'what is cloned may go, its clone stays'
for n in 0 1 2 3 4; do
    must virsh_on A vol-delete --pool $pool g$n.qcow2
done
must host_exec A qemu-io -r -f qcow2 -c 'read -P 1 0 64k' $target/g5.qcow2
refused 'g5\.qcow2' virsh_on A vol-delete --pool $pool debian.qcow2
