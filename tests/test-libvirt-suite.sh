#!/bin/sh
# test-libvirt-suite.sh: libvirt's own tests pass with the pool type in it
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Builds libvirt with the series and the module (src/libvirt/build, cached) and
# runs all tests it then has, with those for our XML among them.  Prints how
# many passed, failed and were skipped, one line per version.

set -eu

top=$(cd "$(dirname "$0")/.." && pwd -P)

exec "$top/src/libvirt/build" --test "${@:-9.0.0}"
