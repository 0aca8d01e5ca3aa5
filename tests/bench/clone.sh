#!/bin/bash
# clones by the thousand, and a refresh of ten thousand, against a dir pool and qemu-img
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# Rounds alternate between the ways, so that whatever else the machine does
# meets all of them; the median of the rounds counts.
clones=1000 rounds=3 many=10000
((BENCH_QUICK)) && clones=100 rounds=3 many=1000

# On what operators have, ext4 as mkfs.ext4 makes it, for all ways alike: whatever
# holds the temporary files may have no journal, where a clone has to wait for the disk.
host_start A 10.77.0.1
truncate -s 4G disk
must mkfs.ext4 -q -N 40000 disk
loop=$(losetup -f --show disk) || fail 'no loop device'
must host_exec A mknod /dev/pools b 7 "${loop#/dev/loop}"
must host_exec A mount /dev/pools $images
# goes with its last user
losetup -d "$loop"
# inside the host, whose mounts are not seen from here
in_pool() { echo "/proc/${host_pid[$1]}/root$target/$2"; }
libvirtd_start A
pool_start_new A
must qemu-img create -q -f qcow2 master.qcow2 10G
must qemu-io -f qcow2 -c 'write -P 7 0 8M' -c 'write -P 9 5G 8M' master.qcow2
publish A master.qcow2
must virsh_on A pool-define-as plain dir --target $images/plain
must virsh_on A pool-build plain
must virsh_on A pool-start plain
plain=/proc/${host_pid[A]}/root$images/plain
cp master.qcow2 "$plain/master.qcow2"
must virsh_on A pool-refresh plain

# All commands of a file go through one connection, and what connecting costs is
# taken off.  Milliseconds.
batch() {
    local file=$1 begin=$EPOCHREALTIME
    virsh_on A <"$file" >batch.out 2>&1 || fail "$(cat batch.out)"
    ! grep -q '^error' batch.out || fail "$(grep -m1 '^error' batch.out)"
    awk "BEGIN { print ($EPOCHREALTIME - $begin) * 1000 }"
}
calc() { awk "BEGIN { printf \"%.3f\\n\", $1 }"; }
each() { calc "($1) / $clones"; }
# commands FORMAT [COUNT]
commands() {
    local n
    for ((n = 0; n < ${2:-$clones}; n++)); do
        printf "$1\n" $n
    done
}
# One call per volume, as a program makes it that looked up pool and master once.
# shellcheck disable=SC2154
tree=$(dirname "$TORRENTPOOL_LIBVIRT")/tree
must "${CC:-cc}" -O2 -o bench-clone "$top/tests/bench/clone.c" -I"$TORRENTPOOL_BUILD" \
    -I"$TORRENTPOOL_LIBVIRT/include" -I"$tree/include" "$TORRENTPOOL_LIBVIRT/src/libvirt.so.0" -Wl,-rpath,"$TORRENTPOOL_LIBVIRT/src"
volume() {
    echo "<volume><name>c%d.qcow2</name><capacity unit='GiB'>10</capacity><target><format type='qcow2'/></target>$1</volume>"
}
calls() { host_exec A "$LAB/bench-clone" "$@"; }
call_ours() {
    calls $pool $clones "$(volume '')" master.qcow2
    empty $pool "$(in_pool A .)"
}
call_dir() {
    calls plain $clones "$(volume "<backingStore><path>$images/plain/master.qcow2</path><format type='qcow2'/></backingStore>")"
    empty plain "$plain"
}

echo uri >nothing
commands "vol-clone --pool $pool master.qcow2 c%d.qcow2" >clone
commands 'vol-create-as plain c%d.qcow2 10G --format qcow2 --backing-vol master.qcow2 --backing-vol-format qcow2' >create
# What of that is virsh, which looks up pool and volume for each command.
commands "vol-path --pool $pool master.qcow2" >lookup
empty() {
    find "$2" -maxdepth 1 -name 'c*.qcow2' -delete
    must virsh_on A pool-refresh "$1"
}
ours() {
    each "$(batch clone) - $(batch nothing)"
    clone_is_good A c0.qcow2 master.qcow2
    clone_is_good A c$((clones - 1)).qcow2 master.qcow2
    find "$(in_pool A .)" -maxdepth 1 -name 'c*.qcow2' -printf '%b\n' | sort -n | tail -n 1 >blocks
    empty $pool "$(in_pool A .)"
}
dir_pool() {
    each "$(batch create) - $(batch nothing)"
    empty plain "$plain"
}
# As an operator's script would: a process per clone, in the host.
process() {
    host_exec A bash -c '
        cd "$1" && begin=$EPOCHREALTIME
        for ((n = 0; n < $2; n++)); do
            qemu-img create -q -f qcow2 -b master.qcow2 -F qcow2 c$n.qcow2 || exit 1
        done
        end=$EPOCHREALTIME
        rm -f c*.qcow2
        awk "BEGIN { printf \"%.3f\n\", ($end - $begin) * 1000 / $2 }"' - $images/plain $clones
}
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

