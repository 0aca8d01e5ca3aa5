#!/bin/bash
# Each message of the sources is translated in each catalogue of po/, with the
# same printf directives.  "make update-po" shows what is missing.
# That the installed programs speak it: tests/e2e/translation.sh.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0
export LC_ALL=C.UTF-8

wrong() {
    echo "FAIL: $*" >&2
    failed=1
}

options=$(sed -n 's/^XGETTEXT_OPTIONS = //p' "$top/po/Makevars")
# shellcheck disable=SC2086
xgettext $options --directory="$top" --files-from="$top/po/POTFILES.in" --output="$tmp/all.pot" || exit 1
messages=$(grep -c '^msgid' "$tmp/all.pot")
((messages > 100)) || wrong "only $messages messages were found in the sources"

# xgettext stops at a macro such as G_GUINT64_FORMAT: the program would look for
# a message that no catalogue has.
if cut=$(msgcat --no-wrap "$tmp/all.pot" | grep -E '(^|[^%])(%%)*%([0-9]+\$)?[0-9]*"$'); then
    wrong "cast to (unsigned long long) and write %llu, xgettext sees only this: $cut"
fi

[[ -s $top/po/LINGUAS ]] || wrong 'po/LINGUAS names no language'
while read -r lang; do
    po=$top/po/$lang.po
    msgfmt --check --output-file=/dev/null "$po" || wrong "$lang.po is malformed"
    # What was changed in the sources since is not guessed, but missing.
    msgmerge --quiet --no-fuzzy-matching --no-wrap --output-file="$tmp/$lang.po" "$po" "$tmp/all.pot" ||
        wrong "$lang.po does not merge"
    msgfmt --check --output-file=/dev/null "$tmp/$lang.po" ||
        wrong "$lang.po does not go with the sources"
    for what in untranslated only-fuzzy; do
        missing=$(msgattrib --no-wrap --no-obsolete --$what "$tmp/$lang.po" | sed '1,/^$/d' | grep -A 1 '^msgid')
        [[ -z $missing ]] || wrong "$lang.po, $what: $missing"
    done
    ! grep -E '^#: .*:[0-9]' "$po" || wrong "$lang.po has line numbers; use make update-po"
done <"$top/po/LINGUAS"
exit $failed
