#!/bin/bash
# N hosts that fetch at once, over links of equal rate, against the lower bound and other programs
#
# Usage, apart from ./bench swarm [--quick]:
#   tests/bench/swarm.sh OPTION…
#     --part PART,…     swarm pair delta (default: swarm)
#     --only WAY,…      ours udpcast aria2 libtorrent deluge transmission http rsync (default: ours)
#     --n N,…           hosts that fetch (default: 4,8)
#     --rate MBIT       of each link, both ways (default: by N, see rate_for)
#     --size MIB        of the file (default: what a link carries in --seconds)
#     --seconds S       (default: 20)
#     --scenario NAME,… equal slow leave late (default: equal)
#     --limit X         stop after X times the bound (default: 6)
#     --rounds K        of all that (default: 1)
#     --timeline [S]    what each host received, per S seconds (default: 1)
#     --keep-logs DIR   logs, samples (5 a second) and times of all runs
#     --daemon OPTIONS  of virttorrentd, e.g. --verbose
#     --pool OPTIONS    GVariant text, e.g. "{'lsd': <false>}"
#
# An origin and N hosts, all with links of the same rate; they are told at once
# (scenario late: half of them later) to fetch a file of random bytes.  What counts is
# when the last one has it, verified and under its name.  swarm/lab.sh says how the links are made,
# swarm/ways.sh what runs, swarm/pair.sh how the other parts are measured.
#
#   /bound   that time by the least possible one (see bound)
#   copies   bytes that left the origin, by the size of the file
#   p50 p99  seconds of single hosts, from their own call
#   CPU s    of all processes of the run: publishing, serving, fetching, and some of the bench
#
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
. "$(dirname "$0")/../lib/env.sh"
export BENCH_QUICK=${BENCH_QUICK:-0} BENCH_OUT=${BENCH_OUT:-$TORRENTPOOL_CACHE/bench}
export BENCH_FIGURES=${BENCH_FIGURES:-/dev/null}
bench=$top/tests/bench

# Links are to be the limit and not this machine's cores, which have to carry
# all of them: 70 MB/s together, and less where there are many connections (32 hosts
# have a thousand).
rate_for() {
    local rate=$((($1 > 16 ? 256 : $1 > 8 ? 400 : 560) / $1))
    echo $((rate > 100 ? 100 : rate))
}

arguments=("$@")
parts='' only='' ns='' rate='' mib='' seconds=20 scenarios=equal rounds=1 bin='' keep='' limit=6
while (($#)); do
    case $1 in
    --part) parts=${2//,/ }; shift ;;
    --only) only=${2//,/ }; shift ;;
    --n) ns=${2//,/ }; shift ;;
    --rate) rate=$2; shift ;;
    --size) mib=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --limit) limit=$2; shift ;;
    --scenario) scenarios=${2//,/ }; shift ;;
    --rounds) rounds=$2; shift ;;
    --timeline)
        bin=1
        [[ ! ${2:-} =~ ^[0-9.]+$ ]] || { bin=$2; shift; } ;;
    --keep-logs) keep=$2; shift ;;
    --daemon) daemon_options=$2; shift ;;
    --pool) pool_options=$2; shift ;;
    --help | -h) sed -n '2,/^# SPDX/{/SPDX/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) die "unknown option '$1'; see --help" ;;
    esac
    shift
done

# How hosts find each other has a laboratory of its own, with libvirt.
if [[ -z ${TORRENTPOOL_IN_LAB:-}$parts$only$ns ]]; then
    "$bench/discovery.sh" || die 'hosts do not find each other'
    echo
fi
. "$bench/swarm/lab.sh"
. "$bench/swarm/ways.sh"
. "$bench/swarm/pair.sh"
others='udpcast aria2 libtorrent deluge transmission http rsync'
[[ -n ${TORRENTPOOL_IN_LAB:-} || $only == ours || -n $ns$parts && -z $only ]] ||
    "$top/build-aux/install-deps" "$bench/swarm/deps" || exit 1
