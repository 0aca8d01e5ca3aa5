#!/bin/bash
# libvirtd is killed at each of its steps on disk; what is there is whole, and what is not can be made.
# Usage: tests/soak/kill-libvirtd.sh
# SOAK_POINTS (default: 8): at how many steps of all, chosen by SOAK_SEED; 100 or
# more: at each of them.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

# tests/soak/kill-at.c kills libvirtd before its N-th call that changes a file
# system, while it does what a user asked for.  How many there are is counted
# first.  Then, for each N: prepare, kill, look at what a guest would find, start
# libvirtd again, look once more, and ask for the same again, which has to work.
seed=${SOAK_SEED:-$(($(date +%s) % 100000))}
points=${SOAK_POINTS:-8}
RANDOM=$seed
echo "SOAK_SEED=$seed SOAK_POINTS=$points"
gcc -O1 -shared -fPIC -o kill-at.so "$top/tests/soak/kill-at.c" -ldl || fail 'kill-at.c does not compile'

hosts_with_pool A B
must virsh_on B pool-define-as default dir --target $images
must virsh_on B pool-start default
random_qcow2 debian.qcow2 2 64M
random_raw other.raw 2
random_qcow2 private.qcow2 1 16M
cp other.raw "$(host_root B)$images/other.raw"
publish A debian.qcow2
must virsh_on B pool-refresh default
cp debian.qcow2 "$(in_pool B master.qcow2)"
# (the same content would be the same torrent)
printf x >>"$(in_pool B master.qcow2)"
cp "$(in_pool B master.qcow2)" master.qcow2
chmod 0444 "$(in_pool B master.qcow2)"
must virsh_on B pool-refresh $pool
wait_state B master.qcow2 seeding 30
vol_xml A debian.qcow2 >fetch.xml
cat >publish.xml <<-X
	<volume><name>other.raw</name><capacity>0</capacity>
	  <target><format type='raw'/><permissions><mode>0444</mode></permissions></target></volume>
	X
cat >pool2.xml <<-X
	<pool type='torrentpool'><name>second</name><target><path>$images/second</path></target></pool>
	X

start_armed() {
    host_exec B env LD_PRELOAD="$LAB/kill-at.so" KILL_AT="$LAB/kill" KILL_NAME=libvirtd \
        setsid "$TORRENTPOOL_LIBVIRT/src/libvirtd" --timeout 0 </dev/null >>"$LAB/B/log/libvirtd.stderr.log" 2>&1 &
    disown $!
    wait_for 30 virsh_on B uri || fail 'libvirtd does not come back'
    wait_for 30 pool_active B || fail 'the pool is not active any more'
}
dead() { ! host_pids B libvirtd >/dev/null; }
absent_in_pool() { [[ ! -e $(in_pool B "$1") ]]; }
drop() {
    if vol_listed B "$1"; then
        must virsh_on B vol-delete --pool $pool "$1"
    fi
    absent_in_pool "$1" || fail "$1 is on disk, but not a volume"
    wait_for 20 test ! -e "$(in_pool B ".torrentpool/meta/$1.torrent")"
}

# For each thing to do: do_X asks for it, undo_X prepares, half_X says whether what
# is there is whole or not there, done_X whether it was done.
do_clone() { virsh_on B vol-clone --pool $pool master.qcow2 web.qcow2; }
undo_clone() { drop web.qcow2; }
half_clone() { absent_in_pool web.qcow2 || clone_is_good B web.qcow2 master.qcow2; }
done_clone() { clone_is_good B web.qcow2 master.qcow2; }

do_publish() { virsh_on B vol-create-from $pool publish.xml --inputpool default other.raw; }
undo_publish() { drop other.raw; }
half_publish() { absent_in_pool other.raw || is 'what stands at the final path' "$(sum_of other.raw)" "$(sum_of "$(in_pool B other.raw)")"; }
done_publish() {
    wait_state B other.raw seeding 30
    half_publish
    is_master B other.raw
}

do_fetch() { virsh_on B vol-create $pool fetch.xml; }
undo_fetch() { drop debian.qcow2; }
half_fetch() { absent_in_pool debian.qcow2 || is 'what stands at the final path' "$(sum_of debian.qcow2)" "$(sum_of "$(in_pool B debian.qcow2)")"; }
done_fetch() {
    wait_state B debian.qcow2 seeding 30
    half_fetch
    is_master B debian.qcow2
}

do_delete() { virsh_on B vol-delete --pool $pool other.raw; }
undo_delete() { vol_listed B other.raw || must do_publish; wait_state B other.raw seeding 30; }
half_delete() { half_publish; }
done_delete() { absent_in_pool other.raw; }

