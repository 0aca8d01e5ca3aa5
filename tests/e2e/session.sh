#!/bin/bash
# A user's own libvirt has torrentpools too, with a virttorrentd of the user's own.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

user=alice uid=1777 home=/home/alice
target=$home/masters # pool.sh looks for volumes there

for host in A B; do
    host_start $host "10.77.0.$((${#host_ip[@]} + 1))"
    root=$(host_root $host)
    echo "$user:x:$uid:$uid::$home:/bin/sh" >>"$root/etc/passwd"
    echo "$user:x:$uid:" >>"$root/etc/group"
    mkdir -p "$root$home" "$root/run/user/$uid"
    chown $uid:$uid "$root$home" "$root/run/user/$uid"
    # The source tree may be in a directory that is only root's; in the host's
    # own layer the user may pass.
    for path in "$top" "$TORRENTPOOL_CACHE" "$TORRENTPOOL_BUILD" "$TORRENTPOOL_LIBVIRT" "$LAB"; do
        while path=${path%/*} && [[ -n $path ]]; do
            chmod a+x "$root$path"
        done
    done
done

# What pool.sh asks of virsh is asked by the user.
virsh_on() {
    local host=$1
    shift
    host_exec "$host" setpriv --reuid $uid --regid $uid --clear-groups \
        env HOME=$home XDG_RUNTIME_DIR=/run/user/$uid \
        "$TORRENTPOOL_LIBVIRT/tools/virsh" -q -c qemu:///session "$@"
}
session_libvirtd() {
    host_exec "$1" setpriv --reuid $uid --regid $uid --clear-groups \
        env HOME=$home XDG_RUNTIME_DIR=/run/user/$uid \
        setsid "$TORRENTPOOL_LIBVIRT/src/libvirtd" </dev/null >>"$LAB/$1/log/libvirtd.stderr.log" 2>&1 &
    disown $!
    wait_for 20 virsh_on "$1" uri || fail "no libvirtd of the user's on $1"
}

for host in A B; do
    step "a pool of the user's on $host"
    session_libvirtd $host
    must virsh_on $host pool-define-as $pool torrentpool --target $target
    must virsh_on $host pool-build $pool
    must virsh_on $host pool-start $pool
    is 'user of virttorrentd' $user "$(host_exec $host ps -o user= -C virttorrentd | sort -u)"
    absent "$(host_root $host)/run/libvirt/virttorrentd-sock"
done

step 'publish'
random_qcow2 debian.qcow2 3 64M
publish A debian.qcow2

step 'fetch'
chmod a+r "$LAB"/*
must give_xml A B debian.qcow2
wait_state B debian.qcow2 seeding 15
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"
is "mode and owner" "444 $uid:$uid" "$(stat -c '%a %u:%g' "$(in_pool B debian.qcow2)")"

step 'clone, and the rules'
must virsh_on B vol-clone --pool $pool debian.qcow2 web01.qcow2
clone_is_good B web01.qcow2 debian.qcow2
refused 'web01' virsh_on B vol-delete --pool $pool debian.qcow2
refused 'master|never changes|published|clone it' virsh_on B vol-resize --pool $pool debian.qcow2 128M
must virsh_on B vol-delete --pool $pool web01.qcow2
must virsh_on B vol-delete --pool $pool debian.qcow2
