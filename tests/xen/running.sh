# What a running guest of Xen uses stays as it is, although its device model sets no
# locks on images: its volume is not frozen under it, and it survives libvirtd.  A
# volume can be attached to it.
# SPDX-License-Identifier: LGPL-2.1-or-later
guest_disk data.qcow2 'the data'
for volume in data.qcow2 more.qcow2; do
    must dom0_exec X cp "$LAB/data.qcow2" $target/$volume
done
must virsh_on X pool-refresh $pool
guest_define running "$(volume_disk data.qcow2)"
must virsh_on X start --paused running
trap 'virsh_on X destroy running' EXIT

step 'a volume that a guest writes to becomes no master: not by a clone of it, nor by chmod'
refused 'data.qcow2. is open for writing' virsh_on X vol-clone --pool $pool data.qcow2 copy.qcow2
must dom0_exec X chmod 0444 $target/data.qcow2
must virsh_on X pool-refresh $pool
lacks 'XML of data.qcow2' '<torrent ' "$(vol_xml X data.qcow2)"
must dom0_exec X chmod 0600 $target/data.qcow2

step 'a volume is attached; one that is not there is not'
backends() { dom0_exec X xenstore-ls /local/domain/0/backend/qdisk; }
has_more() { [[ $(backends) == *"params = \"qcow2:$target/more.qcow2\""*'state = "2"'* ]]; }
volume_disk more.qcow2 | sed 's/xvda/xvdb/' >more.xml
must virsh_on X attach-device running more.xml --live
wait_for 60 has_more || fail "more.qcow2 is not attached: $(backends)"
volume_disk gone.qcow2 | sed 's/xvda/xvdc/' >gone.xml
refused "no storage vol with matching name 'gone.qcow2'" virsh_on X attach-device running gone.xml --live

step 'it survives a restart of libvirtd'
before=$(virsh_on X domid running)
host_kill X libvirtd TERM
dom0_libvirtd_start X
is 'domain id' "$before" "$(virsh_on X domid running)"
is state paused "$(virsh_on X domstate running)"
wait_for 60 pool_active X || fail 'the pool did not come back'
