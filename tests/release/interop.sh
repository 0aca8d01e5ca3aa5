#!/bin/bash
# Hosts of two releases of Debian, each with its own libvirt and libtorrent, are one
# swarm: what the one publishes the other fetches, with its volume XML, and clones.
# $OTHER_ROOT is the root of the other release, $OTHER_CACHE what was built there.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
[[ -e ${OTHER_ROOT:-}/etc/debian_version && -d ${OTHER_CACHE:-} ]] ||
    die 'tests/release/run starts this, with OTHER_ROOT and OTHER_CACHE'
lab_enter "$@"

host_base[B]=$OTHER_ROOT
host_build[B]=$OTHER_CACHE/build
host_libvirt[B]=$(dirname "$(ls -td "$OTHER_CACHE"/libvirt/*/complete | head -n 1)")/build

host_with_hook A 10.77.0.1 --listen
host_with_hook B 10.77.0.2 --listen
pool_start_new A
pool_start_new B
step "two releases: $(host_exec A cat /etc/debian_version) and $(host_exec B cat /etc/debian_version)"
[[ $(host_exec A cat /etc/debian_version) != "$(host_exec B cat /etc/debian_version)" ]] || fail 'the same release twice'
engine() { host_exec "$1" ldd "${host_build[$1]:-$TORRENTPOOL_BUILD}/src/virttorrentd" | sed -n 's/.*=> *\(.*libtorrent-rasterbar[^ ]*\).*/\1/p'; }
declare -A daemon=()
for host in A B; do
    daemon[$host]=$(virsh_on $host version --daemon | sed -n 's/^Running against daemon: *//p')
    echo "  $host: libvirt ${daemon[$host]}, $(host_exec $host readlink -f "$(engine $host)")"
done
[[ ${daemon[A]} != "${daemon[B]}" ]] || fail "both run libvirt ${daemon[A]}"

shared() {
    local from=$1 to=$2 name=$3
    step "$from publishes, $to fetches and clones"
    random_qcow2 "$name" 24
    publish "$from" "$name"
    must give_xml "$from" "$to" "$name"
    wait_state "$to" "$name" seeding 30
    wait_key "$to" "$name"
    wait_key "$from" "$name"
    is checksum "$(sum_of "$name")" "$(sum_of "$(in_pool "$to" "$name")")"
    is_master "$to" "$name"
    is key "$(vol_field "$from" "$name" /volume/key)" "$(vol_field "$to" "$name" /volume/key)"
    must virsh_on "$to" vol-clone --pool $pool "$name" "clone-of-$name"
    clone_is_good "$to" "clone-of-$name" "$name"
}
shared A B old.qcow2
shared B A new.qcow2

step 'a clone of the one is read by the QEMU of the other'
cp "$(in_pool B clone-of-old.qcow2)" "$(in_pool A from-b.qcow2)"
must virsh_on A pool-refresh $pool
is 'backing format' qcow2 "$(vol_field A from-b.qcow2 /volume/backingStore/format/@type)"
must host_exec A qemu-img compare -q "$target/from-b.qcow2" "$target/old.qcow2"

step 'a guest moves from the one to the other, onto the master that is fetched there'
writer_disk debian.qcow2 16
publish A debian.qcow2
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2
writer_start web01 "$(by_file web01.qcow2)"
must migrate web01 --copy-storage-inc
moved web01
is_master B debian.qcow2
wait_for 60 has_written B web01 20 || fail 'web01 does not write on B'

step 'and back'
must virsh_on B migrate --live --copy-storage-inc web01 qemu+tcp://10.77.0.1/system --migrateuri tcp://10.77.0.1
is 'backing of web01 on A' debian.qcow2 "$(backing A web01.qcow2)"
goes_on web01 A
