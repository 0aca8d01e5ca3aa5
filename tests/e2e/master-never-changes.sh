#!/bin/bash
# Resize, wipe and upload on a master are refused, and leave it as it was.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 debian.qcow2 3 64M
publish A debian.qcow2
want=$(sum_of debian.qcow2)
head -c 1M /dev/zero >zeros

step 'resize'
refused 'master|never changes|published|immutable|clone it' virsh_on A vol-resize --pool $pool debian.qcow2 128M
step 'wipe'
refused 'master|never changes|published|immutable|clone it' virsh_on A vol-wipe --pool $pool debian.qcow2
step 'upload'
refused 'master|never changes|published|immutable|clone it' virsh_on A vol-upload --pool $pool debian.qcow2 "$LAB/zeros"

step 'it is what it was'
is checksum "$want" "$(sum_of "$(in_pool A debian.qcow2)")"
is_master A debian.qcow2
in_state A debian.qcow2 seeding || fail 'not seeded any more'

step 'the engine is not able to write to it'
refused 'permission denied|not permitted' host_exec A setpriv --reuid $engine_user --regid $engine_user --clear-groups \
    sh -c "echo x >>$target/debian.qcow2"
