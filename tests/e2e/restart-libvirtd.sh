#!/bin/bash
# Pools and volumes are back after libvirtd was stopped or killed; stopped pools stay stopped.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
host_shape A 40mbit
random_qcow2 debian.qcow2 20
publish A debian.qcow2
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2
daemon=$(host_pids A virttorrentd)
must give_xml A B debian.qcow2

step 'kill -9 libvirtd on both'
libvirtd_kill A
libvirtd_kill B
is 'virttorrentd lives on' "$daemon" "$(host_pids A virttorrentd)"
sleep 1
libvirtd_start A
libvirtd_start B

step 'pools are active, volumes are there'
wait_for 10 pool_active A || fail 'the pool on A is not active'
wait_for 10 pool_active B || fail 'the pool on B is not active'
vol_listed A debian.qcow2 && vol_listed A web01.qcow2 || fail 'volumes of A are missing'
in_state A debian.qcow2 seeding || fail 'not seeded any more'
vol_listed B debian.qcow2 || fail 'the volume that B was fetching is not listed'

step 'the fetch that went on meanwhile completes'
wait_state B debian.qcow2 seeding 20
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"

step 'it completes even while no libvirtd runs'
random_qcow2 second.qcow2 8
publish A second.qcow2
must give_xml A B second.qcow2
libvirtd_stop B
wait_for 15 test -e "$(in_pool B second.qcow2)" || fail 'second.qcow2 did not arrive'
libvirtd_start B
wait_state B second.qcow2 seeding 5
is checksum "$(sum_of second.qcow2)" "$(sum_of "$(in_pool B second.qcow2)")"

step 'a pool that was stopped stays stopped'
must virsh_on A pool-destroy $pool
libvirtd_restart A
sleep 0.5
! pool_active A || fail 'the pool came back by itself'
present "$(in_pool A debian.qcow2)"
must virsh_on A pool-start $pool
wait_state A debian.qcow2 seeding 10
