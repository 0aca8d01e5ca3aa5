/*
 * test-image-overlay.c: overlays, with qemu-img and libvhdi as the judges
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * openat(), linkat(), fsync() and sync_file_range() are wrapped at link time, so that file systems
 * without O_TMPFILE or hard links, and disks that fail, can be had anywhere.
 */

#include <config.h>

#include "image-util.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define KiB G_GUINT64_CONSTANT(1024)
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)
#define TiB (1024 * GiB)

/* --- faults --- */

static struct {
    gboolean no_tmpfile;
    gboolean no_link;
    int fsync_fails_at;         /* nth call from now; 0: never */
    int range_errno;            /* of sync_file_range(); 0: as it is */
    guint ranges;               /* how often it was called then */
    guint hits;                 /* proves that the fault was there */
} faults;

int __real_openat(int dirfd, const char *path, int flags, mode_t mode);
int __wrap_openat(int dirfd, const char *path, int flags, ...);
int __real_linkat(int fd1, const char *path1, int fd2, const char *path2, int flags);
int __wrap_linkat(int fd1, const char *path1, int fd2, const char *path2, int flags);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_sync_file_range(int fd, off64_t offset, off64_t count, unsigned int flags);
int __wrap_sync_file_range(int fd, off64_t offset, off64_t count, unsigned int flags);

int
__wrap_openat(int dirfd, const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list ap;

    if (flags & (O_CREAT | O_TMPFILE)) {
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if (faults.no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
        faults.hits++;
        errno = EOPNOTSUPP;
        return -1;
    }
    return __real_openat(dirfd, path, flags, mode);
}


int
__wrap_linkat(int fd1, const char *path1, int fd2, const char *path2, int flags)
{
    if (faults.no_link) {
        faults.hits++;
        errno = EPERM;
        return -1;
    }
    return __real_linkat(fd1, path1, fd2, path2, flags);
}


int
__wrap_fsync(int fd)
{
    if (faults.fsync_fails_at && --faults.fsync_fails_at == 0) {
        faults.hits++;
        errno = EIO;
        return -1;
    }
    return __real_fsync(fd);
}


int
__wrap_sync_file_range(int fd, off64_t offset, off64_t count, unsigned int flags)
{
    if (faults.range_errno) {
        faults.ranges++;
        errno = faults.range_errno;
        return -1;
    }
    return __real_sync_file_range(fd, offset, count, flags);
}


/* --- helpers --- */

static const VirImageOverlayOptions plain = {
    .capacity = 1 * GiB,
    .backing_file = "base.qcow2",
    .backing_format = "qcow2",
    .mode = 0600,
    .uid = -1,
    .gid = -1,
};


static void
overlayMake(Scratch *s, const char *name, const VirImageOverlayOptions *options)
{
    g_autoptr(GError) error = NULL;

    virImageOverlayCreate(s->dirfd, name, options, &error);
    g_assert_no_error(error);
}


static void
overlayFails(Scratch *s, const char *name, const VirImageOverlayOptions *options, int code)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(virImageOverlayCreate(s->dirfd, name, options, &error));
    g_assert_error(error, VIR_IMAGE_ERROR, code);
}


