/*
 * clone.c: how long libvirt takes for many volumes, one call each
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 *   bench-clone POOL COUNT FORMAT [INPUT]
 *
 * Makes the volumes c0, c1, ... from the XML in FORMAT, in which %d is the
 * number: virStorageVolCreateXMLFrom() the volume INPUT, or
 * virStorageVolCreateXML() without one.  What virsh adds, which looks up pool
 * and volume for each command, is left out.  Prints the milliseconds of one.
 * Built by tests/bench/clone.sh against the libvirt that it measures.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libvirt/libvirt.h>

static double
now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}


/* @format with its %d replaced */
static void
fill(char *xml, size_t size, const char *format, int n)
{
    const char *mark = strstr(format, "%d");

    if (!mark) {
        fprintf(stderr, "there is no %%d in: %s\n", format);
        exit(EXIT_FAILURE);
    }
    snprintf(xml, size, "%.*s%d%s", (int)(mark - format), format, n, mark + 2);
}


int
main(int argc, char **argv)
{
    virConnectPtr conn = virConnectOpen("qemu:///system");
    virStoragePoolPtr pool = NULL;
    virStorageVolPtr input = NULL;
    char xml[4096];
    double begin;
    int count;
    int i;

    if (argc < 4 || !conn || !(pool = virStoragePoolLookupByName(conn, argv[1])) ||
        (argc > 4 && !(input = virStorageVolLookupByName(pool, argv[4]))))
        return EXIT_FAILURE;

    count = atoi(argv[2]);
    begin = now();

    for (i = 0; i < count; i++) {
        virStorageVolPtr vol;

        fill(xml, sizeof(xml), argv[3], i);
        vol = input ? virStorageVolCreateXMLFrom(pool, xml, input, 0) :
            virStorageVolCreateXML(pool, xml, 0);
        if (!vol)
            return EXIT_FAILURE;
        virStorageVolFree(vol);
    }

    printf("%.4f\n", (now() - begin) / count);
    if (input)
        virStorageVolFree(input);
    virStoragePoolFree(pool);
    virConnectClose(conn);
    return EXIT_SUCCESS;
}
