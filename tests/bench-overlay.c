/*
 * bench-overlay.c: one overlay as the pool makes it, for ./bench io
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Usage: bench-overlay FILE BACKING BACKING_FORMAT CAPACITY [CLUSTER_BITS on|off]
 * FILE is replaced; BACKING is recorded as given.  Without CLUSTER_BITS the
 * overlay is what a clone gets by default.
 */

#include <config.h>

#include "image.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
    VirImageOverlayOptions options = { .mode = 0600, .uid = -1, .gid = -1 };
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = NULL;
    g_autofree char *name = NULL;
    int dirfd;

    if (argc != 5 && argc != 7) {
        g_printerr("Usage: %s FILE BACKING BACKING_FORMAT CAPACITY [CLUSTER_BITS on|off]\n", argv[0]);
        return EXIT_FAILURE;
    }

    options.backing_file = argv[2];
    options.backing_format = argv[3];
    options.capacity = g_ascii_strtoull(argv[4], NULL, 10);
    if (argc == 7) {
        options.cluster_bits = atoi(argv[5]);
        options.extended_l2 = g_str_equal(argv[6], "on") ? VIR_IMAGE_EXTENDED_L2_ON : VIR_IMAGE_EXTENDED_L2_OFF;
    }

    dir = g_path_get_dirname(argv[1]);
    name = g_path_get_basename(argv[1]);
    g_unlink(argv[1]);
    if ((dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        g_printerr("%s: %m\n", dir);
        return EXIT_FAILURE;
    }
    if (!virImageOverlayCreate(dirfd, name, &options, &error)) {
        g_printerr("%s: %s\n", argv[1], error->message);
        return EXIT_FAILURE;
    }
    g_close(dirfd, NULL);
    return EXIT_SUCCESS;
}
