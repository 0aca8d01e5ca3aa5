#!/bin/bash
# Twenty guests run on one master, each with what it wrote itself.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

host_with_hook A 10.77.0.1
pool_start_new A
writer_disk debian.qcow2 4
publish A debian.qcow2
want=$(sum_of debian.qcow2)
# type_in FILE: its commands, into one virsh
type_in() { ! virsh_on A <"$1" 2>&1 | grep -i error; }
guests=$(seq -f 'web%02g' 1 20)

step 'twenty clones, half of them as files and half of them as volumes'
for guest in $guests; do
    disk=$(by_file "$guest.qcow2")
    ((10#${guest#web} % 2)) || disk=$(by_volume "$guest.qcow2")
    writer_xml "$guest" "$disk" >"$guest.xml"
    echo "vol-clone --pool $pool debian.qcow2 $guest.qcow2"
    echo "define $LAB/$guest.xml"
done >commands
must type_in commands

step 'all of them run at a time: they boot what the master says and write'
printf 'start --paused %s\n' $guests >commands
must type_in commands
printf 'resume %s\n' $guests >commands
must type_in commands
for guest in $guests; do
    wait_for 60 has_written A "$guest" 20 || fail "$guest does not write: $(cat "$LAB/A/log/$guest.serial")"
done
is 'guests that run' 20 "$(virsh_on A list --name | grep -c web)"

step 'each has a disk of its own, and nobody else wrote to it'
printf 'destroy %s\n' $guests >commands
must type_in commands
for guest in $guests; do
    dots=$(tr -dc . <"$LAB/A/log/$guest.serial" | wc -c)
    is "backing of $guest" debian.qcow2 "$(backing A "$guest.qcow2")"
    blocks_of A "$guest"
    # one may have been written that it did not live to say
    ((blocks == dots || blocks == dots + 1)) || fail "$guest says that it wrote $dots blocks, $blocks are there"
    ((20 <= blocks)) || fail "$guest wrote $blocks blocks"
done

step 'the master is what it was'
is checksum "$want" "$(sum_of "$(in_pool A debian.qcow2)")"
is_master A debian.qcow2
