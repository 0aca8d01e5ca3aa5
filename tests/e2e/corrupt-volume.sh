#!/bin/bash
# A volume with a broken header costs that volume, not the pool and not its neighbours.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 debian.qcow2 2 64M
publish A debian.qcow2
must virsh_on A vol-clone --pool $pool debian.qcow2 good.qcow2
dir=$(in_pool A .)
# patched NAME OFFSET BYTES: an overlay of the master with other bytes there
patched() {
    cp --sparse=always "$dir/good.qcow2" "$dir/$1.qcow2"
    printf "$3" | dd of="$dir/$1.qcow2" bs=1 seek="$2" conv=notrunc status=none
}

step 'headers that are broken in many ways'
patched version 4 '\xff\xff\xff\xff'
patched backing-offset 8 '\xff\xff\xff\xff\xff\xff\xff\xff'
patched backing-size 16 '\xff\xff\xff\xff'
patched cluster-bits 20 '\x00\x00\x00\x40'
patched capacity 24 '\xff\xff\xff\xff\xff\xff\xff\xff'
patched header-length 100 '\xff\xff\xff\xff'
patched extension 104 '\xe2\x79\x2a\xca\xff\xff\xff\xff'
patched features 72 '\xff\xff\xff\xff\xff\xff\xff\xff'
for n in 1 4 8 24 71 72 103 104 111; do
    head -c $n "$dir/good.qcow2" >"$dir/short$n.qcow2"
done
: >"$dir/empty.qcow2"
head -c 4096 /dev/urandom >"$dir/noise.qcow2"
qemu-img create -q -f qcow2 -u -b gone.qcow2 -F qcow2 "$dir/orphan.qcow2" 1M
qemu-img create -q -f qcow2 -u -b self.qcow2 -F qcow2 "$dir/self.qcow2" 1M
qemu-img create -q -f qcow2 -u -b two.qcow2 -F qcow2 "$dir/one.qcow2" 1M
qemu-img create -q -f qcow2 -u -b one.qcow2 -F qcow2 "$dir/two.qcow2" 1M
mkfifo "$dir/fifo.qcow2"
ln -s /dev/zero "$dir/endless.qcow2"

usable() {
    pool_active A || fail "the pool is not active $1"
    for name in debian good; do
        vol_listed A $name.qcow2 || fail "$name.qcow2 is not listed $1"
    done
    is "backing store of good.qcow2 $1" $target/debian.qcow2 "$(vol_field A good.qcow2 /volume/backingStore/path)"
    clone_is_good A good.qcow2 debian.qcow2
}
step 'a refresh leaves the pool active'
must virsh_on A pool-refresh $pool
usable 'after a refresh'
for name in debian good; do
    in_state A debian.qcow2 seeding || fail 'the master is not seeded'
done

step 'what is listed of them can be asked for'
for name in $(virsh_on A vol-list $pool | awk '/\// {print $1}'); do
    must virsh_on A vol-dumpxml --pool $pool "$name"
    must virsh_on A vol-info --pool $pool "$name"
done

step 'so does a restart of libvirtd and of the pool'
libvirtd_restart A
wait_for 10 pool_active A || fail 'the pool is not active after a restart'
usable 'after a restart'
must virsh_on A pool-destroy $pool
must virsh_on A pool-start $pool
usable 'after it was started again'

step 'clones of them are refused, and leave nothing'
for name in self one backing-offset cluster-bits; do
    if vol_listed A $name.qcow2; then
        refused "$name.*(comes back|cannot)|cannot tell.*$name|Could not open.*$name" virsh_on A vol-clone --pool $pool $name.qcow2 no.qcow2
        absent "$(in_pool A no.qcow2)"
        is 'what is being built' '' "$(ls "$(in_pool A .torrentpool/build)")"
    fi
done

step 'a master is protected from those that still name it'
refused 'good\.qcow2|capacity|extension|features' virsh_on A vol-delete --pool $pool debian.qcow2

step 'frozen, they become no masters'
chmod a-w "$dir"/{self,backing-offset,cluster-bits,capacity}.qcow2
must virsh_on A pool-refresh $pool
for name in self backing-offset cluster-bits; do
    is "state of $name" '' "$(vol_torrent A $name.qcow2 state)"
done
usable 'in the end'