/* How many names there are in the directory, hidden ones included. */
static guint
scratchCount(Scratch *s)
{
    g_autoptr(GDir) dir = g_dir_open(s->dir, 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}


static void
assertMem(const char *bytes, gsize offset, const void *expected, gsize len)
{
    g_assert_cmpmem(bytes + offset, len, expected, len);
}


/* --- tests --- */

/* What a clone is by default, written down by hand from the specification. */
static void
testFixedBytes(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const guint8 header[] = {
        'Q', 'F', 'I', 0xfb, 0, 0, 0, 3,
        0, 0, 0, 0, 0, 0, 0, 0x88,      /* backing_file_offset */
        0, 0, 0, 10, 0, 0, 0, 17,       /* its length; cluster_bits */
        0, 0, 0, 0, 0x40, 0, 0, 0,      /* size: 1 GiB */
        0, 0, 0, 0, 0, 0, 0, 1,         /* no encryption; l1_size */
        0, 0, 0, 0, 0, 6, 0, 0,         /* l1_table_offset */
        0, 0, 0, 0, 0, 2, 0, 0,         /* refcount_table_offset */
        0, 0, 0, 1, 0, 0, 0, 0,         /* refcount_table_clusters; nb_snapshots */
        0, 0, 0, 0, 0, 0, 0, 0,         /* snapshots_offset */
        0, 0, 0, 0, 0, 0, 0, 0x10,      /* incompatible_features: extended L2 entries */
        0, 0, 0, 0, 0, 0, 0, 0,         /* compatible_features */
        0, 0, 0, 0, 0, 0, 0, 0,         /* autoclear_features */
        0, 0, 0, 4, 0, 0, 0, 112,       /* refcount_order, header_length */
        0, 0, 0, 0, 0, 0, 0, 0,         /* compression_type */
        0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 5,
        'q', 'c', 'o', 'w', '2', 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,         /* end of extensions */
        'b', 'a', 's', 'e', '.', 'q', 'c', 'o', 'w', '2', 0,
    };
    static const guint8 table[] = { 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
    static const guint8 counts[] = { 0, 1, 0, 1, 0, 1, 0, 1, 0, 0 };
    g_autofree char *bytes = NULL;
    gsize len;
    gsize i;

    overlayMake(s, "o", &plain);
    bytes = scratchRead(s, "o", &len);
    g_assert_cmpuint(len, ==, 4 * 131072);
    assertMem(bytes, 0, header, sizeof(header));
    assertMem(bytes, 131072, table, sizeof(table));
    assertMem(bytes, 2 * 131072, counts, sizeof(counts));
    for (i = 2 * 131072 + sizeof(counts); i < len; i++)
        g_assert_cmpint(bytes[i], ==, 0);
}


static void
judge(Scratch *s, const VirImageOverlayOptions *options)
{
    g_autofree char *size = g_strdup_printf("\"virtual-size\": %" G_GUINT64_FORMAT ",",
                                            (options->capacity + 511) / 512 * 512);
    g_autofree char *info = NULL;
    g_autoptr(VirImageInfo) own = NULL;
    gboolean extended_l2 = options->extended_l2 == VIR_IMAGE_EXTENDED_L2_DEFAULT ?
        options->cluster_bits == 0 : options->extended_l2 == VIR_IMAGE_EXTENDED_L2_ON;
    struct stat sb;

    overlayMake(s, "o", options);
    scratchDo(s, "qemu-img check -q -f qcow2 o");
    info = scratchRun(s, "qemu-img info --backing-chain --output=json o");
    g_assert_nonnull(strstr(info, size));
    g_assert_nonnull(strstr(info, "\"backing-filename-format\": \"raw\""));
    g_assert_nonnull(strstr(info, "\"full-backing-filename\": \"base.raw\""));
    g_assert_nonnull(strstr(info, extended_l2 ? "\"extended-l2\": true" : "\"extended-l2\": false"));

    g_assert_nonnull((own = scratchProbe(s, "o", NULL)));
    g_assert_cmpstr(own->format, ==, "qcow2");
    g_assert_cmpuint(own->capacity, ==, (options->capacity + 511) / 512 * 512);
    g_assert_cmpstr(own->backing_file, ==, "base.raw");
    g_assert_cmpstr(own->backing_format, ==, "raw");
    g_assert_cmpuint(own->cluster_bits, ==, options->cluster_bits ? options->cluster_bits : extended_l2 ? 17 : 16);
    g_assert_false(own->external);

    g_assert_cmpint(fstatat(s->dirfd, "o", &sb, 0), ==, 0);
    g_assert_cmpuint(sb.st_blocks * 512, <=, 256 * 1024);
    g_assert_cmpint(unlinkat(s->dirfd, "o", 0), ==, 0);
}


static void
testCapacities(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const guint64 capacities[] = {
        512, 513, 1024, 65535, 65536, 65537, 1 * MiB, 512 * MiB - 512, 512 * MiB, 512 * MiB + 1,
        10 * GiB, 1 * TiB - 512, 1 * TiB, 16 * TiB + 512, 64 * TiB,
    };
    VirImageOverlayOptions options = plain;
    gsize i;

    scratchDo(s, "qemu-img create -q -f raw base.raw 512");
    options.backing_file = "base.raw";
    options.backing_format = "raw";
    for (i = 0; i < G_N_ELEMENTS(capacities); i++) {
        options.capacity = capacities[i];
        options.cluster_bits = 0;
        options.extended_l2 = VIR_IMAGE_EXTENDED_L2_DEFAULT;
        judge(s, &options);
        options.extended_l2 = VIR_IMAGE_EXTENDED_L2_OFF;
        judge(s, &options);
        options.extended_l2 = VIR_IMAGE_EXTENDED_L2_DEFAULT;
        options.cluster_bits = 16;
        judge(s, &options);
        options.extended_l2 = VIR_IMAGE_EXTENDED_L2_ON;
        judge(s, &options);
    }
}


/* Each cluster size up to the largest capacity that its L1 table can map: the
 * small ones take several refcount blocks and several clusters of their table. */
static void
testClusterSizes(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    VirImageOverlayOptions options = plain;
    guint bits;

    scratchDo(s, "qemu-img create -q -f raw base.raw 512");
    options.backing_file = "base.raw";
    options.backing_format = "raw";
    for (bits = 9; bits <= 21; bits++) {
        guint64 largest = (G_GUINT64_CONSTANT(4) * MiB) << (bits + bits - 3);

        options.cluster_bits = bits;
        options.capacity = MIN(largest, 64 * TiB);
        judge(s, &options);
        if (largest < 64 * TiB) {
            options.capacity = largest + 1;
            overlayFails(s, "o", &options, VIR_IMAGE_ERROR_INVALID);
        }
    }
}


/* base <- middle (written to) <- top: what QEMU reads is what was there. */
static void
chain(Scratch *s, VirImageExtendedL2 extended_l2)
{
    gsize len = 3 * MiB;
    g_autofree guint8 *noise = scratchNoise(len, 1);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    g_autofree char *flat = NULL;
    gsize base_len;
    gsize flat_len;
    VirImageOverlayOptions options = plain;

    scratchWrite(s, "noise", noise, len);
    scratchDo(s, "qemu-img convert -f raw -O qcow2 noise base.qcow2");
    before = scratchRead(s, "base.qcow2", &base_len);

    options.capacity = 5 * MiB;
    options.extended_l2 = extended_l2;
    overlayMake(s, "middle", &options);
    scratchDo(s, "qemu-io -f qcow2 -c 'write -P 90 1000 70000' -c 'write -P 91 4M 4k' middle");
    memset(noise + 1000, 90, 70000);

    options.backing_file = "middle";
    overlayMake(s, "top", &options);
    scratchDo(s, "qemu-img check -q top");
    scratchDo(s, "qemu-img check -q middle");
    scratchDo(s, "qemu-img convert -f qcow2 -O raw top flat");
    flat = scratchRead(s, "flat", &flat_len);
    g_assert_cmpuint(flat_len, ==, 5 * MiB);
    assertMem(flat, 0, noise, len);
    g_assert_cmpint(flat[3 * MiB], ==, 0);
    g_assert_cmpint(flat[4 * MiB], ==, 91);
    g_assert_cmpint(flat[4 * MiB + 4096], ==, 0);

    after = scratchRead(s, "base.qcow2", &base_len);
    assertMem(after, 0, before, base_len);
}


static void
testChain(Scratch *s, gconstpointer data)
{
    chain(s, GPOINTER_TO_INT(data));
}


static void
vhdOptions(Scratch *s, const char *parent, VirImageOverlayOptions *options)
{
    g_autoptr(VirImageInfo) info = scratchProbe(s, parent, NULL);

    *options = plain;
    options->format = VIR_IMAGE_OVERLAY_VHD;
    options->backing_file = parent;
    options->backing_format = "vpc";
    options->capacity = info->capacity;
    options->backing_fd = openat(s->dirfd, parent, O_RDONLY | O_CLOEXEC);
}


/* What libvhdi reads through @name: its parent's bytes as far as it has none. */
static char *
vhdRead(Scratch *s, const char *name, gsize *len)
{
    scratchDo(s, SRCDIR "/lib/vhd-flat %s flat", name);
    return scratchRead(s, "flat", len);
}


/* The identifier that @label stands before in what vhdiinfo says of @name. */
static char *
vhdInfo(Scratch *s, const char *name, const char *label)
{
    g_autofree char *info = scratchRun(s, "vhdiinfo %s", name);
    g_autofree char *key = g_strdup_printf("\t%s", label);
    const char *start = strstr(info, key);
    g_auto(GStrv) words = NULL;

    g_assert_nonnull(start);
    start = strchr(start, ':') + 1;
    words = g_strsplit(start, "\n", 2);
    return g_strdup(g_strstrip(words[0]));
}


/* What a host does that writes @byte to the first MiB of the block at 2 MiB: a
 * sector bitmap and the block where the last footer was, and that after them. */
static void
vhdWriteBlock(Scratch *s, const char *name, guint8 byte)
{
    gsize len;
    g_autofree char *bytes = scratchRead(s, name, &len);
    gsize block = len - 512;
    gsize new_len = len + 512 + 2 * MiB;
    const guint8 entry[] = { 0, 0, block / 512 / 256, block / 512 % 256 };

    bytes = g_realloc(bytes, new_len);
    memmove(bytes + new_len - 512, bytes + block, 512);
    memset(bytes + block, 0, 512 + 2 * MiB);
    memset(bytes + block, 0xff, 256);
    memset(bytes + block + 512, byte, 1 * MiB);
    memcpy(bytes + 1536 + 4, entry, sizeof(entry));
    scratchWrite(s, name, bytes, new_len);
}


/* A VHD made by qemu-img of the type @data, and its clone read by libvhdi. */
static void
testVhd(Scratch *s, gconstpointer data)
{
    gsize len = 5 * MiB;
    g_autofree guint8 *noise = scratchNoise(len, 7);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    g_autofree char *flat = NULL;
    g_autofree char *type = NULL;
    g_autofree char *id = NULL;
    g_autofree char *parent_id = NULL;
    g_autoptr(VirImageInfo) own = NULL;
    VirImageOverlayOptions options;
    gsize parent_len;
    gsize flat_len;

    scratchWrite(s, "noise", noise, len);
    scratchDo(s, "qemu-img convert -f raw -O vpc -o subformat=%s,force_size=on noise parent.vhd", (const char *)data);
    before = scratchRead(s, "parent.vhd", &parent_len);

    vhdOptions(s, "parent.vhd", &options);
    overlayMake(s, "child.vhd", &options);
    close(options.backing_fd);

    g_assert_nonnull((own = scratchProbe(s, "child.vhd", NULL)));
    g_assert_cmpstr(own->format, ==, "vpc");
    g_assert_cmpuint(own->capacity, ==, len);
    g_assert_cmpstr(own->backing_file, ==, "parent.vhd");
    g_assert_false(virImageIsStandalone(own));

    type = vhdInfo(s, "child.vhd", "Disk type");
    g_assert_cmpstr(type, ==, "Differential");
    id = vhdInfo(s, "parent.vhd", "Identifier");
    parent_id = vhdInfo(s, "child.vhd", "Parent identifier");
    g_assert_cmpstr(id, ==, parent_id);

    flat = vhdRead(s, "child.vhd", &flat_len);
    g_assert_cmpmem(flat, flat_len, noise, len);

    vhdWriteBlock(s, "child.vhd", 90);
    memset(noise + 2 * MiB, 90, 1 * MiB);
    g_free(flat);
    flat = vhdRead(s, "child.vhd", &flat_len);
    g_assert_cmpmem(flat, flat_len, noise, len);

    scratchDo(s, "qemu-img info -f vpc parent.vhd");
    after = scratchRead(s, "parent.vhd", &parent_len);
    assertMem(after, 0, before, parent_len);
}


/* The parts that libvhdi does not look at, by the specification. */
static void
testVhdFixedBytes(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const guint8 locators[] = {
        'M', 'a', 'c', 'X', 0, 0, 0, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0,
        'W', '2', 'r', 'u', 0, 0, 0, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0,
        0, 0, 0, 0,
    };
    static const guint8 table[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    static const guint8 relative[] = { '.', 0, '\\', 0, 'p', 0, '.', 0, 'v', 0, 'h', 0, 'd', 0, 0, 0 };
    VirImageOverlayOptions options;
    g_autofree char *bytes = NULL;
    gsize len;

    scratchDo(s, "qemu-img create -q -f vpc -o force_size=on p.vhd 3M");
    vhdOptions(s, "p.vhd", &options);
    overlayMake(s, "o", &options);
    close(options.backing_fd);
    bytes = scratchRead(s, "o", &len);
    g_assert_cmpuint(len, ==, 512 + 1024 + 512 + 2 * 512 + 512);
    assertMem(bytes, 0, "conectix\0\0\0\2\0\1\0\0\0\0\0\0\0\0\2\0", 24);
    assertMem(bytes, 60, "\0\0\0\4", 4);
    assertMem(bytes, 512, "cxsparse\377\377\377\377\377\377\377\377\0\0\0\0\0\0\6\0\0\1\0\0\0\0\0\2\0\40\0\0", 36);
    assertMem(bytes, 512 + 64, "\0p\0.\0v\0h\0d\0\0", 12);
    assertMem(bytes, 512 + 576, locators, sizeof(locators));
    assertMem(bytes, 1536, table, sizeof(table));
    assertMem(bytes, 2048, "file://./p.vhd\0", 15);
    assertMem(bytes, 2560, relative, sizeof(relative));
    assertMem(bytes, len - 512, bytes, 512);
}


static void
testVhdInvalid(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    VirImageOverlayOptions options;

    scratchDo(s, "qemu-img create -q -f vpc -o force_size=on p.vhd 3M");
    scratchDo(s, "qemu-img create -q -f raw raw 3M");
    vhdOptions(s, "p.vhd", &options);
    options.capacity += 512;
    overlayFails(s, "o", &options, VIR_IMAGE_ERROR_INVALID);
    options.capacity -= 512;
    options.backing_format = "raw";
    overlayFails(s, "o", &options, VIR_IMAGE_ERROR_INVALID);
    options.backing_format = "vpc";
    overlayMake(s, "child", &options);
    overlayFails(s, "child", &options, VIR_IMAGE_ERROR_EXISTS);
    close(options.backing_fd);

    vhdOptions(s, "child", &options);
    overlayFails(s, "o", &options, VIR_IMAGE_ERROR_INVALID);
    close(options.backing_fd);
    vhdOptions(s, "raw", &options);
    overlayFails(s, "o", &options, VIR_IMAGE_ERROR_INVALID);
    close(options.backing_fd);
    g_assert_cmpuint(scratchCount(s), ==, 3);
}


/* Where the parent lies in another directory, only the locators tell. */
static void
testVhdAbsolute(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *path = g_build_filename(s->dir, "p \303\244%20.vhd", NULL);
    VirImageOverlayOptions options;
    g_autoptr(VirImageInfo) info = NULL;

    scratchDo(s, "qemu-img create -q -f vpc -o force_size=on p.vhd 3M");
    vhdOptions(s, "p.vhd", &options);
    options.backing_file = path;
    overlayMake(s, "o", &options);
    close(options.backing_fd);
    g_assert_nonnull((info = scratchProbe(s, "o", NULL)));
    g_assert_cmpstr(info->backing_file, ==, path);
    g_assert_cmpstr(info->backing_format, ==, "vpc");
    g_assert_false(info->external);
}


/* A copy is another disk: it has another identity, at both ends, and nothing else. */
static void
testVhdRenew(Scratch *s, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    g_autofree char *id = NULL;
    g_autofree char *copy_id = NULL;
    gsize len;
    gsize i;
    int fd;

    scratchDo(s, "qemu-img create -q -f vpc -o subformat=%s,force_size=on p.vhd 3M", (const char *)data);
    scratchDo(s, "cp p.vhd copy.vhd");
    fd = openat(s->dirfd, "copy.vhd", O_RDWR | O_CLOEXEC);
    g_assert_true(virImageVhdRenew(fd, &error));
    g_assert_no_error(error);
    close(fd);

    id = vhdInfo(s, "p.vhd", "Identifier");
    copy_id = vhdInfo(s, "copy.vhd", "Identifier");
    g_assert_cmpstr(id, !=, copy_id);
    scratchDo(s, "qemu-img info -f vpc copy.vhd");

    before = scratchRead(s, "p.vhd", &len);
    after = scratchRead(s, "copy.vhd", &len);
    for (i = 0; i < len; i++) {
        gsize in_footer = i < 512 ? i : i < len - 512 ? 0 : i - (len - 512);

        if (in_footer < 64 || in_footer >= 68 + 16)
            g_assert_cmpint(before[i], ==, after[i]);
    }

    scratchWrite(s, "raw", before, 1000);
    fd = openat(s->dirfd, "raw", O_RDWR | O_CLOEXEC);
    g_assert_false(virImageVhdRenew(fd, &error));
    g_assert_error(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_CORRUPT);
    close(fd);
}


/* Raw masters whose length is no multiple of anything. */
static void
testOddSizes(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const gsize sizes[] = { 1, 511, 513, 65535, 65537, 1000003 };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree guint8 *noise = scratchNoise(sizes[i], i);
        g_autofree char *flat = NULL;
        gsize flat_len;
        VirImageOverlayOptions options = plain;

        scratchWrite(s, "base", noise, sizes[i]);
        options.backing_file = "base";
        options.backing_format = "raw";
        options.capacity = sizes[i];
        overlayMake(s, "o", &options);
        scratchDo(s, "qemu-img check -q o");
        scratchDo(s, "qemu-img convert -f qcow2 -O raw o flat");
        flat = scratchRead(s, "flat", &flat_len);
        g_assert_cmpuint(flat_len, ==, (sizes[i] + 511) / 512 * 512);
        assertMem(flat, 0, noise, sizes[i]);
        g_assert_cmpint(unlinkat(s->dirfd, "o", 0), ==, 0);
    }
}


static void
testLongestName(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *name = g_strnfill(1024, 'n');
    g_autoptr(VirImageInfo) info = NULL;
    VirImageOverlayOptions options = plain;

    options.backing_file = name;
    overlayFails(s, "o", &options, VIR_IMAGE_ERROR_INVALID);
    name[1023] = '\0';
    overlayMake(s, "o", &options);
    g_assert_nonnull((info = scratchProbe(s, "o", NULL)));
    g_assert_cmpstr(info->backing_file, ==, name);

    /* whatever does not fit into a small first cluster */
    options.cluster_bits = 9;
    overlayFails(s, "p", &options, VIR_IMAGE_ERROR_INVALID);
    g_assert_cmpuint(scratchCount(s), ==, 1);
}


static void
testInvalid(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const names[] = { "", ".", "..", "a/b", "/abs" };
    VirImageOverlayOptions options;
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(names); i++)
        overlayFails(s, names[i], &plain, VIR_IMAGE_ERROR_INVALID);

#define REFUSED(field, value) \
    options = plain; \
    options.field = value; \
    overlayFails(s, "o", &options, VIR_IMAGE_ERROR_INVALID)

    REFUSED(capacity, 0);
    REFUSED(capacity, G_MAXUINT64);
    REFUSED(capacity, G_MAXINT64);
    REFUSED(backing_file, NULL);
    REFUSED(backing_file, "");
    REFUSED(backing_format, NULL);
    REFUSED(backing_format, "");
    REFUSED(backing_format, "sixteen-byte-fmt");
    REFUSED(cluster_bits, 8);
    REFUSED(cluster_bits, 22);

    options = plain;
    options.cluster_bits = 13;
    options.extended_l2 = VIR_IMAGE_EXTENDED_L2_ON;
    overlayFails(s, "o", &options, VIR_IMAGE_ERROR_INVALID);
    g_assert_cmpuint(scratchCount(s), ==, 0);
}


/* Before there is an image: what a pool's XML may ask for. */
static void
testCheckClusters(void)
{
    static const struct {
        guint64 size;
        VirImageExtendedL2 extended_l2;
        gboolean ok;
    } cases[] = {
        { 0, VIR_IMAGE_EXTENDED_L2_ON, TRUE },
        { 512, VIR_IMAGE_EXTENDED_L2_DEFAULT, TRUE },
        { 2 * MiB, VIR_IMAGE_EXTENDED_L2_ON, TRUE },
        { 16384, VIR_IMAGE_EXTENDED_L2_ON, TRUE },
        { 8192, VIR_IMAGE_EXTENDED_L2_ON, FALSE },
        { 8192, VIR_IMAGE_EXTENDED_L2_OFF, TRUE },
        { 256, VIR_IMAGE_EXTENDED_L2_OFF, FALSE },
        { 4 * MiB, VIR_IMAGE_EXTENDED_L2_OFF, FALSE },
        { 65537, VIR_IMAGE_EXTENDED_L2_OFF, FALSE },
        { G_MAXUINT64, VIR_IMAGE_EXTENDED_L2_OFF, FALSE },
    };
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_true(virImageOverlayCheckClusters(cases[i].size, cases[i].extended_l2, &error) == cases[i].ok);
        g_assert_true(cases[i].ok ? !error : g_error_matches(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_INVALID));
    }
}


