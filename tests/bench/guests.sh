#!/bin/bash
# what the hook costs, and what a migration onto the master saves
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

calls=300 starts=30 rounds=5 master_mib=256
((BENCH_QUICK)) && calls=100 starts=12 rounds=2 master_mib=64

host_with_hook A 10.77.0.1 --listen
host_with_hook B 10.77.0.2 --listen
# C starts guests as A does, but without the hook; D with one that does nothing.
host_start C 10.77.0.3
host_start D 10.77.0.4
mkdir -p "$(host_root D)/etc/libvirt/hooks/qemu.d"
cp /bin/true "$(host_root D)/etc/libvirt/hooks/qemu.d/50-true"
libvirtd_start C
libvirtd_start D
for host in A B C D; do
    pool_start_new $host
done
writer_disk debian.qcow2 $master_mib
publish A debian.qcow2
publish C debian.qcow2
publish D debian.qcow2
must qemu-img create -q -f qcow2 "$(host_root A)$images/plain.qcow2" 64M

calc() { awk "BEGIN { printf \"%.3f\\n\", $1 }"; }
# Of starts the quickest counts: other work can only make one slower.
best() { sort -g "$1" | head -n 1; }
median() { sort -g "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# --- the hook alone: each call is a process with the domain on its stdin

# call_ms PROGRAM DOMAIN-XML: one call, in milliseconds
call_ms() {
    # shellcheck disable=SC2016
    host_exec A bash -c '
        begin=$EPOCHREALTIME
        for ((n = 0; n < $3; n++)); do
            "$1" web01 prepare begin - <"$2" || exit 1
        done
        awk "BEGIN { print ($EPOCHREALTIME - $begin) * 1000 / $3 }"' - "$1" "$LAB/$2" $((calls / 10)) ||
        fail "$1 does not let the guest of $2 start"
}
must virsh_on A vol-clone --pool $pool debian.qcow2 clone.qcow2
writer_xml plain "file:file='$images/plain.qcow2'" >plain.xml
writer_xml clone "$(by_file clone.qcow2)" >clone.xml
writer_xml volume "$(by_volume clone.qcow2)" >volume.xml
hook=/etc/libvirt/hooks/qemu.d/50-torrentpool
must host_exec A strace -f -o "$LAB/plain.trace" "$hook" web01 prepare begin - <plain.xml
! grep -q '^[0-9]* *connect(' plain.trace || fail 'the hook connects for a guest without a disk in a torrentpool'
for ((round = 0; round < 10; round++)); do
    call_ms /bin/true plain.xml >>true.ms
    call_ms $hook plain.xml >>plain.ms
    call_ms $hook clone.xml >>clone.ms
    call_ms $hook volume.xml >>volume.ms
done

# --- start of a guest on a complete master, with the hook and without

# start_ms HOST: of a guest that stays paused, so that only starting it is timed
start_ms() {
    local begin=$EPOCHREALTIME
    must virsh_on "$1" start --paused clone
    calc "($EPOCHREALTIME - $begin) * 1000"
    must virsh_on "$1" destroy clone
}
for host in C D; do
    must virsh_on $host vol-clone --pool $pool debian.qcow2 clone.qcow2
done
for host in A C D; do
    must virsh_on $host define "$LAB/clone.xml"
    start_ms $host >/dev/null
done
in_turn=(A C D A C)
for ((round = 0; round < starts; round++)); do
    for host in "${in_turn[@]:round % 3:3}"; do
        start_ms $host >>start-$host.ms
    done
done
host_stop D
host_stop C

# --- migration of a guest that keeps writing

# migration WAY OPTION: bytes over the wire, downtime and time in all, in milliseconds
migration() {
    local way=$1 option=$2 guest="web$3" rx info
    must virsh_on A vol-clone --pool $pool debian.qcow2 "$guest.qcow2"
    writer_start "$guest" "$(by_file "$guest.qcow2")"
    rx=$(host_rx B)
    must migrate "$guest" "$option"
    echo $(($(host_rx B) - rx)) >>"$way.bytes"
    info=$(virsh_on B domjobinfo "$guest" --completed)
    awk '/^Total downtime/ { print $3 }' <<<"$info" >>"$way.down"
    awk '/^Time elapsed:/ { print $3 }' <<<"$info" >>"$way.time"
    goes_on "$guest" >/dev/null
    rm "$(in_pool A "$guest.qcow2")" "$(in_pool B "$guest.qcow2")"
}
number=0
migration first --copy-storage-inc 0
for ((round = 0; round < rounds; round++)); do
    migration inc --copy-storage-inc $((number += 1))
    migration all --copy-storage-all $((number += 1))
done

{
    printf 'hook, no disk in a torrentpool\t%s\n' "$(median plain.ms)"
    printf 'hook, clone as a file\t%s\n' "$(median clone.ms)"
    printf 'hook, clone as a volume\t%s\n' "$(median volume.ms)"
    printf '/bin/true\t%s\n' "$(median true.ms)"
} >hook.tsv
{
    printf 'with the hook\t%s\n' "$(best start-A.ms)"
    printf 'with a hook that does nothing\t%s\n' "$(best start-D.ms)"
    printf 'without\t%s\n' "$(best start-C.ms)"
} >start.tsv
{
    printf -- '--copy-storage-inc\t%s\n' "$(calc "$(median inc.bytes) / 1048576")"
    printf -- '--copy-storage-inc, fetching the master\t%s\n' "$(calc "$(median first.bytes) / 1048576")"
    printf -- '--copy-storage-all\t%s\n' "$(calc "$(median all.bytes) / 1048576")"
} >migrate.tsv

printf '%-44s %10s   (median of 10 rounds of %d)\n' 'one call' ms $((calls / 10))
awk -F '\t' '{ printf "%-44s %10.2f\n", $1, $2 }' hook.tsv
printf '\n%-44s %10s %10s   (the best, the median of %d, in turn)\n' 'start of a guest on a complete master' ms ms $starts
printf '%-44s %10.1f %10.1f\n' 'with the hook' "$(best start-A.ms)" "$(median start-A.ms)" \
       'with a hook that does nothing' "$(best start-D.ms)" "$(median start-D.ms)" \
       without "$(best start-C.ms)" "$(median start-C.ms)"
printf '\n%-44s %10s %10s %10s   (median of %d)\n' "migration, a master of $((master_mib + 64)) MiB" 'MiB' 'downtime ms' 'ms' $rounds
for way in inc first all; do
    case $way in
    inc) name=--copy-storage-inc ;;
    first) name='--copy-storage-inc, fetching the master' ;;
    all) name=--copy-storage-all ;;
    esac
    printf '%-44s %10.2f %10.0f %10.0f\n' "$name" "$(calc "$(median $way.bytes) / 1048576")" "$(median $way.down)" "$(median $way.time)"
done
plot="$top/tests/bench/bars.awk"
awk -v title='A call of the hook' -v unit=ms -f "$plot" hook.tsv >"$BENCH_OUT/hook.svg"
awk -v title='Start of a guest on a complete master' -v unit=ms -f "$plot" start.tsv >"$BENCH_OUT/start.svg"
awk -v title="Bytes of a migration" -v unit=MiB -f "$plot" migrate.tsv >"$BENCH_OUT/migrate.svg"
{
    echo "figure hook.idle_ms $(median plain.ms)"
    echo "figure hook.start_overhead_ms $(calc "$(best start-A.ms) - $(best start-C.ms)")"
    echo "figure hook.start_over_without $(calc "$(best start-A.ms) / $(best start-C.ms)")"
    echo "figure hook.start_over_idle_hook $(calc "$(best start-A.ms) / $(best start-D.ms)")"
    echo "figure migrate.inc_bytes_over_all $(calc "$(median inc.bytes) / $(median all.bytes)")"
    echo "figure migrate.inc_downtime_ms $(median inc.down)"
    echo "figure migrate.all_downtime_ms $(median all.down)"
    echo "figure migrate.inc_time_over_all $(calc "$(median inc.time) / $(median all.time)")"
} >>"$BENCH_FIGURES"
