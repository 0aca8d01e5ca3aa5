/*
 * test-image.c: what image files are taken for, and whether they are in use
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <config.h>

#include "image-util.h"

#include <sys/wait.h>

#define MiB (1024 * 1024)


static void
assertProbe(Scratch *s, const char *name, const char *format, guint64 capacity, gboolean standalone)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VirImageInfo) info = scratchProbe(s, name, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(info->format, ==, format);
    g_assert_cmpuint(info->capacity, ==, capacity);
    g_assert_cmpint(virImageIsStandalone(info), ==, standalone);
}


static void
assertBacking(Scratch *s, const char *name, const char *file, const char *format)
{
    g_autoptr(VirImageInfo) info = scratchProbe(s, name, NULL);

    g_assert_nonnull(info);
    g_assert_cmpstr(info->backing_file, ==, file);
    g_assert_cmpstr(info->backing_format, ==, format);
    g_assert_false(virImageIsStandalone(info));
}


static void
assertCorrupt(Scratch *s, const char *name, const char *what)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VirImageInfo) info = scratchProbe(s, name, &error);

    if (info)
        g_error("%s: taken for a good %s", what, info->format);
    g_assert_error(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_CORRUPT);
}


/* Overwrites @len bytes of the file at @offset. */
static void
patch(Scratch *s, const char *name, gsize offset, const void *bytes, gsize len)
{
    int fd = openat(s->dirfd, name, O_WRONLY);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pwrite(fd, bytes, len, offset), ==, len);
    close(fd);
}


/* --- formats --- */

static void
testFormats(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *options;    /* of qemu-img create */
        const char *format;
        gboolean standalone;
    } cases[] = {
        { "-f raw", "raw", TRUE },
        { "-f qcow2 -o compat=0.10", "qcow2", TRUE },
        { "-f qcow2 -o compat=1.1", "qcow2", TRUE },
        { "-f qcow2 -o cluster_size=512", "qcow2", TRUE },
        { "-f qcow2 -o cluster_size=2M,extended_l2=on", "qcow2", TRUE },
        { "-f qcow2 -o lazy_refcounts=on,compression_type=zstd", "qcow2", TRUE },
        { "-f qcow2 -o preallocation=metadata", "qcow2", TRUE },
        { "-f qcow2 -o data_file=guest-data", "qcow2", FALSE },
        { "-f qcow2 -o data_file=guest-data,data_file_raw=on", "qcow2", FALSE },
        { "-f qcow", "qcow", TRUE },
        { "-f qed", "qed", TRUE },
        { "-f vmdk", "vmdk", TRUE },
        { "-f vmdk -o subformat=streamOptimized", "vmdk", TRUE },
        { "-f vmdk -o subformat=monolithicFlat", "vmdk", FALSE },
        { "-f vmdk -o subformat=twoGbMaxExtentSparse", "vmdk", FALSE },
        { "-f vpc -o force_size=on", "vpc", TRUE },
        { "-f vpc -o force_size=on,subformat=fixed", "vpc", TRUE },
        { "-f vhdx", "vhdx", TRUE },
        { "-f vhdx -o subformat=fixed", "vhdx", TRUE },
        { "-f vdi", "vdi", TRUE },
        { "-f vdi -o static=on", "vdi", TRUE },
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].options);
        scratchDo(s, "qemu-img create -q %s image 40M", cases[i].options);
        assertProbe(s, "image", cases[i].format, 40 * MiB, cases[i].standalone);
        g_assert_cmpint(unlinkat(s->dirfd, "image", 0), ==, 0);
    }
}


