# A start whose disk cannot be opened fails and says why, where libxl alone calls
# it a success and the guest finds no disk.
# SPDX-License-Identifier: LGPL-2.1-or-later
step 'what is no qcow2 image'
must dom0_exec X bash -c "echo nonsense >$target/broken.qcow2"
guest_define broken "$(file_disk $target/broken.qcow2)"
start_refused broken "did not open '$target/broken.qcow2', .* 'xvda': .*not in qcow2 format"

step 'a clone of which the domain XML does not tell the format'
guest_disk disk.qcow2 'the master of disk'
must dom0_exec X cp "$LAB/disk.qcow2" $target/disk.qcow2
must dom0_exec X chmod 0444 $target/disk.qcow2
must virsh_on X pool-refresh $pool
must virsh_on X vol-clone --pool $pool disk.qcow2 disk01.qcow2
guest_define disk01 "$(file_disk $target/disk01.qcow2 | sed "s/ type='qcow2'//")"
start_refused disk01 "'$target/disk01.qcow2' is a clone in the format qcow2.*<driver name='qemu' type='qcow2'/>"

step 'a volume that is not there'
guest_define gone "$(volume_disk gone.qcow2)"
start_refused gone "gone.qcow2"

step 'a pool that is not there'
guest_define gone "$(volume_disk gone.qcow2 | sed "s/pool='$pool'/pool='nowhere'/")"
start_refused gone "no storage pool with matching name 'nowhere'"
