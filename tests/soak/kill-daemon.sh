#!/bin/bash
# virttorrentd is killed at any moment; nothing is lost and nothing verified is fetched again.
# Usage: tests/soak/kill-daemon.sh
# SOAK_SEED (default: of the clock) decides when, SOAK_POINTS (12) how often.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# After each kill the pool is looked at before anything is started again: no
# incomplete file has a final name.  Then it is refreshed, as a user would, and the
# volume has to become what it was on its way to.  Of a fetch, what had to
# cross the wire after the kill is compared with what was not verified before.
seed=${SOAK_SEED:-$((SECONDS + $(date +%s) % 100000))}
points=${SOAK_POINTS:-12}
RANDOM=$seed
echo "SOAK_SEED=$seed SOAK_POINTS=$points"

size=$((24 * 1048576))
# What may be in flight: what was asked for and what pieces lack their last blocks;
# and what is not content: headers, handshakes, hashes.
flight=$((2 * 1048576))
hosts_with_pool A B
host_shape A 32mbit
random() { echo $(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1))); }
nap() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }

# killed WHAT NAME SUM: what is promised right after a kill
killed() {
    local file
    host_kill B virttorrentd KILL
    file=$(in_pool B "$2")
    [[ ! -e $file ]] || is "what stands as $2 after a kill while $1" "$3" "$(sum_of "$file")"
}
# whole NAME SUM: and later
whole() {
    must virsh_on B pool-refresh $pool
    vol_listed B "$1" || fail "$1 is not listed any more"
    wait_state B "$1" seeding 60
    is "checksum of $1" "$2" "$(sum_of "$(in_pool B "$1")")"
    is_master B "$1"
}
verified() { awk -v s=$size "BEGIN { printf \"%d\", $(vol_torrent B "$1" progress) * s / 100 }"; }
gone() {
    must virsh_on B vol-delete --pool $pool "$1"
    wait_for 20 test ! -e "$(in_pool B ".torrentpool/meta/$1.torrent")"
}

point_hashing() {
    local name=h$1.raw sum
    head -c 100M /dev/urandom >"$name"
    sum=$(sum_of "$name")
    cp "$name" "$(in_pool B "$name")"
    chmod 0444 "$(in_pool B "$name")"
    must virsh_on B pool-refresh $pool
    nap "$(random 0 300)"
    killed hashing "$name" "$sum"
    present "$(in_pool B "$name")"
    whole "$name" "$sum"
    gone "$name"
    rm "$name"
}

# How far a fetch has to be, in percent: the last is where it ends.
beyond() { [[ -e $(in_pool B "$1") ]] || awk "BEGIN { exit !($(vol_torrent B "$1" progress) >= $2) }"; }
fetch_until() {
    head -c $size /dev/urandom >"$1"
    sum=$(sum_of "$1")
    publish A "$1"
    must give_xml A B "$1"
    wait_for 60 beyond "$1" "$2" || fail "$1 does not get to $2 %"
}
point_fetching() {
    local name=f$1.raw sum before after again
    fetch_until "$name" "$(random 3 97)"
    nap "$(random 0 600)"
    before=$(verified "$name")
    killed fetching "$name" "$sum"
    after=$(host_rx B)
    whole "$name" "$sum"
    again=$(($(host_rx B) - after - (size - ${before:-0})))
    echo "  verified $((${before:-0} / 1048576)) MiB; $((again / 1024)) KiB more than the rest crossed the wire"
    ((again > most)) && most=$again
    ((again < flight)) || fail "$again bytes were fetched again"
    gone "$name"
    must virsh_on A vol-delete --pool $pool "$name"
    rm "$name"
}
point_finishing() {
    local name=e$1.raw sum rx again
    fetch_until "$name" 97
    nap "$(random 0 120)"
    rx=$(host_rx B)
    killed finishing "$name" "$sum"
    whole "$name" "$sum"
    again=$(($(host_rx B) - rx))
    ((again < flight)) || fail "$again bytes were fetched again"
    gone "$name"
    must virsh_on A vol-delete --pool $pool "$name"
    rm "$name"
}
point_seeding() {
    local name=s.raw inode
    if [[ ! -e s.raw ]]; then
        head -c 8M /dev/urandom >s.raw
        cp s.raw "$(in_pool B s.raw)"
        chmod 0444 "$(in_pool B s.raw)"
        must virsh_on B pool-refresh $pool
        wait_state B s.raw seeding 30
    fi
    inode=$(stat -c %i "$(in_pool B s.raw)")
    nap "$(random 0 100)"
    killed seeding s.raw "$(sum_of s.raw)"
    whole s.raw "$(sum_of s.raw)"
    is 'the inode of the master' "$inode" "$(stat -c %i "$(in_pool B s.raw)")"
}

most=0
phases=(hashing fetching finishing seeding)
for ((n = 0; n < points; n++)); do
    phase=${phases[n % 4]}
    step "point $n: $phase"
    point_$phase $n
done
partial=$(find "$(in_pool B .torrentpool/partial)" -type f ! -name s.raw | wc -l)
is 'files left behind in partial/' 0 "$partial"
echo "$points kills; at most $((most / 1024)) KiB verified or in flight were fetched again"
