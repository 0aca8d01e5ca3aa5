#!/bin/bash
# A torrentpool serves ordinary volumes as a dir pool does.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_raw data 2

step 'create, raw and qcow2'
must virsh_on A vol-create-as $pool disk.raw 4M --format raw
must virsh_on A vol-create-as $pool disk.qcow2 1G --format qcow2
must virsh_on A vol-create-as $pool sparse.raw 1G --allocation 0 --format raw
is size 1073741824 "$(stat -c %s "$(in_pool A sparse.raw)")"
must host_exec A qemu-img check -q $target/disk.qcow2

step 'upload, download'
must virsh_on A vol-upload --pool $pool disk.raw "$LAB/data"
must virsh_on A vol-download --pool $pool disk.raw "$LAB/back" --length 2097152
is checksum "$(sum_of data)" "$(sum_of back)"

step 'resize, info, dumpxml, path, key'
must virsh_on A vol-resize --pool $pool disk.raw 8M
matches vol-info 'Capacity: +8\.00 MiB' "$(virsh_on A vol-info --pool $pool disk.raw)"
must virsh_on A vol-resize --pool $pool disk.qcow2 2G
is capacity 2147483648 "$(vol_field A disk.qcow2 /volume/capacity)"
is path $target/disk.raw "$(virsh_on A vol-path --pool $pool disk.raw)"
is name disk.raw "$(virsh_on A vol-name $target/disk.raw)"
matches list 'disk\.qcow2 .* file ' "$(virsh_on A vol-list --details $pool)"

step 'wipe'
must virsh_on A vol-wipe --pool $pool disk.raw
is 'bytes that are not zero' 0 "$(tr -d '\0' <"$(in_pool A disk.raw)" | wc -c)"

step 'none of them was published'
is metainfo format "$(ls "$(in_pool A .torrentpool/meta)")"

step 'delete'
for name in disk.raw disk.qcow2 sparse.raw; do
    must virsh_on A vol-delete --pool $pool $name
    absent "$(in_pool A $name)"
done
is volumes '' "$(virsh_on A vol-list $pool)"
