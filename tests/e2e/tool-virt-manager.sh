#!/bin/bash
# virt-manager shows a pool with its volumes, one that is still being fetched among
# them, and its clone dialog makes a guest on an overlay.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"
for program in virt-manager xvfb-run dbus-run-session; do
    command -v $program >/dev/null || fail "$program is missing; build-aux/install-deps installs it"
done

hosts_with_pool A B
writer_disk debian.qcow2 4
random_qcow2 big.qcow2 24 2G
publish A debian.qcow2
publish A big.qcow2
must give_xml A B debian.qcow2
wait_state B debian.qcow2 seeding 20
must virsh_on B vol-clone --pool $pool debian.qcow2 web01.qcow2
writer_xml web01 "$(by_file web01.qcow2)" | sed '/<serial/d' >web01.xml
must virsh_on B define "$LAB/web01.xml"
# slow enough to be looked at
host_shape A 1mbit
must give_xml A B big.qcow2
wait_state B big.qcow2 fetching 20

# A display and a session of its own, on the host; no other program can be on them.
desk() {
    mkdir -p "$(host_root B)"/tmp/.X11-unix "$(host_root B)"/root/.cache
    host_exec B env GSETTINGS_BACKEND=memory XDG_RUNTIME_DIR=/run LC_ALL=C.UTF-8 \
        xvfb-run -a -s '-screen 0 1200x900x24' dbus-run-session -- "$top/tests/lib/virt-manager-desk" "$@"
}

step 'pool and volumes are shown, and a guest is cloned'
desk $pool debian.qcow2=qcow2 web01.qcow2=qcow2=web01 'big.qcow2=2.00 GiB=qcow2' -- web01 web02 >desk.out 2>desk.err ||
    fail "$(tail -n 60 desk.out desk.err)"
sed -n 's/^the /  the /p' desk.out
matches 'how the pool is called' "masters, torrentpool pool" "$(cat desk.out)"
is 'state of what was looked at' fetching "$(vol_torrent B big.qcow2 state)"

step 'the disk of the new guest is a clone of the same master'
disk=$(virsh_on B domblklist web02 | awk '/qcow2/ { print $2 }')
is 'directory of the disk' "$target" "$(dirname "$disk")"
[[ $disk != "$target/web01.qcow2" ]] || fail 'both guests have the same disk'
clone_is_good B "$(basename "$disk")" debian.qcow2
must virsh_on B start web02
must virsh_on B destroy web02
