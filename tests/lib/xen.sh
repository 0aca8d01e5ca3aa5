# Guests for the tests of tests/xen, which have a host A, in namespaces, and a
# dom0 X.  To be sourced after pool.sh and dom0.sh.
#
# A guest is GRUB, which runs as a paravirtualized kernel of its own, starts in
# no time, and does what the configuration on its disk says: it tells what it
# reads, checks a MiB of it, tells whether it was there before, and writes that
# it was.  Then it stops.
# SPDX-License-Identifier: LGPL-2.1-or-later

# Where Debian's grub-xen-host has it, for all guests that boot by themselves.
guest_kernel=/usr/lib/grub-xen/grub-x86_64-xen.bin

# guest_disk FILE WORD [MIB]: a qcow2 image with an ext2 file system for such a
# guest, WORD in it, and that many MiB of noise to transfer.
guest_disk() {
    local file=$1 tree=$1.tree
    mkdir -p "$tree/boot/grub"
    cat >"$tree/boot/grub/grub.cfg" <<-'X'
	set pager=0
	set enable_progress_indicator=0
	echo "GUEST runs"
	cat /word
	if hashsum --hash sha256 --check /sums; then echo "GUEST reads what it should"; fi
	load_env -f /state
	echo "GUEST was here before: [$here]"
	set here=yes
	save_env -f /state here
	set here=
	load_env -f /state
	echo "GUEST wrote: [$here]"
	halt
	X
    echo "GUEST read: $2" >"$tree/word"
    head -c 1M /dev/urandom >"$tree/data"
    [[ -z ${3:-} ]] || head -c "$3M" /dev/urandom >"$tree/noise"
    echo "$(sum_of "$tree/data")  /data" >"$tree/sums"
    # GRUB's block for its environment: always 1 KiB
    { echo '# GRUB Environment Block'; printf '%999s' '' | tr ' ' '#'; } >"$tree/state"
    must mke2fs -q -F -t ext2 -b 1024 -d "$tree" "$file.raw" $((8 + ${3:-0}))M
    must qemu-img convert -f raw -O qcow2 "$file.raw" "$file"
    rm -rf "$tree" "$file.raw"
}

file_disk() { echo "<disk type='file'><driver name='qemu' type='qcow2'/><source file='$1'/><target dev='xvda' bus='xen'/>${2:-}</disk>"; }
volume_disk() { echo "<disk type='volume'><driver name='qemu' type='qcow2'/><source pool='$pool' volume='$1'/><target dev='xvda' bus='xen'/></disk>"; }

guest_xml() {
    cat <<-X
	<domain type='xen'><name>$1</name><memory unit='MiB'>48</memory><vcpu>1</vcpu>
	  <os><type arch='x86_64' machine='xenpv'>linux</type><kernel>$guest_kernel</kernel></os>
	  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
	  <devices>$2<console type='pty'/></devices></domain>
	X
}
guest_define() {
    guest_xml "$1" "$2" >"$1.xml"
    virsh_on X undefine "$1" >/dev/null 2>&1
    must virsh_on X define "$1.xml"
}

# guest_said NAME: its console, without what GRUB draws
guest_said() {
    sed 's/\x1b\[[0-9;]*[A-Za-z]/\n/g' "$LAB/X/log/xen/console/guest-$1.log" 2>/dev/null | tr -d '\r'
}
# libvirt says that a guest is shut off before it has put it away.
guest_is_off() { [[ $(virsh_on X domstate "$1") == 'shut off' && $(virsh_on X domid "$1") == - ]]; }

guest_start() {
    rm -f "$LAB/X/log/xen/console/guest-$1.log"
    must virsh_on X start "$1"
}
guest_ends() {
    wait_for 300 guest_is_off "$1" || fail "guest $1 does not stop; it said: $(guest_said "$1" | tail -n 20)
its device model: $(tail -n 5 "$LAB/X/log/xen/qemu-dm-$1.log")"
}

# guest_ran NAME WORD [BEFORE]: it found this word, all of its data, and
# whether it was there BEFORE (yes, or nothing), and wrote
guest_ran() {
    local said
    said=$(guest_said "$1")
    matches "what guest $1 said" "^GUEST read: $2\$" "$said"
    matches "what guest $1 said" '^GUEST reads what it should$' "$said"
    matches "what guest $1 said" "^GUEST was here before: \\[${3:-}\\]\$" "$said"
    matches "what guest $1 said" '^GUEST wrote: \[yes\]$' "$said"
}

# start_refused NAME PATTERN: with a message that matches, and nothing is left
start_refused() {
    local out
    if out=$(virsh_on X start "$1" 2>&1); then
        fail "the start of $1 should have been refused; it said: $(guest_said "$1" | tail -n 5)"
    fi
    matches "the refusal of $1" "$2" "$out"
    guest_is_off "$1" || fail "guest $1 was refused and is not shut off"
    lacks 'the domains of Xen' " $1 " "$(dom0_exec X xl list)"
}

# master_is_untouched VOLUME SUM: byte for byte, and as only a master is
master_is_untouched() {
    is "checksum of $1" "$2" "$(dom0_exec X sha256sum "$target/$1" | cut -d' ' -f1)"
    is "mode and owner of $1" '444 0:0' "$(dom0_exec X stat -c '%a %u:%g' "$target/$1")"
}

# clone_has_the_write VOLUME MASTER: it does, stands on this master, and is in order
clone_has_the_write() {
    local info
    must dom0_exec X qemu-img check -q "$target/$1"
    info=$(dom0_exec X qemu-img info --output=json "$target/$1")
    matches "backing file of $1" "\"backing-filename\": \"(.*/)?$2\"" "$info"
    # shellcheck disable=SC2016
    must dom0_exec X bash -c 'qemu-img convert -O raw "$1" /tmp/raw && grep -aq "^here=yes" /tmp/raw; status=$?
                              rm /tmp/raw; exit $status' - "$target/$1"
}
