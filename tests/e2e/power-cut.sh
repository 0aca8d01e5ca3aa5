#!/bin/bash
# Whenever the power fails, each clone is there and whole, or it is not there.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# The pool lies on a disk (a loop device over a FUSE export of QEMU) of which
# every write and every flush is logged.  Clones are made, and meanwhile somebody
# else has the journal committed all the time.  Then the log is replayed up to
# many points, with the whims of a disk's volatile cache, the file system is
# mounted as after a power failure, and what it holds is looked at.  Files
# written without care at the same time show that this finds what gets lost.
count=100 cuts=6 splits=2 copies=10
make -s -C "$TORRENTPOOL_BUILD/tests" power-cut bench-overlay >/dev/null || fail 'power-cut does not build'
power_cut() { "$TORRENTPOOL_BUILD/tests/power-cut" "$@"; }
for name in mkfs.ext4 mkfs.xfs mkfs.btrfs strace; do
    type $name >/dev/null || exit 77
done
mkdir mnt
mount -t tmpfs -o size=3g disks mnt && mkdir mnt/{cut,work} && cd mnt || exit 77
# inside the host, whose mounts are not seen from here
in_pool() { echo "/proc/${host_pid[$1]}/root$target/$2"; }

disk_start() {
    rm -f disk base log export
    truncate -s 400M disk
    must mkfs."$1" -q disk
    cp --sparse=always disk base
    : >log
    truncate -s 2G log
    : >export
    must qemu-storage-daemon --daemonize --pidfile qsd.pid --blockdev \
        driver=file,node-name=disk,filename=disk --blockdev \
        driver=file,node-name=log,filename=log --blockdev \
        driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512,log-super-update-interval=8 --export \
        type=fuse,id=export,node-name=logged,mountpoint=export,writable=on
    loop=$(losetup -f --show export) || fail 'no loop device'
    must host_exec A mkdir -p $target
    must host_exec A mknod /dev/disk b 7 "${loop#/dev/loop}"
    must host_exec A mount -t "$1" /dev/disk $target
    # goes with its last user
    losetup -d "$loop"
}
disk_stop() {
    must virsh_on A pool-destroy $pool
    must virsh_on A pool-undefine $pool
    wait_for 10 host_exec A umount $target || fail 'the disk is in use'
    host_exec A rm /dev/disk
    kill "$(cat qsd.pid)"
    wait_for 10 test ! -e qsd.pid
    umount -l export
}

# What is there before: synced.
prepare() {
    random_qcow2 master.qcow2 1 64M
    publish A master.qcow2
    for ((n = 0; n < splits; n++)); do
        random_qcow2 p$n.qcow2 1
        cp p$n.qcow2 "$(in_pool A p$n.qcow2)"
    done
    must virsh_on A pool-refresh $pool
    must virsh_on A vol-clone --pool $pool master.qcow2 reference.qcow2
    cp "$(in_pool A reference.qcow2)" reference.qcow2
    sum=$(sum_of reference.qcow2)
    must host_exec A sync -f $target
}

# The noise: whoever syncs a file has the journal committed.
make_clones() {
    # not synced by anybody, and a master right now
    random_raw late.raw 4
    must dd if=late.raw of="$(in_pool A late.raw)" bs=64k status=none
    chmod 0444 "$(in_pool A late.raw)"
    echo "<volume><name>late.qcow2</name><capacity>0</capacity><target><format type='qcow2'/></target>" \
        "<backingStore><path>$target/late.raw</path><format type='raw'/></backingStore></volume>" >"$LAB/late.xml"
    echo "vol-create $pool $LAB/late.xml" >commands
    for ((n = 0; n < count; n++)); do
        ((n % (count / copies) != 5)) || echo "vol-clone --pool $pool reference.qcow2 k$n.qcow2"
        echo "vol-clone --pool $pool master.qcow2 c$n.qcow2"
        ((n % (count / splits) != 7)) || echo "vol-clone --pool $pool p$((n * splits / count)).qcow2 s$n.qcow2"
    done >>commands
    host_exec A bash -c "cd $target"' && while [[ ! -e .end ]]; do echo >>.noise; sync .noise; sleep 0.003; done' &
    local noise=$!
    host_exec A bash -c "cd $target"' && for ((n = 0; n < 60; n++)); do
        dd if=reference.qcow2 of=n$n.qcow2 bs=64k status=none; sleep 0.01; done' &
    local careless=$!
    virsh_on A <commands >clone.out 2>&1 || fail "$(cat clone.out)"
    lacks 'what virsh says' '^error' "$(cat clone.out)"
    wait $careless
    : >"$(in_pool A .end)"
    wait $noise
}