lab_enter "${arguments[@]}"
export VIRTTORRENTD_PATH=${VIRTTORRENTD_PATH:-$TORRENTPOOL_BUILD/src/virttorrentd}
built=$(make -s -C "$TORRENTPOOL_BUILD/tests" bench-swarm 2>&1) || die "bench-swarm does not build: $built"

# The least time that N hosts can need, after Kumar and Ross, "Peer-assisted
# file distribution: the minimum distribution time", IEEE HotWeb 2006: no
# schedule beats max(S/u_origin, S/d_min, N S/(u_origin + sum u_i)).  A host
# that comes late can neither give nor take before: it shifts its own term and
# gives less.  Bits of the wire: what headers take (4.4 % with TCP) is part of
# the ratio.  stdin: lines "rate join", the origin's first; $1: bytes
bound() {
    awk -v size="$1" '
        { rate[NR] = $1 * 1e6 / 8; join[NR] = $2; if ($2 > last) last = $2 }
        END {
            n = NR - 1
            time = size / rate[1]
            for (i = 2; i <= NR; i++) {
                t = join[i] + size / rate[i]
                if (t > time) time = t
                up += rate[i]
                lost += rate[i] * join[i]
            }
            t = (n * size + lost) / (rate[1] + up)
            if (t > last && t > time) time = t
            printf "%.3f\n", time
        }'
}

declare -A join_of=()
gate_of() {
    if [[ ${join_of[$1]:-0} == 0 ]]; then echo "$LAB/gates/0"; else echo "$LAB/gates/1"; fi
}

# Rates and times of arrival; sets late (seconds) and least (the bound)
scene() {
    local scenario=$1 n=$2 mbit=$3 i
    late=0 join_of=()
    for ((i = 0; i <= n; i++)); do
        link h$i $mbit
    done
    case $scenario in
    equal | leave) ;;
    slow) link h1 $((mbit / 2)) ;;
    late)
        late=$(awk "BEGIN { printf \"%.2f\", $size * 8 / 1e6 / $mbit / 2 }")
        for ((i = n / 2 + 1; i <= n; i++)); do
            join_of[h$i]=$late
        done ;;
    *) die "there is no scenario '$scenario'" ;;
    esac
    least=$(for ((i = 0; i <= n; i++)); do echo "${rate_of[h$i]} ${join_of[h$i]:-0}"; done | bound "$size")
}

finished() {
    local i
    for ((i = 1; i <= hosts; i++)); do
        [[ -s $run/h$i.$1 || -e $run/h$i.$1 && $1 == done.ready ]] || return 1
    done
}

# Until all are done, or one gave up, or the limit is reached
await() {
    local end=$1 i
    until finished done; do
        if ((${EPOCHREALTIME/./} > end)); then
            trouble="not done after ${2%.*} s"
            return
        fi
        if [[ -n $watching ]] && ! kill -0 "$watching" 2>/dev/null; then
            host_leave h0
            watching=
            left=${EPOCHREALTIME/./}
        fi
        for ((i = 1; i <= hosts; i++)); do
            if [[ ! -s $run/h$i.done ]] && ! kill -0 "${job[$i]}" 2>/dev/null && [[ ! -s $run/h$i.done ]]; then
                trouble="h$i gave up: $(tail -n 1 "$run/h$i.log")"
                return
            fi
        done
        pause 0.05
    done
}

# The origin goes when one copy of everything is on the other hosts.
watch_copy() {
    local i files=()
    for ((i = 1; i <= hosts; i++)); do
        files+=("$("${1}_part" h$i)")
    done
    "$tool" whole "$size" $((256 * 1024)) "${files[@]}" &
    watching=$!
    disown $watching
}

