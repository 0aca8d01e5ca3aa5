#!/bin/bash
# Masters are published, fetched and deleted again and again; nothing grows.
# Usage: tests/soak/cycles.sh
# SOAK_CYCLES (default: ten times SOAK_POINTS, which is 8) is how often.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# Each cycle publishes masters on A, fetches them on B, clones one, deletes everything and now
# and then restarts a pool.  Resident memory and descriptors of all four daemons are noted
# after a quarter of the cycles, when caches are warm, and in the end.
cycles=${SOAK_CYCLES:-$((${SOAK_POINTS:-8} * 10))}
masters=4
# KiB by which a daemon may be larger in the end: what the allocator keeps, and a little for each cycle.
grow=$((1536 + cycles * 2))
# libvirtd has 20 threads, and each would keep an arena of its own: that is no growth of interest.
export MALLOC_ARENA_MAX=1
hosts_with_pool A B
head -c 20000 /dev/urandom >data

declare -A first=()
daemons=(A:virttorrentd B:virttorrentd A:libvirtd B:libvirtd)
# of the largest process of that name: of virttorrentd that is the engine
rss() { for pid in $(host_pids "${1%:*}" "${1#*:}"); do host_exec "${1%:*}" awk '/^VmRSS/ {print $2}' "/proc/$pid/status"; done | sort -n | tail -n 1; }
fds() { for pid in $(host_pids "${1%:*}" "${1#*:}"); do host_exec "${1%:*}" ls "/proc/$pid/fd" | wc -l; done | awk '{ s += $1 } END { print s }'; }

names=()
for ((i = 0; i < masters; i++)); do
    names+=("m$i.raw")
done
all_seed() {
    local name
    for name in "${names[@]}"; do
        in_state "$1" "$name" seeding || return 1
    done
}
none_left() { [[ -z $(ls "$(in_pool "$1" .torrentpool/meta)" | grep -v '^format$') ]]; }
cycle() {
    local name
    for name in "${names[@]}"; do
        { echo "$1 $name"; cat data; } >"$(in_pool A "$name")"
        chmod 0444 "$(in_pool A "$name")"
    done
    must virsh_on A pool-refresh $pool
    wait_for 60 all_seed A || fail "cycle $1: not all masters seed on A"
    for name in "${names[@]}"; do
        must give_xml A B "$name"
    done
    wait_for 60 all_seed B || fail "cycle $1: not all masters seed on B"
    cmp -s "$(in_pool A m0.raw)" "$(in_pool B m0.raw)" || fail "cycle $1: the two differ"
    must virsh_on B vol-clone --pool $pool m0.raw clone.raw
    must virsh_on B vol-delete --pool $pool clone.raw
    if (($1 % 20 == 7)); then
        must virsh_on B pool-destroy $pool
        must virsh_on B pool-start $pool
        wait_for 60 all_seed B || fail "cycle $1: not all masters seed again"
    fi
    for name in "${names[@]}"; do
        must virsh_on A vol-delete --pool $pool "$name"
        must virsh_on B vol-delete --pool $pool "$name"
    done
    wait_for 30 none_left A && wait_for 30 none_left B || fail "cycle $1: metainfo is left behind"
}

warm=$(((cycles + 3) / 4))
step "$cycles cycles of $masters masters"
for ((n = 1; n <= cycles; n++)); do
    cycle $n
    ((n == warm)) || continue
    for daemon in "${daemons[@]}"; do
        first[$daemon]="$(rss $daemon) $(fds $daemon)"
    done
done

step 'nothing has grown'
for host in A B; do
    for dir in partial resume meta; do
        left=$(find "$(in_pool $host .torrentpool/$dir)" -type f ! -name 'engine.*' ! -name format)
        is "what is left in $dir/ of $host" '' "$left"
    done
done
for daemon in "${daemons[@]}"; do
    read -r rss0 fds0 <<<"${first[$daemon]}"
    rss1=$(rss $daemon) fds1=$(fds $daemon)
    printf '  %-14s %6d KiB after %d cycles, %6d after %d; %3d descriptors, then %3d\n' \
        "$daemon" "$rss0" $warm "$rss1" "$cycles" "$fds0" "$fds1"
    ((fds1 <= fds0 + 6)) || fail "$daemon has $fds1 descriptors instead of $fds0"
    ((rss1 - rss0 <= grow)) || fail "$daemon has grown by $((rss1 - rss0)) KiB in $((cycles - warm)) cycles"
done
