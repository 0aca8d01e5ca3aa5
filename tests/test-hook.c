/*
 * test-hook.c: domain XML, backing chains and settings, as the hook sees them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include "hook_chain.h"
#include "hook_check.h"
#include "hook_domain.h"
#include "image-util.h"

#define DOMAIN(devices) "<domain type='kvm'><name>g</name><devices>" devices "</devices></domain>"


static GPtrArray *
disksOf(const char *xml)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *disks = virHookDomainDisks(xml, strlen(xml), &error);

    g_assert_no_error(error);
    return disks;
}


static void
assertNoDomain(const char *xml, gsize len)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(virHookDomainDisks(xml, len, &error));
    g_assert_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_DOMAIN);
}


static void
testDisks(void)
{
    g_autoptr(GPtrArray) disks = disksOf(DOMAIN(
        "<emulator>/usr/bin/qemu</emulator>"
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "  <source file='/p/a.qcow2' index='2'/>"
        "  <backingStore type='file'><format type='raw'/><source file='/p/base'/></backingStore>"
        "  <target dev='vda' bus='virtio'/></disk>"
        "<disk type='network' device='disk'><source protocol='nbd' name='x'/></disk>"
        "<disk type='volume'><driver type='qcow2'/><source pool='masters' volume='b.qcow2'/>"
        "  <target dev='vdb'/><readonly/></disk>"
        "<disk type='file' device='cdrom'><target dev='sda'/></disk>"
        "<disk type='file' device='cdrom'><source file='/iso' startupPolicy='optional'/></disk>"
        "<disk type='file'><source file='/a&amp;b &#228;'/><transient/></disk>"
        "<interface type='network'/>"));
    const VirHookDisk *d;

    g_assert_cmpuint(disks->len, ==, 4);

    d = disks->pdata[0];
    g_assert_cmpstr(d->path, ==, "/p/a.qcow2");
    g_assert_null(d->pool);
    g_assert_cmpstr(d->format, ==, "qcow2");
    g_assert_cmpstr(d->target, ==, "vda");
    g_assert_true(d->writable);
    g_assert_false(d->optional);

    d = disks->pdata[1];
    g_assert_null(d->path);
    g_assert_cmpstr(d->pool, ==, "masters");
    g_assert_cmpstr(d->volume, ==, "b.qcow2");
    g_assert_cmpstr(d->target, ==, "vdb");
    g_assert_false(d->writable);

    d = disks->pdata[2];
    g_assert_cmpstr(d->path, ==, "/iso");
    g_assert_cmpstr(d->format, ==, "raw");
    g_assert_cmpstr(d->target, ==, "?");
    g_assert_false(d->writable);
    g_assert_true(d->optional);

    d = disks->pdata[3];
    g_assert_cmpstr(d->path, ==, "/a&b ä");
    g_assert_false(d->writable);
}


/* Where the master is told: the metadata's word is the last one. */
static void
testMigrationDisks(void)
{
    g_autoptr(GPtrArray) disks = disksOf(
        "<domain type='kvm'><metadata><x:y xmlns:x='urn:x'/>"
        "<torrent:guest xmlns:torrent='" VIR_HOOK_NAMESPACE "'>"
        "  <torrent:disk target='vda' master='m.qcow2' magnet='magnet:?xt=1&amp;dn=2' capacity='1048576'/>"
        "  <torrent:disk target='vdb' capacity='-1'/><torrent:other target='vdb' master='no'/></torrent:guest></metadata>"
        "<devices>"
        "<disk type='file'><source file='/p/a'/><target dev='vda'/>"
        "  <backingStore type='file'><format type='raw'/><source file='/p/base'/></backingStore></disk>"
        "<disk type='file'><source file='/p/b'/><target dev='vdb'/>"
        "  <backingStore type='file'><format type='raw'/><source file='/p/base'/></backingStore></disk>"
        "<disk type='file'><source file='/p/c'/><backingStore/><target dev='vdc'/></disk>"
        "</devices></domain>");
    const VirHookDisk *d = disks->pdata[0];

    g_assert_cmpstr(d->master, ==, "m.qcow2");
    g_assert_cmpstr(d->master_format, ==, "qcow2");
    g_assert_cmpstr(d->magnet, ==, "magnet:?xt=1&dn=2");
    g_assert_cmpuint(d->capacity, ==, 1048576);

    d = disks->pdata[1];
    g_assert_cmpstr(d->master, ==, "/p/base");
    g_assert_cmpstr(d->master_format, ==, "raw");
    g_assert_cmpuint(d->capacity, ==, 0);

    d = disks->pdata[2];
    g_assert_null(d->master);
}


