#!/bin/bash
# Usage: install.sh [RELEASE]
# The Debian packages, installed with apt into hosts that run Debian's own libvirt: a
# torrentpool works there with what they bring alone, other pools stay as they are at
# installation, upgrade, removal and return to Debian's libvirt, and nothing is left
# after a purge.  TORRENTPOOL_REPOSITORY names packages that were built elsewhere.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"

# Nothing here comes from the build trees.
build_libvirt() { :; }
build_torrentpool() { :; }
export TORRENTPOOL_LIBVIRT='' VIRTTORRENTD_PATH=/usr/sbin/virttorrentd
release=${1:-bookworm}
if [[ -z ${TORRENTPOOL_IN_LAB:-} ]]; then
    repository=${TORRENTPOOL_REPOSITORY:-$("$top/packaging/build-deb" --quick "$release")} || exit 1
    base=$("$top/tests/packages/make-base" "$release") || exit 1
    export repository base
fi
lab_enter "$@"

# The root of a host: the base under a writable layer, and the repository.
host_mount() {
    local dir=$LAB/$1 root=$LAB/$1/root
    mkdir -p "$dir"/{root,layer,log}
    mount -t tmpfs -o size=1g,mode=0755 layer "$dir/layer"
    mkdir "$dir"/layer/{upper,work}
    mount -t overlay -o "lowerdir=$base,upperdir=$dir/layer/upper,workdir=$dir/layer/work" "$1" "$root"
    mount -t tmpfs -o mode=0755 run "$root/run"
    mkdir -p "$root/run/lock" "$root/srv/repository" "$root$LAB"
    host_mount_dev "$root"
    mount --bind "$dir/log" "$root/var/log/libvirt"
    mount --bind "$repository" "$root/srv/repository"
    mount --bind "$LAB" "$root$LAB"
}
host_configure() {
    echo "127.0.0.1 localhost $1" >"$2/etc/hosts"
    echo 'log_outputs = "1:file:/var/log/libvirt/libvirtd.log"' >>"$2/etc/libvirt/libvirtd.conf"
    # No service manager runs here, and none is to be looked for.
    printf '#!/bin/sh\nexit 101\n' >"$2/usr/sbin/policy-rc.d"
    chmod +x "$2/usr/sbin/policy-rc.d"
}
virsh_on() {
    local name=$1
    shift
    host_exec "$name" virsh -q -c qemu:///system "$@"
}
libvirtd_start() {
    local name=$1
    host_exec "$name" setsid /usr/sbin/libvirtd </dev/null >>"$LAB/$name/log/libvirtd.stderr.log" 2>&1 &
    disown $!
    wait_for 30 virsh_on "$name" uri || fail "libvirtd on $name does not answer"
}
# As its unit would, but for systemd's restrictions.
virttorrentd_start() { must host_exec "$1" /usr/sbin/virttorrentd --daemon; }
apt_on() {
    local name=$1
    shift
    host_exec "$name" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        apt-get -q -y -o APT::Install-Recommends=false -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root \
        -o DPkg::Options::=--force-unsafe-io "$@"
}
repository_add() {
    echo 'deb [trusted=yes] file:/srv/repository ./' >"$(host_root "$1")/etc/apt/sources.list.d/torrentpool.list"
    # of this alone: there is no network
    must apt_on "$1" -o Dir::Etc::SourceList=sources.list.d/torrentpool.list -o Dir::Etc::SourceParts=- \
        -o APT::Get::List-Cleanup=0 update
}
version_of() {
    # shellcheck disable=SC2016 # the format is dpkg's
    host_exec "$1" dpkg-query -W -f '${Version}' "$2"
}
# Pool 'default' as the administrator made it.
default_is_fine() {
    must virsh_on "$1" pool-refresh default
    is 'the other pool' running "$(virsh_on "$1" pool-info default | awk '/^State/{print $2}')"
    is 'autostart of the other pool' yes "$(virsh_on "$1" pool-info default | awk '/^Autostart/{print $2}')"
    is 'its volume' "$default_sum" "$(host_exec "$1" sha256sum $images/debian.qcow2 | cut -d' ' -f1)"
    virsh_on "$1" vol-list default | grep -q '^ *debian.qcow2 ' || fail 'its volume is not listed'
}

