#!/bin/bash
# Nothing is sent to a host outside of the network unless somebody names one.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# Everything that is not meant for the segment goes to the default route, which
# is the laboratory itself; there a counter waits.
foreign() {
    # packets that came for an address that is nobody's here
    awk '/^Ip:/ { if (!names) { split($0, name); names = 1 } else for (i in name) if (name[i] == "InAddrErrors" || name[i] == "ForwDatagrams" || name[i] == "InDiscards" || name[i] == "OutNoRoutes") n += $i } END { print n + 0 }' /proc/net/snmp
}
echo 0 >/proc/sys/net/ipv4/ip_forward
hosts_with_pool A B

step 'the counter works'
before=$(foreign)
host_exec A bash -c 'echo x >/dev/udp/192.0.2.1/6881'
sleep 0.2
(($(foreign) > before)) || fail 'a packet to a foreign host was not noticed'

step 'publish, fetch, seed'
before=$(foreign)
random_qcow2 debian.qcow2 3
publish A debian.qcow2
must give_xml A B debian.qcow2
wait_state B debian.qcow2 seeding 15
sleep 3
is 'packets to foreign hosts' "$before" "$(foreign)"
