#!/bin/bash
# A disk that fills up while publishing or fetching costs that volume only.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

host_start A 10.77.0.1
host_start B 10.77.0.2
for host in A B; do
    libvirtd_start $host
done
pool_start_new A
random_qcow2 debian.qcow2 12
publish A debian.qcow2
mkdir -p "$(host_root B)$target"
host_exec B mount -t tmpfs -o size=8m,mode=0711 small $target
pool_start_new B
inside() { host_exec B "$@"; }

step 'vol-create-from a file that does not fit'
must virsh_on B pool-define-as default dir --target $images
must virsh_on B pool-start default
cp debian.qcow2 "$(host_root B)$images/debian.qcow2"
must virsh_on B pool-refresh default
cat >new.xml <<-X
	<volume><name>debian.qcow2</name><capacity>0</capacity>
	  <target><format type='qcow2'/><permissions><mode>0444</mode></permissions></target></volume>
	X
refused 'space|full' virsh_on B vol-create-from $pool new.xml --inputpool default debian.qcow2
refused 'no such file' inside stat $target/debian.qcow2
pool_active B || fail 'the pool is not active any more'
must virsh_on B pool-refresh $pool
! vol_listed B debian.qcow2 || fail 'half a volume is listed'
free=$(inside stat -f -c %a $target)
((free * $(inside stat -f -c %S $target) > 7000000)) || fail "the space was not given back: $free blocks free"

step 'a fetch that does not fit fails and says so'
give_xml A B debian.qcow2 >create.out 2>&1 || matches vol-create 'space|full' "$(cat create.out)"
if vol_listed B debian.qcow2; then
    wait_state B debian.qcow2 failed 15
    matches error 'space' "$(vol_torrent B debian.qcow2 error)"
    refused 'no such file' inside stat $target/debian.qcow2
    must virsh_on B vol-delete --pool $pool debian.qcow2
fi

step 'what fits still works'
random_qcow2 small.qcow2 1
publish A small.qcow2
must give_xml A B small.qcow2
wait_state B small.qcow2 seeding 15
is checksum "$(sum_of small.qcow2)" "$(inside sha256sum $target/small.qcow2 | cut -d' ' -f1)"
