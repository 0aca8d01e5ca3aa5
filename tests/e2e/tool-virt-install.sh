#!/bin/bash
# virt-install puts guests on volumes and masters of a pool.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

command -v virt-install >/dev/null || fail 'virt-install is missing; build-aux/install-deps installs it'
hosts_with_pool A
writer_disk debian.qcow2 4
publish A debian.qcow2
master=$target/debian.qcow2

# install_guest NAME OPTION…
install_guest() {
    local name=$1
    shift
    local options=(--connect qemu:///system --virt-type qemu --name "$name" --memory 16 --vcpus 1
                   --osinfo 'detect=off,require=off' --import --network none --graphics none --noautoconsole
                   --controller 'usb,model=none' --memballoon none --rng none --channel none
                   --serial "file,path=/var/log/libvirt/$name.serial")
    host_exec A virt-install "${options[@]}" "$@"
}
# runs NAME: its disk, NAME.qcow2, is written to; it is switched off then
runs() {
    local name=$1
    wait_for 60 has_written A "$name" 20 || fail "guest $name writes nothing"
    must virsh_on A destroy "$name"
    blocks_of A "$name"
    ((blocks > 10)) || fail "guest $name wrote $blocks blocks"
    is "backing of $name.qcow2" debian.qcow2 "$(basename "$(backing A "$name.qcow2")")"
}
xpath() { xmllint --xpath "string($1)" -; }

step 'an overlay on a master, in the pool that it says'
must install_guest one --disk "pool=$pool,size=1,backing_store=$master,backing_format=qcow2,target.bus=virtio"
runs one
is 'capacity of the disk' 1073741824 "$(vol_field A one.qcow2 /volume/capacity)"

step 'an overlay at a path, without the format of the master'
must install_guest two --print-xml --disk "path=$target/two.qcow2,size=1,format=qcow2,backing_store=$master"
is 'backing of two.qcow2' debian.qcow2 "$(basename "$(backing A two.qcow2)")"
matches 'backing format of two.qcow2' '"backing-filename-format": "qcow2"' "$(qemu-img info --output=json "$(in_pool A two.qcow2)")"

step 'a volume that is there, by its path'
must virsh_on A vol-clone --pool $pool debian.qcow2 three.qcow2
must install_guest three --disk "$target/three.qcow2,target.bus=virtio"
runs three

step 'nothing is made with --dry-run (with --print-xml alone virt-install makes the disk)'
xml=$(install_guest five --print-xml --dry-run --disk "pool=$pool,size=1,backing_store=$master,backing_format=qcow2,target.bus=virtio") ||
    fail "--print-xml: $xml"
is 'source of the disk' $target/five.qcow2 "$(xpath /domain/devices/disk/source/@file <<<"$xml")"
is 'type of the disk' qcow2 "$(xpath /domain/devices/disk/driver/@type <<<"$xml")"
absent "$(in_pool A five.qcow2)"

step 'a new empty disk in the pool is an ordinary volume'
must install_guest six --print-xml --disk "pool=$pool,size=0.1"
is 'backing of the empty disk' '' "$(backing A six.qcow2)"
lacks 'what is a master' six "$(ls "$(in_pool A .torrentpool/meta)")"

step 'the master itself is refused as a disk, with the way out'
hook=$(host_root A)/etc/libvirt/hooks
must mkdir -p "$hook/qemu.d"
cp "$TORRENTPOOL_BUILD/src/virt-torrentpool-hook" "$hook/qemu.d/50-torrentpool"
libvirtd_restart A
seven=(install_guest seven --disk "vol=$pool/debian.qcow2,target.bus=virtio")
# By virt-install, if it knows already that others stand on it, or by the hook.
! "${seven[@]}" >seven.out 2>&1 || fail 'a guest runs on the master'
matches 'the refusal' 'already in use by other guests|is a master and never changes' "$(cat seven.out)"
! "${seven[@]}" --check path_in_use=off >seven.out 2>&1 || fail 'a guest runs on the master'
matches 'the refusal' 'is a master and never changes: give the guest a clone of it' "$(cat seven.out)"
lacks 'guests' seven "$(virsh_on A list --all --name)"
is 'checksum of the master' "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool A debian.qcow2)")"

step 'a guest, its disk and all, goes'
must virsh_on A undefine one --remove-all-storage
absent "$(in_pool A one.qcow2)"
present "$(in_pool A debian.qcow2)"
