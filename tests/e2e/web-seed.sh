#!/bin/bash
# An HTTP server is origin enough: no other host has the master.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
. "$(dirname "$0")/../lib/origin.sh"
lab_enter "$@"

seed="<torrent:webseed url='http://10.77.0.3/images/'/>"
host_start A 10.77.0.1
host_start B 10.77.0.2
host_start C 10.77.0.3
for host in A B; do
    libvirtd_start $host
done
pool_start_new A "$seed"
pool_start_new B
web_start C
mkdir "$(web_dir C)/images"
for name in one two three; do
    random_qcow2 $name.qcow2 3
    cp $name.qcow2 "$(web_dir C)/images/"
done
publish A one.qcow2
publish A two.qcow2
publish A three.qcow2
matches 'magnet link of a pool with a mirror' 'ws=http:' "$(vol_torrent A one.qcow2 magnet)"

step 'a .torrent (v2) that names the file'
url=http://10.77.0.3/images/one.qcow2
{ head -c -1 "$(torrent_file A one.qcow2)"; printf '8:url-list%d:%se' ${#url} $url; } >one.torrent
cp "$(torrent_file A two.qcow2)" two.torrent
host_stop A
cp one.torrent "$(in_pool B one.torrent)"
must virsh_on B pool-refresh $pool
wait_state B one.qcow2 seeding 20
is checksum "$(sum_of one.qcow2)" "$(sum_of "$(in_pool B one.qcow2)")"
is_master B one.qcow2

step 'a .torrent (v1) of others that names the directory'
random_raw disk.img 3
must mktorrent -l 18 -w http://10.77.0.3/images/ -o v1.torrent disk.img
cp disk.img "$(web_dir C)/images/"
cp v1.torrent "$(in_pool B v1.torrent)"
must virsh_on B pool-refresh $pool
wait_state B disk.img seeding 20
is checksum "$(sum_of disk.img)" "$(sum_of "$(in_pool B disk.img)")"

step 'a mirror that the pool names'
must virsh_on B pool-destroy $pool
must virsh_on B pool-undefine $pool
pool_start_new B "$seed"
cp two.torrent "$(in_pool B two.torrent)"
must virsh_on B pool-refresh $pool
wait_state B two.qcow2 seeding 20
is checksum "$(sum_of two.qcow2)" "$(sum_of "$(in_pool B two.qcow2)")"

step 'a mirror whose file is another one: not a byte of it gets into the pool'
random_raw bad.img 3
must mktorrent -l 18 -w http://10.77.0.3/images/bad.img -o bad.torrent bad.img
random_raw "$(web_dir C)/images/bad.img" 3
cp bad.torrent "$(in_pool B bad.torrent)"
must virsh_on B pool-refresh $pool
wait_for 10 grep -q bad.img "$LAB/C/log/access.log" || fail 'the mirror was not asked'
! wait_for 2 in_state B bad.img seeding || fail 'it is a master'
absent "$(in_pool B bad.img)"