static void
testBackingFiles(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    scratchDo(s, "qemu-img create -q -f raw base 1M");
    scratchDo(s, "qemu-img create -q -f qcow2 -o compat=0.10 -b base -F raw a");
    assertBacking(s, "a", "base", "raw");
    scratchDo(s, "qemu-img create -q -f qcow2 -o compat=1.1 -u -b /etc/shadow -F qcow2 b 1M");
    assertBacking(s, "b", "/etc/shadow", "qcow2");
    scratchDo(s, "qemu-img create -q -f qcow2 -o compat=1.1 -u -b nbd://host/ -F raw c 1M");
    /* an extension of a type that nobody knows */
    patch(s, "c", 112, "unkn", 4);
    assertBacking(s, "c", "nbd://host/", NULL);
    scratchDo(s, "qemu-img create -q -f qed -b base -F raw d");
    assertBacking(s, "d", "base", "raw");
    scratchDo(s, "qemu-img create -q -f qcow -b base -F raw e");
    assertBacking(s, "e", "base", NULL);
    scratchDo(s, "qemu-img create -q -f vmdk parent.vmdk 1M");
    scratchDo(s, "qemu-img create -q -f vmdk -b parent.vmdk -F vmdk f");
    assertBacking(s, "f", "parent.vmdk", NULL);
}


/* Parents that QEMU cannot make: patched into images that it made. */
static void
testParents(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const guint8 name[] = { 0, 'p', 0, '.', 0, 'v', 0, 'h', 0, 'd', 0, 0 };
    static const guint8 parameters[] = { 0x37, 0x67, 0xa1, 0xca };
    g_autoptr(VirImageInfo) info = NULL;
    g_autofree char *vhdx = NULL;
    const guint8 *entry;
    gsize len;

    scratchDo(s, "qemu-img create -q -f vpc -o force_size=on vhd 1M");
    patch(s, "vhd", 60, "\0\0\0\4", 4);
    assertProbe(s, "vhd", "vpc", 1 * MiB, FALSE);
    patch(s, "vhd", 512 + 64, name, sizeof(name));
    assertBacking(s, "vhd", "p.vhd", "vpc");

    scratchDo(s, "qemu-img create -q -f vdi vdi 1M");
    patch(s, "vdi", 0x4c, "\4", 1);
    assertProbe(s, "vdi", "vdi", 1 * MiB, FALSE);
    patch(s, "vdi", 0x4c, "\1", 1);
    assertProbe(s, "vdi", "vdi", 1 * MiB, TRUE);
    patch(s, "vdi", 0x1a8, "\1", 1);
    assertProbe(s, "vdi", "vdi", 1 * MiB, FALSE);

    scratchDo(s, "qemu-img create -q -f vhdx -o log_size=1M vhdx 1M");
    vhdx = scratchRead(s, "vhdx", &len);
    g_assert_nonnull((entry = memmem(vhdx, len, parameters, sizeof(parameters))));
    len = entry[16] + (entry[17] << 8) + (entry[18] << 16);
    len += ((const char *)entry - vhdx) / (64 * 1024) * (64 * 1024);
    patch(s, "vhdx", len + 4, "\2", 1);
    assertProbe(s, "vhdx", "vhdx", 1 * MiB, FALSE);
}


/* VMDK's descriptor can lie where a hasty reader does not look. */
static void
testVmdkDescriptors(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const char parent[] = "parentFileNameHint=\"/etc/shadow\"\n";
    static const char flat[] = "# comment\n\n  version=1\nRW 2048 FLAT \"/etc/shadow\" 0\n";
    static const char flat2[] = "# Disk DescriptorFile\nRW 4096 FLAT \"/etc/shadow\" 0\n";

    scratchWrite(s, "text", flat, strlen(flat));
    assertProbe(s, "text", "vmdk", 1 * MiB, FALSE);
    scratchWrite(s, "text", flat2, strlen(flat2));
    assertProbe(s, "text", "vmdk", 2 * MiB, FALSE);

    scratchDo(s, "qemu-img create -q -f vmdk vmdk 1M");
    patch(s, "vmdk", 512 + 9000, parent, strlen(parent));
    assertBacking(s, "vmdk", "/etc/shadow", NULL);

    /* elsewhere, by the header's word */
    scratchDo(s, "qemu-img create -q -f vmdk vmdk 1M");
    patch(s, "vmdk", 28, "\x40", 1);
    patch(s, "vmdk", 64 * 512, parent, strlen(parent));
    assertBacking(s, "vmdk", "/etc/shadow", NULL);

    /* no capacity: the descriptor's extents count */
    scratchDo(s, "qemu-img create -q -f vmdk vmdk 1M");
    patch(s, "vmdk", 12, "\0\0\0\0\0\0\0\0", 8);
    assertProbe(s, "vmdk", "vmdk", 0, FALSE);

    scratchWrite(s, "cowd", "COWD\1\0\0\0\0\0\0\0\0\x08\0\0", 16);
    assertProbe(s, "cowd", "vmdk", 1 * MiB, FALSE);
}


