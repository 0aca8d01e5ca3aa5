#!/bin/bash
# A disk from a master that no host has told this one about: a magnet as backing volume.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
host_shape A 60mbit
random_qcow2 debian.qcow2 8 64M
publish A debian.qcow2
magnet=$(vol_torrent A debian.qcow2 magnet)

step 'vol-create-as with the magnet fetches the master and makes the clone'
must virsh_on B vol-create-as $pool web01.qcow2 128M --format qcow2 \
     --backing-vol "$magnet" --backing-vol-format qcow2
vol_listed B web01.qcow2 || fail 'the clone is not listed'
vol_listed B debian.qcow2 || fail 'the master is not listed'

step 'the master arrives and the clone is good'
wait_state B debian.qcow2 seeding 20
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"
is backing debian.qcow2 "$(basename "$(backing B web01.qcow2)")"
is capacity 134217728 "$(vol_field B web01.qcow2 /volume/capacity)"
must host_exec B qemu-img check -q $target/web01.qcow2
must host_exec B qemu-io -f qcow2 -c 'write -P 1 0 64k' $target/web01.qcow2

step 'a second clone by the same magnet fetches nothing'
must virsh_on B vol-create-as $pool web02.qcow2 64M --format qcow2 \
     --backing-vol "$magnet" --backing-vol-format qcow2
clone_is_good B web02.qcow2 debian.qcow2
