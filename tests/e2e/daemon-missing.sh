#!/bin/bash
# Without virttorrentd the pool says so, and recovers when it is back.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

host_start A 10.77.0.1
VIRTTORRENTD_PATH=/nonexistent/virttorrentd
libvirtd_start A
pool_xml >pool.xml
must virsh_on A pool-define pool.xml
must virsh_on A pool-build $pool

step 'pool-start names what is missing'
refused 'virttorrentd' virsh_on A pool-start $pool
! pool_active A || fail 'the pool is active'

step 'with it, the pool starts'
unset VIRTTORRENTD_PATH
libvirtd_restart A
must virsh_on A pool-start $pool
random_qcow2 debian.qcow2 2
publish A debian.qcow2

step 'killed, and gone from the disk: the pool stays active and lists its volumes'
libvirtd_stop A
VIRTTORRENTD_PATH=$LAB/virttorrentd
ln -s "$TORRENTPOOL_BUILD/src/virttorrentd" "$VIRTTORRENTD_PATH"
libvirtd_start A
wait_for 10 pool_active A || fail 'the pool is not active after a restart'
rm "$VIRTTORRENTD_PATH"
host_kill A virttorrentd KILL
pool_active A || fail 'the pool is not active any more'
virsh_on A pool-refresh $pool >refresh.out 2>&1 || :
pool_active A || fail "a refresh without virttorrentd made it inactive ($(cat refresh.out))"
vol_listed A debian.qcow2 || fail 'the master is not listed'

step 'clones, and the rules, do not need it'
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2
clone_is_good A web01.qcow2 debian.qcow2
refused 'web01' virsh_on A vol-delete --pool $pool debian.qcow2

step 'it is back'
ln -s "$TORRENTPOOL_BUILD/src/virttorrentd" "$VIRTTORRENTD_PATH"
must virsh_on A pool-refresh $pool
wait_state A debian.qcow2 seeding 10