static void
testRaw(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree guint8 *noise = scratchNoise(70000, 7);

    scratchWrite(s, "empty", "", 0);
    assertProbe(s, "empty", "raw", 0, TRUE);
    scratchWrite(s, "one", "Q", 1);
    assertProbe(s, "one", "raw", 1, TRUE);
    scratchWrite(s, "noise", noise, 70000);
    assertProbe(s, "noise", "raw", 70000, TRUE);
    scratchWrite(s, "luks", "LUKS\xba\xbe\0\1", 8);
    assertProbe(s, "luks", "raw", 8, TRUE);

    /* a guest's last sector that only looks like a VHD's footer */
    memset(noise + 70000 - 512, 0, 512);
    memcpy(noise + 70000 - 512, "conectix", 8);
    noise[70000 - 512 + 63] = 2;
    scratchWrite(s, "noise", noise, 70000);
    assertProbe(s, "noise", "raw", 70000, TRUE);
}


/* --- hostile headers --- */

typedef struct {
    const char *what;
    gsize offset;
    guint width;
    guint64 value;
} Lie;

static void
patchLie(Scratch *s, const char *name, const Lie *lie)
{
    guint64 be = GUINT64_TO_BE(lie->value);

    patch(s, name, lie->offset, (guint8 *)&be + 8 - lie->width, lie->width);
}


static void
testHostileQcow2(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const Lie lies[] = {
        { "version 0", 4, 4, 0 },
        { "version 4", 4, 4, 4 },
        { "backing name within the header", 8, 8, 8 },
        { "backing name behind the first cluster", 8, 8, 65537 },
        { "backing name at the end of the world", 8, 8, G_MAXUINT64 },
        { "backing name that reaches out of the first cluster", 8, 8, 65530 },
        { "backing name of 1024 bytes", 16, 4, 1024 },
        { "backing name of 4 GiB", 16, 4, G_MAXUINT32 },
        { "backing name behind the file's end", 16, 4, 1023 },
        { "clusters of 256 bytes", 20, 4, 8 },
        { "clusters of 4 MiB", 20, 4, 22 },
        { "clusters of 2^32", 20, 4, 32 },
        { "clusters of 2^(2^32)", 20, 4, G_MAXUINT32 },
        { "capacity that the L1 table does not map", 24, 8, G_GUINT64_CONSTANT(1) << 40 },
        { "capacity above 8 EiB", 24, 8, G_MAXUINT64 },
        { "capacity of 8 EiB", 24, 8, G_MAXINT64 },
        { "encryption 3", 32, 4, 3 },
        { "no L1 table", 36, 4, 0 },
        { "L1 table of 32 GiB", 36, 4, G_MAXUINT32 },
        { "L1 table not at a cluster", 40, 8, 196608 + 8 },
        { "L1 table at the end of the world", 40, 8, G_GUINT64_CONSTANT(0xffffffffffff0000) },
        { "no refcount table", 48, 8, 0 },
        { "refcount table not at a cluster", 48, 8, 65536 + 8 },
        { "refcount table at the end of the world", 48, 8, G_GUINT64_CONSTANT(0xffffffffffff0000) },
        { "no refcount table clusters", 56, 4, 0 },
        { "refcount table of 256 TiB", 56, 4, G_MAXUINT32 },
        { "unknown feature", 72, 8, 1 << 5 },
        { "last unknown feature", 72, 8, G_GUINT64_CONSTANT(1) << 63 },
        { "refcounts of 128 bits", 96, 4, 7 },
        { "short header", 100, 4, 103 },
        { "no header", 100, 4, 0 },
        { "header of more than a cluster", 100, 4, 65537 },
        { "backing format of 16 bytes", 116, 4, 16 },
        { "header extension of 4 GiB", 116, 4, G_MAXUINT32 },
        { "NUL in the backing format", 121, 1, 0 },
        { "NUL in the backing name", 140, 1, 0 },
    };
    const VirImageOverlayOptions options = {
        .capacity = 1024 * MiB,
        .backing_file = "base.qcow2",
        .backing_format = "qcow2",
        .mode = 0600,
        .uid = -1,
        .gid = -1,
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_assert_true(virImageOverlayCreate(s->dirfd, "o", &options, NULL));
        if (g_str_equal(lies[i].what, "backing name behind the file's end")) {
            int fd = openat(s->dirfd, "o", O_WRONLY);

            g_assert_cmpint(ftruncate(fd, 200), ==, 0);
            close(fd);
        }
        assertBacking(s, "o", "base.qcow2", "qcow2");
        patchLie(s, "o", &lies[i]);
        assertCorrupt(s, "o", lies[i].what);
        g_assert_cmpint(unlinkat(s->dirfd, "o", 0), ==, 0);
    }

    /* extended L2 entries are for clusters of 16 KiB and more */
    scratchDo(s, "qemu-img create -q -f qcow2 -o cluster_size=8k o 1M");
    patch(s, "o", 79, "\x10", 1);
    assertCorrupt(s, "o", "extended L2 entries with small clusters");
}


