#!/bin/bash
# Bad input gets a clear error, and changes nothing.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 debian.qcow2 3
publish A debian.qcow2
# But for what is only remembered, and written anew behind a refresh.
snapshot() { (cd "$(in_pool A .)" && find . -not -path './.torrentpool/resume*' -not -path './.torrentpool/volumes*' -printf '%p %s %m\n' | sort); virsh_on A vol-list $pool; }
unchanged() {
    is 'the pool is active' running "$(virsh_on A pool-info $pool | sed -n 's/^State: *//p')"
    is "what the pool holds" "$before" "$(snapshot)"
}
volume_xml() {
    printf "<volume><name>%s</name><source><torrent magnet='%s'/></source><capacity>0</capacity></volume>\n" "$1" "${2//&/&amp;}"
}
before=$(snapshot)

step 'targets that are missing, or not a directory'
must virsh_on A pool-define-as gone torrentpool --target $images/gone
refused "$images/gone|no such" virsh_on A pool-start gone
: >"$(host_root A)$images/file"
must virsh_on A pool-define-as file torrentpool --target $images/file
refused "director" virsh_on A pool-start file
refused "director|exists" virsh_on A pool-build file

step 'magnets that are none'
for magnet in 'magnet:?xt=urn:btmh:1220zz' 'magnet:' 'magnet:?dn=x' 'http://example.invalid/x.torrent' 'magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C'; do
    volume_xml x.qcow2 "$magnet" >bad.xml
    refused 'magnet' virsh_on A vol-create $pool bad.xml
    unchanged
done
refused 'magnet' virsh_on A vol-create-as $pool x.qcow2 1G --format qcow2 --backing-vol 'magnet:?xt=urn:btmh:12' --backing-vol-format qcow2
unchanged

step 'names'
good=$(vol_torrent A debian.qcow2 magnet | sed 's/1220[0-9a-f]\{8\}/122000000000/')
for name in ../x sub/x /etc/x . .. .hidden .torrentpool; do
    volume_xml "$name" "$good" >bad.xml
    refused "name|invalid|contain|/" virsh_on A vol-create $pool bad.xml
    unchanged
    refused "name|invalid|contain|/|exists" virsh_on A vol-create-as $pool "$name" 1M
    unchanged
    refused "name|invalid|contain|/|exists" virsh_on A vol-clone --pool $pool debian.qcow2 "$name"
    unchanged
done
absent "$(host_root A)$images/x"

step '.torrent files that are broken, have several files or tricks in their names'
pieces=$(printf 'A%.0s' {1..20})
torrent() { printf '%s' "$1" >"$(in_pool A bad.torrent)"; }
# A refresh reports, or leaves out with a warning, what it cannot take; it never
# makes a volume or a file of it, and the pool stays active.
for bad in 'not bencode at all' 'd4:infod6:lengthi' \
    "d4:infod5:filesld6:lengthi4e4:pathl1:aeed6:lengthi4e4:pathl1:beee4:name4:pair12:piece lengthi16384e6:pieces20:${pieces}ee" \
    "d4:infod6:lengthi4e4:name9:../../etc12:piece lengthi16384e6:pieces20:${pieces}ee" \
    "d4:infod6:lengthi4e4:name7:.hidden12:piece lengthi16384e6:pieces20:${pieces}ee" \
    "d4:infod6:lengthi4e4:name12:debian.qcow212:piece lengthi16384e6:pieces20:${pieces}ee" \
    "d4:infod6:lengthi-4e4:name4:neg112:piece lengthi16384e6:pieces20:${pieces}ee"; do
    torrent "$bad"
    virsh_on A pool-refresh $pool >refresh.out 2>&1 || :
    rm -f "$(in_pool A bad.torrent)"
    must virsh_on A pool-refresh $pool
    unchanged
done
grep -qi 'torrent' "$LAB/A/log/libvirtd.log" || fail 'nobody said a word about the broken .torrent files'

step 'clones of what is not there, and names that are taken'
refused 'no storage vol|not found|no-such' virsh_on A vol-clone --pool $pool no-such.qcow2 x.qcow2
refused 'exist|in use' virsh_on A vol-clone --pool $pool debian.qcow2 debian.qcow2
refused 'no-such' virsh_on A vol-create-as $pool x.qcow2 1G --format qcow2 --backing-vol no-such.qcow2 --backing-vol-format qcow2
unchanged
echo precious >"$(in_pool A taken.qcow2)"
refused 'exist|taken' virsh_on A vol-clone --pool $pool debian.qcow2 taken.qcow2
is 'the file that had the name' precious "$(cat "$(in_pool A taken.qcow2)")"
volume_xml taken.qcow2 "$good" >bad.xml
refused 'exist|taken' virsh_on A vol-create $pool bad.xml
is 'the file that had the name' precious "$(cat "$(in_pool A taken.qcow2)")"
rm "$(in_pool A taken.qcow2)"
must virsh_on A pool-refresh $pool
unchanged
