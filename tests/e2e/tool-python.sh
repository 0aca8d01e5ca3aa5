#!/bin/bash
# Programs in Python (python3-libvirt): volumes made from XML, and storage events.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

/usr/bin/python3 -c 'import libvirt' || fail 'python3-libvirt is missing; build-aux/install-deps installs it'
hosts_with_pool A B
random_qcow2 debian.qcow2 4 1G
publish A debian.qcow2
vol_xml A debian.qcow2 >master.xml

step 'a program that listens and clones'
cat >program.py <<-'X'
	import sys, threading, time
	import libvirt

	POOL, MASTER_XML = sys.argv[1], open(sys.argv[2]).read()
	KNOWN = {getattr(libvirt, name): name for name in dir(libvirt)
	         if name.startswith("VIR_STORAGE_POOL_EVENT_") and "_ID_" not in name}
	events, refreshed = [], threading.Event()

	def loop():
	    while True:
	        libvirt.virEventRunDefaultImpl()

	def lifecycle(conn, pool, event, detail, opaque):
	    events.append((pool.name(), KNOWN.get(event, event)))

	def refresh(conn, pool, opaque):
	    if pool.name() == POOL:
	        refreshed.set()

	def volume_xml(name, capacity, extra=""):
	    return ("<volume><name>%s</name><capacity>%d</capacity>"
	            "<target><format type='qcow2'/></target>%s</volume>" % (name, capacity, extra))

	libvirt.virEventRegisterDefaultImpl()
	threading.Thread(target=loop, daemon=True).start()
	conn = libvirt.open("qemu:///system")
	for event, callback in ((libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, lifecycle),
	                        (libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH, refresh)):
	    conn.storagePoolEventRegisterAny(None, event, callback, None)

	# the master comes; nobody calls refresh() but the daemon when it is complete
	pool = conn.storagePoolLookupByName(POOL)
	master = pool.createXML(MASTER_XML, 0)
	while True:
	    assert refreshed.wait(60), "no refresh event tells that the master is complete"
	    refreshed.clear()
	    if "state='seeding'" in master.XMLDesc():
	        break
	assert master.info()[1] == 1 << 30, master.info()

	# the three ways to a clone
	path = master.path()
	backing = "<backingStore><path>%s</path><format type='qcow2'/></backingStore>" % path
	overlay = pool.createXML(volume_xml("overlay.qcow2", 2 << 30, backing), 0)
	clone = pool.createXMLFrom(volume_xml("clone.qcow2", 1 << 30), master, 0)
	again = pool.createXMLFrom(volume_xml("again.qcow2", 1 << 30), clone, 0)
	assert overlay.info()[1] == 2 << 30, overlay.info()
	for volume in overlay, clone, again:
	    assert "<path>%s</path>" % path in volume.XMLDesc(), volume.XMLDesc()
	    assert volume.info()[2] < 1 << 20, volume.info()

	# what is there, found in each way
	names = {"debian.qcow2", "overlay.qcow2", "clone.qcow2", "again.qcow2"}
	assert {volume.name() for volume in pool.listAllVolumes()} == names
	assert set(pool.listVolumes()) == names and pool.numOfVolumes() == 4
	for name in names:
	    volume = pool.storageVolLookupByName(name)
	    for same in conn.storageVolLookupByKey(volume.key()), conn.storageVolLookupByPath(volume.path()):
	        assert (same.name(), same.storagePoolLookupByVolume().name()) == (name, POOL)
	assert POOL in [each.name() for each in conn.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)]

	# errors are exceptions with libvirt's codes
	def refused(code, function, *arguments):
	    try:
	        function(*arguments)
	    except libvirt.libvirtError as error:
	        assert error.get_error_code() == code, (error.get_error_code(), str(error))
	    else:
	        raise AssertionError("%s should have been refused" % function)

	refused(libvirt.VIR_ERR_OPERATION_INVALID, master.delete)
	refused(libvirt.VIR_ERR_OPERATION_INVALID, master.resize, 2 << 30)
	refused(libvirt.VIR_ERR_STORAGE_VOL_EXIST, pool.createXML, volume_xml("clone.qcow2", 1 << 30, backing), 0)
	refused(libvirt.VIR_ERR_NO_STORAGE_VOL, pool.storageVolLookupByName, "nothing")

	for volume in overlay, clone, again, master:
	    volume.delete()
	assert pool.listAllVolumes() == []

	# the life of a pool is told, too
	pool.destroy()
	pool.create()
	deadline = time.monotonic() + 30
	wanted = [(POOL, "VIR_STORAGE_POOL_EVENT_STOPPED"), (POOL, "VIR_STORAGE_POOL_EVENT_STARTED")]
	while events != wanted:
	    assert time.monotonic() < deadline, events
	    time.sleep(0.1)
	X
must host_exec B timeout 90 /usr/bin/python3 "$LAB/program.py" $pool "$LAB/master.xml"
in_state A debian.qcow2 seeding || fail 'what was done on B harms A'
