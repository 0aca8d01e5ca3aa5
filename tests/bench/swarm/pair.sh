# One pair of hosts without shaping, a new version of a master, and how hosts find
# each other; for ../swarm.sh.
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
#
# discovery: from the call to the first 64 KiB that came over the wire, by
# each way alone; the others are switched off.  A way that does not lead to
# the file within $patience s counts as that.
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

# --- discovery --------------------------------------------------------------------

# what_h1_got: bytes, without a process
what_h1_got() {
    local name rest
    while read -r name rest; do
        [[ $name == vh1: ]] || continue
        # shellcheck disable=SC2086
        set -- $rest
        got=$9
        return
    done </proc/net/dev
}

# first_bytes SOURCE: h1 fetches; prints seconds
first_bytes() {
    local begin before got end
    host_exec h1 "$tool" fetch $ours_socket image "$1" "$LAB/gates/0" "$run/h1.done" \
        </dev/null >>"$run/h1.log" 2>&1 &
    # the call comes right after this
    until [[ -e $run/h1.done.ready ]]; do pause 0.01; done
    begin=$EPOCHREALTIME
    what_h1_got
    before=$got
    end=$((${begin/./} + patience * 1000000))
    while ((got - before < 65536 && ${EPOCHREALTIME/./} < end)); do
        kill -0 $! 2>/dev/null || [[ -s $run/h1.done ]] || break
        pause 0.01
        what_h1_got
    done
    if ((got - before < 65536)); then echo $patience; else seconds_since "$begin"; fi
}

# pools OPTIONS ["HOST OPTIONS"]…: h0 has the file; the magnet has no peers in $bare
pools() {
    local host common=$1 line
    run_new
    shift
    for host in h0 h1 h2; do
        pool_options="{$common}"
        for line; do
            [[ $line != "$host "* ]] || pool_options="{$common, ${line#* }}"
        done
        ours_pool $host
    done
    pool_options=
    cp "$image" "$run/h0/pool/image" && chmod 0444 "$run/h0/pool/image"
    magnet=$(host_exec h0 "$tool" publish $ours_socket image) || die "the origin cannot publish"
    # shellcheck disable=SC2001
    bare=$(sed 's/&x\.pe=[^&]*//g' <<<"$magnet")
}

only_by() {
    local way options=
    for way in dht lsd pex; do
        if [[ $way == "$1" ]]; then options+="'$way': <true>, "; else options+="'$way': <false>, "; fi
    done
    echo "${options%, }"
}

discover_peers() { # named by the magnet
    pools "$(only_by none)"
    first_bytes "$magnet"
}
discover_lsd() {
    pools "$(only_by lsd)"
    first_bytes "$bare"
}
discover_dht() { # h2 is the bootstrap host and has nothing
    local via="'bootstrap': <['$(ip_of h2):6881']>"
    pools "$(only_by dht)" "h0 $via" "h1 $via"
    first_bytes "$bare"
}
discover_pex() { # the magnet names h2, which has nothing yet but knows h0
    pools "$(only_by pex)" "h2 'download-limit': <uint64 1024>"
    host_exec h2 "$tool" fetch $ours_socket image "$magnet" "$LAB/gates/0" "$run/h2.done" </dev/null >>"$run/h2.log" 2>&1 &
    until [[ -e $run/h2.done.ready ]]; do pause 0.01; done
    pause 3
    first_bytes "$bare&x.pe=$(ip_of h2):6881"
}
discover_tracker() {
    torrent_made=
    torrent_prepare
    pools "$(only_by none), 'trackers': <['$announce']>"
    first_bytes "$bare"
    kill "$tracker_pid"
    torrent_made= tracker_pid=
}
discover_web() { # an HTTP server has the file, and nobody else
    run_new
    pools "$(only_by none)"
    host_exec h0 "$tool" metainfo $ours_socket image "$run/plain.torrent" || die 'no metainfo'
    hosts_clear
    http_origin
    pool_options="{$(only_by none)}"
    ours_pool h1
    pool_options=
    # keys of a bencoded dictionary are sorted; this is the last one
    /usr/bin/python3 - "$run/plain.torrent" "$run/web.torrent" "http://$(ip_of h0)/image" <<-X
	import sys, libtorrent
	data = libtorrent.bdecode(open(sys.argv[1], 'rb').read())
	data[b'url-list'] = sys.argv[3].encode()
	open(sys.argv[2], 'wb').write(libtorrent.bencode(data))
	X
    first_bytes "$run/web.torrent"
}

discovery() {
    local way label seconds
    hosts_up 2
    for way in h0 h1 h2; do link $way 100; done
    size=$((8 << 20)) image=$LAB/image join_of=() patience=${1:-30}
    head -c $size /dev/urandom >"$image"
    printf '\n%-40s %8s\n' 'from the call to the first 64 KiB' seconds
    : >discovery
    while IFS=: read -r way label; do
        "discover_$way" </dev/null >discovery.one
        seconds=$(cat discovery.one)
        hosts_clear
        echo "$seconds" >>discovery
        [[ $seconds != "$patience" ]] || seconds='never'
        printf '%-40s %8s\n' "$label" "$seconds"
    done <<-X
	peers:peers in the magnet
	lsd:LSD, on one segment
	tracker:a tracker
	dht:DHT, through a third host
	pex:PEX, from a host that has nothing yet
	web:a web seed alone
	X
    echo "figure discovery.seconds_max $(sort -n discovery | tail -n 1)" >>"$BENCH_FIGURES"
}
