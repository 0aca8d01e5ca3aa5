#!/bin/bash
# A German reader: what is installed speaks his language, and none but his.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

host_start A 10.77.0.1
must make -s -C "$TORRENTPOOL_BUILD" install DESTDIR="$(host_root A)"
mkdir locale
localedef -i de_DE -f UTF-8 "$LAB/locale/de_DE.UTF-8" >localedef.log 2>&1 ||
    [[ -e locale/de_DE.UTF-8/LC_MESSAGES ]] || fail "there is no German locale: $(cat localedef.log)"
german() { host_exec A env LC_ALL=de_DE.UTF-8 LOCPATH="$LAB/locale" LANGUAGE=de "$@"; }
english() { host_exec A env LC_ALL=C "$@"; }
hook=/usr/libexec/virt-torrentpool-hook
daemon=/usr/sbin/virttorrentd

step 'help'
matches 'German help' 'BitTorrent-Engine der Torrentpools von libvirt' "$(german $daemon --help)"
matches 'German help' '--config=DATEI +Die Konfiguration aus DATEI lesen' "$(german $daemon --help)"
matches 'English help' '--config=FILE +Read the configuration from FILE' "$(english $daemon --help)"
matches 'German help of the hook' '^Aufruf: virt-torrentpool-hook GAST' "$(german $hook --help)"
matches 'English help of the hook' '^Usage: virt-torrentpool-hook GUEST' "$(english $hook --help)"

step 'errors, with what they name in its place'
printf '[virttorrentd]\nmax_clients = viele\n' >wrong.conf
refused "Die Konfiguration „$LAB/wrong.conf“ ist fehlerhaft: „max_clients“ muss eine Zahl von [0-9]+ bis [0-9]+ sein, nicht „viele“" \
    german $daemon --config "$LAB/wrong.conf"
refused "configuration '$LAB/wrong.conf' is wrong: 'max_clients' must be a number from [0-9]+ to [0-9]+, not 'viele'" \
    english $daemon --config "$LAB/wrong.conf"
echo 'kein XML' >guest.xml
# shellcheck disable=SC2016
refused 'torrentpool: Gast „debian“: libvirt hat kein Domain-XML übergeben' \
    german sh -c '"$0" debian prepare begin - <guest.xml' $hook

step 'an error of the daemon, by way of libvirtd and virsh'
VIRTTORRENTD_PATH=$LAB/german
printf '#!/bin/sh\nLC_ALL=de_DE.UTF-8 LOCPATH=%s LANGUAGE=de exec %s "$@"\n' "$LAB/locale" $daemon >german
chmod 755 german
libvirtd_start A
must virsh_on A pool-define-as $pool torrentpool --target $target
must virsh_on A pool-build $pool
must virsh_on A pool-start $pool
echo "<volume><name>x</name><source><torrent magnet='magnet:?xt=urn:btih:zz'/></source><capacity>0</capacity></volume>" >bad.xml
refused 'Der Magnet-Link ist fehlerhaft aufgebaut: „urn:btih:“ erfordert 40 Hexadezimalziffern' \
    virsh_on A vol-create $pool bad.xml
