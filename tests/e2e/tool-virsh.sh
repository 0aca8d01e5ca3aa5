#!/bin/bash
# The virsh of Debian's libvirt-clients, which knows nothing of this pool type, has
# every verb for pools and volumes.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

[[ -x /usr/bin/virsh ]] || fail 'virsh is missing; build-aux/install-deps installs it'
virsh_on() {
    local name=$1
    shift
    host_exec "$name" /usr/bin/virsh -q -c qemu:///system "$@"
}
! ldd /usr/bin/virsh | grep -F "$TORRENTPOOL_CACHE" || fail 'this virsh is not the one of the distribution'
for number in 1 2; do
    host=$(tr 12 AB <<<$number)
    host_start "$host" "10.77.0.$number"
    libvirtd_start "$host"
done

step 'a pool, in the words of the README'
for host in A B; do
    must virsh_on $host pool-define-as $pool torrentpool --target $target
    must virsh_on $host pool-build $pool
    must virsh_on $host pool-start $pool
    must virsh_on $host pool-autostart $pool
done
matches pool-list "^ $pool +active +yes" "$(virsh_on A pool-list --all)"
matches 'pool-list --details' "$pool +running +yes +yes " "$(virsh_on A pool-list --details)"
matches pool-info 'Persistent: +yes' "$(virsh_on A pool-info $pool)"
xml=$(virsh_on A pool-dumpxml $pool)
matches pool-dumpxml "<pool type='torrentpool'" "$xml"
is pool-uuid "$(virsh_on A pool-uuid $pool)" "$(xmllint --xpath 'string(/pool/uuid)' - <<<"$xml")"
is pool-name $pool "$(virsh_on A pool-name "$(virsh_on A pool-uuid $pool)")"

step 'publish from another pool'
must virsh_on A pool-define-as default dir --target $images
must virsh_on A pool-start default
random_qcow2 debian.qcow2 2 1G
must virsh_on A vol-create-as default debian.qcow2 1G --format qcow2
must virsh_on A vol-upload --pool default debian.qcow2 "$LAB/debian.qcow2"
cat >new.xml <<-'X'
	<volume><name>debian.qcow2</name><capacity>0</capacity>
	  <target><format type='qcow2'/><permissions><mode>0444</mode></permissions></target></volume>
	X
must virsh_on A vol-create-from $pool "$LAB/new.xml" --inputpool default debian.qcow2
wait_state A debian.qcow2 seeding 20

step 'fetch; pool-event tells when it is complete'
host_exec B timeout 60 /usr/bin/virsh -q -c qemu:///system pool-event --pool $pool --event refresh >events 2>&1 &
must give_xml A B debian.qcow2
wait_state B debian.qcow2 seeding 30
wait_for 10 grep -q "event 'refresh' for storage pool $pool" events || fail "there was no event: $(cat events)"
for host in A B; do
    is "capacity on $host" 1.00 "$(virsh_on $host vol-info --pool $pool debian.qcow2 | awk '/^Capacity/ { print $2 }')"
    matches "list on $host" 'debian\.qcow2 +/.* file +1\.00 GiB' "$(virsh_on $host vol-list --details $pool)"
    must host_exec $host qemu-img compare -q "$LAB/debian.qcow2" $target/debian.qcow2
done

step 'clone, three ways'
must virsh_on B vol-clone --pool $pool debian.qcow2 one.qcow2
must virsh_on B vol-create-as $pool two.qcow2 2G --format qcow2 --backing-vol debian.qcow2 --backing-vol-format qcow2
sed -i -e 's/debian.qcow2/three.qcow2/' -e 's,<permissions>.*</permissions>,,' new.xml
must virsh_on B vol-create-from $pool "$LAB/new.xml" debian.qcow2 --inputpool $pool
clone_is_good B one.qcow2 debian.qcow2
clone_is_good B three.qcow2 debian.qcow2
is 'backing of two.qcow2' debian.qcow2 "$(basename "$(backing B two.qcow2)")"

step 'volumes by path, by key, and back'
must virsh_on B pool-refresh $pool
wait_key B debian.qcow2
key=$(virsh_on B vol-key --pool $pool debian.qcow2)
is vol-name debian.qcow2 "$(virsh_on B vol-name "$key")"
is vol-path $target/debian.qcow2 "$(virsh_on B vol-path "$key")"
is vol-pool $pool "$(virsh_on B vol-pool $target/one.qcow2)"

step 'resize, upload, download, wipe a clone; none of that on its master'
must virsh_on B vol-resize --pool $pool one.qcow2 2G
is capacity 2.00 "$(virsh_on B vol-info --pool $pool one.qcow2 | awk '/^Capacity/ { print $2 }')"
must virsh_on B vol-download --pool $pool one.qcow2 "$LAB/back.qcow2"
must virsh_on B vol-upload --pool $pool three.qcow2 "$LAB/back.qcow2"
must virsh_on B pool-refresh $pool
is 'capacity of what was uploaded' 2147483648 "$(vol_field B three.qcow2 /volume/capacity)"
must virsh_on B vol-wipe --pool $pool three.qcow2
never='is a master and never changes'
refused "$never" virsh_on B vol-resize --pool $pool debian.qcow2 2G
refused "$never" virsh_on B vol-upload --pool $pool debian.qcow2 "$LAB/back.qcow2"
refused "$never" virsh_on B vol-wipe --pool $pool debian.qcow2
refused 'has clones' virsh_on B vol-delete --pool $pool debian.qcow2

step 'pool-edit keeps what the pool is; delete, stop, undefine'
must host_exec B env EDITOR="sed -i 's,</target>,</target><!-- edited -->,'" /usr/bin/virsh -q -c qemu:///system pool-edit $pool
for volume in one.qcow2 two.qcow2 three.qcow2 debian.qcow2; do
    must virsh_on B vol-delete --pool $pool $volume
done
is 'what is left' '' "$(virsh_on B vol-list $pool | grep -v '^ *$')"
must virsh_on B pool-destroy $pool
must virsh_on B pool-delete $pool
must virsh_on B pool-undefine $pool
absent "$(in_pool B .)"
