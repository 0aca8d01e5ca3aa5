# Figures of the runs in which all links were alike; the median of the rounds.
# stdin: the results of ../swarm.sh, tab separated:
#   scenario n way last ratio copies p50 p99 cpu bound trouble
# SPDX-License-Identifier: LGPL-2.1-or-later
function median(list,  v, n, i, j, t) {
    n = split(list, v, " ")
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && v[j - 1] + 0 > v[j] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
$1 != "equal" { next }
!($2 in seen) { seen[$2] = 1; ns[++n] = $2 }
# what did not get done has no time
$4 == "-" { failed[$2, $3] = 1; next }
{ last[$2, $3] = last[$2, $3] " " $4; ratio[$2] = $3 == "ours" ? ratio[$2] " " $5 : ratio[$2] }
$3 == "ours" { copies[$2] = copies[$2] " " $6; spread[$2] = spread[$2] " " $8 / $7 }
END {
    for (i = 1; i <= n; i++) {
        k = ns[i]
        if (!((k, "ours") in last) || (k, "ours") in failed) continue
        printf "figure swarm.n%d.last_over_bound %.2f\n", k, median(ratio[k])
        printf "figure swarm.n%d.origin_copies %.2f\n", k, median(copies[k])
        printf "figure swarm.n%d.p99_over_p50 %.3f\n", k, median(spread[k])
        best = 0
        for (key in last) {
            split(key, part, SUBSEP)
            if (part[1] != k || part[2] == "ours") continue
            t = median(last[key])
            if (!best || t < best) best = t
        }
        if (best) printf "figure swarm.n%d.best_peer_over_ours %.2f\n", k, best / median(last[k, "ours"])
    }
}
