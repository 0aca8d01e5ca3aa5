#!/bin/bash
# What cannot carry an overlay is refused in a sentence that names it, and nothing is left.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 debian.qcow2 1 64M
publish A debian.qcow2
out=$images/out
dir=$(host_root A)$out
mkdir "$dir"
volume() { virsh_on A vol-create $pool "$LAB/new.xml"; }
# bad PATTERN PATH [FORMAT]
bad() {
    echo "<volume><name>no.qcow2</name><capacity>0</capacity><target><format type='qcow2'/></target>" \
        "<backingStore><path>$2</path><format type='${3:-qcow2}'/></backingStore></volume>" >"$LAB/new.xml"
    refused "$1" volume
    absent "$(in_pool A no.qcow2)"
    is 'what is being built' '' "$(ls "$(in_pool A .torrentpool/build)")"
    ! vol_listed A no.qcow2 || fail 'no.qcow2 is listed'
    pool_active A || fail 'the pool is not active any more'
}
good() {
    echo "<volume><name>yes.qcow2</name><capacity>0</capacity><target><format type='qcow2'/></target>" \
        "<backingStore><path>$1</path><format type='${2:-qcow2}'/></backingStore></volume>" >"$LAB/new.xml"
    must volume
    must host_exec A qemu-img info --backing-chain $target/yes.qcow2
    must virsh_on A vol-delete --pool $pool yes.qcow2
}

step 'not there, a directory, a device, a socket, a FIFO'
bad "$out/gone.*no such file" $out/gone
bad "'gone'" gone
bad "$out'.*regular file" $out raw
must host_exec A mknod $out/device b 7 200
bad "$out/device" $out/device raw
mkfifo "$dir/fifo"
bad "$out/fifo'.*regular file" $out/fifo raw
bad '/dev/null.*regular file' /dev/null raw
ln -s nowhere "$dir/dangling"
bad "$out/dangling.*no such file" $out/dangling
bad 'sub/x.*absolute' sub/x

step 'not readable'
# root reads everything but what is on a file system that does not let it
echo >"$dir/file"
bad "$out/file/x.*not a directory" $out/file/x
must ln -s loop "$dir/loop"
bad "$out/loop.*too many levels" $out/loop

step 'not what it is said to be'
cp debian.qcow2 "$dir/image.qcow2"
bad "image.qcow2.*looks like 'qcow2'.*give its format" $out/image.qcow2 raw
random_raw "$dir/image.raw" 1
bad "image.raw.*looks like 'raw'.*give its format" $out/image.raw qcow2
good $out/image.qcow2
good $out/image.raw raw

step 'a header that is broken'
cp debian.qcow2 "$dir/broken.qcow2"
printf '\xff\xff\xff\xff\xff\xff\xff\xff' | dd of="$dir/broken.qcow2" bs=1 seek=8 conv=notrunc status=none
bad "$out/broken.qcow2" $out/broken.qcow2
head -c 30 debian.qcow2 >"$dir/short.qcow2"
bad "$out/short.qcow2" $out/short.qcow2

step 'a chain that has a loop'
qemu-img create -q -f qcow2 -u -b self.qcow2 -F qcow2 "$dir/self.qcow2" 1M
bad "self.qcow2.*comes back to.*self.qcow2" $out/self.qcow2
qemu-img create -q -f qcow2 -u -b b.qcow2 -F qcow2 "$dir/a.qcow2" 1M
qemu-img create -q -f qcow2 -u -b ./../out/a.qcow2 -F qcow2 "$dir/b.qcow2" 1M
bad "a.qcow2.*comes back to" $out/a.qcow2
qemu-img create -q -f qcow2 -u -b a.qcow2 -F qcow2 "$dir/c.qcow2" 1M
bad "c.qcow2.*comes back to" $out/c.qcow2

step 'a chain that is too deep, or that ends nowhere'
# one header, with another number in the name of what it stands on
qemu-img create -q -f qcow2 -u -b l000.qcow2 -F qcow2 l 1M
cp debian.qcow2 "$dir/l000.qcow2"
for ((n = 1; n <= 199; n++)); do
    printf -v below 'l%03d' $((n - 1))
    printf -v this 'l%03d' $n
    sed "s/l000/$below/" l >"$dir/$this.qcow2"
done
bad 'l199.qcow2.*more than 198' $out/l199.qcow2
good $out/l198.qcow2
rm "$dir/l100.qcow2"
bad 'l100.qcow2.*no such file' $out/l198.qcow2

step 'a capacity below the master'\''s is raised'
for capacity in 1 1M 63M; do
    must virsh_on A vol-create-as $pool small.qcow2 $capacity --format qcow2 --backing-vol debian.qcow2 --backing-vol-format qcow2
    is "capacity for $capacity" 67108864 "$(vol_field A small.qcow2 /volume/capacity)"
    clone_is_good A small.qcow2 debian.qcow2
    must virsh_on A vol-delete --pool $pool small.qcow2
done
echo "<volume><name>small.qcow2</name><capacity>4096</capacity><target><format type='qcow2'/></target></volume>" >small.xml
must virsh_on A vol-create-from $pool "$LAB/small.xml" --inputpool $pool debian.qcow2
is 'capacity of a smaller clone' 67108864 "$(vol_field A small.qcow2 /volume/capacity)"

step 'nothing existing is overwritten, listed or not'
echo precious >"$(in_pool A taken.qcow2)"
ln -s /etc/hostname "$(in_pool A link.qcow2)"
mkdir "$(in_pool A dir.qcow2)"
for name in taken link dir small debian; do
    refused "exist|in use" virsh_on A vol-clone --pool $pool debian.qcow2 $name.qcow2
    refused "exist|in use" virsh_on A vol-create-as $pool $name.qcow2 1M --format qcow2 --backing-vol debian.qcow2 --backing-vol-format qcow2
    refused "exist|in use" virsh_on A vol-create-as $pool $name.qcow2 1M --format qcow2
done
is 'the file that had the name' precious "$(cat "$(in_pool A taken.qcow2)")"
is 'the link that had the name' /etc/hostname "$(readlink "$(in_pool A link.qcow2)")"
[[ -d $(in_pool A dir.qcow2) ]] || fail 'the directory is gone'
clone_is_good A small.qcow2 debian.qcow2
is_master A debian.qcow2