# once WAY SCENARIO N: one run; a line of results
once() {
    local way=$1 scenario=$2 n=$3 i begin gates=() job=() trouble='' cpu sent opened most watching='' left=''
    run=$LAB/run
    rm -rf "$run"
    mkdir "$run"
    chmod 0755 "$run"
    for i in 0 1; do
        rm -f "gates/$i" # what still runs may hold the old one
        exec {opened}>"gates/$i"
        flock -x $opened
        gates[i]=$opened
    done
    cpu=$(cpu_seconds)
    "${way}_origin"
    for ((i = 1; i <= n; i++)); do
        "${way}_host" h$i &
        job[$i]=$!
    done
    wait_for 60 finished done.ready || die "$way: the hosts do not get ready: $(tail -qn 2 "$run"/*.log)"
    sampler_start "$run/samples"
    pause 0.5
    sent=$(sent_by h0)
    begin=$EPOCHREALTIME
    flock -u ${gates[0]}
    if [[ $late != 0 ]]; then
        (pause "$late"; flock -u ${gates[1]}) &
    fi
    if [[ $scenario == leave ]]; then
        watch_copy "$way"
    fi
    most=$(awk "BEGIN { print $least * $limit }")
    await $((${begin/./} + $(micro "$most"))) "$most"
    sent=$(($(sent_by h0) - sent))
    [[ -z $watching ]] || kill "$watching" 2>/dev/null
    [[ -z $left ]] || echo "(the origin left after $(awk "BEGIN { printf \"%.1f\", ($left - ${begin/./}) / 1e6 }") s)"
    pause 0.2
    sampler_stop
    for ((i = 1; i <= n && ${#trouble} == 0; i++)); do
        cmp -s "$image" "$("${way}_file" h$i)" || trouble="h$i has another file"
    done
    hosts_clear
    wait
    host_return h0
    exec {gates[0]}>&- {gates[1]}>&-
    cpu=$(awk "BEGIN { print $(cpu_seconds) - $cpu }")
    result "$way" "$scenario" "$n" "$begin" "$sent" "$cpu" "$trouble"
}

# Prints a run's line, and adds it to results
result() {
    local way=$1 scenario=$2 n=$3 begin=$4 sent=$5 cpu=$6 trouble=$7 i
    for ((i = 1; i <= n; i++)); do
        [[ ! -s $run/h$i.done ]] || echo "h$i ${join_of[h$i]:-0} $(cat "$run/h$i.done")"
    done | awk -v begin="$begin" '{ printf "%s %.3f %.3f\n", $1, $3 - begin, $3 - begin - $2 }' >"$run/times"
    sort -n -k 3 "$run/times" | awk -v n="$n" -v way="$way" -v scenario="$scenario" -v least="$least" \
        -v sent="$sent" -v size="$size" -v cpu="$cpu" -v trouble="$trouble" -v OFS='\t' '
        { t[NR] = $3; if ($2 > last) last = $2 }
        function part(p,  i) { i = int(p * n + 0.999999); return i <= NR ? t[i] : "-" }
        END {
            bad = trouble != ""
            print scenario, n, way, bad ? "-" : last, bad ? "-" : last / least, sent / size,
                bad ? "-" : part(0.5), bad ? "-" : part(0.99), cpu, least, trouble
        }' >"$run/result"
    cat "$run/result" >>"$LAB/results"
    awk -F '\t' '
        { printf "%-12s", $3 == "ours" ? "torrentpool" : $3 }
        $4 == "-" { printf " %s; %.2f copies\n", $11, $6; next }
        { printf " %7.2f s %7.2f %7.2f %7.2f %7.2f %7.1f\n", $4, $5, $6, $7, $8, $9 }' "$run/result"
    if [[ -n $bin ]]; then
        echo "  Mbit/s received, per $bin s from the call; the last column is when it was done"
        timeline "$run/samples" "$begin" "$bin" | while read -r name line; do
            [[ $name != h0 ]] || name='h0 sent'
            printf '  %-7s %s  | %s\n' "$name" "$line" "$(awk -v h="$name" '$1 == h { print $2 }' "$run/times")"
        done
    fi
    if [[ -n $keep ]]; then
        mkdir -p "$keep/$scenario-n$n-$way"
        find "$run" -maxdepth 1 -type f -exec cp -t "$keep/$scenario-n$n-$way" {} +
    fi
}

# A plain TCP copy around the ring of hosts, all at once: what the links carry, and
# that this machine carries all of them.
check_links() {
    local n=$1 mbit=$2 i
    head -c $((mbit * 312500)) /dev/zero >ring
    for ((i = 0; i <= n; i++)); do
        host_exec h$i "$tool" send 7000 "$LAB/ring" &
    done
    for ((i = 0; i <= n; i++)); do
        host_exec h$i "$tool" receive "$(ip_of h$(((i + 1) % (n + 1))))" 7000 /dev/null &
    done >ring.rates
    wait
    [[ $(wc -l <ring.rates) == $((n + 1)) ]] || die 'the links do not carry plain TCP'
    awk -v mbit="$mbit" -v n="$n" '
        { part = $1 * 8 / 1e6 / mbit; if (!least || part < least) least = part; sum += part }
        END { printf "links: %d at once, plain TCP carries %.1f %% of %d Mbit/s on average, %.1f %% on the slowest\n",
                  n + 1, sum / NR * 100, mbit, least * 100 }' ring.rates
    rm ring
}

# swarm N WAYS SCENARIOS ROUNDS MOST: other ways than ours run in the first MOST rounds
swarm() {
    local n=$1 ways=$2 scenario round way mbit
    hosts_up "$n"
    mbit=${rate:-$(rate_for "$n")}
    size=$(((${mib:-$((mbit * seconds * 1000000 / 8 / 1048576))}) * 1048576))
    image=$LAB/image
    head -c $size /dev/urandom >"$image"
    for scenario in $3; do
        scene "$scenario" "$n" "$mbit"
        printf '\nN = %d, %s: %d Mbit/s, %d MiB, the bound is %.2f s\n' \
            "$n" "$(scenario_label "$scenario")" "$mbit" $((size >> 20)) "$least"
        [[ $scenario != equal ]] || check_links "$n" "$mbit"
        printf '%-12s %9s %7s %7s %7s %7s %7s\n' '' last /bound copies p50 p99 'CPU s'
        for ((round = 0; round < $4; round++)); do
            for way in $ways; do
                [[ $way != ours ]] && ((round >= $5)) || once "$way" "$scenario" "$n"
            done
        done
    done
}

scenario_label() {
    case $1 in
    equal) echo 'all alike' ;;
    slow) echo 'one host at half the rate' ;;
    leave) echo 'the origin leaves after one copy' ;;
    late) echo 'half of the hosts come late' ;;
    esac
}

