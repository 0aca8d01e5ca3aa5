#!/bin/bash
# The calls of Terraform's libvirt provider and of vagrant-libvirt (through
# fog-libvirt): upload a base volume, refresh, put overlays on it by its path, and
# find all of them later by the keys that were remembered.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

/usr/bin/python3 -c 'import libvirt' || fail 'python3-libvirt is missing; build-aux/install-deps installs it'
hosts_with_pool A
random_qcow2 debian.qcow2 4 64M
cat >calls.py <<-'X'
	import os, sys, time
	import xml.etree.ElementTree as xml
	import libvirt

	def connect(name):
	    conn = libvirt.open("qemu:///system")
	    return conn, conn.storagePoolLookupByName(name)

	# Other volumes of the pool may be worked on: then the provider tries again.
	def refresh(pool):
	    deadline = time.monotonic() + 30
	    while True:
	        try:
	            return pool.refresh()
	        except libvirt.libvirtError as error:
	            if "asynchronous jobs" not in str(error) or time.monotonic() > deadline:
	                raise
	            time.sleep(0.2)

	def upload(conn, volume, image):
	    stream = conn.newStream()
	    volume.upload(stream, 0, os.path.getsize(image), 0)
	    with open(image, "rb") as source:
	        stream.sendAll(lambda stream, size, source: source.read(size), source)
	    stream.finish()

	def terraform_xml(name, capacity, base=None):
	    backing = ""
	    if base is not None:
	        target = xml.fromstring(base.XMLDesc()).find("target")
	        backing = ("<backingStore><path>%s</path><format type='%s'/></backingStore>" %
	                   (target.find("path").text, target.find("format").get("type")))
	    return ("<volume type=''><name>%s</name><allocation>0</allocation><capacity unit='bytes'>%d</capacity>"
	            "<target><format type='qcow2'/><permissions><mode>644</mode></permissions></target>%s</volume>" %
	            (name, capacity, backing))

	# The virtual size and half of the attributes come from fog's template.
	def vagrant_xml(name, capacity, base=None):
	    owner = ("<permissions><owner>0</owner><group>0</group><mode>0744</mode>"
	             "<label>virt_image_t</label></permissions>")
	    backing = ""
	    if base is not None:
	        backing = "<backingStore><path>%s</path><format type='qcow2'/>%s</backingStore>" % (base.path(), owner)
	    return ("<volume><name>%s</name><capacity unit='B'>%d</capacity><target><format type='qcow2'/>%s"
	            "</target>%s</volume>" % (name, capacity, owner, backing))

	def backing_of(volume):
	    return xml.fromstring(volume.XMLDesc()).findtext("backingStore/path")

	verb, pool_name, prefix, image = sys.argv[1:5]
	make = {"tf": terraform_xml, "vagrant": vagrant_xml}[prefix]
	base_name = prefix + "-base.qcow2"
	conn, pool = connect(pool_name)
	if verb == "apply":
	    refresh(pool)
	    base = pool.createXML(make(base_name, os.path.getsize(image)), 0)
	    upload(conn, base, image)
	    refresh(pool)
	    assert base.info()[1] == 64 << 20, base.info()
	    keys = [base.key()]
	    for number, capacity in enumerate((64 << 20, 10 << 30)):
	        refresh(pool)
	        overlay = pool.createXML(make("%s-%d.qcow2" % (prefix, number), capacity, base), 0)
	        assert backing_of(overlay) == base.path(), overlay.XMLDesc()
	        assert overlay.info()[1] == capacity, overlay.info()
	        keys.append(overlay.key())
	    print("\n".join(keys))
	else:
	    # a later run of the program, which has nothing but the keys
	    refresh(pool)
	    volumes = [conn.storageVolLookupByKey(key) for key in open(sys.argv[5]).read().split()]
	    assert [volume.name() for volume in volumes] == \
	        [base_name, prefix + "-0.qcow2", prefix + "-1.qcow2"], [volume.name() for volume in volumes]
	    if verb == "destroy":
	        try:
	            volumes[0].delete()
	        except libvirt.libvirtError as error:
	            assert "has clones" in str(error), error
	        else:
	            raise AssertionError("a base with overlays was deleted")
	        for volume in reversed(volumes):
	            refresh(pool)
	            volume.delete()
	X
calls() { host_exec A timeout 60 /usr/bin/python3 "$LAB/calls.py" "$@"; }

for prefix in tf vagrant; do
    step "$prefix: base and overlays"
    calls apply $pool $prefix "$LAB/debian.qcow2" >$prefix.keys || fail 'the calls failed'
    is keys 3 "$(wc -l <$prefix.keys)"
    wait_state A $prefix-base.qcow2 seeding 20
    is_master A $prefix-base.qcow2
    clone_is_good A $prefix-0.qcow2 $prefix-base.qcow2
    is 'size of the larger one' 10737418240 "$(vol_field A $prefix-1.qcow2 /volume/capacity)"
    must host_exec A qemu-img compare -q "$LAB/debian.qcow2" $target/$prefix-0.qcow2

    step "$prefix: what was remembered is found, now that the base is a master"
    must virsh_on A pool-refresh $pool
    wait_key A $prefix-base.qcow2
    must calls plan $pool $prefix "$LAB/debian.qcow2" "$LAB/$prefix.keys"

    step "$prefix: and deleted"
    must calls destroy $pool $prefix "$LAB/debian.qcow2" "$LAB/$prefix.keys"
    is 'what is left' '' "$(virsh_on A vol-list $pool | grep -v '^ *$')"
done
