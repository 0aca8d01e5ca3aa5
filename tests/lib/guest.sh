# Guests for tests; sources pool.sh.
#
# The writer is one sector of code on the disk itself: it writes 4 KiB after
# 4 KiB, each full of its own number, from 1 MiB on, some seventy in a second,
# and a dot on its console for each ("!" where that failed).  So its disk tells
# at any time whether a write was lost.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "${BASH_SOURCE[0]}")/pool.sh"

# host_with_hook NAME IP [OPTION of libvirtd…]: the hook has to be there before
# libvirtd starts, which looks for hooks only then.
host_with_hook() {
    local name=$1 ip=$2 etc
    shift 2
    host_start "$name" "$ip"
    etc=$(host_root "$name")/etc/libvirt
    mkdir -p "$etc/hooks/qemu.d"
    cp "${host_build[$name]:-$TORRENTPOOL_BUILD}/src/virt-torrentpool-hook" "$etc/hooks/qemu.d/50-torrentpool"
    printf '%s\n' 'listen_tls = 0' 'listen_tcp = 1' 'auth_tcp = "none"' >>"$etc/libvirtd.conf"
    hook_timeout "$name" 20
    libvirtd_start "$name" "$@"
}
# hook_timeout HOST SECONDS
hook_timeout() { printf '[hook]\ntimeout = %d\n' "$2" >"$(host_root "$1")/etc/libvirt/virttorrentd.conf"; }

# writer_disk FILE MIB: a qcow2 image of the writer, with that much noise from 64 MiB on
writer_disk() {
    cat >writer.S <<-'X'
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
    as --32 writer.S -o writer.o && ld -m elf_i386 -Ttext 0x7c00 --oformat binary writer.o -o writer.raw ||
        fail 'the guest cannot be assembled'
    truncate -s 64M writer.raw
    head -c "$2M" /dev/urandom >>writer.raw
    must qemu-img convert -f raw -O qcow2 writer.raw "$1"
    rm writer.raw
}

# writer_xml NAME DISK-SOURCE [<torrent:disk> attributes [more devices]]
writer_xml() {
    cat <<-X
	<domain type='qemu'><name>$1</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
	  ${3:+$(metadata "$3")}
	  <os><type arch='x86_64' machine='pc'>hvm</type></os>
	  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
	    <disk type='${2%%:*}'><driver name='qemu' type='qcow2'/><source ${2#*:}/><target dev='vda' bus='virtio'/></disk>${4:-}
	    <serial type='file'><source path='/var/log/libvirt/$1.serial'/></serial>
	    <controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
	X
}
metadata() {
    echo "<metadata><torrent:guest xmlns:torrent='http://libvirt.org/schemas/storagepool/torrent/1.0'><torrent:disk target='vda' $1/></torrent:guest></metadata>"
}
# told ATTRIBUTES FILE: with that in the domain's metadata
told() {
    metadata "$1" >metadata
    sed -i '/<\/uuid>/r metadata' "$2"
}
by_file() { echo "file:file='$target/$1'"; }
by_volume() { echo "volume:pool='$pool' volume='$1'"; }

# writer_start NAME DISK-SOURCE [<torrent:disk> attributes [more devices]]: defined and started on A
writer_start() {
    writer_xml "$@" >"$1.xml"
    must virsh_on A define "$1.xml"
    must virsh_on A start "$1"
    wait_for 60 has_written A "$1" 20 || fail "the guest $1 does not write: $(cat "$LAB/A/log/$1.serial")"
}
# has_written HOST GUEST COUNT: blocks, as its console there tells
has_written() { (($(tr -dc . <"$LAB/$1/log/$2.serial" | wc -c) >= $3)); }

# migrate GUEST [OPTION…]: from A to B
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
    is 'notes on B' '' "$(grep -ls "/$1.qcow2" "$(host_root B)"/run/libvirt/virt-torrentpool-hook/*)"
}
# moved GUEST: it is on B, where it stands on B's own master
moved() {
    ! virsh_on A domstate "$1" | grep -q running || fail "$1 still runs on A"
    is "backing of $1 on B" debian.qcow2 "$(backing B "$1.qcow2")"
    lacks "what the hooks told each other" 'migration' "$(virsh_on B dumpxml "$1")"
}
# goes_on GUEST [HOST]: it writes there, on B; then ends, and every block that it ever wrote is there
goes_on() {
    local before host=${2:-B}
    before=$(tr -dc . <"$LAB/$host/log/$1.serial" | wc -c)
    wait_for 60 has_written "$host" "$1" $((before + 20)) || fail "$1 does not write on $host"
    ! grep -q '!' "$LAB/$host/log/$1.serial" || fail "$1 could not write on $host"
    must virsh_on "$host" destroy "$1"
    blocks_of "$host" "$1"
    ((blocks >= 40)) || fail "only $blocks blocks on the disk of $1"
    echo "  $blocks blocks, none lost"
}
# blocks_of HOST GUEST: how many it wrote, in $blocks; each has to be there
blocks_of() {
    present "$(in_pool "$1" "$2.qcow2")"
    must host_exec "$1" qemu-img check -q "$target/$2.qcow2"
    must host_exec "$1" qemu-img dd -O raw bs=1M count=17 if="$target/$2.qcow2" of="$LAB/$2.raw"
    blocks=$(od -An -v -tu4 -w4096 -j1048576 "$2.raw" | awk '
        $1 == 0 { exit }
        { for (i = 1; i <= 1024; i++) if ($i != NR) { print "block " NR " has " $i; exit 1 } }
        { n = NR }
        END { print n + 0 }') || fail "the disk of $2: $blocks"
    is "bytes behind the last block of $2" 0 "$(tail -c +$((1048577 + blocks * 4096)) "$2.raw" | tr -d '\0' | wc -c)"
    rm -f "$2.raw"
}
