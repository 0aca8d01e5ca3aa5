#!/bin/bash
# A file put into the directory and made read-only is a master after pool-refresh.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 debian.qcow2 6
random_qcow2 draft.qcow2 2

step 'a file with write bits stays a private volume'
cp draft.qcow2 "$(in_pool A draft.qcow2)"
must virsh_on A pool-refresh $pool
vol_listed A draft.qcow2 || fail 'draft.qcow2 is not listed'
is state '' "$(vol_torrent A draft.qcow2 state)"

step 'a file without is published'
cp debian.qcow2 "$(in_pool A debian.qcow2)"
chown 12345:12345 "$(in_pool A debian.qcow2)"
chmod a-w "$(in_pool A debian.qcow2)"
must virsh_on A pool-refresh $pool
wait_state A debian.qcow2 seeding 15
wait_key A debian.qcow2
is_master A debian.qcow2
is content "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool A debian.qcow2)")"
is state '' "$(vol_torrent A draft.qcow2 state)"

step 'a second refresh changes nothing'
key=$(vol_field A debian.qcow2 /volume/key)
must virsh_on A pool-refresh $pool
in_state A debian.qcow2 seeding || fail 'not seeded any more'
is key "$key" "$(vol_field A debian.qcow2 /volume/key)"
