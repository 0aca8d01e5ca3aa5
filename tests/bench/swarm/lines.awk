# Draws time by bound over N, a line for each way; into the file "chart" (SVG).
# stdin: as for figures.awk; the best round of each way.
# SPDX-License-Identifier: LGPL-2.1-or-later
function text(x, y, s, more) {
    printf "<text x='%.1f' y='%.1f'%s>%s</text>\n", x, y, more, s >chart
}
function x_of(i) { return left + (i - 0.5) * width / n }
function y_of(v) { return top + height - (v - 1) / (most - 1) * height }
$1 != "equal" { next }
!($2 in seen) { seen[$2] = 1; ns[++n] = $2 }
!($3 in color) { ways[++w] = $3; color[$3] = w == 1 ? "#2a6fb0" : sprintf("hsl(%d,50%%,45%%)", w * 137 % 360) }
$4 != "-" && (!(($2, $3) in best) || $5 < best[$2, $3]) { best[$2, $3] = $5; if ($5 > most) most = $5 }
END {
    if (!n || !most) exit
    left = 60; top = 50; width = 460; height = 300
    most = int(most * 2 + 1) / 2
    if (most > 5) most = 5
    printf "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' font-size='13'>\n", left + width + 160, top + height + 50 >chart
    print "<rect width='100%' height='100%' fill='white'/>" >chart
    text(12, 26, "Time of the last host by the lower bound", " font-size='16' font-weight='bold'")
    for (v = 1; v <= most + 0.01; v += most > 3 ? 0.5 : 0.25) {
        printf "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' stroke='#ddd'/>\n", left, left + width, y_of(v), y_of(v) >chart
        text(left - 8, y_of(v) + 4, sprintf("%.2f", v), " text-anchor='end'")
    }
    for (i = 1; i <= n; i++) text(x_of(i), top + height + 22, "N = " ns[i], " text-anchor='middle'")
    for (k = w; k >= 1; k--) {
        line = ""
        for (i = 1; i <= n; i++) {
            if (!((ns[i], ways[k]) in best) || best[ns[i], ways[k]] > most) continue
            x = x_of(i); y = y_of(best[ns[i], ways[k]])
            line = line sprintf(" %.1f,%.1f", x, y)
            printf "<circle cx='%.1f' cy='%.1f' r='4' fill='%s'/>\n", x, y, color[ways[k]] >chart
        }
        printf "<polyline points='%s' fill='none' stroke='%s' stroke-width='%d'/>\n", line, color[ways[k]], k == 1 ? 3 : 1.5 >chart
        name = ways[k] == "ours" ? "torrentpool" : ways[k]
        text(left + width + 20, top + 6 + k * 20, name, sprintf(" fill='%s'%s", color[ways[k]], k == 1 ? " font-weight='bold'" : ""))
    }
    print "</svg>" >chart
}
