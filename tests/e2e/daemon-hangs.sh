#!/bin/bash
# A virttorrentd that does not answer holds libvirt up once, for seconds, and not again.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_raw one.raw 1
publish A one.raw
pids=$(host_pids A virttorrentd)

# milliseconds that a command takes
took() {
    local begin=${EPOCHREALTIME/./}
    "$@" >took.out 2>&1 || fail "failed: $* ($(cat took.out))"
    echo $(((${EPOCHREALTIME/./} - begin) / 1000))
}

step 'the first that asks waits, but not long'
# shellcheck disable=SC2086
must host_exec A kill -STOP $pids
ms=$(took virsh_on A pool-refresh $pool)
echo "$ms ms"
((ms < 8000)) || fail "it took $ms ms"

step 'everybody after it is served at once'
for command in "vol-info --pool $pool one.raw" "pool-refresh $pool" pool-list "vol-list --details $pool" \
    "vol-clone --pool $pool one.raw two.raw"; do
    # shellcheck disable=SC2086
    ms=$(took virsh_on A $command)
    echo "$command: $ms ms"
    ((ms < 1500)) || fail "$command took $ms ms"
done
pool_active A || fail 'the pool is not active'

step 'when it answers again, the pool notices by itself'
# shellcheck disable=SC2086
must host_exec A kill -CONT $pids
wait_state A one.raw seeding 40
