#!/bin/bash
# publishing a file, against what its SHA-256 alone costs on all cores
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/env.sh"

mib=4096
((BENCH_QUICK)) && mib=1024
built=$(make -s -C "$TORRENTPOOL_BUILD/tests" bench-hash 2>&1) || die "bench-hash does not build: $built"
out=$("$TORRENTPOOL_BUILD/tests/bench-hash" "$BENCH_OUT" "$mib") || die "bench-hash: $out"
grep -v '^figure' <<<"$out"
grep '^figure' <<<"$out" >>"$BENCH_FIGURES"

awk '$2 == "publish.mib_per_s" { rate = $3 }
     $2 == "publish.rate_over_sha256" { part = $3 }
     END { printf "publishing a file\t%.0f\nSHA-256 on all cores, from memory\t%.0f\n", rate, rate / part }' \
    <<<"$out" >"$BENCH_OUT/publish.tsv"
echo
printf '%-40s %10s   (the best of the rounds, a file of %d MiB)\n' '' 'MiB/s' "$mib"
awk -F '\t' '{ printf "%-40s %10.0f\n", $1, $2 }' "$BENCH_OUT/publish.tsv"
awk -v title='Publishing beside what hashing costs' -v unit=MiB/s \
    -f "$top/tests/bench/bars.awk" "$BENCH_OUT/publish.tsv" >"$BENCH_OUT/publish.svg"
