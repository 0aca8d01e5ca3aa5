#!/bin/bash
# A refresh opens the files that changed and no others, also after a restart of libvirtd.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"
type strace >/dev/null || exit 77

hosts_with_pool A
random_qcow2 master.qcow2 1 64M
publish A master.qcow2
dir=$(in_pool A .)
cache=$dir/.torrentpool/volumes
for n in 1 2 3 4 5 6 7 8; do
    must virsh_on A vol-clone --pool $pool master.qcow2 c$n.qcow2
done
random_raw "$dir/raw.img" 1
must virsh_on A pool-refresh $pool

# What a file was found to be just now is not trusted: it might change again
# without its times telling.
aged() {
    sleep 2.1
    must virsh_on A pool-refresh $pool
}

# opened COMMAND…: names of the files in the pool directory that libvirtd opens
# meanwhile, in order; the commands that use it prove that strace sees them.
opened() {
    local tracer
    strace -f -qq -e trace=open,openat,openat2 -o trace -p "$(pgrep -x libvirtd)" 2>strace.err &
    tracer=$!
    wait_for 5 grep -q '^TracerPid:[[:space:]]*[1-9]' "/proc/$(pgrep -x libvirtd)/status" ||
        fail "strace does not trace: $(cat strace.err)"
    sleep 0.3
    must "$@"
    kill -TERM $tracer
    wait $tracer || :
    sed -nE "s#.*\"($target/)?([a-z0-9]+\.(qcow2|img))\".*#\2#p" trace | sort -u | tr '\n' ' '
}
refreshed() { opened virsh_on A pool-refresh $pool; }
xml_of() { virsh_on A vol-dumpxml --pool $pool "$1" | grep -v 'atime\|<allocation'; }
all_xml() {
    local name
    for name in $(virsh_on A vol-list $pool | awk 'NR > 2 { print $1 }'); do
        xml_of "$name"
    done
}

step 'what is new is opened'
matches 'opened files' 'c1.qcow2 .*c8.qcow2 .*raw.img' "$(refreshed)"
aged

step 'what has not changed is not'
all_xml >before.xml
is 'opened files' '' "$(refreshed)"
all_xml >after.xml
diff before.xml after.xml || fail 'a refresh that opened nothing tells something else'
grep -q '<backingStore>' after.xml || fail 'the backing stores are gone'
is 'opened files' '' "$(opened virsh_on A vol-info --pool $pool master.qcow2)"

step 'what changed is, and nothing else'
printf 'X' | dd of="$dir/c1.qcow2" bs=1 seek=400 conv=notrunc status=none
touch -d '2001-01-01' "$dir/c1.qcow2"
must qemu-img resize -q "$dir/c2.qcow2" 128M
must qemu-img create -q -f qcow2 -b master.qcow2 -F qcow2 -u "$dir/.c3" 96M
mv "$dir/.c3" "$dir/c3.qcow2"
chmod 0640 "$dir/c4.qcow2"
truncate -s +1M "$dir/raw.img"
touch -r "$dir/c6.qcow2" stamp
must qemu-img create -q -f qcow2 -b master.qcow2 -F qcow2 -u other 80M
dd if=other of="$dir/c6.qcow2" bs=4096 count=1 conv=notrunc status=none
touch -r stamp "$dir/c6.qcow2"
changed=$(refreshed)
is 'opened files' 'c1.qcow2 c2.qcow2 c3.qcow2 c4.qcow2 c6.qcow2 raw.img ' "${changed/master.qcow2 /}"
is 'capacity of what was resized' 134217728 "$(vol_field A c2.qcow2 /volume/capacity)"
is 'capacity of what was replaced' 100663296 "$(vol_field A c3.qcow2 /volume/capacity)"
is 'mode' 0640 "$(vol_field A c4.qcow2 /volume/target/permissions/mode)"
is 'capacity of what grew' 2097152 "$(vol_field A raw.img /volume/capacity)"
is 'capacity of what was overwritten, size and mtime kept' 83886080 "$(vol_field A c6.qcow2 /volume/capacity)"

step 'what is gone is forgotten'
rm "$dir/c8.qcow2"
aged
aged
! vol_listed A c8.qcow2 || fail 'c8.qcow2 is listed'
! grep -q c8.qcow2 "$cache" || fail 'c8.qcow2 is remembered'

step 'what is remembered is kept for the next libvirtd'
is 'mode and owner of what is kept' '600 0:0' "$(stat -c '%a %u:%g' "$cache")"
all_xml >before.xml
cp "$cache" kept
libvirtd_stop A
host_exec A setsid strace -f -qq -e trace=open,openat,openat2 -o "$LAB/start" \
    "$TORRENTPOOL_LIBVIRT/src/libvirtd" --timeout 0 </dev/null >>start.log 2>&1 &
disown $!
wait_for 30 virsh_on A uri || fail 'libvirtd does not start under strace'
wait_for 10 vol_listed A c7.qcow2 || fail 'nothing is listed'
all_xml >after.xml
diff before.xml after.xml || fail 'a restart tells something else'
names=$(sed -n "s|.*\"$target/\(c[0-9]*\.qcow2\)\".*|\1|p" start | sort -u | wc -l)
((names <= 1)) || fail "$names of 7 clones were opened at start"
grep -q '"volumes"' start || fail 'strace did not see what is kept being read'

step 'and ignored when it is not in order'
ignored() {
    libvirtd_stop A
    "$@"
    libvirtd_start A
    wait_for 10 vol_listed A c7.qcow2 || fail "nothing is listed after: $*"
    all_xml >after.xml
    diff before.xml after.xml || fail "what is listed is wrong after: $*"
    pool_active A || fail "the pool is not active after: $*"
}
# with its checksum made anew: believed, if nothing else is looked at
resum() {
    sed -i '/^end /d' "$cache"
    echo "end $(sha256sum <"$cache" | cut -d' ' -f1)" >>"$cache"
}
# A capacity that no volume has shows what is believed.
lie() {
    sed -E '/^end /d; 2,$s/^(([0-9]+ ){5})[0-9]+/\17340032/' kept >"$cache"
    resum
}
foreign() { lie; chown 1 "$cache"; }
writable() { lie; chmod 0666 "$cache"; }
old_version() { lie; sed -i '1s/ [0-9]* / 0 /' "$cache"; resum; }
other_libvirt() { lie; sed -i '1s/[0-9]* \([0-9]*\)$/1 \1/' "$cache"; resum; }
other_clones() { lie; sed -i '1s/[0-9]*$/1/' "$cache"; resum; }
bad_sum() { lie; sed -i '$s/.$/x/' "$cache"; }
cut_off() { lie; truncate -s -80 "$cache"; }
malformed() { lie; sed -i '3s/ [0-9]* / a /' "$cache"; resum; }
symlink() { lie; mv "$cache" "$cache.1"; ln -s volumes.1 "$cache"; }
empty() { : >"$cache"; }
garbage() { head -c 20000 /dev/urandom >"$cache"; }
for how in foreign writable old_version other_libvirt other_clones bad_sum cut_off malformed symlink empty garbage; do
    rm -f "$cache"*
    cp kept "$cache"
    ignored $how
done

step 'where the lie would have been believed had it been in order'
rm -f "$cache"*
libvirtd_stop A
lie
chmod 0600 "$cache"
libvirtd_start A
wait_for 10 vol_listed A c7.qcow2 || fail 'nothing is listed'
is 'capacity as the file that is kept tells' 7340032 "$(vol_field A c7.qcow2 /volume/capacity)"