: >ours; : >dir; : >process; : >virsh; : >call_ours; : >call_dir
for ((round = 0; round < rounds; round++)); do
    call_ours >>call_ours || fail 'virStorageVolCreateXMLFrom'
    call_dir >>call_dir || fail 'virStorageVolCreateXML in a dir pool'
    ours >>ours || fail 'vol-clone'
    process >>process || fail 'qemu-img'
    dir_pool >>dir || fail 'vol-create-as in a dir pool'
    each "$(batch lookup) - $(batch nothing)" >>virsh || fail 'vol-path'
done
bytes=$(($(cat blocks) * 512))

# The same files in both, some seconds old: what changed just now is looked at.
commands "vol-clone --pool $pool master.qcow2 c%d.qcow2" $many >clone
batch clone >/dev/null || exit
find "$(in_pool A .)" -maxdepth 1 -name 'c*.qcow2' -exec cp --sparse=always -t "$plain" {} + ||
    fail "$many clones cannot be copied"
sleep 3
echo "pool-refresh $pool" >refresh
echo 'pool-refresh plain' >refresh_plain
first=$(calc "$(batch refresh) - $(batch nothing)")
listed=$(virsh_on A vol-list $pool | grep -c 'c[0-9]*\.qcow2')
((listed == many)) || fail "$listed of $many clones are listed"
: >refresh_ours; : >refresh_dir
for ((round = 0; round < 9; round++)); do
    calc "$(batch refresh) - $(batch nothing)" >>refresh_ours
    calc "$(batch refresh_plain) - $(batch nothing)" >>refresh_dir
done
libvirtd_stop A
begin=$EPOCHREALTIME
libvirtd_start A
restart=$(calc "($EPOCHREALTIME - $begin) * 1000")
begin=$EPOCHREALTIME
listed=$(virsh_on A vol-list $pool | grep -c 'c[0-9]*\.qcow2')
list=$(calc "($EPOCHREALTIME - $begin) * 1000")
((listed == many)) || fail "$listed of $many clones are listed after a restart"

call_ours=$(median call_ours) call_dir=$(median call_dir)
ours=$(median ours) process=$(median process) dir=$(median dir) virsh=$(median virsh)
refresh=$(median refresh_ours) refresh_dir=$(median refresh_dir)
table() {
    awk -F '\t' '{ printf "%-44s %10.2f\n", $1, $2 }' "$1"
}
{
    printf 'clone, torrentpool\t%s\n' "$call_ours"
    printf 'volume with backing store, dir pool\t%s\n' "$call_dir"
    printf 'qemu-img create -b, a process\t%s\n' "$process"
    printf 'vol-clone of virsh, torrentpool\t%s\n' "$ours"
    printf 'vol-create-as of virsh, dir pool\t%s\n' "$dir"
} >table
{
    printf 'torrentpool, nothing changed\t%s\n' "$refresh"
    printf 'torrentpool, nothing known yet\t%s\n' "$first"
    printf 'dir pool, the same files\t%s\n' "$refresh_dir"
} >table_refresh
printf '%-44s %10s   (median of %d rounds of %d)\n' 'one clone of a 10 GiB master' 'ms' $rounds $clones
table table
printf '%-44s %10.2f\n\n' '(vol-path of virsh)' "$virsh"
printf '%-44s %10s   (median of 9)\n' "refresh of $many clones" 'ms'
table table_refresh
printf '%-44s %10.2f\n' '(libvirtd started until it answers)' "$restart"
printf '%-44s %10.2f\n' '(vol-list, which asks for each path)' "$list"
plot="$top/tests/bench/bars.awk"
awk -v title='One clone of a 10 GiB master' -v unit=ms -f "$plot" table >"$BENCH_OUT/clone.svg"
awk -v title="Refresh of $many clones" -v unit=ms -f "$plot" table_refresh >"$BENCH_OUT/refresh.svg"
{
    echo "figure clone.vol_clone_over_qemu_img $(calc "$ours / $process")"
    echo "figure clone.thousand_seconds $(calc "$call_ours")"
    echo "figure clone.dirpool_over_ours $(calc "$call_dir / $call_ours")"
    echo "figure clone.virsh_dirpool_over_ours $(calc "$dir / $ours")"
    echo "figure clone.qemu_img_over_ours $(calc "$process / $call_ours")"
    echo "figure clone.bytes_on_disk_max $bytes"
    echo "figure refresh.ten_thousand_seconds $(calc "$refresh / 1000 * 10000 / $many")"
    echo "figure refresh.dirpool_over_ours $(calc "$refresh_dir / $refresh")"
} >>"$BENCH_FIGURES"