/* What the hook of the source tells is read where the guest comes to, and gone
 * behind it. */
static void
testDepartArrive(void)
{
    static const char xml[] =
        "<domain type='kvm'><metadata><x:y xmlns:x='urn:x'/>"
        "<torrent:guest xmlns:torrent='" VIR_HOOK_NAMESPACE "'>"
        "  <torrent:disk target='vdb' master='mine'/></torrent:guest>"
        "<m:migration xmlns:m='" VIR_HOOK_NAMESPACE_MIGRATION "'><m:disk target='vdc' master='stale'/></m:migration>"
        "</metadata><devices>"
        "<disk type='file'><source file='/p/a'/><target dev='vda'/></disk>"
        "<disk type='volume'><source pool='p' volume='b'/><target dev='vdb'/></disk>"
        "<disk type='file'><source file='/p/c'/><target dev='vdc'/></disk></devices></domain>";
    g_autoptr(GPtrArray) disks = disksOf(xml);
    g_autoptr(GPtrArray) told = NULL;
    g_autoptr(GPtrArray) left = NULL;
    g_autofree char *departing = NULL;
    g_autofree char *arriving = NULL;
    g_autofree char *again = NULL;
    VirHookDisk *d = disks->pdata[0];

    d->master = g_strdup("<m> & ä");
    d->master_format = g_strdup("raw");
    d->magnet = g_strdup("magnet:?xt=1&dn='2'");
    d->capacity = 1048576;
    d = disks->pdata[1];
    g_free(d->master);
    d->master = g_strdup("/q/theirs");
    d->capacity = 2097152;
    g_clear_pointer(&((VirHookDisk *)disks->pdata[2])->master, g_free);
    departing = virHookDomainDepart(xml, strlen(xml), disks, NULL);
    g_assert_nonnull(departing);

    told = disksOf(departing);
    d = told->pdata[0];
    g_assert_cmpstr(d->master, ==, "<m> & ä");
    g_assert_cmpstr(d->master_format, ==, "raw");
    g_assert_cmpstr(d->magnet, ==, "magnet:?xt=1&dn='2'");
    g_assert_cmpuint(d->capacity, ==, 1048576);
    d = told->pdata[1];
    g_assert_cmpstr(d->master, ==, "mine");
    g_assert_cmpuint(d->capacity, ==, 2097152);
    d = told->pdata[2];
    g_assert_null(d->master);

    g_assert_true(virHookDomainArrive(departing, strlen(departing), told, &arriving, NULL));
    g_assert_null(strstr(arriving, VIR_HOOK_NAMESPACE_MIGRATION));
    g_assert_nonnull(strstr(arriving, "urn:x"));
    left = disksOf(arriving);
    g_assert_null(((VirHookDisk *)left->pdata[0])->master);
    g_assert_cmpstr(((VirHookDisk *)left->pdata[1])->master, ==, "mine");
    g_assert_true(virHookDomainArrive(arriving, strlen(arriving), left, &again, NULL));
    g_assert_null(again);
}


