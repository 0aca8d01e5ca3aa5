#!/bin/bash
# Cloning a private volume makes a master of its content, once, and never of what is in use.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
must virsh_on A vol-create-as $pool own.qcow2 64M --format qcow2
must host_exec A qemu-io -f qcow2 -c 'write -P 0x5a 1M 64k' $target/own.qcow2

step 'a volume that somebody writes to is refused, and stays as it is'
before=$(stat -c '%a %u %i' "$(in_pool A own.qcow2)")
host_exec A qemu-io -f qcow2 -c 'sleep 6000' $target/own.qcow2 &
writer=$!
sleep 0.5
refused 'own\.qcow2.*open for writing' virsh_on A vol-clone --pool $pool own.qcow2 no.qcow2
refused 'own\.qcow2.*open for writing' virsh_on A vol-create-as $pool no.qcow2 64M --format qcow2 \
    --backing-vol own.qcow2 --backing-vol-format qcow2
is 'the volume' "$before" "$(stat -c '%a %u %i' "$(in_pool A own.qcow2)")"
absent "$(in_pool A no.qcow2)"
wait $writer

step 'six clones at once share one master'
clones=()
for n in 1 2 3 4 5 6; do
    virsh_on A vol-clone --pool $pool own.qcow2 c$n.qcow2 >c$n.out 2>&1 &
    clones+=($!)
done
for n in 0 1 2 3 4 5; do
    wait "${clones[n]}" || fail "a clone failed: $(cat c$((n + 1)).out)"
done
for name in own c1 c2 c3 c4 c5 c6; do
    is "backing of $name" own-base.qcow2 "$(basename "$(backing A $name.qcow2)")"
    must host_exec A qemu-io -r -f qcow2 -c 'read -P 0x5a 1M 64k' $target/$name.qcow2
done
is_master A own-base.qcow2
vol_listed A own-base.qcow2 || fail 'the master is not listed'
is 'what is in the build directory' '' "$(ls "$(in_pool A .torrentpool/build)")"

step 'an overlay is no backing store'
refused 'overlay' virsh_on A vol-create-as $pool no.qcow2 64M --format qcow2 \
    --backing-vol c1.qcow2 --backing-vol-format qcow2

step 'a crash in the middle of it is finished when the pool is started'
must virsh_on A pool-destroy $pool
(
    cd "$(in_pool A .)"
    qemu-img create -q -f qcow2 half.qcow2 8M
    qemu-io -f qcow2 -c 'write -P 0x77 0 64k' half.qcow2 >/dev/null
    qemu-img create -q -f qcow2 -u -b half-base.qcow2 -F qcow2 .torrentpool/build/half.qcow2 8M
    chmod 444 half.qcow2
    echo 'half of a volume' >.torrentpool/build/rest
)
must virsh_on A pool-start $pool
is backing half-base.qcow2 "$(basename "$(backing A half.qcow2)")"
is_master A half-base.qcow2
must host_exec A qemu-io -r -f qcow2 -c 'read -P 0x77 0 64k' $target/half.qcow2
is 'what is in the build directory' '' "$(ls "$(in_pool A .torrentpool/build)")"
