#!/bin/bash
# Something happens in a pool while libvirtd is still looking at its other pools.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A
random_raw data 1

step 'pools that take a while'
for n in 1 2 3; do
    must virsh_on A pool-define-as slow$n dir --target $images/slow$n
    must virsh_on A pool-build slow$n
    # in memory: it is the reading that shall take long, not the making
    must host_exec A mount -t tmpfs -o mode=0755,nr_inodes=40000 slow $images/slow$n
    must virsh_on A pool-start slow$n
    must host_exec A sh -c "cd $images/slow$n && seq 30000 | xargs touch"
done
libvirtd_stop A

step 'a file to be published, so that there is an event right at the start'
install -m 444 data "$(in_pool A new.raw)"
begin=$SECONDS
libvirtd_start A
wait_for 60 pool_active A || fail 'libvirtd did not come back'
echo "libvirtd was ready after $((SECONDS - begin)) s"
must host_pids A libvirtd
wait_for 20 has_key A new.raw || fail 'new.raw was not published'
must virsh_on A pool-list
must host_pids A libvirtd
