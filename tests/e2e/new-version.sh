#!/bin/bash
# A new version costs what is new in it, and a sparse image what is in it, on the wire and on disk.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

hosts_with_pool A B
mib=64
# came HOST SINCE: KiB over its wire since then
came() { echo $((($(host_rx "$1") - $2) / 1024)); }

step 'the old version is on both hosts'
random_raw image-1.raw $mib
publish A image-1.raw
must give_xml A B image-1.raw
wait_state B image-1.raw seeding 60
wait_for 20 test -s "$(in_pool B .torrentpool/resume/image-1.raw.leaves)" || fail 'its leaves are not kept'

step 'the new one differs in 3 % of its blocks'
cp image-1.raw image-2.raw
for ((block = 11; block < mib * 64; block += 33)); do
    printf 'new' | dd of=image-2.raw bs=1 seek=$((block * 16384 + 77)) conv=notrunc status=none
done
publish A image-2.raw
before=$(host_rx B)
must give_xml A B image-2.raw
wait_state B image-2.raw seeding 60
is checksum "$(sum_of image-2.raw)" "$(sum_of "$(in_pool B image-2.raw)")"
is_master B image-2.raw
got=$(came B "$before")
echo "  $got KiB of $((mib * 1024)) KiB"
((got <= mib * 1024 / 20)) || fail "it cost $got KiB on the wire, more than 5 % of $mib MiB"

step 'a sparse image of 4 GiB with 20 MiB in it'
truncate -s 4G sparse.raw
for i in 0 1 2 3 4; do
    dd if=/dev/urandom of=sparse.raw bs=1M count=4 seek=$((i * 777)) conv=notrunc status=none
done
cp --sparse=always sparse.raw "$(in_pool A sparse.raw)"
chmod 0444 "$(in_pool A sparse.raw)"
must virsh_on A pool-refresh $pool
wait_state A sparse.raw seeding 30
before=$(host_rx B)
must give_xml A B sparse.raw
wait_state B sparse.raw seeding 60
got=$(came B "$before")
used=$(($(stat -c '%b*%B' "$(in_pool B sparse.raw)") / 1024))
echo "  $got KiB on the wire, $used KiB on disk"
((got <= 26 * 1024)) || fail "it cost $got KiB on the wire"
((used <= 26 * 1024)) || fail "it takes $used KiB on disk"
must qemu-img compare -q -f raw -F raw sparse.raw "$(in_pool B sparse.raw)"
