# Where things are built, for the scripts that run them.  To be sourced.
#
#   top               the source tree
#   TORRENTPOOL_CACHE what may be kept between runs (default: TOP/.cache)
#   TORRENTPOOL_BUILD the autotools build tree (default: in the cache)
#   TORRENTPOOL_LIBVIRT  the patched libvirt's build tree; found by
#                     find_libvirt, built there if it must be
# SPDX-License-Identifier: LGPL-2.1-or-later
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export TORRENTPOOL_CACHE=${TORRENTPOOL_CACHE:-$top/.cache}
export TORRENTPOOL_BUILD=${TORRENTPOOL_BUILD:-$TORRENTPOOL_CACHE/build}
export PATH=$PATH:/usr/sbin:/sbin
# The one that this release of Debian has.
# shellcheck source=/dev/null
case $(. /etc/os-release && echo "${VERSION_CODENAME:-}") in
trixie) libvirt_version=11.3.0 ;;
*) libvirt_version=9.0.0 ;;
esac
# git, which lists the sources for syntax-check, may run as another user than
# the one who checked them out.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=$top

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Builds virttorrentd, the hook and the test programs, quietly; what failed is
# shown.
build_torrentpool() {
    local log=$TORRENTPOOL_CACHE/build.log
    mkdir -p "$TORRENTPOOL_BUILD"
    if ! (
        [[ -x $top/configure ]] || (cd "$top" && ./bootstrap)
        cd "$TORRENTPOOL_BUILD"
        [[ -e Makefile ]] ||
            "$top/configure" -q --prefix=/usr --sysconfdir=/etc --localstatedir=/var \
                --runstatedir=/run --libexecdir=/usr/libexec
        make -s -j"$(nproc)"
    ) >"$log" 2>&1 </dev/null; then
        tail -n 60 "$log" >&2
        die "the build failed; all of it is in $log"
    fi
}

# Builds the patched libvirt if it is not in the cache; sets TORRENTPOOL_LIBVIRT.
build_libvirt() {
    [[ -z ${TORRENTPOOL_LIBVIRT:-} ]] || return 0
    local log=$TORRENTPOOL_CACHE/libvirt.log
    if ! TORRENTPOOL_LIBVIRT=$("$top/src/libvirt/build" $libvirt_version 2>"$log" </dev/null); then
        tail -n 60 "$log" >&2
        die "building libvirt $libvirt_version failed; all of it is in $log"
    fi
    TORRENTPOOL_LIBVIRT=${TORRENTPOOL_LIBVIRT##*$'\n'}
    export TORRENTPOOL_LIBVIRT
}
