#!/bin/bash
# A master with clones is not deleted; one without goes without a trace.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 debian.qcow2 3
publish A debian.qcow2
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2
must virsh_on A vol-clone --pool $pool debian.qcow2 web02.qcow2

step 'refused, naming clones'
refused 'web0[12]\.qcow2' virsh_on A vol-delete --pool $pool debian.qcow2
present "$(in_pool A debian.qcow2)"
in_state A debian.qcow2 seeding || fail 'not seeded any more'

step 'still refused for the last clone, after a restart too'
must virsh_on A vol-delete --pool $pool web01.qcow2
absent "$(in_pool A web01.qcow2)"
libvirtd_restart A
wait_for 10 pool_active A || fail 'the pool is not active after a restart'
refused 'web02\.qcow2' virsh_on A vol-delete --pool $pool debian.qcow2

step 'without clones it goes: file, metainfo, resume data'
must virsh_on A vol-delete --pool $pool web02.qcow2
must virsh_on A vol-delete --pool $pool debian.qcow2
! vol_listed A debian.qcow2 || fail 'still listed'
absent "$(in_pool A debian.qcow2)"
is 'what is left of it' '' "$(find "$(in_pool A .)" -name '*debian*')"
must virsh_on A pool-refresh $pool
! vol_listed A debian.qcow2 || fail 'listed again after a refresh'
