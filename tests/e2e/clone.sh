#!/bin/bash
# Clones of a master are small overlays on it, whichever command makes them.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_qcow2 debian.qcow2 8 1G
publish A debian.qcow2
want=$(sum_of debian.qcow2)

step 'vol-clone'
for n in 1 2 3; do
    must virsh_on A vol-clone --pool $pool debian.qcow2 web0$n.qcow2
    clone_is_good A web0$n.qcow2 debian.qcow2
    is capacity 1073741824 "$(vol_field A web0$n.qcow2 /volume/capacity)"
done
matches 'backing store in the XML' 'debian\.qcow2$' "$(vol_field A web01.qcow2 /volume/backingStore/path)"
is state '' "$(vol_torrent A web01.qcow2 state)"
[[ $(stat -c %a "$(in_pool A web01.qcow2)") == *6* ]] || fail 'a clone that cannot be written'

step 'the layout that is best for clones, although the XML has that of the master'
layout() { qemu-img info -U --output=json "$(in_pool A "$1")" | tr -d ' \n"' | grep -Eo 'cluster-size:[0-9]+|extended-l2:[a-z]+' | sort | tr '\n' ' '; }
is 'layout of the master' 'cluster-size:65536 extended-l2:false ' "$(layout debian.qcow2)"
is 'layout of a clone' 'cluster-size:131072 extended-l2:true ' "$(layout web01.qcow2)"
virsh_on A vol-dumpxml --pool $pool debian.qcow2 >asked.xml
sed -i 's|<name>.*|<name>asked.qcow2</name>|; s|<clusterSize[^<]*|<clusterSize unit="KiB">32|; /<features>/,/<\/features>/d' asked.xml
must virsh_on A vol-create-from $pool asked.xml debian.qcow2 --inputpool $pool
is 'layout of a clone that was asked for' 'cluster-size:32768 extended-l2:false ' "$(layout asked.qcow2)"

step 'vol-create-as with a backing volume, and with a larger capacity'
must virsh_on A vol-create-as $pool big.qcow2 2G --format qcow2 --backing-vol debian.qcow2 --backing-vol-format qcow2
is backing debian.qcow2 "$(basename "$(backing A big.qcow2)")"
is capacity 2147483648 "$(vol_field A big.qcow2 /volume/capacity)"
must host_exec A qemu-img check -q $target/big.qcow2

step 'a clone of a clone has its writes, and stands on the same master'
must host_exec A qemu-io -f qcow2 -c 'write -P 0x5a 4M 64k' $target/web01.qcow2
must virsh_on A vol-clone --pool $pool web01.qcow2 copy.qcow2
is backing debian.qcow2 "$(basename "$(backing A copy.qcow2)")"
must host_exec A qemu-img compare -q $target/web01.qcow2 $target/copy.qcow2
must host_exec A qemu-io -f qcow2 -c 'write -P 0xa5 4M 64k' $target/copy.qcow2
must host_exec A qemu-io -r -f qcow2 -c 'read -P 0x5a 4M 64k' $target/web01.qcow2

step 'a larger clone of a clone'
printf '<volume><name>larger.qcow2</name><capacity unit="GiB">3</capacity>' >larger.xml
printf '<target><format type="qcow2"/></target></volume>\n' >>larger.xml
must virsh_on A vol-create-from $pool "$LAB/larger.xml" web01.qcow2 --inputpool $pool
is backing debian.qcow2 "$(basename "$(backing A larger.qcow2)")"
is capacity 3221225472 "$(vol_field A larger.qcow2 /volume/capacity)"
must host_exec A qemu-io -r -f qcow2 -c 'read -P 0x5a 4M 64k' $target/larger.qcow2

step 'the other clones and the master are as before'
clone_is_good A web02.qcow2 debian.qcow2
is checksum "$want" "$(sum_of "$(in_pool A debian.qcow2)")"
in_state A debian.qcow2 seeding || fail 'the master is not seeded any more'

step 'names are relative: the pool directory can move'
mv "$(in_pool A .)" "$(host_root A)$images/moved" 2>/dev/null ||
    mv "$(host_root A)$target" "$(host_root A)$images/moved"
must host_exec A qemu-img compare -q $images/moved/web02.qcow2 $images/moved/debian.qcow2
mv "$(host_root A)$images/moved" "$(host_root A)$target"

step 'a clone of a private volume freezes its content beside it'
random_qcow2 own.qcow2 3
cp own.qcow2 "$(in_pool A own.qcow2)"
must virsh_on A pool-refresh $pool
must virsh_on A vol-clone --pool $pool own.qcow2 own-clone.qcow2
frozen=$(basename "$(backing A own-clone.qcow2)")
is 'backing of the original' "$frozen" "$(basename "$(backing A own.qcow2)")"
[[ $frozen != own.qcow2 ]] || fail 'the original is its own master'
is_master A "$frozen"
must host_exec A qemu-img compare -q "$LAB/own.qcow2" $target/own.qcow2
must host_exec A qemu-img compare -q "$LAB/own.qcow2" $target/own-clone.qcow2
must host_exec A qemu-io -f qcow2 -c 'write -P 0x11 0 64k' $target/own.qcow2
must host_exec A qemu-img compare -q "$LAB/own.qcow2" $target/own-clone.qcow2
