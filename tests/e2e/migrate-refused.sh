#!/bin/bash
# A migration that is refused: the guest goes on where it is, and on the other
# host nothing is left but the master.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

host_with_hook A 10.77.0.1 --listen
host_with_hook B 10.77.0.2 --listen
# whom A does not speak to at first
pool_start_new A "<torrent:allow cidr='10.99.0.0/16'/>"
pool_start_new B
writer_disk debian.qcow2 24
publish A debian.qcow2
clone() { must virsh_on A vol-clone --pool $pool debian.qcow2 "$1"; }

step 'no host of the swarm can be reached: the time is over, and the progress is told'
clone web01.qcow2
writer_start web01 "$(by_file web01.qcow2)"
hook_timeout B 1
hook_refuses 'debian.qcow2.* not here: .*[0-9.]+ % of it' web01 --copy-storage-inc
stays web01
is 'state of the fetch' fetching "$(vol_torrent B debian.qcow2 state)"
pool_xml >pool-A.xml
must virsh_on A pool-destroy $pool
must virsh_on A pool-undefine $pool
must virsh_on A pool-define "$LAB/pool-A.xml"
must virsh_on A pool-start $pool
hook_timeout B 20
wait_state B debian.qcow2 seeding 60

step 'no storage is copied: refused'
clone plain.qcow2
writer_start plain "$(by_file plain.qcow2)" "master='debian.qcow2'"
hook_refuses 'copy-storage-inc' plain --unsafe
stays plain
must virsh_on A destroy plain

step 'given up before QEMU starts: what was made is not in the way of the next attempt'
clone web03.qcow2
writer_start web03 "$(by_file web03.qcow2)"
sed '/<disk/d' web03.xml >namesake.xml
must virsh_on B define namesake.xml
refused "already exists" migrate web03 --copy-storage-inc
must virsh_on B undefine web03
must migrate web03 --copy-storage-inc
moved web03
goes_on web03

step 'a master that nobody on B has heard of, and no magnet: refused with the way out'
cp debian.qcow2 other.qcow2
must qemu-io -c 'write -P 9 80M 64k' other.qcow2
publish A other.qcow2
must virsh_on A vol-clone --pool $pool other.qcow2 web04.qcow2
writer_start web04 "$(by_file web04.qcow2)"
virsh_on A dumpxml --migratable web04 >there.xml
told "master='other.qcow2'" there.xml
hook_refuses 'other.qcow2.* does not know it; fetch it' web04 --copy-storage-inc --xml there.xml
stays web04

step 'what was on B before stays, whatever happens'
must host_exec B qemu-img create -q -f qcow2 $target/web04.qcow2 1M
before=$(sum_of "$(in_pool B web04.qcow2)")
refused 'different sizes' migrate web04 --copy-storage-inc
is 'the older file' "$before" "$(sum_of "$(in_pool B web04.qcow2)")"