/* A magic and then nothing that makes sense, for each format. */
static void
testHostileOthers(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *what;
        const char *create;
        Lie lie;
    } cases[] = {
        { "qcow name of 1024 bytes", "-f qcow -u -b base -F raw", { NULL, 16, 4, 1024 } },
        { "qcow name behind the end", "-f qcow -u -b base -F raw", { NULL, 8, 8, G_MAXINT64 } },
        { "qcow name far behind the end", "-f qcow -u -b base -F raw", { NULL, 8, 8, G_MAXUINT64 } },
        { "QED name of no bytes", "-f qed -u -b base -F raw", { NULL, 60, 4, 0 } },
        { "QED name of 4 GiB", "-f qed -u -b base -F raw", { NULL, 60, 4, G_MAXUINT32 } },
        { "QED name behind the end", "-f qed -u -b base -F raw", { NULL, 56, 4, G_MAXUINT32 } },
        { "VMDK descriptor at the end of the world", "-f vmdk", { NULL, 28, 8, G_MAXUINT64 } },
        { "VMDK capacity of 2^71 bytes", "-f vmdk", { NULL, 12, 8, G_MAXUINT64 } },
        { "VHD of type 9", "-f vpc", { NULL, 60, 4, 9 } },
        { "VHD of type 0", "-f vpc", { NULL, 60, 4, 0 } },
        { "VHD capacity of 2^64", "-f vpc", { NULL, 48, 8, G_MAXUINT64 } },
        { "VHDX without region table", "-f vhdx", { NULL, 192 * 1024, 4, 0 } },
        { "VHDX with 2^32 regions", "-f vhdx", { NULL, 192 * 1024 + 8, 4, G_MAXUINT32 } },
        { "VHDX without regions", "-f vhdx", { NULL, 192 * 1024 + 8, 4, 0 } },
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        scratchDo(s, "qemu-img create -q %s o 1M", cases[i].create);
        patchLie(s, "o", &cases[i].lie);
        assertCorrupt(s, "o", cases[i].what);
        g_assert_cmpint(unlinkat(s->dirfd, "o", 0), ==, 0);
    }
}


/* Cut anywhere in its header, an image is broken, and raw only without its magic. */
static void
testTruncated(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *create;
        gsize magic;
        gsize header;
    } cases[] = {
        { "-f qcow2 -o compat=0.10", 8, 72 },
        { "-f qcow2 -o compat=1.1", 8, 72 },
        { "-f qcow", 8, 48 },
        { "-f qed", 4, 64 },
        { "-f vmdk", 4, 79 },
        { "-f vdi", 0x44, 0x1c8 },
        { "-f vhdx", 8, 192 * 1024 },
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *bytes = NULL;
        gsize len;
        gsize cut;

        scratchDo(s, "qemu-img create -q %s whole 1M", cases[i].create);
        bytes = scratchRead(s, "whole", &len);
        for (cut = 0; cut < cases[i].header; cut += cut < 1024 ? 1 : 1021) {
            scratchWrite(s, "cut", bytes, cut);
            if (cut < cases[i].magic)
                assertProbe(s, "cut", "raw", cut, TRUE);
            else
                assertCorrupt(s, "cut", cases[i].create);
        }
    }
}


