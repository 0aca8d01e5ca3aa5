# A Xen host for tests: to be sourced after tests/lib/pool.sh, within the
# laboratory that lab_enter made.
#
#   dom0_boot X 10.77.0.9    starts Xen in QEMU, emulated (no KVM), and returns;
#                            its dom0 is a host on the laboratory's network
#   dom0_wait X              until it answers
#   dom0_exec X COMMAND…     runs something there (host_exec does so too)
#   dom0_virsh X …           virsh, connected to its xen:///system over TCP
#                            (virsh_on does so too)
#   dom0_libvirtd_start X    its libvirtd, from the build tree, with the hook
#   dom0_pool_start X        a pool of it
#
# The dom0's root is this machine's, read through 9p, with a layer over it on a
# disk of its own: the same build of libvirt and virttorrentd runs there as on all
# other hosts.  What it writes ends with the test, but for $LAB and the logs.
# SPDX-License-Identifier: LGPL-2.1-or-later

dom0_port=99

dom0_boot() {
    local name=$1 ip=$2 dir=$LAB/$1 lab mac
    lab=$("$top/tests/xen/make-lab") || die 'there is nothing to boot Xen from'
    [[ -c /dev/net/tun ]] || die 'there is no /dev/net/tun: a dom0 cannot be put on the network'
    mkdir -p "$dir/log"
    ip tuntap add "v$name" mode tap && ip link set "v$name" master br0 up ||
        die "host $name cannot be put on the network"
    qemu-img create -q -f qcow2 -b "$lab/disk" -F raw "$dir/disk" || die "host $name has no disk"
    mac=$(printf '52:54:00:77:00:%02x' "${ip##*.}")
    host_ip[$name]=$ip

    # Of QEMU's CPU models Xen starts on this one.  What protects from each other
    # those who share a CPU costs more than all else where the CPU is emulated.
    # With -icount time passes in there by the instructions that are executed:
    # however busy this machine is, what waits there does not time out too soon.
    local -a xen=(console=com1 com1=115200,8n1 loglvl=warning dom0_mem=512M,max:512M
                  bootscrub=no watchdog=no xpti=no spec-ctrl=no pv-l1tf=no)
    local -a linux=(console=hvc0 quiet panic=-1 mitigations=off net.ifnames=0
                    "lab.init=$top/tests/xen/dom0-init" "lab.name=$name" "lab.ip=$ip" "lab.dir=$LAB")
    qemu-system-x86_64 -accel tcg -icount shift=1 -cpu Nehalem -smp 1 -m 896 \
        -nodefaults -no-user-config -no-reboot -display none \
        -serial "file:$dir/log/console.log" \
        -drive "file=$dir/disk,if=none,id=disk,format=qcow2,cache=unsafe" -device virtio-blk-pci,drive=disk \
        -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
        -device virtio-9p-pci,fsdev=host,mount_tag=host \
        -fsdev "local,id=lab,path=$LAB,security_model=none,multidevs=remap" \
        -device virtio-9p-pci,fsdev=lab,mount_tag=lab \
        -netdev "tap,id=net,ifname=v$name,script=no,downscript=no" -device "virtio-net-pci,netdev=net,mac=$mac" \
        -kernel "$lab/xen" -append "${xen[*]}" -initrd "$lab/vmlinux ${linux[*]},$lab/initrd" \
        </dev/null >"$dir/log/qemu.log" 2>&1 &
    dom0_pid[$name]=$!
    disown $!
}

dom0_wait() {
    local name=$1
    until dom0_exec "$name" true >/dev/null 2>&1; do
        kill -0 "${dom0_pid[$name]}" 2>/dev/null ||
            die "host $name did not start: $(tail -n 5 "$LAB/$name/log/qemu.log" "$LAB/$name/log/console.log")"
        sleep 0.2
    done
}

# One connection for each command; its answer's last line is the exit status.
dom0_exec() {
    local name=$1 line out
    shift
    printf -v line '%q ' "$@"
    out=$({ printf '%s\n' "$line" >&3 && cat <&3; } 3<>"/dev/tcp/${host_ip[$name]}/$dom0_port") || return 255
    [[ ${out##*$'\n'} == 'status '* ]] || return 255
    printf '%s' "${out%$'\n'status*}"
    return "${out##* }"
}

dom0_virsh() {
    local name=$1
    shift
    LC_ALL=C "$TORRENTPOOL_LIBVIRT/tools/virsh" -q -c "xen+tcp://${host_ip[$name]}/system" "$@"
}

dom0_libvirtd_start() {
    local name=$1
    # it looks for hooks only when it starts
    dom0_hook_install "$name"
    # shellcheck disable=SC2016
    dom0_exec "$name" bash -c 'VIRTTORRENTD_PATH=$2 setsid "$1" --listen --timeout 0 </dev/null \
        >/var/log/libvirt/libvirtd.stderr.log 2>&1 & disown' - \
        "$TORRENTPOOL_LIBVIRT/src/libvirtd" "${VIRTTORRENTD_PATH:-$TORRENTPOOL_BUILD/src/virttorrentd}"
    wait_for 60 dom0_virsh "$name" uri || die "libvirtd on $name does not answer"
}

dom0_hook_install() {
    dom0_exec "$1" install -D "$TORRENTPOOL_BUILD/src/virt-torrentpool-hook" \
        /etc/libvirt/hooks/libxl.d/50-torrentpool || die "the hook cannot be installed on $1"
}

# The module does not wait for virttorrentd longer than users like; here its
# start takes longer.
dom0_pool_start() {
    local name=$1
    pool_xml >"$LAB/pool-$name.xml"
    must dom0_virsh "$name" pool-define "$LAB/pool-$name.xml"
    must dom0_virsh "$name" pool-build "$pool"
    wait_for 60 dom0_virsh "$name" pool-start "$pool" || must dom0_virsh "$name" pool-start "$pool"
}
