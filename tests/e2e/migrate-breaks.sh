#!/bin/bash
# A migration that breaks half way: the guest goes on where it is, and on the
# other host nothing is left but the master.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

host_with_hook A 10.77.0.1 --listen
host_with_hook B 10.77.0.2 --listen
pool_start_new A
# a file system of its own, so that it can be full
mkdir -p "$(host_root B)$target"
host_exec B mount -t tmpfs -o size=64m,mode=0755 pool $target
# seen from where that is mounted
in_pool() { echo "/proc/${host_pid[$1]}/root$target/$2"; }
pool_start_new B
writer_disk debian.qcow2 4
publish A debian.qcow2
clone() { must virsh_on A vol-clone --pool $pool debian.qcow2 "$1"; }
# Something to copy, so that there is a half way.
heavy_clone() {
    clone "$1"
    must host_exec A qemu-io -c 'write -P 7 40M 20M' $target/"$1"
}
# Half a disk, and not one that an attempt before this one left.
left=
half_way() {
    local file
    file=$(in_pool B "$1.qcow2")
    [[ $(stat -c %i "$file") != "$left" ]] && (($(stat -c %b "$file") * 512 > 4194304))
}
# begin GUEST: its migration, until a part of the disk is on B
begin() {
    host_shape A 40mbit
    migrate "$1" --copy-storage-inc >migrate.log 2>&1 &
    job=$!
    wait_for 60 half_way "$1" || fail "the copy does not begin: $(cat migrate.log)"
}
unshape() { tc qdisc del dev vA root && host_exec A tc qdisc del dev eth0 root; }
is_undefined() { ! virsh_on B domstate "$1"; }
restart_A() { libvirtd_start A --listen; }
restart_B() { libvirtd_start B --listen; }
# ends_without GUEST [COMMAND]: what was begun fails
ends_without() {
    ! wait $job || fail 'the migration should have failed'
    ${2:-:}
    unshape
    wait_for 60 is_gone "$1" || fail "left on B: $(host_exec B ls -lA $target "/run/libvirt/virt-torrentpool-hook")"
    wait_for 60 is_free "$1" || fail "a job is left on A: $(virsh_on A domjobinfo "$1")"
    stays "$1"
}
is_free() { virsh_on A domjobinfo "$1" | grep -q 'None'; }
# ends_forgotten GUEST: what was begun fails, and libvirt on B may have forgotten at once that it
# was a migration.  Then the file stays, but goes with the next attempt.
ends_forgotten() {
    ! wait $job || fail 'the migration should have failed'
    unshape
    wait_for 60 is_free "$1" || fail "a job is left on A: $(virsh_on A domjobinfo "$1")"
    wait_for 60 is_undefined "$1" || fail "$1 is still on B"
    # libvirt leaves it paused where the client died when all was copied: it cannot know
    # who owns the guest now.  That it is not on B was seen above.
    [[ $(virsh_on A domstate "$1" | head -n1) != paused ]] || must virsh_on A resume "$1"
    is "state of $1 on A" running "$(virsh_on A domstate "$1" | head -n1)"
    left=$(stat -c %i "$(in_pool B "$1.qcow2")" 2>/dev/null)
}
is_gone() { [[ ! -e $(in_pool B "$1.qcow2") ]] && ! virsh_on B domstate "$1"; }

step 'aborted half way'
heavy_clone web01.qcow2
writer_start web01 "$(by_file web01.qcow2)"
begin web01
must virsh_on A domjobabort web01
ends_without web01

step 'QEMU dies on the destination half way'
begin web01
host_kill B qemu-system-x86 KILL
ends_forgotten web01

step 'libvirtd dies on the destination half way'
begin web01
libvirtd_kill B
ends_without web01 restart_B

step 'libvirtd dies on the source half way'
begin web01
libvirtd_kill A
ends_without web01 restart_A

step 'virsh dies half way'
begin web01
host_kill A virsh KILL
ends_forgotten web01

step 'aborted again: now nothing is left'
begin web01
must virsh_on A domjobabort web01
ends_without web01

step 'the disk of the destination is full'
must host_exec B dd if=/dev/zero of=$target/ballast bs=1M count=$(($(host_exec B stat -f -c '%a*%S/1048576' $target) - 10)) status=none
job=0
migrate web01 --copy-storage-inc >migrate.log 2>&1 && fail 'there was room enough'
wait_for 60 is_gone web01 || fail "left on B: $(host_exec B ls -lA $target)"
stays web01
rm "$(in_pool B ballast)"

step 'after all that it goes'
must migrate web01 --copy-storage-inc
moved web01
goes_on web01
