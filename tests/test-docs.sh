#!/bin/bash
# The messages that docs/troubleshooting.rst explains are those of the sources.
# An ellipsis stands for what a message fills in.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -euo pipefail
srcdir=${srcdir:-$(dirname "$0")}
top=$srcdir/..
export LC_ALL=C.UTF-8

messages=$(mktemp)
trap 'rm -f "$messages"' EXIT
# Every translatable string, one a line; what is filled in becomes an ellipsis.
xgettext --from-code=UTF-8 -k_ -kN_ -L C -o - --no-location \
    "$top"/src/storage/*.c "$top"/src/hooks/*.c "$top"/src/torrentd/*.c "$top"/src/image/*.c |
    sed 's/charset=CHARSET/charset=UTF-8/' | msgcat --no-wrap - |
    sed -n 's/^msgid "\(.*\)"$/\1/p' | sed -E 's/%([0-9]+\$)?(\.[0-9])?(ll|z|l)?[suidfxc]/…/g; s/%%/%/g; s/: $/: …/; s/\\n$//' >"$messages"

bad=0 count=0
# The term of a definition: a line at the margin, the next one indented.
while IFS= read -r line; do
    count=$((count + 1))
    grep -Fxq -- "$line" "$messages" || {
        echo "no source says: $line"
        bad=1
    }
done < <(awk '/^    [^ ]/ && last ~ /^[^ ].*(…|\047|;|,| )/ && last !~ /::$/ && last !~ /^It stays at/ {print last} {last = $0}' \
    "$top/docs/troubleshooting.rst")
((count >= 20)) || {
    echo "only $count messages found in docs/troubleshooting.rst"
    bad=1
}
exit $bad
