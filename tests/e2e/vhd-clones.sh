#!/bin/bash
# Where the pool says so, clones are differencing VHDs that libvhdi reads; no
# guest that would read zeros from one starts.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# Before libvirtd starts: it looks for hooks only then.
host_start A 10.77.0.1
mkdir -p "$(host_root A)/etc/libvirt/hooks/qemu.d"
cp "$TORRENTPOOL_BUILD/src/virt-torrentpool-hook" "$(host_root A)/etc/libvirt/hooks/qemu.d/50-torrentpool"
libvirtd_start A

# pool_of_vhds NAME: a started pool beside the first
pool_of_vhds() {
    pool_xml | sed "s|<name>.*|<name>$1</name>|;s|$target|$images/$1|;s|</pool>|<torrent:clone format='vhd'/></pool>|" >"$1.xml"
    must virsh_on A pool-define --validate "$LAB/$1.xml"
    must virsh_on A pool-build "$1"
    must virsh_on A pool-start "$1"
}
pool_of_vhds $pool

# random_vhd FILE MIB SUBFORMAT
random_vhd() {
    random_raw "$1.raw" "$2"
    must qemu-img convert -f raw -O vpc -o subformat="$3",force_size=on "$1.raw" "$1"
}

# vhd_holds VOLUME RAW: what libvhdi reads through it, its parents included.
vhd_holds() {
    must "$top/tests/lib/vhd-flat" "$(in_pool A "$1")" flat
    cmp flat "$2" >&2 || fail "$1 does not hold $2"
    rm flat
}
# vhd_says VOLUME LABEL
vhd_says() { vhdiinfo "$(in_pool A "$1")" | sed -n "s/^\t$2[\t ]*: //p" | head -n1; }
# is_child CHILD PARENT RAW
is_child() {
    is "type of $1" Differential "$(vhd_says "$1" 'Disk type')"
    is "parent of $1" "$(vhd_says "$2" Identifier)" "$(vhd_says "$1" 'Parent identifier')"
    is "format of $1" vpc "$(vol_field A "$1" /volume/target/format/@type)"
    is "backing store of $1" "$target/$2" "$(vol_field A "$1" /volume/backingStore/path)"
    is "its format" vpc "$(vol_field A "$1" /volume/backingStore/format/@type)"
    is "capacity of $1" "$(stat -c %s "$3")" "$(vol_field A "$1" /volume/capacity)"
    vhd_holds "$1" "$3"
}
# vhd_write VOLUME: writes noise to the first MiB of a fresh clone as a host
# does: sector bitmap and block where the last footer was, and that after them.
vhd_write() {
    local file end
    file=$(in_pool A "$1")
    end=$(($(stat -c %s "$file") - 512))
    tail -c 512 "$file" >footer
    head -c 1M /dev/urandom >"$1.mib"
    {
        # the parent's where the bitmap has no bit, so zeros there do not count
        head -c 256 /dev/zero | tr '\0' '\377'
        head -c 256 /dev/zero
        cat "$1.mib"
        head -c 1M /dev/zero
        cat footer
    } | dd of="$file" bs=64k seek=$end oflag=seek_bytes conv=notrunc status=none
    printf "\\x00\\x00\\x$(printf %02x $((end / 512 / 256)))\\x$(printf %02x $((end / 512 % 256)))" |
        dd of="$file" bs=1 seek=1536 conv=notrunc status=none
    must virsh_on A pool-refresh $pool
}

for kind in dynamic fixed; do
    step "vol-clone of a master that is a $kind VHD"
    random_vhd $kind.vhd 5 $kind
    publish A $kind.vhd
    is "format of $kind.vhd" vpc "$(vol_field A $kind.vhd /volume/target/format/@type)"
    before=$(sum_of "$(in_pool A $kind.vhd)")
    must virsh_on A vol-clone --pool $pool $kind.vhd $kind-web01.vhd
    is_child $kind-web01.vhd $kind.vhd $kind.vhd.raw
    (($(stat -c '%b*%B' "$(in_pool A $kind-web01.vhd)") <= 65536)) || fail 'it takes more than 64 KiB'

    step 'after a refresh from scratch it is the same'
    libvirtd_restart A
    wait_for 10 pool_active A || fail 'the pool is not active after a restart'
    is_child $kind-web01.vhd $kind.vhd $kind.vhd.raw

    step 'what the clone is written to stays there'
    vhd_write $kind-web01.vhd
    cp $kind.vhd.raw written.raw
    dd if=$kind-web01.vhd.mib of=written.raw conv=notrunc status=none
    vhd_holds $kind-web01.vhd written.raw
    is 'checksum of the master' "$before" "$(sum_of "$(in_pool A $kind.vhd)")"
done

step 'the clone of a clone is a copy of the small one, with the same parent'
must virsh_on A vol-clone --pool $pool dynamic-web01.vhd web02.vhd
cp dynamic.vhd.raw written.raw
dd if=dynamic-web01.vhd.mib of=written.raw conv=notrunc status=none
is_child web02.vhd dynamic.vhd written.raw
[[ $(vhd_says web02.vhd Identifier) != $(vhd_says dynamic-web01.vhd Identifier) ]] ||
    fail 'two clones have the same identity'

step 'what has clones stays, and they are named'
refused 'dynamic-web01|web02' virsh_on A vol-delete --pool $pool dynamic.vhd
present "$(in_pool A dynamic.vhd)"
must virsh_on A vol-delete --pool $pool dynamic-web01.vhd
refused 'web02' virsh_on A vol-delete --pool $pool dynamic.vhd