static void
testNoDisks(void)
{
    static const char *const xmls[] = {
        "<domain/>",
        "<domain><devices/></domain>",
        DOMAIN("<disk/>"),
        DOMAIN("<disk type='file'/>"),
        DOMAIN("<disk type='file'><source/></disk>"),
        DOMAIN("<disk type='volume'><source pool='p'/></disk>"),
        DOMAIN("<disk type='volume'><source volume='v'/></disk>"),
        DOMAIN("<disk type='block'><source dev='/dev/x'/></disk>"),
        DOMAIN("<other><disk type='file'><source file='/x'/></disk></other>"),
        /* not libvirt's elements */
        "<domain xmlns:x='urn:x'><x:devices><disk type='file'><source file='/x'/></disk></x:devices></domain>",
        DOMAIN("<disk type='file' xmlns='urn:x'><source file='/x'/></disk>"),
        "<domain><metadata><devices><disk type='file'><source file='/x'/></disk></devices></metadata></domain>",
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(xmls); i++) {
        g_autoptr(GPtrArray) disks = disksOf(xmls[i]);

        g_assert_cmpuint(disks->len, ==, 0);
    }
}


static void
testHostileXml(void)
{
    static const char *const xmls[] = {
        "",
        " ",
        "no xml",
        "<domain>",
        "<domain><devices></domain>",
        "<pool type='dir'/>",
        "<domain xmlns='urn:x'/>",
        "<domain/><domain/>",
        "<domain a='\xff'/>",
        "<domain>&unknown;</domain>",
        "<!DOCTYPE domain><domain/>",
        "<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain/>",
        "<!DOCTYPE domain [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>"
        "<domain><devices><disk type='file'><source file='&f;'/></disk></devices></domain>",
        "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>"
        "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY e '&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;'>]>"
        "<domain>&e;</domain>",
    };
    g_autofree char *deep = NULL;
    g_autofree char *large = NULL;
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(xmls); i++)
        assertNoDomain(xmls[i], strlen(xmls[i]));

    /* cut short in the middle of what would be good; a NUL within */
    assertNoDomain(DOMAIN("<disk/>"), 30);
    assertNoDomain("<domain>\0</domain>", 18);

    deep = g_strnfill(8 * 100000, ' ');
    for (i = 0; i < 100000; i++)
        memcpy(deep + 8 * i, "<domain>", 8);
    assertNoDomain(deep, 8 * 100000);

    large = g_strnfill(VIR_HOOK_DOMAIN_MAX + 1, ' ');
    memcpy(large, "<domain/>", 9);
    assertNoDomain(large, VIR_HOOK_DOMAIN_MAX + 1);
    g_ptr_array_unref(virHookDomainDisks(large, VIR_HOOK_DOMAIN_MAX, NULL));
}


/* --- chains --- */

static void
poolSetUp(Scratch *s, gconstpointer data)
{
    scratchSetUp(s, data);
    g_assert_cmpint(mkdirat(s->dirfd, "pool", 0755), ==, 0);
    g_assert_cmpint(mkdirat(s->dirfd, "pool/.torrentpool", 0755), ==, 0);
    g_assert_cmpint(mkdirat(s->dirfd, "plain", 0755), ==, 0);
}


/* A VHD whose clone has @name; both in the same directory. */
static void
vhdClone(Scratch *s, const char *name, const char *parent)
{
    VirImageOverlayOptions options = {
        .format = VIR_IMAGE_OVERLAY_VHD,
        .capacity = 1024 * 1024,
        .backing_format = "vpc",
        .mode = 0600,
        .uid = -1,
        .gid = -1,
    };
    g_autofree char *dir = g_path_get_dirname(name);
    g_autofree char *base = g_path_get_basename(name);
    g_autofree char *parent_base = g_path_get_basename(parent);
    int dirfd = openat(s->dirfd, dir, O_RDONLY | O_DIRECTORY);

    scratchDo(s, "qemu-img create -q -f vpc -o force_size=on %s 1M", parent);
    options.backing_file = parent_base;
    options.backing_fd = openat(s->dirfd, parent, O_RDONLY);
    g_assert_true(virImageOverlayCreate(dirfd, base, &options, NULL));
    close(options.backing_fd);
    close(dirfd);
}