/* An existing name stays what it was, whether file, link or directory. */
static void
testNameTaken(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *bytes = NULL;
    gsize len;

    scratchWrite(s, "file", "precious", 8);
    g_assert_cmpint(symlinkat("nowhere", s->dirfd, "dangling"), ==, 0);
    g_assert_cmpint(mkdirat(s->dirfd, "dir", 0700), ==, 0);

    for (faults.no_tmpfile = FALSE; ; faults.no_tmpfile = TRUE) {
        overlayFails(s, "file", &plain, VIR_IMAGE_ERROR_EXISTS);
        overlayFails(s, "dangling", &plain, VIR_IMAGE_ERROR_EXISTS);
        overlayFails(s, "dir", &plain, VIR_IMAGE_ERROR_EXISTS);
        g_assert_cmpuint(scratchCount(s), ==, 3);
        if (faults.no_tmpfile)
            break;
    }
    bytes = scratchRead(s, "file", &len);
    g_assert_cmpmem(bytes, len, "precious", 8);
    faults.no_tmpfile = FALSE;
}


static void
testModeAndOwner(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    VirImageOverlayOptions options = plain;
    struct stat sb;

    options.mode = 0640;
    options.uid = geteuid() == 0 ? 12345 : geteuid();
    options.gid = geteuid() == 0 ? 12346 : getegid();
    overlayMake(s, "o", &options);
    g_assert_cmpint(fstatat(s->dirfd, "o", &sb, 0), ==, 0);
    g_assert_cmpint(sb.st_mode, ==, S_IFREG | 0640);
    g_assert_cmpint(sb.st_uid, ==, options.uid);
    g_assert_cmpint(sb.st_gid, ==, options.gid);
    g_assert_cmpint(sb.st_nlink, ==, 1);
}


