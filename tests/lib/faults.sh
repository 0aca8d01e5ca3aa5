# Faults on demand in virttorrentd (faults.c); to be sourced after pool.sh.
#
#   faults_prepare HOST…   before virttorrentd is started there
#   faults_order ORDER     what is wrong from now on; '' for nothing
#   faults_felt WORD       how often virttorrentd has felt it
# SPDX-License-Identifier: LGPL-2.1-or-later

faults_prepare() {
    mkdir -p "$LAB/faults"
    : >"$LAB/faults/log"
    chmod 0777 "$LAB/faults"
    chmod 0666 "$LAB/faults/log"
    gcc -shared -fPIC -O2 -Wall -o "$LAB/faults.so" "$top/tests/lib/faults.c" || die 'faults.c cannot be compiled'
    printf '#!/bin/sh\nFAULTS_DIR=%s LD_PRELOAD=%s exec %s "$@"\n' "$LAB/faults" "$LAB/faults.so" \
        "$TORRENTPOOL_BUILD/src/virttorrentd" >"$LAB/faulty"
    chmod 0755 "$LAB/faulty"
    VIRTTORRENTD_PATH=$LAB/faulty
}
faults_order() {
    rm -f "$LAB/faults/order"
    [[ -z $1 ]] || { echo "$1" >"$LAB/faults/order.new" && mv "$LAB/faults/order.new" "$LAB/faults/order"; }
}
faults_felt() { grep -c "^$1$" "$LAB/faults/log"; }
