#!/bin/bash
# src/libvirt/places tells what has to be mended when another libvirt is tried: here
# 11.3.0 with what is there for 9.0.0, and a 9.0.0 that was broken on purpose.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
work=$(mktemp -d "$TORRENTPOOL_CACHE/places.XXXXXX")
trap 'rm -rf "$work"' EXIT

# tell STATUS ARGUMENT…: what it says in $said
tell() {
    local want=$1 status=0
    shift
    said=$("$top/src/libvirt/places" "$@" 2>&1) || status=$?
    [[ $status == "$want" ]] || fail "places $*: exit status $status, not $want: $said"
}
says() { matches 'what it says' "$1" "$said"; }

step 'a version with its own series needs nothing'
tell 0 --from 9.0.0 9.0.0
says 'nothing to mend'
tell 0 11.3.0

step '11.3.0 with the series for 9.0.0: patches that do not apply'
tell 1 --from 9.0.0 11.3.0
says '^! 0003-.*: meson\.build:[0-9]+ (does not apply|applies with fuzz)'
says '^! 0009-.*: src/qemu/qemu_migration\.c:[0-9]+ does not apply'
says "^! 0007-.*: NEWS\.rst:[0-9]+ lands elsewhere: in the news of 'v9\.0\.0.*', not 'v11\.3\.0"
says '^  src/storage/storage_driver\.c: storagePoolRefresh, [0-9]+ lines'
lacks 'declarations' 'is gone|declared otherwise|has no member' "$said"

step 'a tree that was broken in each way'
pristine=$("$top/src/libvirt/build" --pristine 9.0.0) || fail 'no source'
cp -al "$pristine" "$work/tree"
# in FILE SED-SCRIPT; the file is another one then
in_tree() {
    cp "$work/tree/$1" "$work/file"
    sed -i "$2" "$work/tree/$1"
    ! cmp -s "$work/file" "$work/tree/$1" || fail "nothing was changed in $1: $2"
}
in_tree src/storage/storage_util.h 's/virStorageBackendVolDownloadLocal/virStorageBackendVolReadLocal/'
in_tree src/conf/virstorageobj.h '/^virStoragePoolObjAddVol(/s/(/(unsigned int flags, /'
in_tree src/conf/storage_conf.h '/unsigned int in_use;/d; s/    virStorageVolSource source;/    virStorageVolSource origin;/'
in_tree src/conf/storage_conf.h '/virStorageSource target;/s/target/result/'
in_tree src/libxl/libxl_domain.c '/^libxlDomainStartPrepare(/,/^}/s/virErrorPtr save_err;/virErrorPtr saved;/'
in_tree docs/storage.rst '/^Valid vstorage volume format types/,$d'
rm "$work/tree/src/util/virhook.h"
mv "$work/tree/src/storage/storage_util.c" "$work/util.c"
cat "$work/util.c" - >"$work/tree/src/storage/storage_util.c" <<'X'


bool
virStorageBackendHasTrash(virStoragePoolType type)
{
    return type == VIR_STORAGE_POOL_DIR || type == VIR_STORAGE_POOL_VSTORAGE;
}
X
tell 1 --from 9.0.0 "$work/tree"
says '^! virStorageBackendVolDownloadLocal is gone'
says '^! virStoragePoolObjAddVol is declared otherwise'
says "^! virStorageVolDef has no member 'target' any more"
says '^! 0005-.*: src/libxl/libxl_domain\.c:[0-9]+ (does not apply|lands elsewhere|applies with fuzz)'
says '^! 0007-.*: docs/storage\.rst:[0-9]+ does not apply'
says '^! 0009-.*: there is no src/util/virhook\.h'
says '^! src/storage/storage_util\.c: virStorageBackendHasTrash lists pool types without ours, and is new'

step 'what is no source of libvirt'
tell 2 "$work"
tell 2 1.2.3
