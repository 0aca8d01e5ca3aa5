# One pair of hosts without shaping, and a new version of a master; for ../swarm.sh.
#
# pair: the file lies in memory on both sides.  The limit is what copying and
# hashing take one after the other: a plain TCP copy, file to file (256 KiB at a
# time, one connection), and SHA-256 of the file in blocks of 16 KiB on all cores, which is
# what verifying costs at least.  Both hosts share this machine's cores, so the
# processor time of all of them counts: seconds per GiB are given beside.  The ways
# take turns; the best round of each counts.
#
# delta: a version 2 of which 3 % of the blocks (16 KiB, spread over the file) are
# others; a host that has version 1 fetches it.  What came over its wire, by the size.
# SPDX-License-Identifier: LGPL-2.1-or-later

# Processor seconds of the hosts' daemons up to now
daemons_cpu() {
    local pid fields sum=0
    for pid in $(pgrep -x virttorrentd); do
        read -r fields <"/proc/$pid/stat"
        # shellcheck disable=SC2086
        set -- ${fields##*) }
        sum=$((sum + ${12} + ${13}))
    done
    awk "BEGIN { print $sum / $(getconf CLK_TCK) }"
}

# MiB that the larger of a host's daemon processes, the engine, had in memory at most
peak_of() {
    local pid
    for pid in $(host_pids "$1" virttorrentd); do
        host_exec "$1" cat "/proc/$pid/status"
    done | awk '/^VmHWM/ && $2 > most { most = $2 } END { print most / 1024 }'
}

run_new() {
    run=$LAB/run
    rm -rf "$run"
    mkdir "$run"
    chmod 0755 "$run"
    : >"$LAB/gates/0"
}

seconds_since() { awk "BEGIN { printf \"%.3f\", ($EPOCHREALTIME - $1) }"; }

# each prints "wall cpu [MiB that the fetching engine had in memory at most]"
pair_ours() {
    local begin cpu
    run_new
    ours_origin
    cpu=$(daemons_cpu)
    begin=$EPOCHREALTIME
    ours_host h1
    [[ -s $run/h1.done ]] || die "the pair does not fetch: $(cat "$run/h1.log")"
    awk "BEGIN { print $(cat "$run/h1.done") - $begin, $(daemons_cpu) - $cpu, $(peak_of h1) }"
    cmp -s "$image" "$(ours_file h1)" || die 'the pair fetched another file'
    hosts_clear
}
pair_copy() {
    local begin cpu wall
    run_new
    cpu=$(cpu_seconds)
    begin=$EPOCHREALTIME
    host_exec h0 "$tool" send 7000 "$image" &
    host_exec h1 "$tool" receive "$(ip_of h0)" 7000 "$run/copy" >/dev/null || die 'no plain copy'
    wall=$(seconds_since "$begin")
    wait $!
    awk "BEGIN { print $wall, $(cpu_seconds) - $cpu }"
}
pair_hash() {
    local begin cpu wall
    cpu=$(cpu_seconds)
    begin=$EPOCHREALTIME
    "$tool" hash "$image" || die 'no hash'
    wall=$(seconds_since "$begin")
    awk "BEGIN { print $wall, $(cpu_seconds) - $cpu }"
}

# pair MIB ROUNDS
pair() {
    local round way
    hosts_up 1
    link h0 0
    link h1 0
    size=$(($1 << 20)) image=$LAB/image join_of=()
    head -c $size /dev/urandom >"$image"
    : >pair
    for ((round = 0; round < $2; round++)); do
        for way in ours copy hash; do
            "pair_$way" >pair.one
            echo "$way $(cat pair.one)" >>pair
        done
    done
    printf '\n%-40s %8s %14s %9s   (the best of %d rounds, %d MiB)\n' 'one pair, not shaped' MiB/s 'CPU s per GiB' 'peak MiB' "$2" "$1"
    awk -v mib="$1" '
        !($1 in wall) || $2 < wall[$1] { wall[$1] = $2 }
        !($1 in cpu) || $3 < cpu[$1] { cpu[$1] = $3 }
        $1 == "ours" && (!peak || $4 < peak) { peak = $4 }
        function row(name, w, c, more) { printf "%-40s %8.0f %14.2f%s\n", name, mib / w, c * 1024 / mib, more }
        END {
            row("torrentpool", wall["ours"], cpu["ours"], sprintf(" %9.0f", peak))
            row("a plain TCP copy", wall["copy"], cpu["copy"])
            row("SHA-256 of its blocks, all cores", wall["hash"], cpu["hash"])
            row("the limit: both, one after the other", wall["copy"] + wall["hash"], cpu["copy"] + cpu["hash"])
            printf "figure pair.over_limit %.2f\n", (wall["copy"] + wall["hash"]) / wall["ours"] >figures
        }' figures=figures.pair pair
    cat figures.pair >>"$BENCH_FIGURES"
}

# delta MIB
delta() {
    local got magnet
    hosts_up 1
    link h0 500
    link h1 500
    size=$(($1 << 20)) image=$LAB/image join_of=()
    head -c $size /dev/urandom >"$image"
    run_new
    ours_origin
    ours_host h1
    [[ -s $run/h1.done ]] || die "version 1 does not come: $(cat "$run/h1.log")"
    cp "$image" "$LAB/image2"
    "$tool" change "$LAB/image2" 3 || exit 1
    cp "$LAB/image2" "$run/h0/pool/image-2" && chmod 0444 "$run/h0/pool/image-2"
    magnet=$(host_exec h0 "$tool" publish $ours_socket image-2) || die 'version 2 cannot be published'
    got=$(received_by h1)
    host_exec h1 "$tool" fetch $ours_socket image-2 "$magnet" "$LAB/gates/0" "$run/h1.done2" ||
        die 'version 2 does not come'
    got=$(($(received_by h1) - got))
    cmp -s "$LAB/image2" "$run/h1/pool/image-2" || die 'another version 2 came'
    hosts_clear
    rm "$LAB/image2"
    printf '\na version 2 with 3 %% other blocks (%d MiB): %.2f of its size came over the wire\n' "$1" \
        "$(awk "BEGIN { print $got / $size }")"
    awk "BEGIN { printf \"figure delta.wire_over_size %.3f\n\", $got / $size }" >>"$BENCH_FIGURES"
}
