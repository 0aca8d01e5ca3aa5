#!/bin/bash
# A volume that becomes a backing store becomes a master: frozen, and shared.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
for name in one.qcow2 two.raw; do
    must virsh_on A vol-create-as $pool $name 8M --format ${name#*.}
    must host_exec A qemu-io -f ${name#*.} -c 'write -P 0x5a 1M 64k' $target/$name
    [[ $(stat -c %a "$(in_pool A $name)") != 444 ]] || fail "$name is a master already"
    must virsh_on A vol-create-as $pool clone-of-$name.qcow2 8M --format qcow2 \
        --backing-vol $name --backing-vol-format ${name#*.}
    clone_is_good A clone-of-$name.qcow2 $name

    step "$name is frozen and shared"
    is_master A $name
    wait_state A $name seeding 20
    refused 'master' virsh_on A vol-resize --pool $pool $name 16M
    refused 'master' virsh_on A vol-wipe --pool $pool $name
    refused 'master' virsh_on A vol-upload --pool $pool $name /etc/hostname
    refused "clone-of-$name" virsh_on A vol-delete --pool $pool $name
    must give_xml A B $name
    wait_state B $name seeding 30
    is checksum "$(sum_of "$(in_pool A $name)")" "$(sum_of "$(in_pool B $name)")"
done

step 'the clones are what is written to'
must host_exec A qemu-io -f qcow2 -c 'write -P 0x77 1M 64k' $target/clone-of-one.qcow2.qcow2
must host_exec A qemu-io -r -f qcow2 -c 'read -P 0x5a 1M 64k' $target/one.qcow2

step 'a volume that leads elsewhere becomes none'
qemu-img create -q -f qcow2 -u -b /etc/shadow -F raw "$(in_pool A spy.qcow2)" 8M
must virsh_on A pool-refresh $pool
refused 'overlay|another file' virsh_on A vol-create-as $pool no.qcow2 8M --format qcow2 --backing-vol spy.qcow2 --backing-vol-format qcow2
absent "$(in_pool A no.qcow2)"
[[ $(stat -c %a "$(in_pool A spy.qcow2)") != 444 ]] || fail 'it was frozen'