/* File systems that lack O_TMPFILE, or hard links as well. */
static void
testPoorFileSystem(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    struct stat sb;

    faults.no_tmpfile = TRUE;
    faults.hits = 0;
    overlayMake(s, "a", &plain);
    g_assert_cmpuint(faults.hits, ==, 1);

    faults.no_link = TRUE;
    faults.hits = 0;
    overlayMake(s, "b", &plain);
    g_assert_cmpuint(faults.hits, ==, 2);
    overlayFails(s, "b", &plain, VIR_IMAGE_ERROR_EXISTS);
    faults.no_tmpfile = faults.no_link = FALSE;

    g_assert_cmpint(fstatat(s->dirfd, "a", &sb, 0), ==, 0);
    g_assert_cmpint(sb.st_nlink, ==, 1);
    g_assert_cmpuint(scratchCount(s), ==, 2);
    scratchDo(s, "qemu-img info -U --output=json b");
}


/* The file's fsync() fails, then the directory's: no name either time. Nor is
 * there one where order is kept without them and the bytes cannot be written. */
static void
testDiskError(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;
    int n;

    /* only file systems that keep order (power-cut.sh tells them apart) ask for it */
    faults.range_errno = EIO;
    if (!virImageOverlayCreate(s->dirfd, "o", &plain, &error)) {
        g_assert_error(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_FAILED);
        g_assert_cmpuint(faults.ranges, ==, 1);
        g_assert_cmpuint(scratchCount(s), ==, 0);
    } else {
        g_assert_cmpuint(faults.ranges, ==, 0);
        g_assert_cmpint(unlinkat(s->dirfd, "o", 0), ==, 0);
    }
    faults.range_errno = ENOSYS;

    for (n = 1; n <= 2; n++) {
        faults.hits = 0;
        faults.fsync_fails_at = n;
        overlayFails(s, "o", &plain, VIR_IMAGE_ERROR_FAILED);
        g_assert_cmpuint(faults.hits, ==, 1);
        g_assert_cmpuint(scratchCount(s), ==, 0);
    }
    faults.range_errno = 0;
}


