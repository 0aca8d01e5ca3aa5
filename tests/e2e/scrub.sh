#!/bin/bash
# A scrub goes on where it was after a crash, happens by itself when it is due, at the rate that was set, and is not misled
# by a clock that jumps.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
. "$(dirname "$0")/../lib/faults.sh"
lab_enter "$@"

host_start A 10.77.0.1
conf=$(host_root A)/etc/libvirt/virttorrentd.conf
printf '[virttorrentd]\nscrub_rate = 1\n' >"$conf"
faults_prepare
libvirtd_start A
pool_start_new A
random_raw image.raw 8
publish A image.raw
log=$LAB/A/log/virttorrentd.log
record=$(in_pool A .torrentpool/resume/image.raw.scrub)
next() { sed -n 's/^next=//p' "$record"; }
found_good() { sed -n 's/^good=//p' "$record"; }
status() { host_exec A "$TORRENTPOOL_BUILD/src/virttorrentd" --status; }
started() { (($(next) > 0)); }
first=$(found_good)
(($(date +%s) - first < 60)) || fail "what was published is not noted as good: $first"

step 'on demand, at 1 MiB/s; killed in between'
begin=$SECONDS
must host_exec A "$TORRENTPOOL_BUILD/src/virttorrentd" --scrub
wait_for 30 started || fail "it does not get on: $(status)"
matches status '[0-9.]+% of it are read again' "$(status)"
host_kill A virttorrentd KILL
at=$(next)
must virsh_on A pool-refresh $pool
# it ends, and begins with piece 0 next time
through() { [[ $(next) == 0 ]] && (($(found_good) > first)); }
wait_for 30 through || fail "it did not go on: $(cat "$record") $(status)"
(($(faults_felt clock) == 0)) || fail 'a fault too early'
echo "  killed at piece $at, through after $((SECONDS - begin)) s"
((SECONDS - begin >= 5)) || fail '8 MiB took less than 5 s at 1 MiB/s'
in_state A image.raw seeding || fail 'it is not seeded any more'

step 'by itself, when it is due'
host_kill A virttorrentd
first=$(($(date +%s) - 31 * 24 * 3600))
printf '[scrub]\ngood=%d\nnext=0\n' $first >"$record"
printf '[virttorrentd]\nscrub_rate = 100\n' >"$conf"
must virsh_on A pool-refresh $pool
wait_for 20 through || fail "it was not read by itself: $(cat "$record")"
(($(date +%s) - $(found_good) < 60)) || fail "wrong time: $(found_good)"

step 'the wall clock jumps ten years ahead, and back'
faults_order 'clock 315360000'
wait_for 20 bash -c "grep -c good= '$record' && (( \$(sed -n 's/^good=//p' '$record') > $(date +%s) + 300000000 ))" ||
    fail "after ten years it is not due: $(cat "$record")"
(($(faults_felt clock) > 0)) || fail 'there was no fault'
faults_order ''
must virsh_on A pool-refresh $pool
in_state A image.raw seeding || fail 'the jump cost the master'
host_kill A virttorrentd
must virsh_on A pool-refresh $pool
future() { (($(found_good) > $(date +%s) + 1000)); }
not_future() { ! future; }
wait_for 20 not_future || fail "what was found good in the future is believed: $(cat "$record")"
in_state A image.raw seeding || fail 'the jump cost the master'