# A clone of a private volume: its content becomes a master, its name an overlay.
do_split() { virsh_on B vol-clone --pool $pool private.qcow2 split.qcow2; }
undo_split() {
    local name
    for name in split.qcow2 private.qcow2; do
        ! vol_listed B "$name" || must virsh_on B vol-delete --pool $pool "$name"
    done
    for name in $(ls "$(in_pool B .)"); do
        [[ $name == master.qcow2 ]] || drop "$name"
    done
    cp private.qcow2 "$(in_pool B private.qcow2)"
    must virsh_on B pool-refresh $pool
}
same_as_private() { qemu-img compare -q -U private.qcow2 "$(in_pool B "$1")" || fail "$1 is not what it was"; }
half_split() {
    same_as_private private.qcow2
    absent_in_pool split.qcow2 || same_as_private split.qcow2
}
done_split() {
    same_as_private private.qcow2
    same_as_private split.qcow2
    is 'what the two stand on' "$(backing B private.qcow2)" "$(backing B split.qcow2)"
}

do_drop() { virsh_on B vol-delete --pool $pool web.qcow2; }
undo_drop() { vol_listed B web.qcow2 || must do_clone; }
half_drop() { half_clone; }
done_drop() { absent_in_pool web.qcow2; }

do_define() {
    virsh_on B pool-define pool2.xml && virsh_on B pool-build second && virsh_on B pool-start second
}
undo_define() {
    virsh_on B pool-destroy second
    virsh_on B pool-undefine second
    rm -rf "$(host_root B)$images/second"
} >/dev/null 2>&1
half_define() { :; }
# (what was done of it need not be done again)
done_define() { virsh_on B pool-info second | grep -Eq '^State: +running'; }

# at WHAT N: 1 when libvirtd came to its end before the N-th step
at() {
    local what=$1 number=$2 out
    undo_"$what"
    rm -f kill.log
    echo "$number" >kill
    out=$(do_"$what" 2>&1)
    rm kill
    if ! dead; then
        ((number == 0)) || fail "libvirtd was not killed at step $number of $what: $out"
        return
    fi
    ((number > 0)) || fail "libvirtd died: $out"
    half_"$what"
    start_armed
    half_"$what"
    must virsh_on B pool-refresh $pool
    is 'the other master' "$(sum_of master.qcow2)" "$(sum_of "$(in_pool B master.qcow2)")"
    vol_listed B master.qcow2 || fail 'master.qcow2 is not listed any more'
    # where the name is taken it was done
    if [[ $what == define ]]; then
        virsh_on B pool-define pool2.xml >/dev/null 2>&1
        virsh_on B pool-build second >/dev/null 2>&1
        done_define || must virsh_on B pool-start second
    elif ! out=$(do_"$what" 2>&1) && ! grep -Eqi 'exist|taken|not found|no storage vol|in use|already' <<<"$out"; then
        fail "it cannot be done after that: $out"
    fi
    done_"$what" || fail "$what did not lead to what was asked for"
}

libvirtd_stop B
start_armed
tasks=(clone publish fetch delete drop define split)
declare -a all=()
for what in "${tasks[@]}"; do
    step "$what: its steps are counted"
    at "$what" 0
    count=$(wc -l <kill.log)
    ((count > 0)) || fail 'no step was seen'
    echo "  $count: $(sed 's/^[0-9]* //' kill.log | uniq -c | awk '{printf "%s%s ", $2, ($1 > 1 ? "*" $1 : "")}')"
    for ((n = 1; n <= count; n++)); do
        all+=("$what $n")
    done
done
chosen=("${all[@]}")
if ((points < 100)); then
    mapfile -t chosen < <(for one in "${all[@]}"; do echo "$((RANDOM * 32768 + RANDOM)) $one"; done | sort -n | head -n "$points" | cut -d' ' -f2-)
fi
for one in "${chosen[@]}"; do
    step "killed at step ${one#* } of ${one% *} ($(date +%T))"
    at "${one% *}" "${one#* }"
done
step 'nothing is left behind'
undo_clone
undo_publish
undo_fetch
undo_split
must virsh_on B vol-delete --pool $pool private.qcow2
must virsh_on B pool-refresh $pool
is 'what is being built' '' "$(ls -A "$(in_pool B .torrentpool/build)")"
is 'what is there besides the master' 'master.qcow2' "$(ls "$(in_pool B .)")"
echo "libvirtd was killed at ${#chosen[@]} of ${#all[@]} steps"
