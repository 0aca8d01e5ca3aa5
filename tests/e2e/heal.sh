#!/bin/bash
# A master that is damaged on disk is found out, given to nobody, and healed from other hosts; its
# clones and running readers do not notice.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
random_qcow2 debian.qcow2 24
sum=$(sum_of debian.qcow2)
publish A debian.qcow2
must give_xml A B debian.qcow2
wait_state B debian.qcow2 seeding 30
must virsh_on B vol-clone --pool $pool debian.qcow2 web.qcow2
sealed() { python3 -c "import os,sys; sys.exit(len(os.getxattr(sys.argv[1], \"user.torrentpool.root\")) != 32)" "$(in_pool "$1" debian.qcow2)"; }
for host in A B; do
    wait_for 20 sealed $host || fail "what the master contains was not noted on $host"
done
status() { host_exec "$1" "$VIRTTORRENTD_PATH" --status; }
VIRTTORRENTD_PATH=$TORRENTPOOL_BUILD/src/virttorrentd
log=$LAB/B/log/virttorrentd.log
# rot FILE OFFSET: other bytes, and nothing tells
rot() {
    local mtime
    mtime=$(stat -c %y "$1")
    printf 'rotten' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
    touch -d "$mtime" "$1"
}
good() {
    wait_state B debian.qcow2 seeding 30
    is checksum "$sum" "$(sum_of "$master")"
    is_master B debian.qcow2
    absent "$(in_pool B .torrentpool/meta/debian.qcow2.damage)"
    clone_is_good B web.qcow2 debian.qcow2
}
# came SINCE: KiB that B got since then
came() { echo $((($(host_rx B) - $1) / 1024)); }
master=$(in_pool B debian.qcow2)

step 'two bits rot, size and time stay; a scrub finds it'
inode=$(stat -c %i "$master")
exec 5<"$master" # a guest that runs
rot "$master" 5000000
rot "$master" 17000000
damaged=$(sum_of "$master")
must virsh_on B pool-refresh $pool
in_state B debian.qcow2 seeding || fail 'a refresh reads what has not changed'
rx=$(host_rx B)
virsh_on B pool-event --pool $pool --event refresh --timeout 60 >events 2>&1 &
event=$!
must host_exec B "$VIRTTORRENTD_PATH" --scrub $pool debian.qcow2
wait_for 20 grep -q 'healed' "$log" || fail "it was not healed: $(status B)"
good
grep -Eq 'error: .*debian.qcow2.*2 of [0-9]+ pieces of its file are damaged' "$log" || fail 'the damage is not logged'
wait $event || fail "no refresh event: $(cat events)"
echo "  $(came "$rx") KiB were fetched"
(($(came "$rx") < 3000)) || fail 'more was fetched than the damaged pieces'
[[ $(stat -c %i "$master") != "$inode" ]] || fail 'the file was written to'
is 'what a guest that runs sees' "$damaged" "$(sha256sum <&5 | cut -d' ' -f1)"
exec 5<&-
wait_for 20 sealed B || fail 'what the healed master contains was not noted'

step 'a stray write while virttorrentd is away is found when it starts'
host_kill B virttorrentd
: >"$log"
dd if=/dev/urandom of="$master" bs=64k seek=9 count=4 conv=notrunc status=none
must virsh_on B pool-refresh $pool
wait_for 20 grep -q healed "$log" || fail "it was not healed: $(status B)"
good

step 'a stray write while it runs is found by a refresh'
: >"$log"
dd if=/dev/urandom of="$master" bs=64k seek=30 count=1 conv=notrunc status=none
must virsh_on B pool-refresh $pool
wait_for 20 grep -q healed "$log" || fail "it was not healed: $(status B)"
good

step 'with nobody else it stays damaged, says so, and is given to nobody'
virsh_on A pool-destroy $pool >/dev/null || fail 'pool-destroy'
: >"$log"
rot "$master" 5000000
must host_exec B "$VIRTTORRENTD_PATH" --scrub
wait_for 20 in_state B debian.qcow2 failed || fail "it is not said to be damaged: $(status B)"
matches reason '1 of [0-9]+ pieces of its file are damaged' "$(vol_torrent B debian.qcow2 error)"
matches status 'debian.qcow2 +healing' "$(status B)"
metrics=$(host_exec B "$VIRTTORRENTD_PATH" --metrics)
matches metrics 'state="healing"} 1' "$metrics"
matches metrics 'damaged_pieces\{[^}]*debian.qcow2"\} 1' "$metrics"
present "$(in_pool B .torrentpool/meta/debian.qcow2.damage)"

step 'no guest is started on it, unless the administrator wants it'
cat >guest.xml <<-X
	<domain type='qemu'><name>web</name><devices><disk type='file' device='disk'>
	  <driver name='qemu' type='qcow2'/><source file='$target/web.qcow2'/><target dev='vda' bus='virtio'/></disk></devices></domain>
	X
prepare() { host_exec B "$TORRENTPOOL_BUILD/src/virt-torrentpool-hook" web prepare begin - <guest.xml; }
conf=$(host_root B)/etc/libvirt/virttorrentd.conf
printf '[hook]\ntimeout = 1\n' >"$conf"
refused "debian.qcow2' is damaged on disk: 1 of [0-9]+ pieces .*damaged = start" prepare
printf '[hook]\ndamaged = start\n' >"$conf"
must prepare
rm "$conf"

step 'and still after a restart'
host_kill B virttorrentd KILL
must virsh_on B pool-refresh $pool
wait_for 20 in_state B debian.qcow2 failed || fail "it is not said to be damaged: $(status B)"
is 'the damaged file' 0:0 "$(stat -c %u:%g "$master")"

step 'until somebody has it again'
must virsh_on A pool-start $pool
must prepare # waits until it is
good