/* In a child of its own: the user namespace it needs cannot be left again. */
static void
fullDiskChild(Scratch *s)
{
    g_autoptr(GError) error = NULL;
    int dirfd;

    /* In a plain chroot the root is no mount (EINVAL); what is mounted in one
     * is nobody else's business then. */
    if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0 ||
        (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 && errno != EINVAL) ||
        mount("none", s->dir, "tmpfs", 0, "size=8k") < 0)
        g_error("no small tmpfs to be had: %s", g_strerror(errno));

    dirfd = open(s->dir, O_RDONLY | O_DIRECTORY);
    g_assert_false(virImageOverlayCreate(dirfd, "o", &plain, &error));
    g_assert_error(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_NO_SPACE);
    g_assert_cmpuint(scratchCount(s), ==, 0);
}


static void
assertChild(pid_t pid)
{
    int status;

    g_assert_cmpint(pid, >, 0);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
}


static void
testFullDisk(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    pid_t pid = fork();

    if (pid == 0) {
        fullDiskChild(s);
        _exit(0);
    }
    assertChild(pid);
}


static void
testFileSizeLimit(Scratch *s, gconstpointer data G_GNUC_UNUSED)
{
    pid_t pid = fork();

    if (pid == 0) {
        const struct rlimit limit = { 100 * 1024, 100 * 1024 };

        signal(SIGXFSZ, SIG_IGN);
        g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
        overlayFails(s, "o", &plain, VIR_IMAGE_ERROR_FAILED);
        _exit(0);
    }
    assertChild(pid);
    g_assert_cmpuint(scratchCount(s), ==, 0);
}