static void
overlay(Scratch *s, const char *name, const char *backing, const char *format)
{
    VirImageOverlayOptions options = {
        .capacity = 1024 * 1024,
        .backing_file = backing,
        .backing_format = format,
        .mode = 0600,
        .uid = -1,
        .gid = -1,
    };
    g_autofree char *dir = g_path_get_dirname(name);
    g_autofree char *base = g_path_get_basename(name);
    int dirfd = openat(s->dirfd, dir, O_RDONLY | O_DIRECTORY);

    g_assert_true(virImageOverlayCreate(dirfd, base, &options, NULL));
    close(dirfd);
}


/* Expects @missed (NULL: nothing) under @name, with @above standing on it. */
static void
assertMissing(Scratch *s, const char *name, const char *format, const char *missed, const char *above)
{
    g_autofree char *path = g_build_filename(s->dir, name, NULL);
    g_autofree char *missed_path = missed ? g_build_filename(s->dir, missed, NULL) : NULL;
    g_autofree char *above_path = above ? g_build_filename(s->dir, above, NULL) : NULL;
    g_autoptr(VirHookMissing) missing = NULL;
    g_autoptr(GError) error = NULL;

    virHookChainWalk(path, format, &missing, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(missing ? missing->path : NULL, ==, missed_path);
    g_assert_cmpstr(missing ? missing->above : NULL, ==, above_path);
}


static void
testChainComplete(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    scratchWrite(s, "pool/raw", "guest", 5);
    overlay(s, "pool/master", "raw", "raw");
    overlay(s, "plain/clone", "../pool/master", "qcow2");
    assertMissing(s, "plain/clone", "qcow2", NULL, NULL);
    assertMissing(s, "pool/raw", "raw", NULL, NULL);
}


static void
testChainMissing(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *absolute = g_build_filename(s->dir, "pool/coming", NULL);
    g_autofree char *url = g_strconcat("file:", absolute, NULL);

    assertMissing(s, "pool/coming", "qcow2", "pool/coming", NULL);
    overlay(s, "pool/clone", "coming", "qcow2");
    assertMissing(s, "pool/clone", "qcow2", "pool/coming", "pool/clone");
    overlay(s, "plain/abs", absolute, "qcow2");
    assertMissing(s, "plain/abs", "qcow2", "pool/coming", "plain/abs");
    overlay(s, "plain/url", url, "qcow2");
    assertMissing(s, "plain/url", "qcow2", "pool/coming", "plain/url");
    overlay(s, "plain/top", "abs", "qcow2");
    assertMissing(s, "plain/top", "qcow2", "pool/coming", "plain/abs");
}


/* What is not ours to wait for. */
static void
testChainElsewhere(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    assertMissing(s, "plain/none", "qcow2", NULL, NULL);
    assertMissing(s, "nowhere/none", "qcow2", NULL, NULL);
    overlay(s, "plain/a", "none", "qcow2");
    assertMissing(s, "plain/a", "qcow2", NULL, NULL);
    overlay(s, "pool/b", "nbd://host/export", "raw");
    assertMissing(s, "pool/b", "qcow2", NULL, NULL);
    overlay(s, "pool/c", "json:{\"file.filename\":\"x\"}", "raw");
    assertMissing(s, "pool/c", "qcow2", NULL, NULL);

    /* the guest's own bytes, whatever they look like */
    overlay(s, "pool/d", "coming", "qcow2");
    assertMissing(s, "pool/d", "raw", NULL, NULL);
    overlay(s, "pool/e", "d", "raw");
    assertMissing(s, "pool/e", "qcow2", NULL, NULL);

    /* a file that cannot be waited for, and one that must not be opened */
    assertMissing(s, "pool", "qcow2", NULL, NULL);
    g_assert_cmpint(mkfifoat(s->dirfd, "pool/fifo", 0600), ==, 0);
    assertMissing(s, "pool/fifo", "qcow2", NULL, NULL);
}


static void
assertRefused(Scratch *s, const char *name, const char *format)
{
    g_autofree char *path = g_build_filename(s->dir, name, NULL);
    g_autoptr(VirHookMissing) missing = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_false(virHookChainWalk(path, format, &missing, &error));
    g_assert_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_REFUSED);
}


