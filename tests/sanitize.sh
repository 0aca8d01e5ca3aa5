#!/bin/bash
# Usage: tests/sanitize.sh [--short] asan | tsan | valgrind | fuzz | static
#
# Everything that is ours, built or run so that its mistakes show:
#
#   asan      the unit tests with AddressSanitizer, LeakSanitizer and UBSan
#   tsan      the unit tests with ThreadSanitizer, which is told of GLib's locks
#             and queues by tests/tsan-glib.c
#   valgrind  the unit tests of the ordinary build under memcheck
#   fuzz      each fuzz target with libFuzzer, ASan and UBSan; what it finds is
#             kept, and from then on run first
#   static    cppcheck reads the sources (but src/storage, which is built in libvirt's tree)
#
# make check-asan, check-tsan, check-valgrind, check-fuzz and check-static run
# this.  ./check asan (tsan, ...) runs it with --short: what is quick of it.
#
# Each is bounded: ASAN_SECONDS, TSAN_SECONDS, VALGRIND_SECONDS (900 each) and
# STATIC_SECONDS (300) are for the tests, and what is not done by then has
# failed; FUZZ_SECONDS (60; 3 with --short) is how long each target is run.
# Programs of others that the tests start (qemu-img, the D-Bus bus) are not
# instrumented.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -euo pipefail
. "$(dirname "$0")/lib/env.sh"

# One place for what cannot run there, each with its reason.
#   test-image-overlay  mounts without a type, which memcheck takes for a mistake
#   test-service        ends while GLib's D-Bus thread still has what it needs
valgrind_leaves=' test-image-overlay test-service '

# What is quick and has most of what can go wrong: threads, parsers, files.
short_engine='-p /engine/new-version -p /engine/sparse -p /engine/fetch-magnet -p /engine/resume
    -p /engine/check-corrupt -p /engine/remove-while-fetching -p /engine/silent-after-free -p /engine/relocate'
short_tests='test-config test-delta test-disk test-hash test-hook test-image test-metainfo test-monitor test-names
    test-pool test-reveal test-service test-state test-status'

jobs=$(nproc)
short=
if [[ ${1:-} == --short ]]; then
    short=1
    shift
fi

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
    [[ -e $tree/configured && $(<"$tree/configured") == "$*" ]] && return
    rm -rf "$tree" # made with other flags
    mkdir -p "$tree"
    quiet "$tree/configure.out" env -C "$tree" "$top/configure" -q --prefix=/usr \
        --sysconfdir=/etc --localstatedir=/var --runstatedir=/run --libexecdir=/usr/libexec "$@"
    echo "$*" >"$tree/configured"
}

# sanitized NAME FLAGS: everything and its tests, built with these
sanitized() {
    local flags="-O1 -g -fno-omit-frame-pointer $2"
    tree "$1" CFLAGS="$flags" CXXFLAGS="$flags" --disable-werror
    quiet "$tree/make.log" make -s -j"$jobs" -C "$tree" all
    # shellcheck disable=SC2046
    quiet "$tree/make.log" make -s -j"$jobs" -C "$tree/tests" $(programs)
}

# The test programs that tests/Makefile.am knows.
programs() {
    make -s -C "$tree/tests" --no-print-directory -f - print 2>/dev/null <<'MAKE'
include Makefile
print: ; @echo $(check_PROGRAMS)
MAKE
}

# suite SECONDS COMMAND…: runs the test programs, each by way of COMMAND, several
# at a time; what failed is shown.
suite() {
    local seconds=$1 name list=() bad=0 passed=0
    shift
    if [[ $short ]]; then
        for name in $short_tests; do
            list+=("$name")
        done
        list+=("test-engine ${short_engine//$'\n'/ }")
    else
        for name in $(programs); do
            list+=("$name")
        done
    fi
    rm -rf "$tree/results"
    mkdir "$tree/results"
    for name in "${list[@]}"; do
        [[ $left_out == *" ${name%% *} "* ]] || echo "$name"
    done >"$tree/results/tests"
    # shellcheck disable=SC2016  # the shell inside
    COMMAND="$*" RESULTS=$tree/results env -C "$tree/tests" timeout -k 10 "$seconds" \
        xargs -a "$tree/results/tests" -d '\n' -P "$jobs" -n 1 \
        "$BASH" -c 'set -- $1; name=${1##*/}; start=$SECONDS
            $COMMAND ./"$@" >"$RESULTS/$name.log" 2>&1 </dev/null
            echo "$? $((SECONDS - start))" >"$RESULTS/$name.status"' - || :
    for name in $(sed 's/ .*//; s|.*/||' "$tree/results/tests"); do
        local status=stopped took=$seconds
        [[ ! -e $tree/results/$name.status ]] || read -r status took <"$tree/results/$name.status"
        if [[ $status == 0 ]]; then
            passed=$((passed + 1))
            [[ $short ]] || printf 'PASS %-22s %4d s\n' "$name" "$took"
        elif [[ $status == 77 ]]; then
            printf 'SKIP %-22s %4d s\n' "$name" "$took"
        else
            bad=$((bad + 1))
            printf 'FAIL %-22s %4d s (status %s)\n' "$name" "$took" "$status"
            grep -E -A 40 'Sanitizer|runtime error|^==[0-9]+== |^not ok|^Bail out|ERROR' "$tree/results/$name.log" |
                head -n 100 || tail -n 40 "$tree/results/$name.log"
        fi
    done
    echo "$passed passed, $bad failed"
    ((bad == 0 && passed > 0))
}

