#!/bin/bash
# A peer that sends wrong data is found out, named and not spoken to any more; what it cost is bounded, and the
# fetch completes from others.  Alone it leads to nothing, which is said, and to no busy loop.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
host_start E 10.77.0.66
random_raw debian.qcow2 16 # no zeros, which need nobody
publish A debian.qcow2
wait_key A debian.qcow2
hash=$(vol_field A debian.qcow2 /volume/key)
hash=${hash#urn:btmh:1220}
log=$LAB/B/log/virttorrentd.log
piece=$(python3 -c 'import re,sys; print(int(re.search(rb"piece lengthi(\d+)e", open(sys.argv[1],"rb").read()).group(1)))' "$(torrent_file A debian.qcow2)")
port_of() { vol_torrent "$1" debian.qcow2 magnet | sed 's/.*x\.pe=[0-9.]*:\([0-9]*\).*/\1/'; }
lies() { tail -n 1 lies; }
sent() { lies | cut -d' ' -f1; }
liar_start() {
    host_exec E python3 "$top/tests/lib/liar" "$hash" "10.77.0.2:$1" >lies 2>liar.err &
    disown $!
}
banned() { grep -q "warning: Peer 10.77.0.66 sent wrong data for 'debian.qcow2' and is not spoken to" "$log"; }

step 'the liar alone: it is named, and nothing is complete'
# the metainfo is right, and the honest host away
vol_xml A debian.qcow2 >debian.xml
torrent=$(torrent_file A debian.qcow2)
cp "$torrent" debian.torrent
must virsh_on A pool-destroy $pool
cp debian.torrent "$(in_pool B debian.torrent)"
must virsh_on B pool-refresh $pool
wait_state B debian.qcow2 fetching 10
liar_start "$(port_of B)"
wait_for 20 banned || fail "the liar is not found out: $(cat lies liar.err)"
sleep 1 # it comes again from another port, once
first=$(sent)
echo "  it sent $((first / 1024)) KiB, pieces are $((piece / 1024)) KiB"
((first > 0)) || fail 'it had no chance to lie'
# what was asked for before the first piece was whole
((first <= 8 << 20)) || fail "it sent $first bytes"
cpu() { host_exec B cat /proc/"$(host_pids B virttorrentd | tail -n 1)"/stat | awk '{print $14 + $15}'; }
tries=$(lies | cut -d' ' -f2)
before=$(cpu)
sleep 2
is 'what it sent after that' "$first" "$(sent)"
is 'how often it was connected after that' "$tries" "$(lies | cut -d' ' -f2)"
used=$(($(cpu) - before))
((used < 100)) || fail "$used of 200 ticks were used for nothing"
is state fetching "$(vol_torrent B debian.qcow2 state)"
is progress 0.0 "$(printf %.1f "$(vol_torrent B debian.qcow2 progress)")"
matches status 'debian.qcow2 +fetching.* 0.0% +16.0 MiB +0 ' "$(host_exec B "$TORRENTPOOL_BUILD/src/virttorrentd" --status)"
absent "$(in_pool B debian.qcow2)"

step 'beside an honest host'
must virsh_on B vol-delete --pool $pool debian.qcow2
host_kill B virttorrentd # who was found out is forgotten
: >"$log"
must virsh_on B pool-refresh $pool
must virsh_on A pool-start $pool
wait_state A debian.qcow2 seeding 20
host_shape A 20mbit # the liar is faster
must virsh_on B vol-create $pool debian.xml
wait_state B debian.qcow2 seeding 60
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"
banned || fail "the liar was not found out, it sent $(sent) bytes"
wasted=$(($(sent) - first))
echo "  $((wasted / 1024)) KiB of lies"
((wasted > 0)) || fail 'it had no chance to lie'
((wasted <= 8 << 20)) || fail "$wasted bytes of lies were taken"