/* Read as what it is, it has zeros where its parent has data. */
static void
testChainVhd(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    vhdClone(s, "pool/clone.vhd", "pool/master.vhd");
    assertRefused(s, "pool/clone.vhd", "vpc");
    assertRefused(s, "pool/clone.vhd", "vhd");
    overlay(s, "plain/top", "../pool/clone.vhd", "vpc");
    assertRefused(s, "plain/top", "qcow2");

    assertMissing(s, "pool/master.vhd", "vpc", NULL, NULL);
    assertMissing(s, "pool/clone.vhd", "raw", NULL, NULL);
    vhdClone(s, "plain/clone.vhd", "plain/master.vhd");
    assertMissing(s, "plain/clone.vhd", "vpc", NULL, NULL);
}


static void
testChainCircle(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    overlay(s, "pool/self", "self", "qcow2");
    assertRefused(s, "pool/self", "qcow2");
    overlay(s, "pool/a", "b", "qcow2");
    overlay(s, "pool/b", "c", "qcow2");
    overlay(s, "pool/c", "./b", "qcow2");
    assertRefused(s, "pool/a", "qcow2");
}


static void
testChainDepth(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    guint i;

    /* the last of them is the 200th image */
    for (i = 1; i < VIR_HOOK_CHAIN_MAX; i++) {
        g_autofree char *name = g_strdup_printf("pool/%u", i);
        g_autofree char *backing = g_strdup_printf("%u", i - 1);

        overlay(s, name, backing, i == 1 ? "raw" : "qcow2");
    }
    scratchWrite(s, "pool/0", "guest", 5);
    assertMissing(s, "pool/199", "qcow2", NULL, NULL);
    overlay(s, "pool/200", "199", "qcow2");
    assertRefused(s, "pool/200", "qcow2");
}


static void
testMasters(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *name;
        mode_t mode;
        gboolean master;
    } cases[] = {
        { "pool/master", 0444, TRUE },
        { "pool/secret", 0400, TRUE },
        { "pool/private", 0644, FALSE },
        { "pool/group", 0464, FALSE },
        { "plain/frozen", 0444, FALSE },
    };
    g_autofree char *link = g_build_filename(s->dir, "plain/link", NULL);
    g_autofree char *pool = g_build_filename(s->dir, "pool", NULL);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_build_filename(s->dir, cases[i].name, NULL);

        scratchWrite(s, cases[i].name, "x", 1);
        g_assert_cmpint(fchmodat(s->dirfd, cases[i].name, cases[i].mode, 0), ==, 0);
        g_assert_cmpint(virHookPathIsMaster(path), ==, cases[i].master);
    }

    g_assert_cmpint(symlinkat("../pool/master", s->dirfd, "plain/link"), ==, 0);
    g_assert_true(virHookPathIsMaster(link));
    g_assert_false(virHookPathIsMaster(pool));

    /* one that somebody else made, where all may write, makes no pool */
    if (geteuid() == 0) {
        g_assert_cmpint(fchownat(s->dirfd, "pool/.torrentpool", 12345, -1, 0), ==, 0);
        g_assert_false(virHookPathIsMaster(link));
        g_assert_cmpint(fchownat(s->dirfd, "pool/.torrentpool", 0, -1, 0), ==, 0);
        g_assert_true(virHookPathIsMaster(link));
    }

    /* a pool's private directory is a directory */
    g_assert_cmpint(symlinkat("/tmp", s->dirfd, "plain/.torrentpool"), ==, 0);
    g_free(link);
    link = g_build_filename(s->dir, "plain/frozen", NULL);
    g_assert_false(virHookPathIsMaster(link));
}


/* --- settings --- */

