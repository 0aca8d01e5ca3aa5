#!/bin/bash
# Usage: tests/sanitize.sh asan | valgrind | fuzz
#
# Everything that is ours, built or run so that its mistakes show:
#
#   asan      the unit tests with AddressSanitizer, LeakSanitizer and UBSan
#   valgrind  the unit tests of the ordinary build under memcheck
#   fuzz      each fuzz target with libFuzzer, ASan and UBSan, for FUZZ_SECONDS
#             (default: 10) seconds; what it finds is kept, and from then on
#             run first
#
# Programs of others that the tests start (qemu-img, the D-Bus bus) are not
# instrumented.  make check-asan, check-valgrind and check-fuzz run this.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -euo pipefail
. "$(dirname "$0")/lib/env.sh"

# One place for what cannot run there, each with its reason.
#   test-image-overlay  mounts without a type, which memcheck takes for a mistake
#   test-service        ends while GLib's D-Bus thread still has what it needs
valgrind_leaves=' test-image-overlay test-service '

jobs=$(nproc)
quiet() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 </dev/null || {
        tail -n 60 "$log" >&2
        die "failed: $* (all of it is in $log)"
    }
}

# tree NAME CONFIGURE-ARGUMENT…: a build tree of its own, in the cache; sets tree
tree() {
    tree=$TORRENTPOOL_CACHE/$1
    shift
    [[ -x $top/configure ]] || quiet "$TORRENTPOOL_CACHE/bootstrap.log" env -C "$top" ./bootstrap
    mkdir -p "$tree"
    [[ -e $tree/Makefile ]] || quiet "$tree/configure.out" env -C "$tree" "$top/configure" -q --prefix=/usr \
        --sysconfdir=/etc --localstatedir=/var --runstatedir=/run --libexecdir=/usr/libexec "$@"
}

# The test programs that tests/Makefile.am knows.
programs() {
    make -s -C "$tree/tests" --no-print-directory -f - print 2>/dev/null <<'MAKE'
include Makefile
print: ; @echo $(check_PROGRAMS)
MAKE
}

suite() {
    local status=0
    make -k -s -j"$jobs" -C "$tree" check VERBOSE=1 "$@" >"$tree/check.log" 2>&1 </dev/null || status=$?
    if ((status)); then
        grep -E -A 40 '^(FAIL|ERROR|SKIP)|Sanitizer|runtime error|== *ERROR|error:' "$tree/check.log" | head -n 150
    fi
    grep -E '^# (TOTAL|PASS|FAIL|ERROR)' "$tree/check.log" || :
    return $status
}

case ${1:-} in
asan)
    flags='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined'
    tree asan CFLAGS="$flags" CXXFLAGS="$flags" --disable-werror
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1
    export G_SLICE=always-malloc
    suite
    ;;

valgrind)
    build_torrentpool
    tree=$TORRENTPOOL_BUILD
    some=
    for name in $(programs); do
        [[ $valgrind_leaves == *" $name "* || $name == fuzz/* ]] || some+=" $name"
    done
    export G_SLICE=always-malloc VALGRIND=1
    suite TESTS="$some" LOG_COMPILER="valgrind -q --error-exitcode=99 --leak-check=full \
--errors-for-leak-kinds=definite --suppressions=$top/tests/valgrind.supp"
    ;;

fuzz)
    seconds=${FUZZ_SECONDS:-10}
    flags='-O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined'
    build_torrentpool
    make -s -j"$jobs" -C "$TORRENTPOOL_BUILD/tests" $(cd "$top/tests" && ls fuzz/fuzz-*.c | grep -v replay |
        sed 's/\.c$//') >/dev/null
    tree fuzz CC=clang CXX=clang++ CFLAGS="$flags" CXXFLAGS="$flags" --disable-werror
    quiet "$tree/make.log" make -s -j"$jobs" -C "$tree/gnulib/lib"
    quiet "$tree/make.log" make -s -j"$jobs" -C "$tree/src" torrentd/torrentd-dbus.h
    quiet "$tree/make.log" make -s -j"$jobs" -C "$tree/src" libimage.la libhook.la libenginebase.la libtorrentd.la
    bad=0
    for target in "$top"/tests/fuzz/fuzz-*.c; do
        name=$(basename "$target" .c)
        [[ $name != fuzz-replay ]] || continue
        corpus=$tree/corpus/$name
        mkdir -p "$corpus" "$tree/found/$name"
        "$TORRENTPOOL_BUILD/tests/fuzz/$name" --seeds "$corpus"
        # shellcheck disable=SC2046  # flags are meant to be split
        clang $flags -fsanitize=fuzzer -D_GNU_SOURCE -I"$tree" -I"$top/tests/fuzz" -I"$top/src/image" \
            -I"$top/src/hooks" -I"$top/src/torrentd" $(pkg-config --cflags gio-unix-2.0 libxml-2.0) \
            -o "$tree/$name" "$target" -Wl,--start-group "$tree"/src/.libs/lib{image,hook,enginebase,torrentd}.a \
            -Wl,--end-group $(pkg-config --libs gio-unix-2.0 libxml-2.0 libcrypto)
        # what it found before comes first
        for found in "$tree/found/$name"/*; do
            [[ ! -e $found ]] || "$tree/$name" "$found" >"$tree/$name.log" 2>&1 || {
                tail -n 40 "$tree/$name.log"
                bad=1
            }
        done
        if "$tree/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix="$tree/found/$name/" "$corpus" >"$tree/$name.log" 2>&1; then
            printf '%-18s %9d runs, %4d inputs worth keeping\n' "$name" \
                "$(sed -n 's/^stat::number_of_executed_units: //p' "$tree/$name.log")" "$(ls "$corpus" | wc -l)"
        else
            printf '%-18s failed; its input is in %s\n' "$name" "$tree/found/$name"
            tail -n 60 "$tree/$name.log"
            bad=1
        fi
    done
    exit $bad
    ;;

*)
    sed -n '2,/^# SPDX/{/SPDX/d;s/^# \{0,1\}//;p}' "$0"
    [[ ${1:-} == --help ]] || exit 2
    ;;
esac
