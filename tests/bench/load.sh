#!/bin/bash
# What a peer costs virttorrentd in memory, and whether it gives it back.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# 200 peers with an address each (one program, which shakes hands and stays)
# connect to a host that seeds.  Resident memory of its engine, before, with, after.
peers=200
hosts_with_pool A
host_start B 10.77.0.2
must host_exec A ip route add 10.77.1.0/24 dev eth0
host_exec B bash -c 'for ((i = 1; i <= '$peers'; i++)); do ip addr add 10.77.1.$i/24 dev eth0; done' ||
    fail 'no addresses for the peers'
random_raw m.raw 8
publish A m.raw
wait_key A m.raw
hash=$(vol_field A m.raw /volume/key | sed 's/^urn:btmh:1220//')
port=$(vol_torrent A m.raw magnet | sed -n 's/.*x\.pe=[0-9.]*:\([0-9]*\).*/\1/p')
cat >peers.py <<'X'
import signal, socket, sys
count, hash_, port = int(sys.argv[1]), bytes.fromhex(sys.argv[2])[:20], int(sys.argv[3])
conns = []
for i in range(1, count + 1):
    s = socket.create_connection(('10.77.0.1', port), 30, ('10.77.1.%d' % i, 0))
    s.sendall(b'\x13BitTorrent protocol' + bytes([0, 0, 0, 0, 0, 0, 0, 0x10]) + hash_ + b'-TP0001-%012d' % i)
    answer = b''
    while len(answer) < 68:
        more = s.recv(68 - len(answer))
        if not more:
            sys.exit('peer %d was sent away' % i)
        answer += more
    s.sendall(b'\0\0\0\1\2')      # interested
    conns.append(s)
open(sys.argv[4], 'w').write('%d\n' % len(conns))
signal.pause()
X
rss() { for pid in $(host_pids A virttorrentd); do host_exec A awk '/^VmRSS/ {print $2}' "/proc/$pid/status"; done | sort -n | tail -n 1; }
connected() { host_exec A cat /proc/net/tcp | awk -v port="$(printf ':%04X' "$port")" '$2 ~ port "$" && $4 == "01"' | wc -l; }
idle() { (($(connected) == 0)); }

# Once to warm up, once to measure.
for round in 1 2; do
    before=$(rss)
    rm -f up
    host_exec B python3 "$LAB/peers.py" $peers "$hash" "$port" "$LAB/up" 2>"$LAB/peers.err" &
    wait_for 90 test -s up || fail "the peers do not all get in: $(cat peers.err)"
    with=$(rss)
    here=$(connected)
    ((here == peers)) || fail "$here of $peers peers are connected"
    host_kill B python3 KILL
    wait_for 60 idle || fail 'peers that are gone are still connected'
    after=$(rss)
    printf '%-8s %8s KiB before, %8s with %d peers, %8s after\n' "round $round" "$before" "$with" "$here" "$after"
    printf '%s\t%s\n' "before round $round" "$before" "with $here peers" "$with" "without them again" "$after" >>load.tsv
    ((round > 1)) || first=$(((with - before) / peers))
done
awk -v title='Resident memory of virttorrentd' -v unit=KiB -f "$top/tests/bench/bars.awk" load.tsv >"$BENCH_OUT/load.svg"
{
    echo "figure load.kib_per_peer $first"
    echo "figure load.kib_more_after_200_peers_came_again $((after - before))"
} >>"$BENCH_FIGURES"