static void
testTimeout(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *text;
        int timeout;
    } cases[] = {
        { "", VIR_HOOK_TIMEOUT_DEFAULT },
        { "[virttorrentd]\ntimeout = 5\n", VIR_HOOK_TIMEOUT_DEFAULT },
        { "[hook]\n#timeout = 5\n", VIR_HOOK_TIMEOUT_DEFAULT },
        { "[hook]\ntimeout = 5\n", 5 },
        { "[hook]\ntimeout=0\n", 0 },
        { "[hook]\ntimeout = 86400 \n", 86400 },
        { "[hook]\ntimeout = 86401\n", -1 },
        { "[hook]\ntimeout = -1\n", -1 },
        { "[hook]\ntimeout = 5 minutes\n", -1 },
        { "[hook]\ntimeout =\n", -1 },
        { "hook timeout 5\n", -1 },
    };
    g_autofree char *path = g_build_filename(s->dir, "conf", NULL);
    gsize i;

    g_assert_cmpint(virHookTimeout(path, NULL), ==, VIR_HOOK_TIMEOUT_DEFAULT);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        scratchWrite(s, "conf", cases[i].text, strlen(cases[i].text));
        g_assert_cmpint(virHookTimeout(path, &error), ==, cases[i].timeout);
        g_assert_cmpint(!!error, ==, cases[i].timeout < 0);
        if (error)
            g_assert_nonnull(strstr(error->message, path));
    }
}


static void
testDamagedOption(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *text;
        int start;
    } cases[] = {
        { "", FALSE },
        { "[hook]\n#damaged = start\n", FALSE },
        { "[hook]\ndamaged = wait\n", FALSE },
        { "[hook]\ndamaged = start \n", TRUE },
        { "[hook]\ndamaged = yes\n", -1 },
    };
    g_autofree char *path = g_build_filename(s->dir, "conf", NULL);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        scratchWrite(s, "conf", cases[i].text, strlen(cases[i].text));
        g_assert_cmpint(virHookDamagedMayStart(path, &error), ==, cases[i].start);
        g_assert_cmpint(!!error, ==, cases[i].start < 0);
    }
}


/* Code, sample file and manual page say the same default. */
static void
testDefaultIsTold(void)
{
    static const char *const files[] = {
        SRCDIR "/../src/torrentd/virttorrentd.conf",
        SRCDIR "/../docs/virt-torrentpool-hook.rst",
    };
    g_autofree char *line = g_strdup_printf("timeout = %d\n", VIR_HOOK_TIMEOUT_DEFAULT);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *text = NULL;
        const char *group;

        g_assert_true(g_file_get_contents(files[i], &text, NULL, NULL));
        g_assert_nonnull((group = strstr(text, "[" VIR_HOOK_CONFIG_GROUP "]\n")));
        g_assert_nonnull(strstr(group, line));
        g_assert_nonnull(strstr(group, VIR_HOOK_CONFIG_DAMAGED " = " VIR_HOOK_DAMAGED_DEFAULT "\n"));
    }
}


#define TEST(name, func) \
    g_test_add("/hook/" name, Scratch, NULL, poolSetUp, func, scratchTearDown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hook/disks", testDisks);
    g_test_add_func("/hook/migration-disks", testMigrationDisks);
    g_test_add_func("/hook/depart-arrive", testDepartArrive);
    g_test_add_func("/hook/no-disks", testNoDisks);
    g_test_add_func("/hook/hostile-xml", testHostileXml);
    TEST("chain-complete", testChainComplete);
    TEST("chain-missing", testChainMissing);
    TEST("chain-elsewhere", testChainElsewhere);
    TEST("chain-vhd", testChainVhd);
    TEST("chain-circle", testChainCircle);
    TEST("chain-depth", testChainDepth);
    TEST("masters", testMasters);
    TEST("timeout", testTimeout);
    TEST("damaged-option", testDamagedOption);
    g_test_add_func("/hook/default-is-told", testDefaultIsTold);
    return g_test_run();
}
