#!/bin/bash
# <torrent:allow>: the DHT node does not answer hosts outside, and libtorrent never sees what
# they send.  (That peers outside are not spoken to: tests/test-engine.c.)
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

number=0
for host in A B; do
    number=$((number + 1))
    host_start $host 10.77.0.$number
done
host_exec B ip addr add 10.77.0.130/24 dev eth0
host_exec A ip addr add fd77::1/64 dev eth0 nodad
host_exec B ip addr add fd77::2/64 dev eth0 nodad
host_exec B ip addr add fd77:0:0:0:1::2/64 dev eth0 nodad
libvirtd_start A

# asked FROM TO: whether A's DHT node answers
asked() {
    host_exec B /usr/bin/python3 - "$1" "$2" <<'P'
import socket
import sys

source, target = sys.argv[1:]
family = socket.AF_INET6 if ":" in target else socket.AF_INET
udp = socket.socket(family, socket.SOCK_DGRAM)
udp.bind((source, 0))
dht = "no"
for i in range(4):
    udp.settimeout(0.5)
    udp.sendto(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", (target, 6881))
    try:
        dht = "yes" if b"1:y1:r" in udp.recv(2000) else "odd"
        break
    except socket.timeout:
        pass
print(dht)
P
}
# pool_allows CIDR…
pool_allows() {
    local cidr swarm=''
    if virsh_on A pool-info $pool >/dev/null 2>&1; then
        must virsh_on A pool-destroy $pool
        must virsh_on A pool-undefine $pool
    fi
    for cidr; do swarm+="<torrent:allow cidr='$cidr'/>"; done
    pool_start_new A "<torrent:listen port='6881'/>$swarm"
}

step 'without it, anybody'
pool_allows
is 'from anywhere' yes "$(asked 10.77.0.130 10.77.0.1)"
is 'from anywhere, IPv6' yes "$(asked fd77::1:0:0:2 fd77::1)"

step 'the network, and who is in it'
pool_allows 192.0.2.0/24 10.77.0.0/25 fd77::/80
is 'from within' yes "$(asked 10.77.0.2 10.77.0.1)"
is 'from within, IPv6' yes "$(asked fd77::2 fd77::1)"
is 'from outside' no "$(asked 10.77.0.130 10.77.0.1)"
is 'from outside, IPv6' no "$(asked fd77::1:0:0:2 fd77::1)"

step 'a new address of the host is guarded, too'
host_exec A ip addr add 10.77.0.7/24 dev eth0
listens() { host_exec A ss -Hlun | grep -Eq '10\.77\.0\.7(%eth0)?:6881'; }
wait_for 20 listens || fail 'nobody listens at the new address'
is 'from within' yes "$(asked 10.77.0.2 10.77.0.7)"
is 'from outside' no "$(asked 10.77.0.130 10.77.0.7)"

step 'IPv4 alone lets in no IPv6'
pool_allows 10.77.0.0/24
is 'from within' yes "$(asked 10.77.0.130 10.77.0.1)"
is 'IPv6' no "$(asked fd77::2 fd77::1)"
