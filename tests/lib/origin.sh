# A tracker and a web server on a host; to be sourced after pool.sh.
#
#   tracker_start HOST KEY…    opentracker on port 6969, for these masters: Debian's
#                              serves what it is told to
#   web_start HOST             lighttpd on port 80
#   web_dir HOST               what it serves, as seen from the script
# SPDX-License-Identifier: LGPL-2.1-or-later

tracker_start() {
    local host=$1 ip=${host_ip[$1]} key
    shift
    for key; do
        # of a v2 torrent, the beginning of its hash
        key=${key#urn:bt*:}
        key=${key#1220}
        echo "${key:0:40}"
    done >"$LAB/$host/whitelist"
    cat >"$LAB/$host/opentracker.conf" <<-X
	access.whitelist $LAB/$host/whitelist
	listen.tcp_udp $ip:6969
	tracker.user nobody
	X
    host_exec "$host" setsid opentracker -f "$LAB/$host/opentracker.conf" \
        </dev/null >>"$LAB/$host/log/opentracker.log" 2>&1 &
    disown $!
    wait_for 10 host_exec "$host" bash -c "exec 3<>/dev/tcp/$ip/6969" ||
        die "opentracker does not answer: $(cat "$LAB/$host/log/opentracker.log")"
}

web_dir() { echo "$LAB/$1/www"; }

web_start() {
    local host=$1
    mkdir -p "$LAB/$host/www"
    cat >"$LAB/$host/lighttpd.conf" <<-X
	server.document-root = "$LAB/$host/www"
	server.port = 80
	server.modules += ( "mod_accesslog" )
	accesslog.filename = "$LAB/$host/log/access.log"
	server.errorlog = "$LAB/$host/log/lighttpd.log"
	X
    host_exec "$host" lighttpd -f "$LAB/$host/lighttpd.conf" || die 'lighttpd does not start'
}
