#!/usr/bin/python3
# libtorrent as its Python binding comes, told nothing of torrentpool.
#
#   stock-client.py make KIND FILE OUT TRACKER   a .torrent (KIND: v1, v2, hybrid);
#                                                prints the hashes that it has
#   stock-client.py run DIRECTORY PEER TORRENT...  fetches and seeds until killed; makes
#                                                NAME.done beside each file that is whole
#                                                (PEER: host:port, or - where trackers do)
# SPDX-License-Identifier: LGPL-2.1-or-later
import os
import sys
import time

import libtorrent as lt


def make(kind, path, out, tracker):
    files = lt.file_storage()
    lt.add_files(files, path)
    flags = {'v1': lt.create_torrent.v1_only, 'v2': lt.create_torrent.v2_only, 'hybrid': 0}[kind]
    made = lt.create_torrent(files, 64 * 1024, flags)
    made.add_tracker(tracker)
    lt.set_piece_hashes(made, os.path.dirname(path))
    with open(out, 'wb') as stream:
        stream.write(lt.bencode(made.generate()))
    hashes = lt.torrent_info(out).info_hashes()
    if hashes.has_v1():
        print(hashes.v1)
    if hashes.has_v2():
        print(str(hashes.v2)[:40])


def run(directory, peer, *torrents):
    session = lt.session({'listen_interfaces': '0.0.0.0:6881', 'dht_bootstrap_nodes': '',
                          'enable_upnp': False, 'enable_natpmp': False, 'enable_lsd': False})
    handles = []
    for torrent in torrents:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(torrent)
        params.save_path = directory
        handles.append(session.add_torrent(params))
        if peer != '-':
            host, port = peer.split(':')
            handles[-1].connect_peer((host, int(port)))
    while True:
        time.sleep(0.1)
        for handle in handles:
            if handle.status().is_seeding:
                open(os.path.join(directory, handle.status().name + '.done'), 'w').close()


{'make': make, 'run': run}[sys.argv[1]](*sys.argv[2:])
