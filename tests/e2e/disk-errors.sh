#!/bin/bash
# A disk that cannot write fails that fetch and no other; one that cannot read a piece of a master has it healed; a read-only
# file system stops nobody from being served.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
. "$(dirname "$0")/../lib/faults.sh"
lab_enter "$@"

host_start A 10.77.0.1
host_start B 10.77.0.2
libvirtd_start A
pool_start_new A
faults_prepare
mkdir -p "$(host_root B)$target"
host_exec B mount --bind $target $target # a mount of its own
libvirtd_start B
pool_start_new B
inside() { host_exec B "$@"; }
log=$LAB/B/log/virttorrentd.log
for name in one two three; do
    random_raw $name.raw 8
    publish A $name.raw
done

step 'EIO while a fetch writes: it fails and says so, the next one works'
faults_order 'write partial/one.raw'
must give_xml A B one.raw
wait_state B one.raw failed 20
matches reason 'Input/output error' "$(vol_torrent B one.raw error)"
(($(faults_felt write) > 0)) || fail 'there was no fault'
refused 'no such file' inside stat $target/one.raw
must give_xml A B two.raw
wait_state B two.raw seeding 20
faults_order ''
must virsh_on B vol-delete --pool $pool one.raw
must give_xml A B one.raw
wait_state B one.raw seeding 20

step 'EIO while a master is read: the piece is healed'
faults_order "read $(inside stat -c %i $target/one.raw) 3000000 3000001"
must inside "$VIRTTORRENTD_PATH" --scrub $pool one.raw
wait_for 20 grep -q 'one.raw.*is healed' "$log" || fail 'it was not healed'
(($(faults_felt read) > 0)) || fail 'there was no fault'
matches log 'error:.*one.raw.*1 of [0-9]+ pieces of its file are damaged \(the disk cannot read 1 of them\)' "$(cat "$log")"
faults_order ''
is checksum "$(sum_of one.raw)" "$(inside sha256sum $target/one.raw | cut -d' ' -f1)"

step 'a read-only file system: a fetch is refused or fails, what is there is served'
inside mount -o remount,bind,ro $target || fail 'remount'
refused 'read-only' inside touch $target/probe
give_xml A B three.raw >out 2>&1 || matches vol-create '[Rr]ead-only' "$(cat out)"
if vol_listed B three.raw; then
    wait_state B three.raw failed 20
    matches reason '[Rr]ead-only' "$(vol_torrent B three.raw error)"
fi
pool_active B || fail 'the pool is not active any more'
must virsh_on A vol-delete --pool $pool one.raw
must give_xml B A one.raw
wait_state A one.raw seeding 20
is checksum "$(sum_of one.raw)" "$(sum_of "$(in_pool A one.raw)")"
inside mount -o remount,bind,rw $target || fail 'remount'
! vol_listed B three.raw || must virsh_on B vol-delete --pool $pool three.raw
must give_xml A B three.raw
wait_state B three.raw seeding 20
