# Hosts with shaped links, and what is measured of them; for ../swarm.sh.
#
# Host h0 is the origin, h1 to hN fetch.  Their links end in one bridge, each
# shaped on both ends of its veth: up on the host's, down on the bridge's.  With
# segmentation offload packets travel in bursts, whose headers the shapers count in full
# and the interfaces' counters once.  Bursts of 64 KiB are much of what a switch
# queues; without any, a third of this machine's time would go to timers; so they are
# held to 16 KiB, a block of BitTorrent.
#
# All files lie in memory (a tmpfs): the hosts would share one disk otherwise.
#
# Processor time is that of all processes that ended, as their reapers count
# it: the first process of each host, and that of the laboratory.
# SPDX-License-Identifier: LGPL-2.1-or-later

# No libvirt is needed here, so none has to be built.
export TORRENTPOOL_LIBVIRT=${TORRENTPOOL_LIBVIRT:-$TORRENTPOOL_BUILD}
. "$top/tests/lib/host.sh"
tool=$TORRENTPOOL_BUILD/tests/bench-swarm
hosts=0      # that fetch; h1 to h$hosts

# lab_open MIB: memory for all files
lab_open() {
    mount -t tmpfs -o "mode=0755,size=${1}M" swarm "$LAB" || die 'no file system in memory to be had'
    cd "$LAB" || exit 1
    trap lab_close EXIT
    mkdir gates
    echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null # no filter on the bridge
    mkfifo never
    exec {never}<>never
}

lab_close() {
    local status=$?
    trap '' HUP INT TERM
    { kill -9 -1; wait; } 2>/dev/null # (and nothing said about each)
    cd /
    umount -R -l "$LAB"
    (exit $status)
    lab_leave
}

# Seconds, without a process
pause() { read -r -t "$1" -u "$never" || :; }

# hosts_up N: as many hosts as there are not yet, and the origin
hosts_up() {
    local i
    for ((i = 0; i <= $1; i++)); do
        [[ -z ${host_pid[h$i]:-} ]] || continue
        host_start h$i "10.77.0.$((i + 1))"
        # No name server: nobody waits for one that is out of reach.
        rm -f "$(host_root h$i)/etc/resolv.conf"
        : >"$(host_root h$i)/etc/resolv.conf"
    done
    hosts=$1
}
ip_of() { echo "10.77.0.$((${1#h} + 1))"; }

# link NAME MBIT: both ways; 0: not shaped.  The queue holds what 50 ms carry.  The
# bucket holds 10 ms: on a busy machine timers come that late, and what a
# full bucket loses makes the link slower than it is said to be.
declare -A rate_of=()
link() {
    local name=$1 mbit=$2 limit bucket burst=16384
    rate_of[$name]=$mbit
    ((mbit)) || burst=65536
    ip link set "v$name" gso_max_size $burst &&
        host_exec "$name" ip link set eth0 gso_max_size $burst ||
        die "bursts on the link of $name cannot be bounded"
    tc qdisc del dev "v$name" root 2>/dev/null
    host_exec "$name" tc qdisc del dev eth0 root 2>/dev/null
    ((mbit)) || return 0
    limit=$((mbit * 6250))
    ((limit >= 131072)) || limit=131072
    bucket=$((mbit * 1250))
    ((bucket >= 32768)) || bucket=32768
    tc qdisc add dev "v$name" root tbf rate "${mbit}mbit" burst $bucket limit $limit &&
        host_exec "$name" tc qdisc add dev eth0 root tbf rate "${mbit}mbit" burst $bucket limit $limit ||
        die "the link of $name cannot be given $mbit Mbit/s"
}

# in_background LOG HOST COMMAND…: it ends with hosts_clear
in_background() {
    local log=$1
    shift
    host_exec "$@" </dev/null >>"$log" 2>&1 &
    disown $!
}

# Ends whatever runs on the hosts but their first processes.
hosts_clear() {
    local name
    for name in "${!host_pid[@]}"; do
        host_exec "$name" bash -c 'kill -9 -1' </dev/null >/dev/null 2>&1
    done
    pause 0.2
}

# host_leave NAME: it is gone, as when its cable is pulled
host_leave() { ip link set "v$1" down; }
host_return() { ip link set "v$1" up; }

# Processor seconds of what has ended and was waited for
cpu_seconds() {
    local pid fields sum=0
    for pid in $$ "${host_pid[@]}"; do
        read -r fields <"/proc/$pid/stat"
        # shellcheck disable=SC2086
        set -- ${fields##*) }
        sum=$((sum + ${14} + ${15}))
    done
    awk "BEGIN { printf \"%.2f\", $sum / $(getconf CLK_TCK) }"
}

# sampler_start FILE: lines "time host received sent" (bytes on the wire), 5 a second
sampler_start() {
    local name rest at
    : >"$1"
    while :; do
        at=$EPOCHREALTIME
        while read -r name rest; do
            [[ $name == vh* ]] || continue
            # shellcheck disable=SC2086
            set -- $rest
            # what the bridge's end sends the host receives
            echo "$at ${name:1:-1} $9 $1"
        done </proc/net/dev
        pause 0.2
    done >"$1" &
    sampler=$!
}
sampler_stop() {
    kill "$sampler" 2>/dev/null
    wait "$sampler" 2>/dev/null
}

# Bytes that a host has sent, and received; what the bridge's end takes in was sent.
sent_by() { awk -v dev="v$1:" '$1 == dev { print $2 }' /proc/net/dev; }
received_by() { awk -v dev="v$1:" '$1 == dev { print $10 }' /proc/net/dev; }

# Seconds as microseconds
micro() { awk "BEGIN { printf \"%.0f\", ($1) * 1e6 }"; }

# timeline SAMPLES BEGIN SECONDS: "host Mbit/s…" received (the origin: sent) per SECONDS
timeline() {
    awk -v begin="$2" -v bin="$3" '
        { bytes = $2 == "h0" ? $4 : $3 }
        !($2 in from) { name[n++] = $2 }
        $1 < begin || !($2 in from) { old[$2] = bytes; from[$2] = $1; next }
        $1 - from[$2] >= bin - 0.05 {
            line[$2] = line[$2] sprintf(" %5.1f", (bytes - old[$2]) * 8 / 1e6 / ($1 - from[$2]))
            old[$2] = bytes
            from[$2] = $1
        }
        END { for (i = 0; i < n; i++) print name[i], line[name[i]] }' "$1" | sort -V
}
