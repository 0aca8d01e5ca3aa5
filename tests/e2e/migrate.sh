#!/bin/bash
# A running guest moves to a host that shares no storage with the first, onto
# the master that is there: only what it wrote itself goes over the wire.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

host_start A 10.77.0.1
host_start B 10.77.0.2
for host in A B; do
    etc=$(host_root $host)/etc/libvirt
    mkdir -p "$etc/hooks/qemu.d"
    cp "$TORRENTPOOL_BUILD/src/virt-torrentpool-hook" "$etc/hooks/qemu.d/50-torrentpool"
    printf '%s\n' 'listen_tls = 0' 'listen_tcp = 1' 'auth_tcp = "none"' >>"$etc/libvirtd.conf"
    printf '[hook]\ntimeout = 20\n' >"$etc/virttorrentd.conf"
    libvirtd_start $host --listen
    pool_start_new $host
done

# The guest: one sector that writes 4 KiB after 4 KiB, each full of its own
# number, from 1 MiB on, some seventy in a second, and a dot on its console for each.
cat >guest.S <<'X'
        .code16
        .globl _start
_start: xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x7c00, %sp
        mov     %dl, drive
        sti
        cld
next:   incl    count
        mov     $0x8000, %di
        mov     $1024, %cx
        mov     count, %eax
        rep stosl
        mov     $0x43, %ah              # extended write
        xor     %al, %al
        mov     drive, %dl
        mov     $packet, %si
        int     $0x13
        jc      bad
        addl    $8, lba
        mov     $'.', %al
        jmp     say
bad:    mov     $'!', %al
say:    mov     $0x3f8, %dx
        out     %al, %dx
        testb   $3, count               # four for each tick of the clock
        jnz     next
        hlt
        jmp     next
packet: .byte   16, 0
        .word   8                       # sectors
        .word   0x8000, 0
lba:    .long   2048, 0
count:  .long   0
drive:  .byte   0
        .org    510
        .word   0xaa55
X
as --32 guest.S -o guest.o && ld -m elf_i386 -Ttext 0x7c00 --oformat binary guest.o -o disk ||
    fail 'the guest cannot be assembled'

# The guest's blocks go to the first 64 MiB, the rest is what the master weighs.
master_mib=48
truncate -s 64M disk
head -c ${master_mib}M /dev/urandom >>disk
must qemu-img convert -f raw -O qcow2 disk debian.qcow2
publish A debian.qcow2
magnet=$(vol_torrent A debian.qcow2 magnet | sed 's/&/\&amp;/g')

