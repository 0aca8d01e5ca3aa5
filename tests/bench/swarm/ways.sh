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
    host_exec "$host" "$tool" open $ours_socket "$pool" "${pool_options:-{}}" || die "no pool on $host"
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