#define TEST(name, data, func) \
    g_test_add("/image-overlay/" name, Scratch, data, scratchSetUp, func, scratchTearDown)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("fixed-bytes", NULL, testFixedBytes);
    TEST("capacities", NULL, testCapacities);
    TEST("cluster-sizes", NULL, testClusterSizes);
    TEST("chain", GINT_TO_POINTER(VIR_IMAGE_EXTENDED_L2_OFF), testChain);
    TEST("chain-extended-l2", GINT_TO_POINTER(VIR_IMAGE_EXTENDED_L2_ON), testChain);
    TEST("vhd-on-dynamic", "dynamic", testVhd);
    TEST("vhd-on-fixed", "fixed", testVhd);
    TEST("vhd-fixed-bytes", NULL, testVhdFixedBytes);
    TEST("vhd-invalid", NULL, testVhdInvalid);
    TEST("vhd-absolute", NULL, testVhdAbsolute);
    TEST("vhd-renew-dynamic", "dynamic", testVhdRenew);
    TEST("vhd-renew-fixed", "fixed", testVhdRenew);
    TEST("odd-sizes", NULL, testOddSizes);
    TEST("longest-name", NULL, testLongestName);
    TEST("invalid-options", NULL, testInvalid);
    g_test_add_func("/image-overlay/check-clusters", testCheckClusters);
    TEST("name-taken", NULL, testNameTaken);
    TEST("mode-and-owner", NULL, testModeAndOwner);
    TEST("poor-file-system", NULL, testPoorFileSystem);
    TEST("disk-error", NULL, testDiskError);
    TEST("full-disk", NULL, testFullDisk);
    TEST("file-size-limit", NULL, testFileSizeLimit);
    return g_test_run();
}
