# How each program gets a file from one host to all others; for ../swarm.sh.
#
# A way WAY is up to three functions, run with these set:
#   $run     a directory for logs and what else is of this run
#   $image   the file; its name is "image" everywhere
#   $size    its length in bytes
#   $gate    the file that fetching hosts wait for (see wait_gate)
#
#   WAY_origin        makes h0 offer the file; returns when it does
#   WAY_host HOST     run in the background: is ready, waits for the gate, fetches,
#                     and writes the time when the whole file is there and verified, as far
#                     as the program does that, to $run/HOST.done
#   WAY_file HOST     where the file is then
#
# Hosts go on giving what they have until all are done.
# SPDX-License-Identifier: LGPL-2.1-or-later

# To be run on a host, before COMMAND: says that it is ready and waits.
# shellcheck disable=SC2016
at_gate='
    : >"$2.ready"
    flock -s "$1" true
    done=$2
    say_done() { echo "$EPOCHREALTIME" >"$done.tmp" && mv "$done.tmp" "$done"; }
    shift 2
'
# on_host HOST SCRIPT ARGUMENT…: a bash script that begins at the gate
on_host() {
    local host=$1 script=$2
    shift 2
    host_exec "$host" bash -c "$at_gate$script" "$host" "$(gate_of "$host")" "$run/$host.done" "$@" \
        </dev/null >>"$run/$host.log" 2>&1
}

# --- torrentpool ----------------------------------------------------------------

ours_socket=/run/libvirt/virttorrentd-sock
ours_file() { echo "$run/$1/pool/image"; }

ours_pool() {
    local host=$1 pool=$run/$1/pool
    mkdir -p "$pool/.torrentpool"
    rm -f "$(host_root "$host")$ours_socket" # of one that was killed
    chmod 0755 "$run" "$run/$host" "$pool" "$pool/.torrentpool"
    # shellcheck disable=SC2086
    in_background "$run/$host.daemon.log" "$host" "$VIRTTORRENTD_PATH" ${daemon_options:-}
    wait_for 30 test -S "$(host_root "$host")$ours_socket" || die "virttorrentd on $host: $(tail -n 5 "$run/$host.daemon.log")"
    [[ -n ${pool_options:-} ]] || pool_options='{}'
    host_exec "$host" "$tool" open $ours_socket "$pool" "$pool_options" || die "no pool on $host"
}
ours_origin() {
    local i
    for ((i = 0; i <= hosts; i++)); do
        ours_pool h$i
    done
    cp "$image" "$run/h0/pool/image" && chmod 0444 "$run/h0/pool/image"
    host_exec h0 "$tool" publish $ours_socket image >"$run/magnet" || die "the origin cannot publish"
}
ours_host() {
    host_exec "$1" "$tool" fetch $ours_socket image "$(cat "$run/magnet")" "$(gate_of "$1")" "$run/$1.done" \
        </dev/null >>"$run/$1.log" 2>&1
}
# Where the data of a fetch lies before it is whole.
ours_part() { echo "$run/$1/pool/.torrentpool/partial/image"; }

# --- other BitTorrent programs ------------------------------------------------------
#
# With their defaults, and a tracker that tells everybody of all others at once;
# 256 KiB pieces (v1), of which they were found to make the best use.

peers=$bench/swarm/peers.py
announce=http://10.77.0.254:6969/announce