step 'a private VHD that is cloned becomes the master of both'
random_vhd private.vhd 3 dynamic
cp private.vhd "$(in_pool A private.vhd)"
must virsh_on A pool-refresh $pool
must virsh_on A vol-clone --pool $pool private.vhd web03.vhd
is_master A private-base.vhd
is_child private.vhd private-base.vhd private.vhd.raw
is_child web03.vhd private-base.vhd private.vhd.raw

step 'named as a backing store'
must virsh_on A vol-create-as $pool web04.vhd 5M --format vpc --backing-vol dynamic.vhd --backing-vol-format vpc
is_child web04.vhd dynamic.vhd dynamic.vhd.raw
must virsh_on A vol-create-as $pool web05.vhd 5M --backing-vol dynamic.vhd --backing-vol-format vpc
is_child web05.vhd dynamic.vhd dynamic.vhd.raw
refused 'capacity' virsh_on A vol-create-as $pool web06.vhd 6M --format vpc --backing-vol dynamic.vhd --backing-vol-format vpc
absent "$(in_pool A web06.vhd)"

step 'a master in another pool is protected in the same way'
pool_of_vhds others
cat >far.xml <<-X
	<volume><name>far.vhd</name><capacity unit='MiB'>5</capacity><target><format type='vpc'/></target>
	  <backingStore><path>$target/fixed.vhd</path><format type='vpc'/></backingStore></volume>
	X
must virsh_on A vol-create others "$LAB/far.xml"
is 'backing store of far.vhd' $target/fixed.vhd \
    "$(virsh_on A vol-dumpxml --pool others far.vhd | xmllint --xpath 'string(/volume/backingStore/path)' -)"
must virsh_on A vol-delete --pool $pool fixed-web01.vhd
refused 'far\.vhd' virsh_on A vol-delete --pool $pool fixed.vhd

step 'what is no VHD is no master here, and stays as it is'
random_qcow2 debian.qcow2 2
publish A debian.qcow2
refused "need a VHD as their master, 'debian.qcow2' is 'qcow2'" virsh_on A vol-clone --pool $pool debian.qcow2 web07.qcow2
refused "need a VHD as their master" virsh_on A vol-create-as $pool web07.vhd 2M --format vpc --backing-vol debian.qcow2 --backing-vol-format qcow2
refused 'are VHDs' virsh_on A vol-create-as $pool web07.qcow2 5M --format qcow2 --backing-vol dynamic.vhd --backing-vol-format vpc
cp debian.qcow2 "$(in_pool A own.qcow2)"
must virsh_on A pool-refresh $pool
refused "need a VHD as their master" virsh_on A vol-create-as $pool web07.vhd 2M --backing-vol own.qcow2 --backing-vol-format qcow2
[[ $(stat -c %a "$(in_pool A own.qcow2)") == *6* ]] || fail 'it was frozen all the same'
absent "$(in_pool A web07.vhd)"
absent "$(in_pool A web07.qcow2)"

step 'but an ISO is still copied'
random_raw installer.iso 1
publish A installer.iso
must virsh_on A vol-clone --pool $pool installer.iso copy.iso
is 'checksum of the copy' "$(sum_of installer.iso)" "$(sum_of "$(in_pool A copy.iso)")"
is 'its format' raw "$(vol_field A copy.iso /volume/target/format/@type)"

step 'the way out: a VHD is made of it'
cat >vhd.xml <<-X
	<volume><name>debian.vhd</name><capacity>0</capacity><target><format type='vpc'/></target></volume>
	X
must virsh_on A vol-create-from $pool vhd.xml --inputpool $pool debian.qcow2
must virsh_on A vol-clone --pool $pool debian.vhd web08.vhd
is 'parent of web08.vhd' "$(vhd_says debian-base.vhd Identifier)" "$(vhd_says web08.vhd 'Parent identifier')"

step 'a guest that would read zeros does not start'
guest() {
    cat <<-X
	<domain type='qemu'><name>$1</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
	  <os><type arch='x86_64' machine='pc'>hvm</type></os>
	  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
	    <disk type='file'><driver name='qemu' type='vpc'/><source file='$target/$2'/><target dev='vda' bus='virtio'/></disk>
	    <controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
	X
}
guest zeros web04.vhd >zeros.xml
if out=$(virsh_on A create --paused "$LAB/zeros.xml" 2>&1); then
    fail 'the guest has started'
fi
matches 'the refusal' "torrentpool: guest 'zeros': .*web04.vhd' is a differencing VHD, .* zeros" "$out"
random_vhd whole.vhd 2 dynamic
cp whole.vhd "$(in_pool A whole.vhd)"
guest whole whole.vhd >whole.xml
must virsh_on A create --paused "$LAB/whole.xml"
must virsh_on A destroy whole

step 'in pools of others it is refused, with the reason'
must virsh_on A pool-destroy $pool
must virsh_on A pool-undefine $pool
sed "s|<torrent:clone.*/>||" $pool.xml >plain.xml
must virsh_on A pool-define "$LAB/plain.xml"
must virsh_on A pool-start $pool
refused 'read zeros.*torrent:clone' virsh_on A vol-create-as $pool web09.vhd 5M --format vpc --backing-vol dynamic.vhd --backing-vol-format vpc
absent "$(in_pool A web09.vhd)"
must virsh_on A vol-clone --pool $pool dynamic.vhd copy.vhd
is 'type of a copy' Dynamic "$(vhd_says copy.vhd 'Disk type')"
sed 's/debian.vhd/flat.qcow2/;s/vpc/qcow2/' vhd.xml >flat.xml
refused 'differencing VHD' virsh_on A vol-create-from $pool flat.xml --inputpool $pool web04.vhd
absent "$(in_pool A flat.qcow2)"
must virsh_on A vol-clone --pool $pool web04.vhd web10.vhd
is_child web10.vhd dynamic.vhd dynamic.vhd.raw