step "A and B run Debian's own libvirt, with a pool of type dir"
host_start A 10.77.0.1
host_start B 10.77.0.2
libvirtd_start A
must virsh_on A pool-define-as default dir --target $images
must virsh_on A pool-start default
must virsh_on A pool-autostart default
random_qcow2 "$(host_root A)$images/debian.qcow2" 6 64M
default_sum=$(host_exec A sha256sum $images/debian.qcow2 | cut -d' ' -f1)
default_is_fine A
stock=$(version_of A libvirt0)
lacks "Debian's version" torrentpool "$stock"
refused "Invalid value for attribute 'type'|unknown .*pool type" \
        virsh_on A pool-define-as $pool torrentpool --target $target
libvirtd_stop A

step 'apt-get install torrentpool'
for host in A B; do
    repository_add $host
    must apt_on $host install torrentpool
done

step "all of libvirt is ours, sorts before Debian's next update, and apt keeps it"
ours=$(version_of A libvirt0)
matches 'our version' "^${stock//[+.]/.}\\+torrentpool[0-9.]+\$" "$ours"
must host_exec A dpkg --compare-versions "$ours" gt "$stock"
[[ $stock =~ ^(.*[^0-9])([0-9]+)$ ]]
next=${BASH_REMATCH[1]}$((BASH_REMATCH[2] + 1))
must host_exec A dpkg --compare-versions "$ours" lt "$next"
# shellcheck disable=SC2016
others=$(host_exec A dpkg-query -W -f '${source:Package} ${db:Status-Status} ${Package} ${Version}\n' |
             grep '^libvirt installed ' | grep -v "+torrentpool")
is 'packages that stayed' '' "$others"
upgrade=$(apt_on A -s dist-upgrade)
matches 'dist-upgrade' '^0 upgraded, 0 newly installed, 0 to remove' "$upgrade"
is 'what dpkg complains about' '' "$(host_exec A dpkg --audit)"

step 'what is installed: user, units, configuration files, manual pages, messages'
root=$(host_root A)
host_exec A getent passwd virttorrent >/dev/null || fail 'there is no user virttorrent'
for file in usr/share/man/man8/virttorrentd.8.gz usr/share/man/man5/virttorrentd.conf.5.gz \
    usr/share/man/man8/virt-torrentpool-hook.8.gz usr/share/locale/de/LC_MESSAGES/torrentpool.mo \
    usr/share/bash-completion/completions/virttorrentd usr/share/doc/virttorrentd/packages.rst.gz \
    usr/share/libvirt/schemas/storagepool.rng; do
    present "$root/$file"
done
for unit in multi-user.target.wants/virttorrentd.service sockets.target.wants/virttorrentd.socket; do
    [[ -L $root/etc/systemd/system/$unit ]] || fail "not enabled: $unit"
done
# shellcheck disable=SC2016
conffiles=$(host_exec A dpkg-query -W -f '${Conffiles}\n' virttorrentd torrentpool-hooks | awk 'NF {print $1}' | sort)
is 'configuration files' "/etc/apparmor.d/usr.sbin.virttorrentd
/etc/libvirt/hooks/libxl.d/50-torrentpool
/etc/libvirt/hooks/qemu.d/50-torrentpool
/etc/libvirt/virttorrentd.conf" "$conffiles"

step 'systemd and AppArmor accept what they are given'
must host_exec A systemd-analyze verify --man=no virttorrentd.service virttorrentd.socket
out=$(host_exec A systemd-analyze verify --man=no virttorrentd.service virttorrentd.socket 2>&1 | grep -i virttorrentd)
is 'what systemd complains about' '' "$out"
must host_exec A systemd-analyze security --no-pager --offline=true --threshold=25 virttorrentd.service
must host_exec A apparmor_parser -Q -K -T /etc/apparmor.d/usr.sbin.virttorrentd
must host_exec A apparmor_parser -Q -K -T /etc/apparmor.d/usr.sbin.libvirtd

step 'lintian has nothing to say about what is ours'
for part in libvirt torrentpool; do
    complaints=$(grep -h '^[EW]:' "$repository/$part.lintian" | { [[ $part == torrentpool ]] && cat || grep torrentpool; })
    is "lintian on $part" '' "$complaints"
done

step "libvirtd of the package has the other pool, and serves a torrentpool"
libvirtd_start A
libvirtd_start B
default_is_fine A
for host in A B; do
    virttorrentd_start $host
    pool_start_new $host
    must virsh_on $host pool-autostart $pool
done
is 'the pools of this type' "$pool" "$(virsh_on A pool-list --type torrentpool --name | xargs)"
is 'whose library it is' "libvirt0:amd64: $(host_exec A readlink -f /usr/lib/x86_64-linux-gnu/libvirt.so.0)" \
    "$(host_exec A dpkg -S "$(host_exec A readlink -f /usr/lib/x86_64-linux-gnu/libvirt.so.0)")"

