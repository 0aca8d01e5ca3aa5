#!/bin/bash
# The documents name what there is: the messages that docs/troubleshooting.rst
# explains are those of the sources (an ellipsis stands for what a message fills
# in), the tests that docs/security.rst counts on are there.
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

count=0
while read -r name; do
    count=$((count + 1))
    program=${name%%:*} case=${name#*: }
    if [[ $name == *.sh ]]; then
        [[ -x $srcdir/e2e/$name ]]
    elif [[ $name == *:* ]]; then
        grep -Eq "\"(/[a-z/-]*)?$case\"" "$srcdir/$program.c"
    else
        [[ -e $srcdir/$name.c ]]
    fi || {
        echo "docs/security.rst: there is no test $name"
        bad=1
    }
done < <(sed -n '/^What is promised/,/^What is not/p' "$top/docs/security.rst" |
    grep -Eo '``((test|fuzz)[a-z/-]*(: [a-z-]+)?|[a-z-]+\.sh)``' | tr -d '`')
((count >= 20)) || {
    echo "only $count tests found in docs/security.rst"
    bad=1
}

# Every page can be rendered.
for page in "$top"/docs/*.rst; do
    docutils=$(command -v rst2html rst2html.py | head -n 1)
    "$docutils" --strict --syntax-highlight=none "$page" >/dev/null || bad=1
done

# The shell's completion knows every option (test-config does it for the manual).
diff <("${builddir:-.}/../src/virttorrentd" --help | grep -Eo -- '--[a-z-]+' | sort -u | grep -v '^--help-') \
    <(sed -n '/compgen/,/--version/p' "$top/src/torrentd/virttorrentd.bash-completion" |
        grep -Eo -- '--[a-z-]+' | sort -u) || {
    echo "virttorrentd --help (<) and its completion (>) differ"
    bad=1
}
exit $bad