lab_open 16000
: >results
if [[ -n $parts$only$ns ]]; then
    for part in ${parts:-swarm}; do
        case $part in
        swarm)
            for n in ${ns:-4 8}; do
                swarm "$n" "${only:-ours}" "$scenarios" "$rounds" "$rounds"
            done ;;
        pair) pair "${mib:-1024}" 3 ;;
        delta) delta "${mib:-256}" ;;
        *) die "there is no part '$part'" ;;
        esac
    done
elif ((BENCH_QUICK)); then
    # within 8 minutes, on a busy machine too: what takes twice the bound is cut off
    seconds=10 limit=2
    swarm 4 'ours udpcast aria2 libtorrent deluge http' equal 2 1
    swarm 8 'ours udpcast aria2 libtorrent' equal 2 1
    pair 512 3
    delta 64
else
    # About 50 minutes.  A master takes minutes rather than seconds, so what begin and end
    # take must not weigh more than it does; 40 s are what this machine's patience
    # allows, for every N and everybody.  What takes more than $limit times the bound is
    # cut off: one server for all, from N = 4 on, as arithmetic says.
    seconds=40 limit=2.5
    swarm 1 'ours udpcast aria2 http rsync' equal 2 1
    for n in 4 8; do
        swarm $n "ours $others" equal 3 1
    done
    swarm 8 'ours aria2 libtorrent' 'slow leave late' 1 1
    swarm 16 'ours udpcast aria2 libtorrent deluge' equal 3 1
    swarm 32 'ours udpcast aria2 libtorrent' equal 3 1
    pair 1024 5
    delta 256
fi

awk -F '\t' -f "$bench/swarm/figures.awk" results >>"$BENCH_FIGURES"
awk -F '\t' -v chart="$BENCH_OUT/swarm.svg" -f "$bench/swarm/lines.awk" results
! awk -F '\t' '$3 == "ours" && $4 == "-"' results | grep -q . || die 'torrentpool did not bring the file to all hosts'
