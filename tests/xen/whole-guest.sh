# A whole guest, its disk and its domain XML, is published on one host, and on a
# Xen host fetched, defined and cloned with virsh alone.  docs/xen.rst shows how.
# SPDX-License-Identifier: LGPL-2.1-or-later
guest_disk shop.qcow2 'the master of shop'
want=$(sum_of shop.qcow2)
publish A shop.qcow2
# as 'virsh dumpxml --inactive' gives it, without uuid and addresses
guest_xml shop "$(file_disk $target/shop.qcow2)" >shop.xml
publish A shop.xml

step 'both are fetched'
for volume in shop.qcow2 shop.xml; do
    must give_xml A X $volume
done
for volume in shop.qcow2 shop.xml; do
    wait_state X $volume seeding 120
done
must virsh_on X vol-download --pool $pool shop.xml fetched.xml
must cmp shop.xml fetched.xml

step 'it is cloned, under new names'
for name in shop01 shop02; do
    must virsh_on X vol-clone --pool $pool shop.qcow2 $name.qcow2
    sed "s,<name>shop<,<name>$name<,; s,$target/shop.qcow2,$target/$name.qcow2," fetched.xml >$name.xml
    must virsh_on X define $name.xml
    guest_start $name
done
for name in shop01 shop02; do
    guest_ends $name
    guest_ran $name 'the master of shop'
    clone_has_the_write $name.qcow2 shop.qcow2
done
master_is_untouched shop.qcow2 "$want"

step 'as it was published it does not start: its disk is a master now'
must virsh_on X define fetched.xml
start_refused shop "would write to '.*shop.qcow2'.*vol-clone"
