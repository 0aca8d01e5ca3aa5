#!/bin/bash
# Of a swarm over TLS nobody gets a byte who has no certificate of the operator's
# authority: not by fetching, not by seeding, not by asking for the metadata, not by
# listening on the wire.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
. "$(dirname "$0")/../lib/pki.sh"
lab_enter "$@"

marker=this-is-nobody-elses-business
authority ours
authority theirs
# A stock client wants to see its torrent's name, or a star; we do not.
certificate ours A 'dns_name = "*"'
certificate ours B
certificate ours friend 'dns_name = "*"'
certificate theirs stranger 'dns_name = "*"'
must certtool --get-dh-params --sec-param medium --outfile dh.pem

number=0
for host in A B C; do
    number=$((number + 1))
    host_start $host 10.77.0.$number
done
for host in A B; do
    libvirtd_start $host
    certificates_install $host ours $host
    pool_start_new $host '<torrent:tls/>'
done

step 'what goes over the wire can be seen'
# A frame holds several times the marker, whatever it is cut into.
yes $marker | head -c 4M >debian.img
host_exec A "$top/tests/lib/wire-watch" eth0 $marker "$LAB/seen" &
watch=$!
disown $watch
wait_for 10 grep -q ready seen || fail 'nobody watches the wire'
host_exec C timeout 10 /usr/bin/python3 -c '
import socket
s = socket.create_server(("", 9999)); print("listening", flush=True)
c, _ = s.accept()
while c.recv(65536): pass' >listener &
wait_for 10 grep -q listening listener || fail 'nobody listens'
host_exec A bash -c 'head -c 64k "$1" >/dev/tcp/10.77.0.3/9999' - "$LAB/debian.img"
wait_for 5 grep -q 1 seen || fail 'the marker on the wire was not noticed'
kill $watch
host_exec A "$top/tests/lib/wire-watch" eth0 $marker "$LAB/seen" &
disown $!
wait_for 10 grep -qx ready seen || fail 'nobody watches the wire'

step 'two hosts of the operator'
publish A debian.img
wait_key A debian.img
magnet=$(vol_torrent A debian.img magnet)
matches 'magnet link' 'x.pe=10\.77\.0\.1:6882' "$magnet"
must give_xml A B debian.img
wait_state B debian.img seeding 30
is checksum "$(sum_of debian.img)" "$(sum_of "$(in_pool B debian.img)")"
is_master B debian.img
cp "$(torrent_file A debian.img)" debian.torrent
chmod a+r debian.torrent debian.img

# nothing WHAT OPTION…: the stock client on C has nothing in the end
nothing() {
    local what=$1 got
    shift
    mkdir -p none
    got=$(stock_peer C --dir "$LAB/none" "$@") || fail "$what: the client failed"
    matches "$what" ' down 0 .*complete no' "$got"
    [[ ! -s none/debian.img ]] || ! grep -q $marker none/debian.img || fail "$what: there is something on its disk"
}

step 'a stock client with a certificate of ours gets it'
mkdir friend
matches 'a friend' 'complete yes' "$(stock_peer C --dir "$LAB/friend" --peer 10.77.0.1:6882 \
    --cert "$LAB/friend.cert" --key "$LAB/friend.key" --dh "$LAB/dh.pem" --seconds 20 "$LAB/debian.torrent")"
is checksum "$(sum_of debian.img)" "$(sum_of friend/debian.img)"

step 'one without a certificate, or with one of another authority, gets nothing'
nothing 'no certificate' --peer 10.77.0.1:6882 --seconds 3 "$LAB/debian.torrent"
nothing 'another authority' --peer 10.77.0.1:6882 --seconds 3 \
    --cert "$LAB/stranger.cert" --key "$LAB/stranger.key" --dh "$LAB/dh.pem" "$LAB/debian.torrent"
nothing 'the port without TLS' --peer 10.77.0.1:6881 --seconds 3 "$LAB/debian.torrent"

step 'nor the metadata'
for port in 6881 6882; do
    got=$(stock_peer C --dir "$LAB/none" --peer 10.77.0.1:$port --seconds 3 "${magnet%%&x.pe*}")
    matches "metadata at port $port" '^metadata no ' "$got"
done

step 'nor can it seed'
yes "$marker, too" | head -c 3M >other.img
publish A other.img
cp "$(torrent_file A other.img)" other.torrent
chmod a+r other.torrent other.img
must virsh_on A pool-destroy $pool
mkdir theirs && cp other.img theirs/
for who in stranger none; do
    options=()
    [[ $who == none ]] || options=(--cert "$LAB/$who.cert" --key "$LAB/$who.key" --dh "$LAB/dh.pem")
    stock_peer C --dir "$LAB/theirs" --seed "${options[@]}" --peer 10.77.0.2:6882 --seconds 5 \
        "$LAB/other.torrent" >seed-$who &
    seeds+=($!)
    if [[ $who == stranger ]]; then
        cp other.torrent "$(in_pool B other.torrent)"
        must virsh_on B pool-refresh $pool
        in_state B other.img fetching || fail "it is $(vol_torrent B other.img state)"
    fi
    wait "${seeds[-1]}"
    matches "seeding as $who" 'up 0 complete yes' "$(cat seed-$who)"
    in_state B other.img fetching || fail "it is $(vol_torrent B other.img state)"
    matches 'progress of what only strangers have' '^(0\.0)?$' "$(vol_torrent B other.img progress)"
done

step 'when a host of ours has it, it comes'
must virsh_on A pool-start $pool
wait_state B other.img seeding 30
is checksum "$(sum_of other.img)" "$(sum_of "$(in_pool B other.img)")"

step 'strangers who just stand at the door neither fill it nor end the daemon'
before=$(host_pids A virttorrentd)
host_exec C /usr/bin/python3 -c '
import socket, time
held = [socket.create_connection(("10.77.0.1", 6882)) for i in range(300)]
print("there", flush=True)
gone = 0
end = time.monotonic() + 20
while gone < 44 and time.monotonic() < end:
    time.sleep(0.2)
    for s in list(held):
        s.setblocking(False)
        try:
            if not s.recv(1): held.remove(s); gone += 1
        except BlockingIOError: pass
        except OSError: held.remove(s); gone += 1
print("gone", gone, flush=True)
time.sleep(60)' >strangers &
disown $!
wait_for 30 grep -q gone strangers || fail 'they did not get there'
(($(sed -n 's/gone //p' strangers) >= 44)) || fail "of 300, sent away: $(cat strangers)"
must virsh_on A pool-destroy $pool
sleep 3
must virsh_on A pool-start $pool
wait_state A other.img seeding 20
is 'processes of the daemon' "$before" "$(host_pids A virttorrentd)"

step 'nobody could read it on the wire'
is 'frames in which it can be read' ready "$(cat seen)"
