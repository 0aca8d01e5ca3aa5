#!/bin/bash
# The five gestures of README.md do what it says, typed as they stand there.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# The nth block of commands in that section.
block() {
    awk -v n="$1" '/^## / { in_section = /five gestures/ } in_section && /^```/ { inside = !inside; count += inside; next }
                   in_section && inside && count == n' "$top/README.md"
}
# Types it on a host: as it stands, but that "qemu+ssh://hostX/system" is our host X.
type_on() {
    local here=$1 commands=$2
    virsh() {
        local host=$here
        if [[ $1 == -c ]]; then
            host=${2#qemu+ssh://host}
            host=${host%/system}
            shift 2
        fi
        virsh_on "$host" "$@"
    }
    eval "set -e; $commands" >typed.out 2>&1 || fail "on $here: $commands ($(cat typed.out))"
    set +e
    unset -f virsh
}

for host in A B C; do
    host_start $host "10.77.0.$((${#host_ip[@]} + 1))"
    libvirtd_start $host
    must virsh_on $host pool-define-as default dir --target $images
    must virsh_on $host pool-start default
    step "make a pool on $host"
    type_on $host "$(block 1)"
    pool_active $host || fail 'it is not active'
done

step 'publish'
random_qcow2 "$(host_root A)$images/debian.qcow2" 3 64M
must virsh_on A pool-refresh default
type_on A "$(block 2)"
wait_state A debian.qcow2 seeding 15

step 'fetch'
type_on A "$(block 3)"
wait_state B debian.qcow2 seeding 15

step 'watch'
matches vol-info 'Allocation: +3\.' "$(virsh_on B vol-info debian.qcow2 $pool)"

step 'clone'
type_on B "$(block 4)"
clone_is_good B web01.qcow2 debian.qcow2

step 'start from a magnet'
magnet=$(vol_torrent A debian.qcow2 magnet)
commands=$(block 5)
matches 'README.md' "'magnet:[^']*'" "$commands"
type_on C "${commands/\'magnet:*…\'/"'$magnet'"}"
wait_state C debian.qcow2 seeding 15
is backing debian.qcow2 "$(basename "$(backing C web02.qcow2)")"
is blocks '' "$(block 6)"