# guest_start NAME DISK-SOURCE [<torrent:disk> attributes]: defined and started on A
guest_start() {
    cat >"$1.xml" <<-X
	<domain type='qemu'><name>$1</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
	  ${3:+<metadata><torrent:guest xmlns:torrent='http://libvirt.org/schemas/storagepool/torrent/1.0'>
	    <torrent:disk target='vda' $3/></torrent:guest></metadata>}
	  <os><type arch='x86_64' machine='pc'>hvm</type></os>
	  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
	    <disk type='${2%%:*}'><driver name='qemu' type='qcow2'/><source ${2#*:}/><target dev='vda' bus='virtio'/></disk>
	    <serial type='file'><source path='/var/log/libvirt/$1.serial'/></serial>
	    <controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
	X
    must virsh_on A define "$1.xml"
    must virsh_on A start "$1"
    wait_for 20 has_written A "$1" 20 || fail "the guest $1 does not write: $(cat "$LAB/A/log/$1.serial")"
}
# has_written HOST GUEST COUNT: blocks, as its console there tells
has_written() { (($(tr -dc . <"$LAB/$1/log/$2.serial" | wc -c) >= $3)); }
by_file() { echo "file:file='$target/$1'"; }
by_volume() { echo "volume:pool='$pool' volume='$1'"; }
clone() { must virsh_on A vol-clone --pool $pool debian.qcow2 "$1"; }

# migrate GUEST [OPTION…]
migrate() {
    local guest=$1
    shift
    virsh_on A migrate --live "$@" "$guest" qemu+tcp://10.77.0.2/system --migrateuri tcp://10.77.0.2
}
# hook_refuses PATTERN GUEST [OPTION…]: libvirt shows the client what the hook on B says
hook_refuses() {
    local pattern=$1 out
    shift
    if out=$(migrate "$@" 2>&1); then
        fail "the migration of $1 should have been refused"
    fi
    matches "the refusal of $1" "torrentpool: guest '$1': .*$pattern" "$out"
}
# stays GUEST: it still runs on A, and nothing of it is on B
stays() {
    is "state of $1 on A" running "$(virsh_on A domstate "$1" | head -n1)"
    ! virsh_on B domstate "$1" >/dev/null 2>&1 || fail "$1 is on B"
    absent "$(in_pool B "$1.qcow2")"
    is 'notes on B' '' "$(ls "$(host_root B)/run/libvirt/virt-torrentpool-hook" 2>/dev/null)"
}
# moved GUEST: it is on B, where it stands on B's own master
moved() {
    ! virsh_on A domstate "$1" | grep -q running || fail "$1 still runs on A"
    is "backing of $1 on B" debian.qcow2 "$(backing B "$1.qcow2")"
}
# goes_on GUEST [HOST]: it writes there, on B; then ends, and every block that it ever wrote is there
goes_on() {
    local before written host=${2:-B}
    before=$(tr -dc . <"$LAB/$host/log/$1.serial" | wc -c)
    wait_for 20 has_written $host "$1" $((before + 20)) || fail "$1 does not write on $host"
    ! grep -q '!' "$LAB/$host/log/$1.serial" || fail "$1 could not write on $host"
    must virsh_on $host destroy "$1"
    present "$(in_pool $host "$1.qcow2")"
    must host_exec $host qemu-img check -q "$target/$1.qcow2"
    must host_exec $host qemu-img convert -O raw "$target/$1.qcow2" "$LAB/$1.raw"
    written=$(od -An -v -tu4 -w4096 -j1048576 -N16777216 "$1.raw" | awk '
        $1 == 0 { ended = 1; next }
        ended || $1 != NR { print "block " NR " is " $1; exit 1 }
        { for (i = 2; i <= 1024; i++) if ($i != NR) { print "block " NR " is torn"; exit 1 } }
        { n = NR }
        END { print n }') || fail "the disk of $1: $written"
    ((written >= 40)) || fail "only $written blocks on the disk of $1"
    echo "  $written blocks, none lost"
    rm -f "$1.raw"
}

step 'no storage is copied: refused, and nothing is left'
clone plain.qcow2
guest_start plain "$(by_file plain.qcow2)" "master='debian.qcow2' magnet='$magnet'"
must give_xml A B debian.qcow2
wait_state B debian.qcow2 seeding 20
hook_refuses 'copy-storage-inc' plain --unsafe
stays plain
virsh_on A destroy plain >/dev/null

step 'the master is fetched by the magnet in the guest, the overlay is made, the guest moves'
must virsh_on B vol-delete --pool $pool debian.qcow2
clone web01.qcow2
guest_start web01 "$(by_file web01.qcow2)" "master='debian.qcow2' magnet='$magnet'"
must migrate web01 --copy-storage-inc --suspend
moved web01
is_master B debian.qcow2
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"

step 'at that moment both disks are equal; then it goes on'
must qemu-img convert -U -O raw "$(in_pool B web01.qcow2)" B.raw
must host_exec A qemu-img compare -q -f qcow2 -F raw $target/web01.qcow2 "$LAB/B.raw"
must virsh_on B resume web01
goes_on web01

step 'what goes over the wire'
clone web02.qcow2
guest_start web02 "$(by_file web02.qcow2)" "master='debian.qcow2'"
rx=$(host_rx B)
must migrate web02 --copy-storage-inc
inc=$(($(host_rx B) - rx))
moved web02
virsh_on B domjobinfo web02 --completed | sed -n 's/^\(Total downtime\|Time elapsed\): */  \1 /p'
goes_on web02
clone web03.qcow2
guest_start web03 "$(by_file web03.qcow2)" "master='debian.qcow2'"
rx=$(host_rx B)
must migrate web03 --copy-storage-all
all=$(($(host_rx B) - rx))
virsh_on B destroy web03 >/dev/null
echo "  master $((master_mib * 1048576)) bytes; --copy-storage-inc $inc bytes, --copy-storage-all $all bytes"
((inc * 4 < master_mib * 1048576)) || fail "$inc bytes for a master of $master_mib MiB"
((all > master_mib * 1048576)) || fail "--copy-storage-all is no measure: $all bytes"

step 'a disk of type volume'
clone web04.qcow2
guest_start web04 "$(by_volume web04.qcow2)" "master='debian.qcow2'"
must migrate web04 --copy-storage-inc
moved web04
goes_on web04

step 'a clone that is larger than its master needs to be told so'
must virsh_on A vol-create-as $pool web05.qcow2 200M --format qcow2 --backing-vol debian.qcow2 --backing-vol-format qcow2
guest_start web05 "$(by_file web05.qcow2)" "master='debian.qcow2'"
refused 'different sizes' migrate web05 --copy-storage-inc
stays web05
virsh_on A metadata web05 --uri http://libvirt.org/schemas/storagepool/torrent/1.0 --key torrent --live \
    --set "<guest><disk target='vda' master='debian.qcow2' capacity='209715200'/></guest>" >/dev/null
must migrate web05 --copy-storage-inc
moved web05
goes_on web05

step 'aborted half way: nothing is left, and the next attempt succeeds'
clone web06.qcow2
must host_exec A qemu-io -c 'write -P 7 72M 32M' $target/web06.qcow2
guest_start web06 "$(by_file web06.qcow2)" "master='debian.qcow2'"
host_shape A 40mbit
migrate web06 --copy-storage-inc >abort.log 2>&1 &
job=$!
half_way() { (($(stat -c %b "$(in_pool B web06.qcow2)") * 512 > 4194304)); }
wait_for 20 half_way || fail "the copy does not begin: $(cat abort.log)"
must virsh_on A domjobabort web06
! wait $job || fail 'the migration was not aborted'
stays web06
tc qdisc del dev vA root && host_exec A tc qdisc del dev eth0 root
must migrate web06 --copy-storage-inc
moved web06
goes_on web06

step 'there and back: what the guest leaves behind on B is not taken for a failure'
clone web09.qcow2
guest_start web09 "$(by_file web09.qcow2)" "master='debian.qcow2'"
must migrate web09 --copy-storage-inc
must virsh_on B migrate --live --copy-storage-inc web09 qemu+tcp://10.77.0.1/system --migrateuri tcp://10.77.0.1
present "$(in_pool B web09.qcow2)"
goes_on web09 A

step 'given up before QEMU starts: what was made is not in the way of the next attempt'
clone web08.qcow2
guest_start web08 "$(by_file web08.qcow2)" "master='debian.qcow2'"
sed '/<disk/d' web08.xml >namesake.xml
must virsh_on B define namesake.xml
refused "already exists" migrate web08 --copy-storage-inc
must virsh_on B undefine web08
must migrate web08 --copy-storage-inc
moved web08
goes_on web08

step 'a master that nobody on B has heard of: refused with the way out'
cp debian.qcow2 other.qcow2
must qemu-io -c 'write -P 9 100M 64k' other.qcow2
publish A other.qcow2
must virsh_on A vol-clone --pool $pool other.qcow2 web07.qcow2
guest_start web07 "$(by_file web07.qcow2)" "master='other.qcow2'"
hook_refuses 'other.qcow2.* does not know it; fetch it' web07 --copy-storage-inc
stays web07

step 'what was on B before stays, whatever happens'
must host_exec B qemu-img create -q -f qcow2 $target/web07.qcow2 1M
before=$(sum_of "$(in_pool B web07.qcow2)")
refused 'different sizes' migrate web07 --copy-storage-inc
is 'the older file' "$before" "$(sum_of "$(in_pool B web07.qcow2)")"
