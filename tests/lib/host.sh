# Hosts for tests: to be sourced by a bash script, which then calls
#
#   lab_enter "$@"         first of all: runs the script again in a laboratory,
#                          namespaces of its own (pid, net, mount, ipc, uts) that
#                          end with the script, whatever it left running
#   host_start A 10.77.0.1 a host: network, processes and mounts of its own and
#                          a root file system that is this machine's under a
#                          writable layer, so that system paths are the host's own
#   segment_add br1 10.78.0  another segment, behind a router; host_start takes its name
#   libvirtd_start A       its libvirtd, from the build tree
#   virsh_on A pool-list   virsh, connected to it
#   host_exec A COMMAND…   anything else
#   host_root A            the path of its root, as seen from the script
#
# $LAB is a directory for the script's own files which every host sees under the
# same path.  Nothing is written outside of it, and it is removed in the end
# unless the script failed and KEEP_LOGS names a directory to take the logs.
#
# Invariant: nothing here can reach the machine's own libvirt, network or
# processes.  The laboratory has no route out; /run, /etc/libvirt and
# /var/{lib,log,cache}/libvirt of a host are its own.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

engine_user=virttorrent
declare -A host_pid=() host_ip=()
# Hosts of another release: its root, and the build trees that run there; see
# tests/release/interop.sh.
declare -A host_base=() host_build=() host_libvirt=()
# Hosts that are machines, not namespaces: see tests/xen/dom0.sh.
declare -A dom0_pid=()

lab_enter() {
    if [[ -z ${TORRENTPOOL_IN_LAB:-} ]]; then
        [[ $(id -u) == 0 ]] || die "needs root: it makes namespaces and mounts"
        build_libvirt
        [[ -x $TORRENTPOOL_BUILD/src/virttorrentd ]] || build_torrentpool
        mkdir -p "${TORRENTPOOL_TMP:=$TORRENTPOOL_CACHE/run}"
        export TORRENTPOOL_TMP TORRENTPOOL_IN_LAB=1
        local unshare=(unshare --mount --net --pid --ipc --uts --fork --kill-child)
        if mountpoint -q /; then
            exec "${unshare[@]}" --mount-proc -- "$BASH" "$0" "$@"
        fi
        # In a plain chroot the root is no mount, but has to be one for what follows.
        mkdir -p "$TORRENTPOOL_TMP/root"
        # shellcheck disable=SC2016
        exec "${unshare[@]}" --propagation unchanged -- "$BASH" -c '
            mount --rbind / "$1" && mount --make-rprivate "$1" &&
            mount -t proc proc "$1/proc" || exit 1
            exec chroot "$1" "$BASH" -c "cd \"\$0\" && exec \"\$BASH\" \"\$@\"" "$PWD" "${@:2}"' \
            - "$TORRENTPOOL_TMP/root" "$0" "$@"
    fi
    [[ $$ == 1 ]] || die "TORRENTPOOL_IN_LAB is set, but this is no laboratory"
    LAB=$(mktemp -d "$TORRENTPOOL_TMP/${0##*/}.XXXXXX")
    chmod 0755 "$LAB"
    trap lab_leave EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    cd "$LAB" || exit 1
    # Without snooping every host hears every multicast, as on a simple switch.
    ip link set lo up &&
        ip link add br0 type bridge mcast_snooping 0 &&
        ip addr add 10.77.0.254/24 dev br0 &&
        ip link set br0 up || die 'a network of its own cannot be made'
}

# Everything in the laboratory dies here; the mounts go with its namespace.
lab_leave() {
    local status=$?
    set +e
    trap '' HUP INT TERM
    if [[ $status != 0 && $status != 77 ]]; then
        lab_save_logs
    fi
    kill -9 -1 2>/dev/null
    cd /
    local name
    for name in "${!host_ip[@]}"; do
        umount -R -l "$LAB/$name/root" 2>/dev/null
        umount -l "$LAB/$name/layer" 2>/dev/null
    done
    # what the script mounted itself
    findmnt -rno TARGET | grep -F "$LAB/" | tac | xargs -r umount -l 2>/dev/null
    rm -rf --one-file-system "$LAB"
    exit "$status"
}

# What the hosts' daemons wrote: the end of it on stderr, all of it in KEEP_LOGS.
lab_save_logs() {
    local name log
    for name in "${!host_ip[@]}"; do
        for log in "$LAB/$name"/log/*.log "$LAB/$name"/log/qemu/*.log; do
            [[ -s $log ]] || continue
            echo "--- host $name: ${log##*/} (its end)"
            tail -n 25 "$log"
        done
        if [[ -n ${KEEP_LOGS:-} ]]; then
            mkdir -p "$KEEP_LOGS/$name"
            cp -r "$LAB/$name/log/." "$KEEP_LOGS/$name/"
        fi
    done >&2
}

