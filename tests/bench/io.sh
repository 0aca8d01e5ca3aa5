#!/bin/bash
# reads and writes of clones, against a full qcow2 copy and a raw file
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/env.sh"

# fio drives qemu-storage-daemon through an NBD export on a UNIX socket: QEMU's
# own qcow2 code with the cache mode that libvirt's guests get by default
# (writeback), and no guest under emulation that would hide the difference.
#
# Where it may (as root), it works on an ext4 of its own that lies in memory, so
# that what is compared is what the formats cost and not the luck of the disk.
# Every round runs each job on all the ways, there and back in turn, and each
# takes parts of a second only; what counts is the best of the rounds, as whatever
# else the machine does can make a job slower but not faster.  Before it writes, what the host
# has cached of the file itself is dropped; a write is done when the host has
# taken it, as it is for a guest with that cache mode.  What a guest that then
# wants it on disk has to wait for is in the last column: the rate of random
# writes and of the flush after them.  Masters stay cached, as they are where
# many clones share one, and so does what is read.
mib=512 seq=192M random=12M rounds=9
ways='raw full clone clone_full c64 c64_full c64x c128 c2m c2mx compressed'
((BENCH_QUICK)) && rounds=7 && ways='raw full clone c64'

if ((EUID == 0)) && [[ -z ${BENCH_IO_INSIDE:-} ]]; then
    export BENCH_IO_INSIDE=1
    exec nice -n -10 unshare --mount --propagation private "$0" "$@"
fi

label() {
    case $1 in
    raw) echo 'raw file' ;;
    full) echo 'qcow2, a full copy' ;;
    clone) echo 'clone, fresh' ;;
    clone_full) echo 'clone, all of it written' ;;
    c64) echo '64 KiB clusters, fresh' ;;
    c64_full) echo '64 KiB clusters, all written' ;;
    c64x) echo '64 KiB, extended L2, fresh' ;;
    c128) echo '128 KiB clusters, fresh' ;;
    c2m) echo '2 MiB clusters, fresh' ;;
    c2mx) echo '2 MiB, extended L2, fresh' ;;
    compressed) echo 'clone of a compressed master' ;;
    esac
}

make -s -C "$TORRENTPOOL_BUILD/tests" bench-overlay >/dev/null || die 'bench-overlay does not build'
dir=$BENCH_OUT/io
rm -rf "$dir"
mkdir -p "$dir"
# The mounts go with their namespace.
in_memory() {
    mount -t tmpfs -o size=6G none "$dir" && truncate -s 6G "$dir/disk" && mkfs.ext4 -q -F "$dir/disk" &&
        mkdir "$dir/fs" && mount -o loop "$dir/disk" "$dir/fs"
}
if [[ -n ${BENCH_IO_INSIDE:-} ]] && in_memory; then
    cd "$dir/fs" || exit 1
else
    echo "no file system in memory to be had; measuring on that of $dir" >&2
    cd "$dir" || exit 1
fi
daemon=
finish() {
    [[ -z $daemon ]] || kill "$daemon"
    cd /
    umount -q -l "$dir/fs"
    umount -q -l "$dir"
    rm -rf "$dir"
}
trap finish EXIT

overlay() {
    local master=master.qcow2 options=()
    case $1 in
    c64*) options=(16 off) ;;&
    c64x) options=(16 on) ;;
    c128) options=(17 off) ;;
    c2m) options=(21 off) ;;
    c2mx) options=(21 on) ;;
    compressed) master=compressed.qcow2 ;;
    esac
    "$TORRENTPOOL_BUILD/tests/bench-overlay" "$1.img" $master qcow2 $((mib << 20)) "${options[@]}" ||
        die 'bench-overlay failed'
}

prepare() {
    local way
    fio --name=data --filename=data.raw --rw=write --bs=1M --size=${mib}M --ioengine=psync \
        --refill_buffers --buffer_compress_percentage=50 --output=data.log || die "$(cat data.log)"
    qemu-img convert -f raw -O qcow2 data.raw master.qcow2 || exit 1
    [[ $ways != *compressed* ]] || qemu-img convert -c -f raw -O qcow2 data.raw compressed.qcow2 || exit 1
    for way in $ways; do
        case $way in
        raw) cp data.raw raw.img ;;
        full) qemu-img convert -f qcow2 -O qcow2 master.qcow2 full.img ;;
        *_full) overlay $way && qemu-img convert -n -f raw -O qcow2 data.raw $way.img ;;
        *) overlay $way ;;
        esac || die "cannot make '$way'"
    done
    rm data.raw
    sync -f .
}

