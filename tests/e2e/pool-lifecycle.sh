#!/bin/bash
# A torrentpool is defined, built, started, ... and undefined like any other pool.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

host_start A 10.77.0.1
libvirtd_start A

step 'pool XML passes the schema'
pool_xml "<torrent:listen port='6999'/><torrent:bootstrap host='10.77.0.9' port='6881'/>
  <torrent:tracker url='http://10.77.0.9:6969/announce'/><torrent:allow cidr='10.77.0.0/16'/>
  <torrent:limit upload='100' download='200' unit='MiB/s'/><torrent:discovery dht='yes' lsd='no' pex='yes'/>
  <torrent:seed policy='always'/>" >pool.xml
must virsh_on A pool-define pool.xml --validate
sed 's/<torrent:seed/<torrent:nonsense/' pool.xml >bad.xml
refused 'validate|schema|XML document failed' virsh_on A pool-define bad.xml --validate

step 'it is listed by its type, and inactive'
matches pool-list "^ $pool +inactive +no" "$(virsh_on A pool-list --all --type torrentpool)"
is 'pools of type dir' '' "$(virsh_on A pool-list --all --type dir)"

step 'what was defined is dumped again'
dump=$(virsh_on A pool-dumpxml $pool)
for wanted in "type='torrentpool'" "port='6999'" "host='10.77.0.9'" 'announce' 'cidr=' "lsd='no'" "unit='MiB/s'" "policy='always'"; do
    matches 'pool-dumpxml' "$wanted" "$dump"
done

step 'start without a directory is refused'
refused "$target|no such file|directory" virsh_on A pool-start $pool

step 'build, start, autostart, refresh, info'
must virsh_on A pool-build $pool
[[ -d $(in_pool A .) ]] || fail 'pool-build made no directory'
must virsh_on A pool-start $pool
must virsh_on A pool-autostart $pool
matches pool-list "^ $pool +active +yes" "$(virsh_on A pool-list --all --type torrentpool)"
must virsh_on A pool-refresh $pool
matches pool-info 'State: +running' "$(virsh_on A pool-info $pool)"

step 'an autostart pool comes up with libvirtd, and a daemon with it'
must libvirtd_restart A
wait_for 10 pool_active A || fail 'the pool is not active after a restart'

step 'the private directory is no volume'
is volumes '' "$(virsh_on A vol-list $pool)"

step 'a second pool with the same target is refused'
sed "s/<name>.*</<name>other</; s/port='6999'/port='6998'/" pool.xml >other.xml
refused 'conflict' virsh_on A pool-define other.xml

step 'destroy, delete, undefine'
must virsh_on A pool-destroy $pool
matches pool-list "^ $pool +inactive" "$(virsh_on A pool-list --all)"
must virsh_on A pool-delete $pool
absent "$(in_pool A .)"
must virsh_on A pool-undefine $pool
is pools '' "$(virsh_on A pool-list --all)"

step 'the same from words alone'
must virsh_on A pool-define-as $pool torrentpool --target $target
must virsh_on A pool-build $pool
must virsh_on A pool-start $pool
must virsh_on A pool-destroy $pool
must virsh_on A pool-undefine $pool
