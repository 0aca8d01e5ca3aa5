#!/bin/bash
# Hosts whose firewalls let through what the README says, and nothing else, find each
# other and fetch; and nothing else is tried.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# firewall HOST RULES…: both ways; lo and answers pass, the kernel's own ICMP and IGMP are not ours
firewall() {
    local host=$1
    shift
    {
        echo 'flush ruleset'
        echo 'table inet filter {'
        for way in input output; do
            printf 'chain %s {\n type filter hook %s priority 0; policy drop\n' $way $way
            printf ' meta %sif lo accept\n ct state established,related accept\n' ${way:0:1}
            printf ' %s accept\n' "$@"
            printf ' meta l4proto { icmp, icmpv6, igmp } drop\n counter comment "else"\n}\n'
        done
        echo '}'
    } >"firewall-$host"
    must host_exec "$host" nft -f "$LAB/firewall-$host"
}
# The paragraph of the README, in nft's words.
readme=('tcp dport 6881' 'udp dport 6881' 'ip daddr 239.192.152.143 udp dport 6771'
    'ip6 daddr ff15::efc0:988f udp dport 6771')
for word in 'TCP 6881' 'UDP 6881' 'UDP 6771' 239.192.152.143 ff15::efc0:988f; do
    grep -Fq "$word" "$top/README.md" || fail "the README does not say: $word"
done
dropped() { host_exec "$1" nft list ruleset | awk '/comment "else"/ { n += $3 } END { print n + 0 }'; }

number=0
for host in A B N; do
    host_start $host "10.77.0.$((++number))"
    libvirtd_start $host
    firewall $host "${readme[@]}"
done
lsd="<torrent:discovery dht='no' lsd='yes' pex='yes'/>"
dht="<torrent:bootstrap host='10.77.0.3' port='6881'/><torrent:discovery dht='yes' lsd='no' pex='no'/>"
# ask VOLUME: B, by a magnet without peers
ask() {
    local magnet
    magnet=$(vol_torrent A "$1" magnet | sed 's/&x\.pe=[^&]*//g')
    cat >ask.xml <<-X
	<volume><name>$1</name><source><torrent magnet='${magnet//&/&amp;}'/></source>
	  <capacity>0</capacity><target><format type='qcow2'/></target></volume>
	X
    must virsh_on B vol-create $pool "$LAB/ask.xml"
}
came() {
    wait_state B "$1" seeding 60
    is "checksum of $1" "$(sum_of "$1")" "$(sum_of "$(in_pool B "$1")")"
}
renew() {
    must virsh_on "$1" pool-destroy $pool
    must virsh_on "$1" pool-undefine $pool
    pool_start_new "$1" "$2"
}

step 'the firewall of this test keeps things out'
firewall N 'udp dport 6881'
pool_start_new N "$dht"
pool_start_new A "$lsd"
pool_start_new B "$lsd"
! host_exec A timeout 2 bash -c 'exec 3<>/dev/tcp/10.77.0.3/6881' 2>/dev/null || fail 'TCP passes although it is closed'
(($(dropped N) > 0)) || fail 'what was dropped is not counted'
firewall N "${readme[@]}"

step 'on one segment'
random_qcow2 one.qcow2 2
publish A one.qcow2
ask one.qcow2
came one.qcow2

step 'by DHT'
random_qcow2 two.qcow2 2
renew A "$dht"
renew B "$dht"
publish A two.qcow2
ask two.qcow2
came two.qcow2

step 'nothing else was tried'
for host in A B N; do
    is "packets that the firewall of $host dropped" 0 "$(dropped $host)"
done