serve() {
    local driver=qcow2
    [[ $1 != raw ]] || driver=raw
    local args=(--blockdev "driver=file,node-name=file,filename=$1.img,aio=threads")
    args+=(--blockdev "driver=$driver,node-name=disk,file=file,discard=unmap")
    args+=(--nbd-server addr.type=unix,addr.path=socket)
    args+=(--export nbd,id=export,node-name=disk,name=,writable=on)
    rm -f pid
    qemu-storage-daemon "${args[@]}" --pidfile pid >daemon.log 2>&1 &
    daemon=$!
    # the pid file comes last
    until [[ -s pid ]]; do
        kill -0 $daemon 2>/dev/null || die "qemu-storage-daemon: $(cat daemon.log)"
        sleep 0.01
    done
}
serve_no_more() {
    kill $daemon
    wait $daemon
    daemon=
}

# job WAY NAME FIO-RW BLOCK AMOUNT: prints requests per second
job() {
    local way=$1 rw=$3 bs=$4 amount=$5 flush=0 out
    [[ $2 != *_flushed ]] || flush=1
    sync "$way.img"
    if [[ $rw == *write ]]; then
        dd if="$way.img" iflag=nocache count=0 status=none
    else
        cat "$way.img" >/dev/null
    fi
    serve "$way"
    out=$(fio --name=job --ioengine=nbd --uri='nbd+unix:///?socket=socket' --rw="$rw" --bs="$bs" \
        --size=${mib}M --io_size="$amount" --iodepth=16 --refill_buffers --end_fsync=$flush \
        --output-format=terse --terse-version=3 2>&1) || die "fio: $out"
    serve_no_more
    [[ $way == raw || $way == *full ]] || overlay "$way"
    # fields 8 and 49 are the requests per second read and written
    awk -F ';' '$1 == 3 { rate = $8 + $49 } END { if (!rate) exit 1; print rate }' <<<"$out" || die "fio: $out"
}

prepare
backwards=$(tr ' ' '\n' <<<"$ways" | tac)
for ((round = 0; round < rounds; round++)); do
    cat ./*master* ./*compressed* >/dev/null 2>&1
    while read -r name rw bs amount; do
        order=$ways
        ((round % 2)) && order=$backwards
        for way in $order; do
            rate=$(job "$way" "$name" "$rw" "$bs" "$amount" </dev/null) || exit 1
            echo "$round $name $way $rate"
        done
    done <<JOBS
seqread read 1M $seq
seqwrite write 1M $seq
randread4k randread 4k $random
randwrite4k randwrite 4k $random
randwrite4k_flushed randwrite 4k $random
JOBS
done >rates
# NAME WAY: the best rate, and its ratio to that of the full copy
best() {
    awk -v name="$1" -v way="$2" '
        $2 == name && $3 == "full" && $4 > full { full = $4 }
        $2 == name && $3 == way && $4 > rate { rate = $4 }
        END { printf "%.0f %.2f\n", rate, rate / full }' rates
}

printf '%-30s %12s        %12s        %12s        %12s        %12s\n' "a disk of $mib MiB" \
    'read MiB/s' 'write MiB/s' '4k reads/s' '4k writes/s' '… flushed/s'
for way in $ways; do
    printf '%-30s' "$(label $way)"
    for name in seqread seqwrite randread4k randwrite4k randwrite4k_flushed; do
        read -r rate ratio <<<"$(best $name $way)"
        printf ' %12s (%s)' "$rate" "$ratio"
        printf '%s\t%s\n' "$(label $way)" "$rate" >>"$name.table"
        [[ $way != clone ]] || echo "figure io.${name}_fresh_over_full $ratio" >>"$BENCH_FIGURES"
    done
    echo
done
echo "(in brackets: the ratio to the full copy; the best of $rounds rounds)"
plot() { awk -v title="$2" -v unit="$3" -f "$top/tests/bench/bars.awk" "$1.table" >"$BENCH_OUT/io-$1.svg"; }
plot seqread 'Sequential reads' MiB/s
plot seqwrite 'Sequential writes' MiB/s
plot randread4k 'Random reads of 4 KiB' /s
plot randwrite4k 'Random writes of 4 KiB' /s
