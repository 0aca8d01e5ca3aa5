#!/bin/bash
# A virttorrentd that may open no more files stays up, loses nothing and goes on.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
random_raw other.raw 4
publish A other.raw
log=$LAB/B/log/virttorrentd.log
engine() { host_pids B virttorrentd | tail -n 1; }
count() { host_exec B ls "/proc/$(engine)/fd" | wc -l; }
same=$(engine)
# by its own user, which may
limit() { host_exec B setpriv --reuid=$engine_user --regid=$engine_user --clear-groups prlimit --pid "$(engine)" "$@" || fail "prlimit $*"; }

step 'no descriptor is left: a fetch waits or fails, and nothing else does'
limit=$(($(count) + 1))
limit --nofile=$limit:
vol_xml A other.raw >other.xml
virsh_on B vol-create $pool other.xml >out 2>&1 || :
sleep 3
! in_state B other.raw seeding || fail "there was no fault: $(count) of $limit descriptors are open"
host_exec B cat "/proc/$(engine)/limits" | grep -q "Max open files *$limit " || fail 'the limit does not hold'
is 'the engine' "$same" "$(engine)"
absent "$(in_pool B other.raw)"
limit --nofile=1024:
done_or_failed() { in_state B other.raw seeding || in_state B other.raw failed || ! vol_listed B other.raw; }
wait_for 30 done_or_failed || fail "it is $(vol_torrent B other.raw state)"
if ! in_state B other.raw seeding; then
    echo "  $(vol_torrent B other.raw error)"
    ! vol_listed B other.raw || must virsh_on B vol-delete --pool $pool other.raw
    must give_xml A B other.raw
    wait_state B other.raw seeding 30
fi
is checksum "$(sum_of other.raw)" "$(sum_of "$(in_pool B other.raw)")"
! grep -q 'killed by signal' "$log" || fail 'it was killed'
