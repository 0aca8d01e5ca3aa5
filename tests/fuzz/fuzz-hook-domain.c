/*
 * fuzz-hook-domain.c: any bytes as domain XML
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * With libFuzzer: clang -fsanitize=fuzzer,address with src/hooks/hook_domain.c.
 * Promise: an error, or disks that hold together.
 */

#include <config.h>

#include "fuzz-replay.h"
#include "hook_domain.h"


GPtrArray *
fuzzSeeds(void)
{
    static const char *const xmls[] = {
        "<domain type='kvm'><name>g</name><devices><disk type='file' device='disk'>"
        "<driver name='qemu' type='qcow2'/><source file='/p/a.qcow2' startupPolicy='optional'/>"
        "<target dev='vda' bus='virtio'/><readonly/></disk></devices></domain>",
        "<domain xmlns:q='urn:q'><devices><disk type='volume'><source pool='p' volume='v&amp;'/></disk>"
        "<disk/><disk type='network'/></devices><q:x/></domain>",
        "<domain type='kvm'><metadata><t:guest xmlns:t='http://libvirt.org/schemas/storagepool/torrent/1.0'>"
        "<t:disk target='vda' master='m' format='raw' capacity='1048576' magnet='magnet:?'/></t:guest></metadata>"
        "<devices><disk type='volume'><source pool='p' volume='v'/><backingStore type='file'><format type='raw'/>"
        "<source file='/p/m'/></backingStore><target dev='vda'/></disk></devices></domain>",
        "<domain type='kvm'><metadata><m:migration xmlns:m='http://libvirt.org/schemas/storagepool/torrent/migration/1.0'>"
        "<m:disk target='vda' master='m' format='raw' capacity='1' magnet='magnet:?'/></m:migration></metadata>"
        "<devices><disk type='file'><source file='/p/v'/><target dev='vda'/></disk></devices></domain>",
        "<domain type='xen' id='3'><devices><disk type='file'><source file='/p/v'/></disk></devices></domain>",
        "<!DOCTYPE d [<!ENTITY e 'x'>]><domain><devices>&e;</devices></domain>",
    };
    GPtrArray *seeds = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(xmls); i++)
        g_ptr_array_add(seeds, g_bytes_new_static(xmls[i], strlen(xmls[i])));
    return seeds;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) disks = virHookDomainDisks((const char *)data, size, &error);
    guint id = 0;
    guint i;

    g_assert_true(!disks == !!error);
    g_assert_true(!virHookDomainXenId((const char *)data, size, &id) || (disks && id > 0));
    for (i = 0; disks && i < disks->len; i++) {
        const VirHookDisk *disk = disks->pdata[i];

        g_assert_true(!!disk->path != (disk->pool && disk->volume));
        g_assert_nonnull(disk->format);
        g_assert_nonnull(disk->target);
        g_assert_true(!!disk->master == !!disk->master_format);
    }

    if (disks) {
        g_autofree char *changed = NULL;
        g_autofree char *told = NULL;
        g_autoptr(GPtrArray) again = NULL;

        for (i = 0; i < disks->len; i++) {
            VirHookDisk *disk = disks->pdata[i];

            disk->shifted = !disk->path;
            if (disk->shifted)
                disk->path = g_strdup("/p/v");
        }
        g_assert_true(virHookDomainArrive((const char *)data, size, disks, &changed, &error));
        g_assert_no_error(error);
        told = virHookDomainDepart((const char *)data, size, disks, &error);
        g_assert_no_error(error);
        /* a domain again, with as many disks */
        again = virHookDomainDisks(told, strlen(told), &error);
        g_assert_no_error(error);
        g_assert_cmpuint(again->len, ==, disks->len);
    }
    return 0;
}
