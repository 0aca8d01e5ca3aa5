#!/bin/bash
# A .torrent file uploaded as a volume brings the master after a refresh.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
random_qcow2 debian.qcow2 4
publish A debian.qcow2
cp "$(torrent_file A debian.qcow2)" m.torrent

step 'vol-upload of the .torrent into a private volume on B, from afar'
must virsh_on B vol-create-as $pool debian.torrent "$(stat -c %s m.torrent)" --format raw
must virsh_on B vol-upload --pool $pool debian.torrent "$LAB/m.torrent"

step 'refresh takes it in'
must virsh_on B pool-refresh $pool
vol_listed B debian.qcow2 || fail 'the master is not listed'
# A .torrent names no peer: they find each other on their segment.
wait_state B debian.qcow2 seeding 20
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"
is_master B debian.qcow2

step 'the .torrent is no volume any more'
must virsh_on B pool-refresh $pool
! vol_listed B debian.torrent || fail 'debian.torrent is still listed'

step 'the same when the file is just put into the directory'
random_qcow2 second.qcow2 2
publish A second.qcow2
cp "$(torrent_file A second.qcow2)" "$(in_pool B any-name.torrent)"
must virsh_on B pool-refresh $pool
wait_state B second.qcow2 seeding 20
is checksum "$(sum_of second.qcow2)" "$(sum_of "$(in_pool B second.qcow2)")"