host_root() { echo "$LAB/$1/root"; }

# The root file system: this machine's, read through an overlay.
host_mount() {
    local name=$1 dir=$LAB/$1 root=$LAB/$1/root path
    mkdir -p "$dir"/{root,layer,lib/images,lib/qemu,log/qemu,cache}
    mount -t tmpfs -o size=512m,mode=0755 layer "$dir/layer"
    mkdir "$dir"/layer/{upper,work}
    mount -t overlay -o "lowerdir=${host_base[$name]:-/},upperdir=$dir/layer/upper,workdir=$dir/layer/work" "$name" "$root"

    mount -t tmpfs -o mode=0755 run "$root/run"
    mkdir -p "$root"/run/lock
    host_mount_dev "$root"
    mkdir -p "$root"/etc/libvirt "$root"/var/{lib,log,cache}/libvirt
    mount -t tmpfs -o mode=0755 etc "$root/etc/libvirt"
    chmod 0711 "$dir/lib" "$dir/lib/images"
    for path in lib log cache; do
        mount --bind "$dir/$path" "$root/var/$path/libvirt"
    done
    # Programs and files that are on other file systems than the root.
    for path in "$top" "$TORRENTPOOL_CACHE" "$TORRENTPOOL_BUILD" "${host_libvirt[$name]:-$TORRENTPOOL_LIBVIRT}"; do
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
    done
    mkdir -p "$root$LAB"
    mount --bind "$LAB" "$root$LAB"
}

# A small /dev.  Above all without /dev/kvm: guests are emulated, everywhere alike.
host_mount_dev() {
    local root=$1 node
    mount -t tmpfs -o mode=0755 dev "$root/dev"
    for node in null zero full random urandom tty; do
        : >"$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node"
    done
    mkdir "$root"/dev/{pts,shm}
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s fd/0 "$root/dev/stdin"
    ln -s fd/1 "$root/dev/stdout"
    ln -s fd/2 "$root/dev/stderr"
}

# host_configure NAME ROOT: what libvirtd and virttorrentd find below ROOT/etc
host_configure() {
    local name=$1 root=$2 uid=999
    if ! grep -q "^$engine_user:" "$root/etc/passwd"; then
        while grep -q "^[^:]*:[^:]*:$uid:" "$root/etc/passwd" "$root/etc/group"; do
            uid=$((uid - 1))
        done
        echo "$engine_user:x:$uid:$uid::/nonexistent:/usr/sbin/nologin" >>"$root/etc/passwd"
        echo "$engine_user:x:$uid:" >>"$root/etc/group"
    fi
    # libvirtd looks its own name up at each start of a guest: 10 s without this.
    echo "127.0.0.1 localhost $name" >"$root/etc/hosts"
    cat >"$root/etc/libvirt/libvirtd.conf" <<-X
	auth_unix_ro = "none"
	auth_unix_rw = "none"
	host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
	log_filters = "2:torrent"
	log_outputs = "1:file:/var/log/libvirt/libvirtd.log"
	X
    cat >"$root/etc/libvirt/qemu.conf" <<-X
	user = "root"
	group = "root"
	dynamic_ownership = 1
	security_driver = "none"
	cgroup_controllers = [ ]
	namespaces = [ ]
	stdio_handler = "file"
	X
}

# segment_add BRIDGE PREFIX: the laboratory itself is the router.  LSD's multicast does
# not cross it.
segment_add() {
    ip link add "$1" type bridge mcast_snooping 0 &&
        ip addr add "$2.254/24" dev "$1" &&
        ip link set "$1" up &&
        echo 1 >/proc/sys/net/ipv4/ip_forward || die "there is no second segment"
}