# A program with a known mistake has to fail, and one without must not, or
# silence means nothing.
# judged FLAGS MISTAKE… -- COMMAND…
judged() {
    local flags=$1 mistakes=() mistake program=$tree/mistakes
    shift
    while [[ $1 != -- ]]; do
        mistakes+=("$1")
        shift
    done
    shift
    # shellcheck disable=SC2046,SC2086  # flags are meant to be split
    quiet "$tree/mistakes.log" gcc -g -O0 $flags $(pkg-config --cflags glib-2.0) -o "$program" \
        "$top/tests/mistakes.c" $(pkg-config --libs glib-2.0)
    quiet "$tree/mistakes.log" "$@" "$program" none
    for mistake in "${mistakes[@]}"; do
        ! "$@" "$program" "$mistake" >"$tree/mistakes.log" 2>&1 || die "a mistake was not found: $mistake"
    done
}

left_out=' '
case ${1:-} in
asan)
    # libtorrent does not export what vptr asks of its classes.
    flags='-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined'
    sanitized asan "$flags"
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1
    export G_SLICE=always-malloc
    judged "$flags" overflow undefined leak --
    suite "${ASAN_SECONDS:-900}"
    ;;

tsan)
    # (boost has a fence that GCC's ThreadSanitizer does not know)
    sanitized tsan '-fsanitize=thread -Wno-tsan'
    # shellcheck disable=SC2046
    quiet "$tree/make.log" gcc -O1 -g -Wall -Wextra -shared -fPIC $(pkg-config --cflags gio-2.0) \
        -o "$tree/tsan-glib.so" "$top/tests/tsan-glib.c" $(pkg-config --libs gio-2.0)
    # What is not instrumented (GLib, libtorrent) is not judged by what it copies and frees.
    export TSAN_OPTIONS=ignore_noninstrumented_modules=1:second_deadlock_stack=1:history_size=4
    export G_SLICE=always-malloc
    judged -fsanitize=thread race -- env LD_PRELOAD="$tree/tsan-glib.so"
    suite "${TSAN_SECONDS:-900}" env LD_PRELOAD="$tree/tsan-glib.so"
    ;;

valgrind)
    build_torrentpool
    tree=$TORRENTPOOL_BUILD
    # shellcheck disable=SC2046
    quiet "$tree/make.log" make -s -j"$jobs" -C "$tree/tests" $(programs)
    left_out=$valgrind_leaves
    # What takes longest there is looked at by the others.
    [[ ! $short ]] || left_out+='test-engine test-hash test-image test-hook test-pool '
    for name in $(programs); do
        [[ $name != fuzz/* ]] || left_out+="$name "
    done
    export G_SLICE=always-malloc VALGRIND=1
    memcheck='valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite'
    # shellcheck disable=SC2086
    judged '' overflow leak -- $memcheck
    suite "${VALGRIND_SECONDS:-900}" "$memcheck"
    ;;

fuzz)
    seconds=${FUZZ_SECONDS:-60}
    [[ ! $short ]] || seconds=3
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

static)
    # Each with its reason:
    #   volume-scrub.c  what is pushed to a thread pool is freed by its thread
    read_sources() {
        cppcheck --quiet --std=c11 --library=gtk --enable=warning,performance,portability \
            --error-exitcode=1 --suppress=memleak:*/volume-scrub.c \
            -I"$top/src/torrentd" -I"$top/src/image" -I"$top/src/hooks" "$@"
    }
    made=$(mktemp -d)
    trap 'rm -rf "$made"' EXIT
    echo 'int last(void); int last(void) { int some[2] = { 0, 1 }; return some[2]; }' >"$made/mistake.c"
    ! read_sources "$made/mistake.c" >/dev/null 2>&1 || die 'a mistake was not found: one beyond the end'
    export -f read_sources
    export top
    timeout -k 10 "${STATIC_SECONDS:-300}" "$BASH" -c \
        'read_sources "$top/src/torrentd" "$top/src/image" "$top/src/hooks"'
    echo 'cppcheck found nothing'
    ;;

*)
    sed -n '2,/^# SPDX/{/SPDX/d;s/^# \{0,1\}//;p}' "$0"
    [[ ${1:-} == --help ]] || exit 2
    ;;
esac
