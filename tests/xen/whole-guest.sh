# A whole guest, its disk and its domain XML, is published on one host, and on a
# Xen host fetched, cloned, defined and started by the lines of docs/xen.rst.
# SPDX-License-Identifier: LGPL-2.1-or-later
mkdir whole-guest
cd whole-guest || exit 1
guest_disk shop.qcow2 'the master of shop' 4
want=$(sum_of shop.qcow2)
publish A shop.qcow2
guest_xml shop "$(volume_disk shop.qcow2)" >published.xml
publish A published.xml shop.xml

step 'what docs/xen.rst says'
lines=$(sed -n '/^    b# for volume/,/^$/p' "$top/docs/xen.rst" | cut -c8-)
matches 'docs/xen.rst' 'vol-download' "$lines"
virsh() {
    case $2 in
    HOST_A) virsh_on A "${@:3}" ;;
    xen:///system) virsh_on X "${@:3}" ;;
    *) fail "docs/xen.rst: virsh $*" ;;
    esac
}
(set -e; eval "$lines")
is "exit status of: $lines" 0 $?
must cmp published.xml shop.xml

step 'the guests run on clones of what was published'
for name in shop01 shop02; do
    guest_ends $name
    guest_ran $name 'the master of shop'
    clone_has_the_write $name.qcow2 shop.qcow2
done
master_is_untouched shop.qcow2 "$want"

step 'under its own name it does not start: its disk is a master now'
must virsh_on X define shop.xml
start_refused shop "would write to '.*shop.qcow2'.*vol-clone"