step 'publish on A, clone there'
cat >new.xml <<-X
	<volume><name>debian.qcow2</name><capacity>0</capacity>
	  <target><format type='qcow2'/><permissions><mode>0444</mode></permissions></target></volume>
	X
must virsh_on A vol-create-from $pool new.xml --inputpool default debian.qcow2
wait_state A debian.qcow2 seeding 30
must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2
is 'what the clone stands on' $target/debian.qcow2 "$(vol_field A web01.qcow2 /volume/backingStore/path)"
want=$(sha256sum <"$(in_pool A debian.qcow2)")

step 'fetch on B'
must give_xml A B debian.qcow2
wait_state B debian.qcow2 seeding 60
is content "$want" "$(sha256sum <"$(in_pool B debian.qcow2)")"
matches 'its status' 'debian.qcow2.*seeding' "$(host_exec B virttorrentd --status)"

step 'the hook refuses a guest that would write to the master, and lets one with a clone pass'
domain() {
    echo "<domain type='qemu'><name>web01</name><devices><disk type='file' device='disk'>" \
         "<driver name='qemu' type='qcow2'/><source file='$target/$1'/><target dev='vda'/></disk></devices></domain>"
}
hook=/etc/libvirt/hooks/qemu.d/50-torrentpool
domain debian.qcow2 >bad.xml
domain web01.qcow2 >good.xml
refused 'never changes' host_exec A $hook web01 prepare begin - <bad.xml
must host_exec A $hook web01 prepare begin - <good.xml

step 'an upgrade keeps the configuration that was changed, and the pools'
mkdir -p "$LAB/newer"
for package in virttorrentd torrentpool-hooks; do
    must dpkg-deb -R "$repository/$package"_*.deb "$LAB/newer/$package"
    sed -i "s/^Version: .*/&+later/; s/\(virttorrentd (= [^)]*\))/\1+later)/" "$LAB/newer/$package/DEBIAN/control"
    must dpkg-deb -b "$LAB/newer/$package" "$LAB/newer/$package.deb"
done
echo 'max_hashes = 3' >>"$root/etc/libvirt/virttorrentd.conf"
rm "$root/etc/libvirt/hooks/libxl.d/50-torrentpool"
must apt_on A install "$LAB/newer/virttorrentd.deb" "$LAB/newer/torrentpool-hooks.deb"
matches 'the version' '\+later$' "$(version_of A virttorrentd)"
is 'what the administrator wrote' 'max_hashes = 3' "$(tail -n 1 "$root/etc/libvirt/virttorrentd.conf")"
absent "$root/etc/libvirt/hooks/libxl.d/50-torrentpool"
host_kill A virttorrentd
virttorrentd_start A
wait_state A debian.qcow2 seeding 30
default_is_fine A

step 'without the driver libvirtd lists the pool, and says what is missing'
libvirtd_stop A
must apt_on A remove libvirt-daemon-driver-storage-torrentpool
libvirtd_start A
default_is_fine A
matches 'the pools' "^ *$pool +" "$(virsh_on A pool-list --all 2>&1)"
refused 'missing backend.*torrentpool' virsh_on A pool-info $pool
refused 'missing backend.*torrentpool' virsh_on A pool-start $pool

step 'a guest starts although the hook was removed and not purged'
must apt_on A remove torrentpool-hooks
present "$root$hook"
must host_exec A $hook web01 prepare begin - <bad.xml

step 'nothing is left of what was purged but the pool itself'
host_kill A virttorrentd
must apt_on A purge virttorrentd torrentpool-hooks libvirt-daemon-driver-storage-torrentpool torrentpool
left=$(find "$root"/{etc,usr,var/lib/systemd} -xdev -name '*torrent*' ! -path '*/apt/*' ! -path '*libtorrent*' \
            ! -path "$root/etc/libvirt/storage/*" ! -name ubuntu-bittorrent-clients)
is 'what is left' '' "$left"
absent "$root/etc/libvirt/hooks/qemu.d"
is 'a master' "$want" "$(sha256sum <"$(in_pool A debian.qcow2)")"

step "back to Debian's libvirt: the other pool stays, the torrentpool is not known"
rm "$root/etc/apt/sources.list.d/torrentpool.list"
printf 'Package: src:libvirt\nPin: release o=Debian\nPin-Priority: 1001\n' >"$root/etc/apt/preferences.d/back"
libvirtd_stop A
must apt_on A --allow-downgrades dist-upgrade
is 'the version' "$stock" "$(version_of A libvirt0)"
libvirtd_start A
default_is_fine A
lacks 'the pools' $pool "$(virsh_on A pool-list --all)"
