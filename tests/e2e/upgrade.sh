#!/bin/bash
# State of an older virttorrentd is read by this one; that of a newer one is refused.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# The state as it was before it had a number: the engine's directories, with
# nothing but metainfo and stamps, and a fetch that had just begun.
hosts_with_pool A B
random_qcow2 debian.qcow2 4 64M
random_raw more.raw 4
publish A debian.qcow2
publish A more.raw
state() { in_pool A ".torrentpool/$1"; }
stop() {
    must virsh_on A pool-destroy $pool
    host_kill A virttorrentd TERM
}
# Everything that is there, but for when it was looked at.
inventory() { find "$(in_pool A .)" -printf '%P %y %m %U:%G %s %T@ %C@ %i\n' | sort; }

older() {
    local partial
    read -r size mtime inode < <(stat -c '%s %.9Y %i' "$(in_pool A debian.qcow2)")
    rm -rf "$(state meta/format)" "$(state resume)"/*
    echo "size=$size mtime=$mtime inode=$inode" >"$(state resume/debian.qcow2.stat)"
    # more.raw is to be fetched: a magnet is known, and zeros of the right length are here
    printf '[volume]\nmagnet=%s\ncapacity=4194304\n' "$(vol_torrent B more.raw magnet)" >"$(state meta/more.raw.magnet)"
    rm -f "$(state meta/more.raw.torrent)" "$(in_pool A more.raw)" "$(state partial/more.raw)"
    truncate -s 4M "$(state partial/more.raw)"
    chown -R --reference="$(state meta)" "$(state meta)" "$(state resume)" "$(state partial/more.raw)"
}

step 'what a version of before there were numbers wrote is read'
must give_xml A B more.raw
wait_state B more.raw seeding 30
stop
older
must virsh_on A pool-start $pool
wait_state A debian.qcow2 seeding 20
wait_state A more.raw seeding 60
is checksum "$(sum_of more.raw)" "$(sum_of "$(in_pool A more.raw)")"
is_master A debian.qcow2
is 'the format' 1 "$(cat "$(state meta/format)")"
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2
clone_is_good A web01.qcow2 debian.qcow2

step 'what a newer one wrote is refused, and stays as it is'
stop
echo 7 >"$(state meta/format)"
echo unknown >"$(state meta/.later)"
before=$(inventory)
refused "newer virttorrentd wrote '$target/.torrentpool' \(format 7, this one knows 1\): install that version again" \
    virsh_on A pool-start $pool
host_kill A virttorrentd TERM
refused 'newer virttorrentd' virsh_on A pool-start $pool
after=$(inventory)
is 'what is in the pool' "$before" "$after"

step 'with the way out taken, all is well'
echo 1 >"$(state meta/format)"
must virsh_on A pool-start $pool
wait_state A debian.qcow2 seeding 20
clone_is_good A web01.qcow2 debian.qcow2
absent "$(state meta/.later)"
