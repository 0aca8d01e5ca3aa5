/*
 * dir-util.h: temporary directories of tests
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <ftw.h>
#include <stdio.h>

static int
removeEntry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void) st;
    (void) type;
    (void) ftw;
    return remove(path);
}

/* Removes @path and what is in it.  No symbolic link is followed: tests plant
 * some that lead out of their directory. */
static inline void
removeTree(const char *path)
{
    nftw(path, removeEntry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