same() { qemu-img compare -q -U "$1" "$2" >/dev/null 2>&1; }
# not_whole PATTERN: which of these are not what the reference is; adds to files
not_whole() {
    local found=(cut/$1)
    [[ -e ${found[0]} ]] || return 0
    files=$((files + ${#found[@]}))
    sha256sum "${found[@]}" | sed "/^$sum /d; s|.*cut/||"
}
# Sets whole and torn.
look_at() {
    local file n files=0
    not_whole '[ck][0-9]*.qcow2' >bad
    [[ ! -s bad ]] || fail "after $entry of $end requests these are not whole: $(tr '\n' ' ' <bad)"
    whole=$((whole + files))
    torn=$((torn + $(not_whole 'n*.qcow2' | wc -l)))
    [[ ! -e cut/late.qcow2 ]] || cmp -s cut/late.raw late.raw || fail "after $entry of $end requests late.qcow2 is there, and its master is not whole"
    cmp -s cut/master.qcow2 master.qcow2 || fail "after $entry of $end requests the master has changed"
    for ((n = 0; n < splits; n++)); do
        same cut/p$n.qcow2 p$n.qcow2 || fail "after $entry of $end requests p$n.qcow2 has changed"
    done
    for file in cut/s*.qcow2; do
        [[ -e $file ]] || continue
        n=${file#cut/s}
        same "$file" p$((${n%.*} * splits / count)).qcow2 || fail "after $entry of $end requests ${file#*/} is not whole"
    done
}

step 'ext4 without a journal keeps no order: there it is fsync()'
# syncs OPTION…: what is called for a clone on an ext4 made like that
syncs() {
    rm -f disk
    truncate -s 64M disk
    must mkfs.ext4 -q "$@" disk
    must mount -o loop disk cut
    must strace -o calls -e trace=fsync,sync_file_range "$TORRENTPOOL_BUILD/tests/bench-overlay" \
        cut/c.qcow2 master.qcow2 qcow2 1048576
    must umount cut
    sed -n 's/(.*= 0$//p' calls | tr '\n' ' '
}
is 'calls with a journal' 'sync_file_range ' "$(syncs)"
is 'calls without' 'fsync fsync ' "$(syncs -O ^has_journal)"

for fs in ext4 xfs btrfs; do
    pool=pool-$fs target=$images/$fs
    if [[ -z ${host_pid[A]:-} ]]; then
        host_start A 10.77.0.1
        libvirtd_start A
    fi
    step "$fs: clones are made"
    disk_start $fs
    pool_start_new A
    prepare
    begin=$(power_cut entries log)
    make_clones
    host_exec A sync -f $target
    disk_stop
    end=$(power_cut entries log)

    step "$fs: the power fails"
    whole=0 torn=0
    for ((cut = 1; cut <= cuts; cut++)); do
        entry=$((begin + (end - begin) * cut / cuts))
        cp --sparse=always base work/disk
        must power_cut cut log work/disk $entry $cut
         must mount -t $fs -o loop work/disk cut
        look_at
        must umount cut
    done
    echo "$cuts times, after $begin to $end requests: $whole clones whole, none torn; of those without care $torn torn"
    ((whole > count && whole < cuts * count)) || fail "$whole clones are there: this does not look in the middle"
    ((torn > 0)) || [[ $fs == btrfs ]] || fail 'what is written without care is never torn: this finds nothing'
done