# The tracker, and the torrent of $image: once per size of swarm.
torrent_made=
torrent_prepare() {
    local i all=()
    [[ $torrent_made != "$hosts $size" ]] || return 0
    [[ -z ${tracker_pid:-} ]] || kill "$tracker_pid"
    for ((i = 0; i <= hosts; i++)); do
        all+=("$(ip_of h$i):6881")
    done
    mkdir -p "$LAB/seen"
    python=/usr/bin/python3 # Debian's, which has its modules
    $python "$peers" tracker 10.77.0.254 6969 "$LAB/seen" "${all[@]}" &
    tracker_pid=$!
    disown $tracker_pid
    $python "$peers" torrent "$image" "$LAB/torrent" $((256 * 1024)) $announce || die 'no torrent can be made'
    torrent_made="$hosts $size"
}
# The origin's directory, with the file in it
torrent_origin() {
    torrent_prepare
    rm -f "$LAB"/seen/*
    mkdir -p "$run"/h{0..32}
    ln "$image" "$run/h0/image"
}
torrent_seen() {
    wait_for 60 test -e "$LAB/seen/$(ip_of h0)" || die "the origin does not seed: $(tail -n 5 "$run/h0.log")"
}
# A command for programs that run one when they are done
done_hook() {
    printf '#!/bin/bash\necho $EPOCHREALTIME >%q.tmp && mv %q.tmp %q\n' "$1" "$1" "$1" >"$1.hook"
    chmod 0755 "$1.hook"
}

aria2_options=(--no-conf --quiet --listen-port=6881 --seed-ratio=0.0 --file-allocation=none --dht-file-path=/dev/null)
aria2_file() { echo "$run/$1/image"; }
aria2_part() { aria2_file "$1"; }
aria2_origin() {
    torrent_origin
    in_background "$run/h0.log" h0 aria2c "${aria2_options[@]}" --check-integrity=true --dir="$run/h0" "$LAB/torrent"
    torrent_seen
}
aria2_host() {
    done_hook "$run/$1.done"
    # shellcheck disable=SC2016
    on_host "$1" 'exec aria2c "$@"' "${aria2_options[@]}" --dir="$run/$1" \
        --on-bt-download-complete="$run/$1.done.hook" "$LAB/torrent"
}

transmission_file() { echo "$run/$1/image"; }
transmission_part() { echo "$run/$1/image.part"; }
transmission_options() {
    mkdir -p "$run/$1.conf"
    echo '{ "preallocation": 0 }' >"$run/$1.conf/settings.json"
    options=(--no-portmap --port 6881 --config-dir "$run/$1.conf" --download-dir "$run/$1")
}
transmission_origin() {
    torrent_origin
    transmission_options h0
    in_background "$run/h0.log" h0 transmission-cli "${options[@]}" --verify "$LAB/torrent"
    torrent_seen
}
transmission_host() {
    local options
    done_hook "$run/$1.done"
    transmission_options "$1"
    # shellcheck disable=SC2016
    on_host "$1" 'exec transmission-cli "$@" >/dev/null' "${options[@]}" --finish "$run/$1.done.hook" "$LAB/torrent"
}

libtorrent_file() { echo "$run/$1/image"; }
libtorrent_part() { libtorrent_file "$1"; }
libtorrent_origin() {
    torrent_origin
    in_background "$run/h0.log" h0 $python "$peers" libtorrent "$LAB/torrent" "$run/h0" - -
    torrent_seen
}
libtorrent_host() {
    host_exec "$1" $python "$peers" libtorrent "$LAB/torrent" "$run/$1" "$(gate_of "$1")" "$run/$1.done" \
        </dev/null >>"$run/$1.log" 2>&1
}

deluge_file() { echo "$run/$1/image"; }
deluge_part() { deluge_file "$1"; }
deluge_origin() {
    torrent_origin
    in_background "$run/h0.log" h0 $python "$peers" deluge "$LAB/torrent" "$run/h0" "$run/h0.conf" - -
    torrent_seen
}
deluge_host() {
    host_exec "$1" $python "$peers" deluge "$LAB/torrent" "$run/$1" "$run/$1.conf" "$(gate_of "$1")" "$run/$1.done" \
        </dev/null >>"$run/$1.log" 2>&1
}

# --- one server for all -------------------------------------------------------------

listens() { host_exec "$1" grep -q "$(printf '^ *[0-9]*: [0-9A-F]*:%04X ' "$3")" "/proc/net/$2"; }

http_file() { echo "$run/$1.image"; }
http_origin() {
    local modules=/usr/lib/apache2/modules
    mkdir -p "$run/www"
    ln "$image" "$run/www/image"
    cat >"$run/httpd.conf" <<-X
	LoadModule mpm_event_module $modules/mod_mpm_event.so
	LoadModule authz_core_module $modules/mod_authz_core.so
	ServerName origin
	Listen 80
	User www-data
	Group www-data
	PidFile $run/httpd.pid
	ErrorLog $run/httpd.log
	DocumentRoot $run/www
	X
    in_background "$run/h0.log" h0 apache2 -f "$run/httpd.conf" -DFOREGROUND
    wait_for 30 listens h0 tcp 80 || listens h0 tcp6 80 || die "apache2: $(cat "$run/h0.log" "$run/httpd.log")"
}
http_host() {
    # shellcheck disable=SC2016
    on_host "$1" 'curl -sS -o "$1" "$2" && say_done' "$(http_file "$1")" "http://$(ip_of h0)/image"
}

rsync_file() { echo "$run/$1.image"; }
rsync_origin() {
    mkdir -p "$run/rsync"
    ln "$image" "$run/rsync/image"
    cat >"$run/rsyncd.conf" <<-X
	use chroot = no
	reverse lookup = no
	uid = 0
	gid = 0
	[bench]
	path = $run/rsync
	X
    in_background "$run/h0.log" h0 rsync --daemon --no-detach --config="$run/rsyncd.conf"
    wait_for 30 listens h0 tcp 873 || die "rsync: $(cat "$run/h0.log")"
}
rsync_host() {
    # shellcheck disable=SC2016
    on_host "$1" 'rsync "$2" "$1" && say_done' "$(rsync_file "$1")" "rsync://$(ip_of h0)/bench/image"
}

# --- multicast ------------------------------------------------------------------------

udpcast_file() { echo "$run/$1.image"; }
udpcast_origin() {
    in_background "$run/h0.log" h0 udp-sender --file "$image" --interface eth0 --full-duplex --nokbd --no-progress \
        --min-receivers "$hosts" ${udpcast_options:-}
    wait_for 30 listens h0 udp 9001 || die "udp-sender: $(cat "$run/h0.log")"
}
udpcast_host() {
    # shellcheck disable=SC2016
    on_host "$1" 'udp-receiver --file "$1" --interface eth0 --nokbd --no-progress && say_done' "$(udpcast_file "$1")"
}
