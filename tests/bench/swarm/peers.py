#!/usr/bin/python3
# The BitTorrent programs that ./bench swarm compares with and that have to be
# driven from Python, and what all of them need.
#
#   peers.py torrent FILE OUT PIECE TRACKER        makes OUT, a v1 torrent
#   peers.py tracker ADDRESS PORT SEEN PEER...     tells everybody of all PEERs (host:port)
#   peers.py libtorrent TORRENT DIRECTORY GATE DONE
#   peers.py deluge TORRENT DIRECTORY CONFIG GATE DONE
#
# GATE and DONE are those of ways.sh; without a gate ("-") the program is the
# origin and has the file already.  The tracker knows the swarm beforehand, so
# that nobody waits for an announce of somebody else; it makes a file SEEN/ADDRESS
# when a program there says that it lacks nothing.
# SPDX-License-Identifier: LGPL-2.1-or-later
import fcntl
import http.server
import os
import socket
import struct
import sys
import time
import urllib.parse


def pass_gate(gate, done):
    if gate == '-':
        return
    with open(gate) as lock:
        open(done + '.ready', 'w').close()
        fcntl.flock(lock, fcntl.LOCK_SH)


def say_done(done):
    with open(done + '.tmp', 'w') as out:
        out.write('%.6f\n' % time.time())
    os.rename(done + '.tmp', done)


def torrent(path, out, piece, tracker):
    import libtorrent as lt
    files = lt.file_storage()
    lt.add_files(files, path)
    made = lt.create_torrent(files, int(piece), lt.create_torrent.v1_only)
    made.add_tracker(tracker)
    lt.set_piece_hashes(made, os.path.dirname(path))
    with open(out, 'wb') as stream:
        stream.write(lt.bencode(made.generate()))


def tracker(address, port, seen, *peers):
    packed = {}
    for peer in peers:
        host, peer_port = peer.split(':')
        packed[host] = socket.inet_aton(host) + struct.pack('>H', int(peer_port))

    class Announce(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            here = self.client_address[0]
            if query.get('left') == ['0']:
                open(os.path.join(seen, here), 'w').close()
            others = b''.join(p for host, p in packed.items() if host != here)
            body = b'd8:intervali1800e5:peers%d:%be' % (len(others), others)
            self.send_response(200)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    http.server.ThreadingHTTPServer((address, int(port)), Announce).serve_forever()


def libtorrent(path, directory, gate, done):
    """A client of nothing but libtorrent's defaults."""
    import libtorrent as lt
    session = lt.session()
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(path)
    params.save_path = directory
    pass_gate(gate, done)
    handle = session.add_torrent(params)
    finished = False
    while True:
        session.wait_for_alert(1000)
        session.pop_alerts()
        if not finished and handle.status().is_seeding:
            finished = True
            if gate != '-':
                say_done(done)


def deluge(path, directory, config, gate, done):
    """The daemon with its defaults, but for the port and the directory."""
    import base64
    import json
    os.makedirs(config, exist_ok=True)
    with open(os.path.join(config, 'core.conf'), 'w') as out:
        json.dump({'file': 1, 'format': 1}, out)
        json.dump({'random_port': False, 'listen_ports': [6881, 6881], 'download_location': directory}, out)
    from deluge.i18n import setup_mock_translation
    setup_mock_translation()
    from deluge.configmanager import set_config_dir
    set_config_dir(config)
    import deluge.component as component
    from deluge.core.daemon import Daemon
    from twisted.internet import reactor
    daemon = Daemon(port=58846, interface='127.0.0.1')
    with open(path, 'rb') as stream:
        content = base64.b64encode(stream.read())

    def add():
        daemon.core.add_torrent_file('image.torrent', content, {})

    def wait():
        pass_gate(gate, done)
        reactor.callFromThread(add)

    def finished(torrent_id):
        if gate != '-':
            say_done(done)

    component.get('EventManager').register_event_handler('TorrentFinishedEvent', finished)
    reactor.callWhenRunning(reactor.callInThread, wait)
    daemon.start()


verbs = {f.__name__: f for f in (torrent, tracker, libtorrent, deluge)}
verbs[sys.argv[1]](*sys.argv[2:])