# host_start NAME ADDRESS [BRIDGE]
host_start() {
    local name=$1 ip=$2 bridge=${3:-br0} root=$LAB/$1/root outer
    host_ip[$name]=$ip
    # (on a line of its own, as "set -e" means nothing before "||")
    (set -e; host_mount "$name"; host_configure "$name" "$root")
    # shellcheck disable=SC2181
    [[ $? == 0 ]] || die "the root of host $name cannot be made"
    mkfifo "$LAB/$name/up"
    # The first process of the host takes in what others leave behind.
    # shellcheck disable=SC2016
    unshare --mount --net --pid --ipc --uts --fork --kill-child -- \
        chroot "$root" /bin/bash -c '
            mount -t proc proc /proc
            mount -t sysfs sysfs /sys
            hostname "$1"
            ip link set lo up
            echo up >"$2"
            trap : HUP INT TERM
            while :; do sleep 3600 & wait; done' init "$name" "$LAB/$name/up" \
        </dev/null >>"$LAB/$name/log/init.log" 2>&1 &
    outer=$!
    disown $outer
    timeout 10 cat "$LAB/$name/up" >/dev/null || die "host $name did not start"
    host_pid[$name]=$(pgrep -P $outer)
    [[ -n ${host_pid[$name]} ]] || die "host $name has no first process"

    ip link add "v$name" type veth peer name eth0 netns "${host_pid[$name]}" &&
        ip link set "v$name" master "$bridge" up &&
        host_exec "$name" ip addr add "$ip/24" brd + dev eth0 &&
        host_exec "$name" ip link set eth0 up &&
        host_exec "$name" ip route add default via "${ip%.*}.254" ||
        die "host $name cannot be put on the network"
}

# host_shape NAME RATE: its link, both ways, e.g. 200mbit
host_shape() {
    local name=$1 rate=$2
    tc qdisc replace dev "v$name" root tbf rate "$rate" burst 256kb latency 50ms &&
        host_exec "$name" tc qdisc replace dev eth0 root tbf rate "$rate" burst 256kb latency 50ms ||
        die "the link of host $name cannot be given a rate of $rate"
}

host_exec() {
    local name=$1
    if [[ -n ${dom0_pid[$name]:-} ]]; then
        dom0_exec "$@"
        return
    fi
    shift
    # Through chroot as well: the mount namespace alone knows no root directory.
    VIRTTORRENTD_PATH=${VIRTTORRENTD_PATH:-${host_build[$name]:-$TORRENTPOOL_BUILD}/src/virttorrentd} \
    LC_ALL=C HOME=/root XDG_RUNTIME_DIR='' \
        nsenter --target "${host_pid[$name]}" --mount --net --pid --ipc --uts --root \
                --wd="${HOST_CWD:-$(host_root "$name")$LAB}" -- "$@"
}

host_stop() {
    local name=$1
    [[ -n ${host_pid[$name]:-} ]] || return 0
    kill -9 "${host_pid[$name]}"
    unset "host_pid[$name]"
    ip link del "v$name" 2>/dev/null || :
}

# Bytes that came over the wire to this host, headers included.
host_rx() { host_exec "$1" cat /sys/class/net/eth0/statistics/rx_bytes; }
host_tx() { host_exec "$1" cat /sys/class/net/eth0/statistics/tx_bytes; }

virsh_on() {
    local name=$1
    if [[ -n ${dom0_pid[$name]:-} ]]; then
        dom0_virsh "$@"
        return
    fi
    shift
    host_exec "$name" "${host_libvirt[$name]:-$TORRENTPOOL_LIBVIRT}/tools/virsh" -q -c qemu:///system "$@"
}

# libvirtd_start HOST [OPTION…]
libvirtd_start() {
    local name=$1
    shift
    host_exec "$name" setsid "${host_libvirt[$name]:-$TORRENTPOOL_LIBVIRT}/src/libvirtd" --timeout 0 "$@" \
        </dev/null >>"$LAB/$name/log/libvirtd.stderr.log" 2>&1 &
    disown $!
    wait_for 30 virsh_on "$name" uri || die "libvirtd on $name does not answer"
}

# Pids, in the host's own counting, of the processes with this name.
host_pids() {
    host_exec "$1" pgrep -x "$2"
}

# host_kill NAME PROCESS [SIGNAL]: and waits until they are gone
host_kill() {
    local pids
    pids=$(host_pids "$1" "$2") || return 0
    # shellcheck disable=SC2086
    host_exec "$1" kill "-${3:-TERM}" $pids
    wait_for 60 host_lacks "$1" "$2" || die "$2 on $1 survives signal ${3:-TERM}"
}
host_lacks() { ! host_pids "$1" "$2" >/dev/null; }

libvirtd_stop() { host_kill "$1" libvirtd TERM; }
libvirtd_kill() { host_kill "$1" libvirtd KILL; }
libvirtd_restart() {
    libvirtd_stop "$1"
    libvirtd_start "$1"
}

# wait_for SECONDS COMMAND…: until it succeeds
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}
