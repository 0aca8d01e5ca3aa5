#!/bin/bash
# A pool's options are kept as they were given, reach virttorrentd and clones, and are refused if wrong.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

host_start A 10.77.0.1
libvirtd_start A

# with_options FILE: the XML of a pool with the elements on standard input
with_options() {
    printf "<pool type='torrentpool' xmlns:torrent='%s'>\n  <name>%s</name>\n" \
        http://libvirt.org/schemas/storagepool/torrent/1.0 $pool >"$1"
    printf '  <target>\n    <path>%s</path>\n  </target>\n' $target >>"$1"
    cat >>"$1"
    printf '</pool>\n' >>"$1"
}
with_swarm() {
    { printf '  <torrent:swarm>\n' && cat && printf '  </torrent:swarm>\n'; } | with_options "$1"
}
swarm_of() { sed -n '/<torrent:swarm>/,/<\/torrent:swarm>/p'; }

step 'all of them come back as they were given'
with_swarm all.xml <<END
    <torrent:listen address='10.77.0.1' port='16881'/>
    <torrent:bootstrap host='10.77.0.2' port='6881'/>
    <torrent:bootstrap host='fd00::2' port='6882'/>
    <torrent:tracker url='http://10.77.0.3:6969/announce?a=1&amp;b=2'/>
    <torrent:webseed url='http://10.77.0.3/images/'/>
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
matches 'web seed in the magnet link' 'ws=http' "$(vol_torrent A one.raw magnet)"
matches 'who listens' '10\.77\.0\.1(%eth0)?:16881' "$(host_exec A ss -Hltn)"
must virsh_on A pool-destroy $pool
must virsh_on A pool-undefine $pool

step 'none of them is needed, and none is added'
with_swarm none.xml </dev/null
must virsh_on A pool-define --validate "$LAB/none.xml"
lacks 'the swarm' 'torrent:(listen|limit|discovery|seed|allow|tracker|webseed|bootstrap)' "$(virsh_on A pool-dumpxml $pool)"

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
url <torrent:webseed url='udp://10.77.0.3/'/>
cidr <torrent:allow cidr='10.0.0.0/33'/>
cidr <torrent:allow cidr='fd00::/129'/>
cidr <torrent:allow cidr='everybody'/>
MiB/s <torrent:limit upload='1' unit='MiB'/>
upload <torrent:limit upload='-1'/>
suffix <torrent:limit upload='1' unit='bananas/s'/>
dht <torrent:discovery dht='perhaps'/>
policy <torrent:seed policy='never'/>
neither <torrent:tls enabled='no'/>
https <torrent:tls/><torrent:webseed url='http://10.77.0.3/images/'/>
END

# pool_of_clones ELEMENT: a started pool with it, and a master in it
pool_of_clones() {
    with_options clone.xml <<<"  $1"
    must virsh_on A pool-define --validate "$LAB/clone.xml"
    matches 'the pool XML' "^  $1\$" "$(virsh_on A pool-dumpxml $pool)"
    must virsh_on A pool-start $pool
    [[ -e $(in_pool A debian.qcow2) ]] || publish A debian.qcow2
}
no_more_pool() {
    must virsh_on A pool-destroy $pool
    must virsh_on A pool-undefine $pool
}
# layout VOLUME: what qemu-img says of its clusters
layout() {
    local info
    info=$(qemu-img info --output=json "$(in_pool A "$1")")
    echo "$(sed -n 's/.*"cluster-size": \([0-9]*\).*/\1/p' <<<"$info")" \
        "$(sed -n 's/.*"extended-l2": \([a-z]*\).*/\1/p' <<<"$info")"
}

step 'clones have the clusters that the pool says'
must virsh_on A pool-undefine $pool
random_qcow2 debian.qcow2 2
while read -r expected element; do
    pool_of_clones "$element"
    rm -f "$(in_pool A web01.qcow2)" "$(in_pool A web02.qcow2)"
    must virsh_on A pool-refresh $pool
    must virsh_on A vol-clone --pool $pool debian.qcow2 web01.qcow2
    is "clusters of a clone with $element" "${expected/,/ }" "$(layout web01.qcow2)"
    clone_is_good A web01.qcow2 debian.qcow2
    must virsh_on A vol-create-as $pool web02.qcow2 2M --format qcow2 --backing-vol debian.qcow2 --backing-vol-format qcow2
    is "clusters of an overlay with $element" "${expected/,/ }" "$(layout web02.qcow2)"
    no_more_pool
done <<'END'
131072,true <torrent:clone/>
131072,true <torrent:clone format='qcow2'/>
65536,false <torrent:clone extended_l2='no'/>
131072,true <torrent:clone extended_l2='yes'/>
65536,true <torrent:clone format='qcow2' clusterSize='64' unit='KiB' extended_l2='yes'/>
2097152,false <torrent:clone clusterSize='2' unit='MiB'/>
512,false <torrent:clone clusterSize='512'/>
16384,true <torrent:clone clusterSize='16384' extended_l2='yes'/>
END

step 'what a volume asks for comes first'
pool_of_clones "<torrent:clone clusterSize='4' unit='KiB'/>"
cat >asks.xml <<-X
	<volume><name>web03.qcow2</name><capacity>0</capacity>
	  <target><format type='qcow2'/><compat>1.1</compat><clusterSize unit='KiB'>32</clusterSize>
	    <features><extended_l2/></features></target></volume>
	X
must virsh_on A vol-create-from $pool asks.xml --inputpool $pool debian.qcow2
is 'clusters that were asked for' '32768 true' "$(layout web03.qcow2)"
must host_exec A qemu-img compare -q $target/web03.qcow2 $target/debian.qcow2
sed 's/web03/web04/;s/>32</>3</' asks.xml >asks4.xml
refused 'power of two' virsh_on A vol-create-from $pool asks4.xml --inputpool $pool debian.qcow2
sed 's/web03/web04/;s/>32</>8</' asks.xml >asks4.xml
refused '16 KiB' virsh_on A vol-create-from $pool asks4.xml --inputpool $pool debian.qcow2
absent "$(in_pool A web04.qcow2)"

step "the pool's clusters are those of a split volume, too"
random_qcow2 private.qcow2 1
cp private.qcow2 "$(in_pool A private.qcow2)"
must virsh_on A pool-refresh $pool
must virsh_on A vol-clone --pool $pool private.qcow2 web05.qcow2
is 'clusters of the clone' '4096 false' "$(layout web05.qcow2)"
is 'clusters of the overlay under the old name' '4096 false' "$(layout private.qcow2)"
no_more_pool

step 'wrong ones are refused when the pool is defined'
while read -r what element; do
    with_options wrong.xml <<<"$element"
    refused "$what" virsh_on A pool-define "$LAB/wrong.xml"
done <<'END'
format <torrent:clone format='raw'/>
power.of.two <torrent:clone clusterSize='100000'/>
512.bytes.to.2.MiB <torrent:clone clusterSize='256'/>
512.bytes.to.2.MiB <torrent:clone clusterSize='4' unit='MiB'/>
clusterSize <torrent:clone clusterSize='0'/>
clusterSize <torrent:clone clusterSize='-65536'/>
suffix <torrent:clone clusterSize='1' unit='bananas'/>
16.KiB <torrent:clone clusterSize='8' unit='KiB' extended_l2='yes'/>
extended_l2 <torrent:clone extended_l2='perhaps'/>
only.qcow2 <torrent:clone format='vhd' clusterSize='65536'/>
only.qcow2 <torrent:clone format='vhd' extended_l2='no'/>
END
