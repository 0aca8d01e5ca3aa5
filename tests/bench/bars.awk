# Draws a bar chart: lines "label<TAB>value" in, SVG out.
#   awk -v title=... -v unit=ms -f bars.awk
# SPDX-License-Identifier: LGPL-2.1-or-later
function esc(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); return s }
BEGIN { FS = "\t" }
{ label[NR] = esc($1); value[NR] = $2; if ($2 > max) max = $2 }
END {
    left = 260; width = 420; step = 34; height = 60 + NR * step
    printf "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' font-size='13'>\n", left + width + 110, height
    printf "<rect width='100%%' height='100%%' fill='white'/>\n<text x='12' y='26' font-size='16' font-weight='bold'>%s</text>\n", esc(title)
    for (i = 1; i <= NR; i++) {
        y = 44 + (i - 1) * step
        w = max > 0 ? value[i] / max * width : 0
        printf "<text x='%d' y='%d' text-anchor='end'>%s</text>\n", left - 8, y + 16, label[i]
        printf "<rect x='%d' y='%d' width='%.1f' height='22' fill='%s'/>\n", left, y, w, i == 1 ? "#2a6fb0" : "#9ab4cc"
        printf "<text x='%.1f' y='%d'>%s %s</text>\n", left + w + 6, y + 16, value[i], esc(unit)
    }
    print "</svg>"
}