static void
testUnreadable(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    g_assert_null(virImageProbe(fds[0], &error));
    g_assert_error(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_FAILED);
    close(fds[0]);
    close(fds[1]);

    g_clear_error(&error);
    g_assert_null(virImageProbe(s->dirfd, &error));
    g_assert_error(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_FAILED);
}


/* --- in use --- */

static gboolean
inUse(Scratch *s, const char *name)
{
    int fd = openat(s->dirfd, name, O_RDONLY | O_CLOEXEC);
    gboolean ret = virImageIsInUse(fd);

    close(fd);
    return ret;
}


static void
testInUseByWriter(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    int fd;

    scratchWrite(s, "file", "12345", 5);
    g_assert_false(inUse(s, "file"));

    fd = openat(s->dirfd, "file", O_RDONLY);
    g_assert_false(inUse(s, "file"));
    close(fd);

    fd = openat(s->dirfd, "file", O_WRONLY);
    g_assert_true(inUse(s, "file"));
    close(fd);
    g_assert_false(inUse(s, "file"));
}


/* Of a file that is nobody's lease to have, QEMU's locks alone tell: locks as
 * QEMU takes them, on descriptors that cannot write, which no lease minds. */
static void
testInUseByLock(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        off_t byte;
        gboolean in_use;
    } cases[] = {
        { 100, FALSE },         /* reads consistently */
        { 101, TRUE },          /* writes */
        { 102, FALSE },         /* writes what is there already */
        { 103, TRUE },          /* resizes */
        { 201, FALSE },         /* does not want others to write */
    };
    gsize i;

    scratchWrite(s, "file", "12345", 5);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct flock lock = { .l_type = F_RDLCK, .l_start = cases[i].byte, .l_len = 1 };
        int fd = openat(s->dirfd, "file", O_RDONLY | O_CLOEXEC);

        g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
        g_assert_cmpint(inUse(s, "file"), ==, cases[i].in_use);
        close(fd);
    }
}


/* A real QEMU tool that keeps the image open until its stdin ends. */
static void
testInUseByQemu(Scratch *s, gconstpointer data)
{
    gboolean read_only = GPOINTER_TO_INT(data);
    const char *const argv_ro[] = { "qemu-io", "-f", "qcow2", "-r", "image", NULL };
    const char *const argv_rw[] = { "qemu-io", "-f", "qcow2", "image", NULL };
    g_autoptr(GError) error = NULL;
    char prompt[16] = "";
    GPid pid;
    int in;
    int out;
    int status;

    scratchDo(s, "qemu-img create -q -f qcow2 image 1M");
    g_spawn_async_with_pipes(s->dir, (char **)(read_only ? argv_ro : argv_rw), NULL,
                             G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                             NULL, NULL, &pid, &in, &out, NULL, &error);
    g_assert_no_error(error);
    /* the prompt: it has opened the image */
    g_assert_cmpint(read(out, prompt, sizeof(prompt) - 1), >, 0);
    g_assert_cmpint(inUse(s, "image"), ==, !read_only);

    close(in);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    close(out);
    g_assert_false(inUse(s, "image"));
}


#define TEST(name, data, func) \
    g_test_add("/image/" name, Scratch, data, scratchSetUp, func, scratchTearDown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("formats", NULL, testFormats);
    TEST("backing-files", NULL, testBackingFiles);
    TEST("parents", NULL, testParents);
    TEST("vmdk-descriptors", NULL, testVmdkDescriptors);
    TEST("raw", NULL, testRaw);
    TEST("hostile-qcow2", NULL, testHostileQcow2);
    TEST("hostile-others", NULL, testHostileOthers);
    TEST("truncated", NULL, testTruncated);
    TEST("unreadable", NULL, testUnreadable);
    TEST("in-use-by-writer", NULL, testInUseByWriter);
    TEST("in-use-by-lock", NULL, testInUseByLock);
    TEST("in-use-by-qemu", GINT_TO_POINTER(FALSE), testInUseByQemu);
    TEST("not-in-use-by-reading-qemu", GINT_TO_POINTER(TRUE), testInUseByQemu);
    return g_test_run();
}
