#!/bin/bash
# vol-clone of a 10 GiB master through libvirt, against qemu-img create -b as a process
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# Rounds alternate between the ways, so that whatever else the machine does
# meets all of them; the median of the rounds counts.
clones=200 rounds=7
((BENCH_QUICK)) && clones=50 rounds=3

hosts_with_pool A
must qemu-img create -q -f qcow2 master.qcow2 10G
must qemu-io -f qcow2 -c 'write -P 7 0 8M' -c 'write -P 9 5G 8M' master.qcow2
publish A master.qcow2
must virsh_on A pool-define-as plain dir --target $images/plain
must virsh_on A pool-build plain
must virsh_on A pool-start plain
cp master.qcow2 "$(host_root A)$images/plain/master.qcow2"
must virsh_on A pool-refresh plain

# All commands go through one connection; what connecting costs is taken off.
batch() {
    local file=$1 begin=$EPOCHREALTIME
    virsh_on A <"$file" >batch.out 2>&1 || fail "$(cat batch.out)"
    ! grep -q '^error' batch.out || fail "$(grep -m1 '^error' batch.out)"
    awk "BEGIN { print ($EPOCHREALTIME - $begin) * 1000 }"
}
each() { awk "BEGIN { printf \"%.3f\\n\", ($1) / $clones }"; }
commands() {
    local n
    for ((n = 0; n < clones; n++)); do
        printf "$1\n" $n
    done
}
echo uri >nothing
remove() {
    commands "vol-delete --pool $1 c%d.qcow2" >delete
    batch delete >/dev/null
}
ours() {
    commands "vol-clone --pool $pool master.qcow2 c%d.qcow2" >clone
    each "$(batch clone) - $(batch nothing)"
    clone_is_good A c0.qcow2 master.qcow2
    remove $pool
}
dir_pool() {
    commands 'vol-create-as plain c%d.qcow2 10G --format qcow2 --backing-vol master.qcow2 --backing-vol-format qcow2' >create
    each "$(batch create) - $(batch nothing)"
    remove plain
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
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

: >ours; : >dir; : >process
for ((round = 0; round < rounds; round++)); do
    ours >>ours || fail 'vol-clone'
    process >>process || fail 'qemu-img'
    dir_pool >>dir || fail 'vol-create-as in a dir pool'
done
ours=$(median <ours) process=$(median <process) dir=$(median <dir)

{
    printf 'vol-clone, torrentpool\t%s\n' "$ours"
    printf 'qemu-img create -b, a process\t%s\n' "$process"
    printf 'vol-create-as --backing-vol, dir pool\t%s\n' "$dir"
} >table
printf '%-40s %10s   (median of %d rounds of %d)\n' 'one clone of a 10 GiB master' 'ms' $rounds $clones
awk -F '\t' '{ printf "%-40s %10.2f\n", $1, $2 }' table
awk -v title='One clone of a 10 GiB master' -v unit=ms -f "$top/tests/bench/bars.awk" table >"$BENCH_OUT/clone.svg"
awk "BEGIN { printf \"figure clone.vol_clone_over_qemu_img %.2f\\n\", $ours / $process }" >>"$BENCH_FIGURES"
