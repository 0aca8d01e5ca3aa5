#!/bin/bash
# docs/tutorial.rst does what it says, typed line by line as it stands there.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/guest.sh"
lab_enter "$@"

tutorial=$top/docs/tutorial.rst
for tool in certtool virt-clone sshd ssh-keygen; do
    command -v $tool >/dev/null || fail "$tool is missing; build-aux/install-deps installs it"
done

# Four hosts that know each other by name and, as on any Debian machine, have
# virsh in their path.  There is no systemd in a namespace: what the tutorial has
# it do with libvirtd is done by a script.
hosts='admin hosta hostb hostc'
for host in $hosts; do
    host_start "$host" "10.77.0.$((${#host_ip[@]} + 1))"
    root=$(host_root "$host")
    cat >>"$root/etc/hosts" <<-X
	10.77.0.1 admin
	10.77.0.2 hosta
	10.77.0.3 hostb
	10.77.0.4 hostc
	X
    rm -rf "$root/etc/pki" "$root/root/.ssh"
    mkdir -p -m 0700 "$root/root/.ssh" "$root/usr/local/bin"
    ln -sf "$TORRENTPOOL_LIBVIRT/tools/virsh" "$TORRENTPOOL_LIBVIRT/src/virt-ssh-helper" "$root/usr/local/bin"
    cat >"$root/usr/local/bin/systemctl" <<-X
	#!/bin/sh
	export VIRTTORRENTD_PATH="$TORRENTPOOL_BUILD/src/virttorrentd"
	case "\$*" in
	'stop libvirtd')
	    while pkill -x libvirtd; do sleep 0.1; done ;;
	'start libvirtd-tls.socket')
	    setsid "$TORRENTPOOL_LIBVIRT/src/libvirtd" --timeout 0 --listen >>/var/log/libvirt/libvirtd.stderr.log 2>&1 </dev/null &
	    tries=0
	    until ss -Hltn | grep -q ':16514 ' || [ \$((tries += 1)) -gt 300 ]; do sleep 0.1; done ;;
	*)
	    echo "systemctl \$*: not here" >&2
	    exit 1 ;;
	esac
	X
    chmod 0755 "$root/usr/local/bin/systemctl"
done
must ssh-keygen -q -t ed25519 -N '' -f key
cp key "$(host_root admin)/root/.ssh/id_ed25519"
for host in hosta hostb hostc; do
    root=$(host_root $host)
    mkdir -p "$root/etc/libvirt/hooks/qemu.d" "$root/run/sshd"
    cp "$TORRENTPOOL_BUILD/src/virt-torrentpool-hook" "$root/etc/libvirt/hooks/qemu.d/50-torrentpool"
    cp key.pub "$root/root/.ssh/authorized_keys"
    must ssh-keygen -q -t ed25519 -N '' -f $host.key
    echo "$host $(cut -d' ' -f1,2 $host.key.pub)" >>"$(host_root admin)/root/.ssh/known_hosts"
    printf '%s\n' "HostKey $LAB/$host.key" 'UsePAM no' 'PermitRootLogin yes' 'StrictModes no' \
        "SetEnv PATH=/usr/local/bin:$PATH" 'Subsystem sftp internal-sftp' >$host.sshd
    must host_exec $host "$(command -v sshd)" -f "$LAB/$host.sshd" -E "/var/log/libvirt/sshd.log"
    libvirtd_start $host
done

step 'what is there before: a guest with two disks on hosta'
must virsh_on hosta pool-define-as default dir --target $images
must virsh_on hosta pool-start default
writer_disk debian.qcow2 4
random_qcow2 debian-data.qcow2 2 64M
cp debian.qcow2 debian-data.qcow2 "$(host_root hosta)$images"
must virsh_on hosta pool-refresh default
writer_xml debian "file:file='$images/debian.qcow2'" >guest.xml
sed -i -e '/<serial/d' -e "/<controller/i <disk type='file'><driver name='qemu' type='qcow2'/><source file='$images/debian-data.qcow2'/><target dev='vdb' bus='virtio'/></disk><interface type='user'><model type='virtio'/></interface>" guest.xml
must virsh_on hosta define "$LAB/guest.xml"

