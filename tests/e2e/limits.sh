#!/bin/bash
# The limits in a pool's XML hold for peers on the LAN too, one pool's apart from
# another's, and those of a pool that is started again with others.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# limits HOST [ATTRIBUTES]: the pool is stopped, defined anew and started
limits() {
    must virsh_on "$1" pool-destroy $pool
    pool_xml "${2:+<torrent:limit $2 unit='MiB/s'/>}" | sed "s|<name>|<uuid>$(virsh_on "$1" pool-uuid $pool)</uuid>&|" >again.xml
    must virsh_on "$1" pool-define again.xml
    must virsh_on "$1" pool-start $pool
}
# rate HOST: MiB/s, times ten, that come over its link, measured over 2 s from when it flows
rate() {
    local start=${EPOCHREALTIME/[.,]/} bytes
    bytes=$(host_rx "$1")
    sleep 2
    echo $((($(host_rx "$1") - bytes) * 10 / 1048576 * 1000000 / (${EPOCHREALTIME/[.,]/} - start)))
}
begun() { (($(host_rx "$1") > $2 + 1048576)); }
# fetch HOST VOLUME: begins it
fetch() {
    local rx
    rx=$(host_rx "$1")
    must give_xml A "$1" "$2"
    wait_for 30 begun "$1" "$rx" || fail "no byte of $2 comes to $1"
}
forget() { must virsh_on "$1" vol-delete --pool $pool "$2"; }
# about WHAT MIB RATE: not more than that, headers and the first second's burst, and not far less
about() {
    echo "  $1: $(($3 / 10)).$(($3 % 10)) MiB/s"
    (($3 <= $2 * 15)) || fail "$1: $(($3 / 10)) MiB/s go over the wire where $2 are allowed"
    (($3 * 4 >= $2 * 10)) || fail "$1: only $(($3 / 10)) MiB/s of the $2 that are allowed"
}

hosts_with_pool A B C
random_raw m.img 128
publish A m.img

step 'a download limit'
limits B "download='4'"
fetch B m.img
about 'download' 4 "$(rate B)"

step 'another pool of that host is not bound by it'
pool_xml | sed "s|$pool|other|g" >other.xml
must virsh_on B pool-define other.xml
must virsh_on B pool-build other
must virsh_on B pool-start other
cp m.img.xml other-m.xml
must virsh_on B vol-create other other-m.xml
comes() { virsh_on B vol-dumpxml --pool other m.img | grep -q "state='seeding'"; }
wait_for 60 comes || fail 'the other pool is as slow'
in_state B m.img fetching || fail 'the limit does not hold any more'
must virsh_on B pool-destroy other

step 'started again with another limit it holds to that'
limits B "download='8'"
rx=$(host_rx B)
wait_for 30 begun B "$rx" || fail 'nothing comes'
about 'download' 8 "$(rate B)"
limits B ''
wait_state B m.img seeding 60
forget B m.img

step 'an upload limit, for all hosts together'
limits A "upload='6'"
wait_state A m.img seeding 20
must virsh_on B pool-destroy $pool
must virsh_on B pool-start $pool
fetch B m.img
about 'upload to one' 6 "$(rate B)"
tx=$(host_tx A)
must give_xml A C m.img
start=${EPOCHREALTIME/[.,]/}
tx=$(host_tx A)
sleep 2
about 'upload to two' 6 $((($(host_tx A) - tx) * 10 / 1048576 * 1000000 / (${EPOCHREALTIME/[.,]/} - start)))
