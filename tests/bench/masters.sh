#!/bin/bash
# many masters: what idle ones cost, shares of what is fetched at once, what the queue's head gains
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A thousand small masters seed and nobody asks for them.  Fifty of 10 GiB seed again after a
# restart.  Then B fetches eight at once, through a link of 80 Mbit/s without a fair queue
# (worse than hosts have it: Debian's default is one) and through the limit of A's pool;
# and one of eight is put at the head of the queue.
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

idle=1000 seconds=30 mib=16 rounds=3
if ((BENCH_QUICK)); then
    seconds=10 mib=8 rounds=1
fi
now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
status() { host_exec "$1" "$TORRENTPOOL_BUILD/src/virttorrentd" --status; }
# are HOST STATE NUMBER: so many masters are in that state
are() { (($(status "$1" | grep -c " $2 ") == $3)); }
# The engine process: the one that is not root's.
engine_pid() { host_exec "$1" pgrep -u $engine_user -x virttorrentd | head -n 1; }
engine_kib() { host_exec "$1" sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' /proc/"$(engine_pid "$1")"/status; }
# Ticks of the clock, 100 a second, that it has run.
engine_ticks() { host_exec "$1" awk '{ sub(/.*\) /, ""); print $12 + $13 }' /proc/"$(engine_pid "$1")"/stat; }
engine_read() { host_exec "$1" sed -n 's/^rchar: //p' /proc/"$(engine_pid "$1")"/io; }
figure() { printf 'figure masters.%s %s\n' "$1" "$2" | tee -a "$BENCH_FIGURES" >>figures; }
quotient() { awk "BEGIN { printf \"%.${3:-2}f\", $1 / $2 }"; }

# renew HOST [SWARM]: a pool with nothing in it
renew() {
    virsh_on "$1" pool-destroy $pool >/dev/null 2>&1
    virsh_on "$1" pool-undefine $pool >/dev/null 2>&1
    host_kill "$1" virttorrentd
    rm -rf "$(in_pool "$1" '')"
    pool_start_new "$1" "${2:-}"
}

measure_idle() {
    local i before ticks sent
    before=$(engine_kib A)
    for ((i = 0; i < idle; i++)); do
        head -c 65536 /dev/urandom >"$(in_pool A "i$i.img")"
    done
    chmod 0444 "$(in_pool A .)"/i*.img
    must virsh_on A pool-refresh $pool
    wait_for 120 are A seeding $idle || fail 'not all are published'
    # as after a start: what publishing took is not what seeding takes
    host_kill A virttorrentd
    must virsh_on A pool-refresh $pool
    wait_for 120 are A seeding $idle || fail 'not all seed again'
    # it looks for peers more often in the first minute
    sleep 65
    ticks=$(engine_ticks A) sent=$(host_tx A)
    sleep $seconds
    figure idle_cpu_percent "$(quotient $(($(engine_ticks A) - ticks)) $seconds)"
    figure idle_wire_bytes_per_s $((($(host_tx A) - sent) / seconds))
    figure idle_kib_per_master "$(quotient $(($(engine_kib A) - before)) $idle 1)"
}

all_noted() { (($(find "$(in_pool A .torrentpool/resume)" -name '*.stat' | wc -l) >= $1)); }

measure_restart() {
    local i file start before
    renew A
    before=$(engine_kib A)
    for ((i = 0; i < 50; i++)); do
        file=$(in_pool A "m$i.img")
        truncate -s 10G "$file"
        head -c 1M /dev/urandom | dd of="$file" bs=1M seek=$((i * 100)) iflag=fullblock conv=notrunc status=none
        chmod 0444 "$file"
    done
    must virsh_on A pool-refresh $pool
    wait_for 200 are A seeding 50 || fail 'not all are published'
    # what was verified is noted a moment after it is told
    wait_for 60 all_noted 50 || fail 'the stamps of the masters are not all written'
    host_kill A virttorrentd KILL
    start=$(now_ms)
    must virsh_on A pool-refresh $pool
    wait_for 60 are A seeding 50 || fail 'not all seed again'
    figure restart_seconds "$(quotient $(($(now_ms) - start)) 1000)"
    figure restart_read_mib "$(($(engine_read A) >> 20))"
    figure idle_kib_per_10gib_master "$(quotient $(($(engine_kib A) - before)) 50 1)"
}

# masters_on_a: eight to be fetched
masters_on_a() {
    local n
    for n in 1 2 3 4 5 6 7 8; do
        random_raw "$(in_pool A "m$n.img")" $mib
        chmod 0444 "$(in_pool A "m$n.img")"
    done
    must virsh_on A pool-refresh $pool
    for n in 1 2 3 4 5 6 7 8; do
        wait_state A m$n.img seeding 30
        vol_xml A m$n.img >m$n.xml
    done
}
ask() { must virsh_on B vol-create $pool "$LAB/m$1.xml"; }
percents() { status B | awk '/\.img /{ p = $3 ~ /^#/ ? $4 : $3; sub("%", "", p); print $1, p }' | sort; }
one_at() { percents >now && awk -v n="$1" '$2 >= n { found = 1 } END { exit !found }' now; }

# shares NAME: of what comes from when one has 20 % until one has 90 %
shares() {
    local n
    for n in 1 2 3 4 5 6 7 8; do
        ask $n
    done
    wait_for 120 one_at 20 && cp now from && wait_for 120 one_at 90 || fail 'nothing comes'
    join from now | awk '{ g = $3 - $2; if (!n++ || g < min) min = g; if (g > max) max = g }
                         END { printf "%.2f\n", min / max }' >share
    figure "$1" "$(cat share)"
    for n in 1 2 3 4 5 6 7 8; do
        wait_for 120 in_state B m$n.img seeding || fail "m$n.img does not come"
    done
}

# seconds_of_8 HEAD OTHERS: until m8 is here
seconds_of_8() {
    local n start uuid
    renew B
    uuid=$(virsh_on B pool-uuid $pool)
    for n in $2; do
        ask "$n"
    done
    start=$(now_ms)
    ask 8
    ! (($1)) || must host_exec B gdbus call --address unix:path=/run/libvirt/virttorrentd-sock \
        --dest org.libvirt.Torrentd1 --object-path /org/libvirt/Torrentd1 \
        --method org.libvirt.Torrentd1.PrioritizeVolume "$uuid" m8.img
    until [[ -e $(in_pool B m8.img) ]]; do
        (($(now_ms) - start < 300000)) || fail 'm8.img does not come'
        sleep 0.02
    done
    quotient $(($(now_ms) - start)) 1000
}

hosts_with_pool A B
measure_idle
measure_restart
renew A "<torrent:limit upload='10' unit='MiB/s'/>"
masters_on_a
shares share_min_over_max_limit
renew A
renew B
masters_on_a
host_shape A 80mbit
shares share_min_over_max_wire
for ((round = 0; round < rounds; round++)); do
    printf 'alone\t%s\nhead of the queue, seven others\t%s\none of eight\t%s\n' \
        "$(seconds_of_8 0 '')" "$(seconds_of_8 1 '1 2 3 4 5 6 7')" "$(seconds_of_8 0 '1 2 3 4 5 6 7')"
done >times
awk -F '\t' '!($1 in n) { order[++ways] = $1 }
    { sum[$1] += $2; n[$1]++ }
    END { for (i = 1; i <= ways; i++) printf "%s\t%.2f\n", order[i], sum[order[i]] / n[order[i]] }' \
    times >"$BENCH_OUT/masters.tsv"
figure head_gain "$(awk -F '\t' '{ t[NR] = $2 } END { printf "%.1f", t[3] / t[2] }' "$BENCH_OUT/masters.tsv")"

sed 's/^figure masters\.//' figures | awk '{ printf "%-40s %10s\n", $1, $2 }'
printf '\n%-40s %8s   (seconds until it is here, %d MiB at 80 Mbit/s)\n' '' mean $mib
awk -F '\t' '{ printf "%-40s %8.2f\n", $1, $2 }' "$BENCH_OUT/masters.tsv"
awk -v title='A master that somebody waits for' -v unit=s \
    -f "$top/tests/bench/bars.awk" "$BENCH_OUT/masters.tsv" >"$BENCH_OUT/masters.svg"
