#!/bin/bash
# A host with 50 masters of 10 GiB seeds all of them again after a restart without
# reading them; the one that was changed meanwhile is read, and found out.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

masters=50
hosts_with_pool A
for ((i = 0; i < masters; i++)); do
    # 4 MiB each that a check would read; it leaves out holes
    file=$(in_pool A "m$i.img")
    truncate -s 10G "$file"
    head -c 4M /dev/urandom | dd of="$file" bs=1M seek=$((i * 100)) iflag=fullblock conv=notrunc status=none
    chmod 0444 "$file"
done
must virsh_on A pool-refresh $pool
status() { host_exec A "$TORRENTPOOL_BUILD/src/virttorrentd" --status; }
# are STATE NUMBER: so many masters are in that state
are() { (($(status | grep -c " $1 ") == $2)); }
wait_for 100 are seeding $masters || fail "not all are published: $(status)"
# Bytes that its processes have read, by whatever call, from whatever file.
bytes_read() {
    local pid sum=0
    for pid in $(host_pids A virttorrentd); do
        sum=$((sum + $(host_exec A sed -n 's/^rchar: //p' /proc/"$pid"/io)))
    done
    echo $sum
}
mib() { echo $(($1 / 1048576)); }

read_mib() { echo $(($(bytes_read) >> 20)); }
all_noted() { (($(find "$(in_pool A .torrentpool/resume)" -name '*.stat' | wc -l) >= expected)); }
# restart: without a goodbye
restart() {
    local begin
    # what was verified is noted a moment after it is told
    wait_for 30 all_noted || fail 'the stamps of the masters are not all written'
    host_kill A virttorrentd KILL
    [[ -z ${1:-} ]] || "$@"
    begin=${EPOCHREALTIME/[.,]/}
    must virsh_on A pool-refresh $pool
    # virsh and the daemon's own start included
    wait_for 60 are seeding $expected || fail "not all are seeded: $(status)"
    echo "  $expected of $masters seed after $(((${EPOCHREALTIME/[.,]/} - begin) / 1000)) ms, $(read_mib) MiB were read"
}

step 'restarted, it seeds all of them and has read their metainfo'
expected=$masters
restart
# 200 MiB of data are in them
(($(read_mib) < 50)) || fail "$(read_mib) MiB were read"

step 'one that was changed meanwhile is found out, the others are not read'
change() {
    local file
    file=$(in_pool A m7.img)
    chmod u+w "$file"
    printf x | dd of="$file" bs=1 seek=$((701 * 1048576 + 12345)) conv=notrunc status=none
    chmod u-w "$file"
}
expected=$((masters - 1))
restart change
wait_for 60 grep -q "'m7.img'.* 1 of [0-9]* pieces of its file are damaged" "$LAB/A/log/virttorrentd.log" ||
    fail "it is not found out: $(status | grep m7.img)"
! in_state A m7.img seeding || fail 'it is given to others all the same'
are seeding $expected || fail "others failed, too: $(status)"
(($(read_mib) < 50)) || fail "$(read_mib) MiB were read"

step 'one that only looks changed is read and seeds again'
expected=$((masters - 1))
restart touch "$(in_pool A m8.img)"
in_state A m8.img seeding || fail "it is $(vol_torrent A m8.img state)"
