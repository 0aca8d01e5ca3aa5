# What the end-to-end tests say about pools and volumes; sources host.sh.
#
# A test is a list of steps.  It stops at the first one that is not as promised
# and says which, what it did and what came out.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "${BASH_SOURCE[0]}")/host.sh"
set -u

pool=masters
images=/var/lib/libvirt/images
target=$images/$pool
step_now='(before the first step)'

step() {
    step_now=$*
    echo "* $*"
}

fail() {
    echo "FAIL at: $step_now" >&2
    echo "  $*" >&2
    exit 1
}

# must COMMAND…: has to succeed; its output is shown only if it does not.
must() {
    local out
    out=$("$@" 2>&1) || fail "this failed: $* ($out)"
}

# refused PATTERN COMMAND…: has to fail with a message that matches (extended
# regular expression), as an error and not as a crash.
refused() {
    local pattern=$1 out
    shift
    if out=$("$@" 2>&1); then
        fail "this should have been refused: $* ($out)"
    fi
    grep -Eqi -- "$pattern" <<<"$out" || fail "$*: the message does not match '$pattern': $out"
    ! grep -Eqi 'end of file|connection reset|disconnected|internal error: (cannot|unexpected|child)' <<<"$out" ||
        fail "$*: not a message for a user: $out"
}

# is WHAT EXPECTED ACTUAL
is() {
    [[ $2 == "$3" ]] || fail "$1: expected '$2', got '$3'"
}

# matches WHAT PATTERN TEXT
matches() {
    grep -Eq -- "$2" <<<"$3" || fail "$1: '$2' does not match: $3"
}
lacks() {
    ! grep -Eq -- "$2" <<<"$3" || fail "$1: '$2' should not match: $3"
}

# The path, from the script's side, of a file in the host's pool.
in_pool() { echo "$(host_root "$1")$target/$2"; }
absent() { [[ ! -e $1 && ! -L $1 ]] || fail "this should not be there: $1"; }
present() { [[ -e $1 ]] || fail "this should be there: $1"; }

# hosts A B C: the first ones at 10.77.0.1, .2, ..., each with libvirtd and a
# started pool.
hosts_with_pool() {
    local name number=0
    for name; do
        number=$((number + 1))
        host_start "$name" "10.77.0.$number"
        libvirtd_start "$name"
    done
    for name; do
        pool_start_new "$name"
    done
}

# pool_start_new HOST [XML inside <torrent:swarm>]
pool_start_new() {
    local host=$1 swarm=${2:-}
    pool_xml "$swarm" >"$LAB/pool-$host.xml"
    must virsh_on "$host" pool-define "$LAB/pool-$host.xml"
    must virsh_on "$host" pool-build $pool
    must virsh_on "$host" pool-start $pool
}

pool_xml() {
    local swarm=${1:-}
    [[ -z $swarm ]] || swarm="<torrent:swarm>$swarm</torrent:swarm>"
    cat <<-X
	<pool type='torrentpool' xmlns:torrent='http://libvirt.org/schemas/storagepool/torrent/1.0'>
	  <name>$pool</name>
	  <target><path>$target</path></target>
	  $swarm
	</pool>
	X
}

# random_qcow2 FILE MIB [CAPACITY]: that many MiB of noise in a qcow2 image
random_qcow2() {
    head -c "$2M" /dev/urandom >"$1.raw"
    [[ -z ${3:-} ]] || truncate -s "$3" "$1.raw"
    must qemu-img convert -f raw -O qcow2 "$1.raw" "$1"
    rm -f "$1.raw"
}
random_raw() { head -c "$2M" /dev/urandom >"$1"; }

# publish HOST FILE [NAME]: copies it into the pool as a master and waits until
# it is seeded.
publish() {
    local host=$1 name=${3:-${2##*/}}
    cp "$2" "$(in_pool "$host" "$name")"
    chown --reference="$(in_pool "$host" .)" "$(in_pool "$host" "$name")"
    chmod 0444 "$(in_pool "$host" "$name")"
    must virsh_on "$host" pool-refresh $pool
    wait_state "$host" "$name" seeding 20
}

vol_xml() { virsh_on "$1" vol-dumpxml --pool $pool "$2"; }
# vol_torrent HOST VOLUME ATTRIBUTE, of <source><torrent …/></source>
vol_torrent() {
    vol_xml "$1" "$2" 2>/dev/null | xmllint --xpath "string(/volume/source/torrent/@$3)" - 2>/dev/null
}
vol_field() {
    vol_xml "$1" "$2" 2>/dev/null | xmllint --xpath "string($3)" - 2>/dev/null
}
vol_listed() { virsh_on "$1" vol-list $pool | awk '{print $1}' | grep -Fxq -- "$2"; }
in_state() { [[ $(vol_torrent "$1" "$2" state) == "$3" ]]; }

# wait_state HOST VOLUME STATE SECONDS
wait_state() {
    wait_for "$4" in_state "$1" "$2" "$3" ||
        fail "$2 on $1 does not become '$3' within $4 s; it is: $(vol_torrent "$1" "$2" state) $(vol_torrent "$1" "$2" progress) $(vol_torrent "$1" "$2" error)"
}

# The key of a master tells its info-hash, from the refresh that follows its
# completion by itself.
has_key() { vol_field "$1" "$2" /volume/key | grep -Eq '^urn:btmh:1220[0-9a-f]{64}$'; }
wait_key() {
    wait_for 5 has_key "$1" "$2" || fail "the key of $2 does not tell its info-hash: $(vol_field "$1" "$2" /volume/key)"
}

# The .torrent of a master; virttorrentd writes it behind the state's back.
torrent_file() {
    local file
    file=$(in_pool "$1" ".torrentpool/meta/$2.torrent")
    wait_for 5 test -s "$file" || fail "there is no metainfo of $2 on $1"
    echo "$file"
}

# give_xml FROM TO VOLUME: what vol-dumpxml says on the one is created on the other
give_xml() {
    vol_xml "$1" "$3" >"$LAB/$3.xml" || fail "no XML of $3 on $1"
    virsh_on "$2" vol-create $pool "$LAB/$3.xml"
}

sum_of() { sha256sum <"$1" | cut -d' ' -f1; }
is_master() {
    local file
    file=$(in_pool "$1" "$2")
    is "mode and owner of $2" "444 0:0" "$(stat -c '%a %u:%g' "$file")"
}

# backing HOST VOLUME: what the overlay's header says
backing() {
    qemu-img info -U --output=json "$(in_pool "$1" "$2")" |
        sed -n 's/^ *"backing-filename": "\(.*\)",*$/\1/p'
}
clone_is_good() {
    local host=$1 name=$2 master=$3 file size
    file=$(in_pool "$host" "$name")
    present "$file"
    must host_exec "$host" qemu-img check -q "$target/$name"
    is "backing of $name" "$master" "$(basename "$(backing "$host" "$name")")"
    matches "backing format of $name" '"backing-filename-format": "(qcow2|raw)"' \
        "$(qemu-img info -U --output=json "$file")"
    size=$(($(stat -c '%b*%B' "$file")))
    ((size <= 1048576)) || fail "$name takes $size bytes on disk"
    must host_exec "$host" qemu-img compare -q "$target/$name" "$target/$master"
}
pool_active() { virsh_on "$1" pool-info $pool | grep -Eq '^State: +running'; }
