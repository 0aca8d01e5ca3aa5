# The check sees a guest that runs on the master itself: without the hook, and
# as Xen's device model asks for no permission, nothing else keeps it from it.
# SPDX-License-Identifier: LGPL-2.1-or-later
guest_disk victim.qcow2 'the victim'
want=$(sum_of victim.qcow2)
publish A victim.qcow2
must give_xml A X victim.qcow2
wait_state X victim.qcow2 seeding 120
master_is_untouched victim.qcow2 "$want"

step 'without the hook a guest writes to the master'
trap 'dom0_hook_install X' EXIT
must dom0_exec X rm /etc/libvirt/hooks/libxl.d/50-torrentpool
guest_define vandal "$(file_disk $target/victim.qcow2)"
guest_start vandal
guest_ends vandal
guest_ran vandal 'the victim'

step 'and the check of the other tests says so'
if out=$( (master_is_untouched victim.qcow2 "$want") 2>&1); then
    fail 'a guest ran on the master itself, and the check did not see it'
fi
matches 'what the check says' 'checksum of victim.qcow2: expected' "$out"
if out=$( (clone_has_the_write victim.qcow2 web.qcow2) 2>&1); then
    fail 'a guest ran on the master itself, and the check took it for a clone'
fi
matches 'what the check says' 'backing file of victim.qcow2' "$out"
