# Guests run on clones of one master, which came by BitTorrent: they read what is
# in the master, and what they write lands in their clone alone.
# SPDX-License-Identifier: LGPL-2.1-or-later
guest_disk web.qcow2 'the master of web'
publish A web.qcow2
want=$(sum_of web.qcow2)

step 'the master comes from a host outside'
must give_xml A X web.qcow2
wait_state X web.qcow2 seeding 120
master_is_untouched web.qcow2 "$want"

step 'two clones of it, one as a file and one as a volume of the pool, at once'
must virsh_on X vol-clone --pool $pool web.qcow2 web01.qcow2
must virsh_on X vol-clone --pool $pool web.qcow2 web02.qcow2
guest_define web01 "$(file_disk $target/web01.qcow2)"
guest_define web02 "$(volume_disk web02.qcow2)"
guest_start web01
guest_start web02
guest_ends web01
guest_ends web02
guest_ran web01 'the master of web'
guest_ran web02 'the master of web'

step 'what they wrote is in the clones, and the master what it was'
clone_has_the_write web01.qcow2 web.qcow2
clone_has_the_write web02.qcow2 web.qcow2
master_is_untouched web.qcow2 "$want"

step 'each finds its own again'
guest_start web01
guest_ends web01
guest_ran web01 'the master of web' yes
