/*
 * fuzz-image.c: any bytes as an image file
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * With libFuzzer: clang -fsanitize=fuzzer,address with src/image/ *.c.  Linked
 * with fuzz-replay.c instead, it is a test that make check runs.
 *
 * Promise: the probe neither crashes nor reads out of bounds, and gives either
 * an error or an info that holds together.
 */

#include <config.h>

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz-replay.h"
#include "image.h"


/* One small image of each format, by QEMU's own hand. */
GPtrArray *
fuzzSeeds(void)
{
    static const char *const commands[] = {
        "qemu-img create -q -f qcow2 -o compat=0.10 -u -b /etc/passwd -F raw seed 1M",
        "qemu-img create -q -f qcow2 -o compat=1.1,cluster_size=512 -u -b base -F qcow2 seed 1M",
        "qemu-img create -q -f qcow2 -o extended_l2=on seed 1M",
        "qemu-img create -q -f qcow -u -b base -F raw seed 1M",
        "qemu-img create -q -f qed -u -b base -F raw seed 1M",
        "qemu-img create -q -f vmdk seed 1M",
        "qemu-img create -q -f vmdk -o subformat=streamOptimized seed 1M",
        "qemu-img create -q -f vpc seed 1M",
        "qemu-img create -q -f vpc -o subformat=fixed seed 64k",
        /* differencing, with a file URL among its parent locators */
        "sh -c 'qemu-img create -q -f vpc seed 1M; p() { dd of=seed bs=1 seek=$1 conv=notrunc status=none; };"
        " printf \"\\000\\000\\000\\004\" | p 60; printf \"file://./p.vhd\" | p 1600;"
        " printf \"MacX\\000\\000\\000\\001\\000\\000\\000\\016\\000\\000\\000\\000"
        "\\000\\000\\000\\000\\000\\000\\006\\100\" | p 1088'",
        "qemu-img create -q -f vdi seed 1M",
        "qemu-img create -q -f vhdx -o log_size=1M,block_size=1M seed 1M",
    };
    GPtrArray *seeds = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autofree char *dir = g_dir_make_tmp("torrentpool-fuzz-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "seed", NULL);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_auto(GStrv) argv = NULL;
        char *bytes = NULL;
        gsize len;

        if (!g_shell_parse_argv(commands[i], NULL, &argv, NULL) ||
            !g_spawn_sync(dir, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL) ||
            !g_file_get_contents(path, &bytes, &len, NULL))
            g_error("no seed by '%s'", commands[i]);
        /* the VHDX has the metadata at 2 MiB; nothing of interest lies further in */
        g_ptr_array_add(seeds, g_bytes_new_take(bytes, MIN(len, 2 * 1024 * 1024 + 128 * 1024)));
        unlink(path);
    }
    rmdir(dir);
    return seeds;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(VirImageInfo) info = NULL;
    g_autoptr(GError) error = NULL;
    int fd = memfd_create("image", MFD_CLOEXEC);

    if (fd < 0 || (size > 0 && write(fd, data, size) != (ssize_t)size))
        g_error("no memory file");

    info = virImageProbe(fd, &error);
    g_assert_true(!info == !!error);
    if (info) {
        g_assert_nonnull(info->format);
        if (g_str_equal(info->format, "raw"))
            g_assert_cmpuint(info->capacity, ==, size);
        if (g_str_equal(info->format, "qcow2"))
            g_assert_cmpuint(info->cluster_bits, >=, 9);
        if (info->backing_file)
            g_assert_cmpuint(strlen(info->backing_file), <=, 20 * 512);
        if (info->backing_file || info->external)
            g_assert_false(virImageIsStandalone(info));
    }
    close(fd);
    return 0;
}
