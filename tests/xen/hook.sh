# The hook guards guests of Xen as it does those of QEMU: no guest writes to a
# master, and a clone whose master is still coming waits for it.
# SPDX-License-Identifier: LGPL-2.1-or-later
guest_disk mail.qcow2 'the master of mail' 6
want=$(sum_of mail.qcow2)
publish A mail.qcow2
settings() { must dom0_exec X bash -c 'printf "[hook]\ntimeout = %s\n" "$1" >/etc/libvirt/virttorrentd.conf' - "$1"; }

step 'a master that is still coming: with too little time the progress is told'
host_shape A 400kbit
must give_xml A X mail.qcow2
must dom0_exec X qemu-img create -q -f qcow2 -u -b mail.qcow2 -F qcow2 $target/mail01.qcow2 14M
guest_define mail01 "$(file_disk $target/mail01.qcow2)"
settings 1
start_refused mail01 "mail01': the master '.*mail.qcow2', .* is not here: .*[0-9.]+ % of it"

step 'with time enough the start waits and goes on'
settings 600
host_shape A 1gbit
guest_start mail01
guest_ends mail01
guest_ran mail01 'the master of mail'
wait_state X mail.qcow2 seeding 60
master_is_untouched mail.qcow2 "$want"

step 'a guest that would write to a master is refused, with the way out'
guest_define mail02 "$(file_disk $target/mail.qcow2)"
start_refused mail02 "would write to '.*mail.qcow2'.*vol-clone"
guest_define mail02 "$(volume_disk mail.qcow2)"
start_refused mail02 "would write to '.*mail.qcow2'.*vol-clone"

step 'to read it is allowed, but Debian 12 has no device model that opens a disk for reading alone'
guest_define mail02 "$(file_disk $target/mail.qcow2 '<readonly/>')"
start_refused mail02 "did not open '$target/mail.qcow2', .*read-only"
master_is_untouched mail.qcow2 "$want"
