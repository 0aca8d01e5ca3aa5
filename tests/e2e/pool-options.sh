#!/bin/bash
# Swarm options of a pool are kept as they were given, reach virttorrentd, and are refused if wrong.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

host_start A 10.77.0.1
libvirtd_start A

# with_swarm FILE: the XML of a pool with the elements on standard input
with_swarm() {
    printf "<pool type='torrentpool' xmlns:torrent='%s'>\n  <name>%s</name>\n" \
        http://libvirt.org/schemas/storagepool/torrent/1.0 $pool >"$1"
    printf '  <target>\n    <path>%s</path>\n  </target>\n  <torrent:swarm>\n' $target >>"$1"
    cat >>"$1"
    printf '  </torrent:swarm>\n</pool>\n' >>"$1"
}
swarm_of() { sed -n '/<torrent:swarm>/,/<\/torrent:swarm>/p'; }

step 'all of them come back as they were given'
with_swarm all.xml <<END
    <torrent:listen address='10.77.0.1' port='16881'/>
    <torrent:bootstrap host='10.77.0.2' port='6881'/>
    <torrent:bootstrap host='fd00::2' port='6882'/>
    <torrent:tracker url='http://10.77.0.3:6969/announce?a=1&amp;b=2'/>
    <torrent:allow cidr='10.77.0.0/16'/>
    <torrent:allow cidr='fd00::/8'/>
    <torrent:limit upload='20' download='30' unit='MiB/s'/>
    <torrent:discovery dht='yes' lsd='no' pex='yes'/>
    <torrent:seed policy='always'/>
END
must virsh_on A pool-define --validate "$LAB/all.xml"
is 'the swarm' "$(swarm_of <all.xml)" "$(virsh_on A pool-dumpxml $pool | swarm_of)"
libvirtd_restart A
is 'the swarm after a restart' "$(swarm_of <all.xml)" "$(virsh_on A pool-dumpxml $pool | swarm_of)"

step 'they reach virttorrentd'
must virsh_on A pool-build $pool
must virsh_on A pool-start $pool
random_raw one.raw 1
publish A one.raw
matches 'peer in the magnet link' 'x\.pe=10\.77\.0\.1:16881(&|$)' "$(vol_torrent A one.raw magnet)"
matches 'tracker in the magnet link' 'tr=http' "$(vol_torrent A one.raw magnet)"
matches 'who listens' '10\.77\.0\.1(%eth0)?:16881' "$(host_exec A ss -Hltn)"
must virsh_on A pool-destroy $pool
must virsh_on A pool-undefine $pool

step 'none of them is needed, and none is added'
with_swarm none.xml </dev/null
must virsh_on A pool-define --validate "$LAB/none.xml"
lacks 'the swarm' 'torrent:(listen|limit|discovery|seed|allow|tracker|bootstrap)' "$(virsh_on A pool-dumpxml $pool)"

step 'wrong ones are refused when the pool is defined'
while read -r what element; do
    with_swarm wrong.xml <<<"$element"
    refused "$what" virsh_on A pool-define "$LAB/wrong.xml"
done <<'END'
65535 <torrent:listen port='99999'/>
port <torrent:listen port='0'/>
address <torrent:listen address='host.example'/>
port <torrent:bootstrap host='10.77.0.2'/>
host <torrent:bootstrap port='1'/>
url <torrent:tracker url='10.77.0.3'/>
cidr <torrent:allow cidr='10.0.0.0/33'/>
cidr <torrent:allow cidr='fd00::/129'/>
cidr <torrent:allow cidr='everybody'/>
MiB/s <torrent:limit upload='1' unit='MiB'/>
upload <torrent:limit upload='-1'/>
suffix <torrent:limit upload='1' unit='bananas/s'/>
dht <torrent:discovery dht='perhaps'/>
policy <torrent:seed policy='never'/>
END