# The lines under a heading, host and command, each ended by a NUL.
commands_of() {
    awk -v wanted="$1" '
        function flush() { if (command != "") printf "%s\t%s%c", host, command, 0; command = "" }
        /^====*$/ { heading = last; flush() }
        { last = $0 }
        heading != wanted { next }
        /^    [a-z]+# / { flush(); host = $1; sub("#", "", host); command = $0; sub("^    [a-z]+# ", "", command); next }
        /^     / && command != "" { command = command "\n" $0; next }
        { flush() }
        END { flush() }' "$tutorial"
}
typed=0
type_section() {
    local host command
    step "$1"
    while IFS=$'\t' read -r -d '' host command; do
        typed=$((typed + 1))
        HOST_CWD=$(host_root "$host")/root host_exec "$host" env PATH="/usr/local/bin:$PATH" \
            bash -e -o pipefail -c "$command" >typed.out 2>&1 </dev/null ||
            fail "on $host: $command ($(tail -n 20 typed.out))"
    done < <(commands_of "$1")
}

type_section 'Reach every host'
for uri in qemu+tls://hosta/system qemu+ssh://root@hosta/system; do
    is "$uri" hosta "$(host_exec admin virsh -q -c $uri hostname)"
done

step 'nobody comes in without a certificate, or with one of another authority'
no_entry() { refused "certificate|verify|hand.*shake|TLS" host_exec admin virsh -q -c "qemu+tls://hosta/system?pkipath=/root/$1" uri; }
pki=$(host_root admin)/root
mkdir "$pki/none" "$pki/other"
cp "$pki/pki/cacert.pem" "$pki/none"
no_entry none
cp "$pki/pki/admin.key" "$pki/other/clientkey.pem"
cp "$pki/pki/cacert.pem" "$pki/other/cacert.pem"
must certtool --generate-privkey --outfile other.key
must certtool --generate-self-signed --load-privkey other.key --template "$pki/pki/ca.info" --outfile other.pem
must certtool --generate-certificate --load-privkey "$pki/pki/admin.key" --template "$pki/pki/admin.info" \
     --load-ca-certificate other.pem --load-ca-privkey other.key --outfile "$pki/other/clientcert.pem"
no_entry other
cp "$pki/pki/admin.pem" "$pki/other/clientcert.pem"
must host_exec admin virsh -q -c "qemu+tls://hosta/system?pkipath=/root/other" uri

type_section 'A pool on every host'
type_section 'Publish the guest'
for disk in debian.qcow2 debian-data.qcow2; do
    is_master hosta $disk
    is checksum "$(sum_of $disk)" "$(sum_of "$(in_pool hosta $disk)")"
done
lacks 'what was published' '<uuid>|<mac ' "$(cat "$(in_pool hosta debian.xml)")"

type_section 'Fetch it everywhere'
for host in hostb hostc; do
    for volume in debian.qcow2 debian-data.qcow2 debian.xml; do
        is_master $host $volume
        is "checksum of $volume" "$(sum_of "$(in_pool hosta $volume)")" "$(sum_of "$(in_pool $host $volume)")"
    done
done

type_section 'Define it'
! virsh_on hostb start debian >start.log 2>&1 || fail 'the pattern can be started'
matches 'the refusal' 'vol-clone' "$(cat start.log)"

type_section 'Clone it'
for guest in hostb-web1 hostb-web2 db1; do
    clone_is_good hostb $guest.qcow2 debian.qcow2
    clone_is_good hostb $guest-data.qcow2 debian-data.qcow2
done
is 'UUIDs and MAC addresses that occur twice' '' "$(for host in hostb hostc; do
    for guest in $(virsh_on $host list --all --name); do
        virsh_on $host dumpxml "$guest" | grep -E '<uuid>|<mac '
    done
done | sort | uniq -d)"

type_section 'Start them'
guests='hostb:hostb-web1 hostb:hostb-web2 hostb:db1 hostc:hostc-web1 hostc:hostc-web2'
grown() { (($(stat -c '%b*%B' "$(in_pool "$1" "$2.qcow2")") > 1048576)); }
for guest in $guests; do
    wait_for 60 grown "${guest%:*}" "${guest#*:}" || fail "$guest writes nothing"
done

type_section 'Move one'
is 'backing of what moved' debian.qcow2 "$(backing hostc db1.qcow2)"
for guest in ${guests/hostb:db1/hostc:db1}; do
    must virsh_on "${guest%:*}" destroy "${guest#*:}"
    blocks_of "${guest%:*}" "${guest#*:}"
    ((blocks > 10)) || fail "$guest wrote $blocks blocks"
done
for disk in debian.qcow2 debian-data.qcow2; do
    is "checksum of $disk" "$(sum_of $disk)" "$(sum_of "$(in_pool hostb $disk)")"
done
is 'lines that were not typed' $typed "$(grep -c '^    [a-z]*# ' "$tutorial")"
