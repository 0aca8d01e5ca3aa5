#!/bin/bash
# Where the hooks cannot tell each other what a disk stands on, the user can.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

host_with_hook A 10.77.0.1 --listen
host_with_hook B 10.77.0.2 --listen
pool_start_new A
pool_start_new B
writer_disk debian.qcow2 4
publish A debian.qcow2
clone() { must virsh_on A vol-clone --pool $pool debian.qcow2 "$1"; }

step 'with XML for the other host, that has to tell the master'
clone web01.qcow2
writer_start web01 "$(by_file web01.qcow2)"
virsh_on A dumpxml --migratable web01 | sed 's/web01.qcow2/elsewhere.qcow2/' >there.xml
refused 'incremental' migrate web01 --copy-storage-inc --xml there.xml
stays web01
magnet=$(vol_torrent A debian.qcow2 magnet | sed 's/&/\&amp;/g')
told "master='debian.qcow2' magnet='$magnet'" there.xml
must migrate web01 --copy-storage-inc --xml there.xml
is 'backing on B' debian.qcow2 "$(backing B elsewhere.qcow2)"
is checksum "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"
mv "$(in_pool B elsewhere.qcow2)" "$(in_pool B web01.qcow2)"
goes_on web01

step 'from a host without the hook, by what the metadata of the guest tell'
rm "$(host_root A)/etc/libvirt/hooks/qemu.d/50-torrentpool"
libvirtd_stop A
libvirtd_start A --listen
clone web02.qcow2
writer_start web02 "$(by_file web02.qcow2)"
refused 'incremental' migrate web02 --copy-storage-inc
stays web02
must virsh_on A metadata web02 --uri http://libvirt.org/schemas/storagepool/torrent/1.0 --key torrent --live \
     --set "<guest><disk target='vda' master='debian.qcow2'/></guest>"
must migrate web02 --copy-storage-inc
moved web02
goes_on web02
