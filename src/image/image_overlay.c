/*
 * image_overlay.c: the qcow2 overlay that every clone begins as
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The file, in clusters:
 *
 *   0      header, backing format, name of the backing file
 *   1..    refcount table
 *   ..     refcount blocks: 1 for each of these clusters
 *   ..     L1 table: zeros, so a hole up to the file's end
 *
 * Only the used beginnings of the first three are written, the rest is holes
 * too, so that a clone takes a few file system blocks whatever its capacity.
 *
 * Crash safety: the file is whole and on disk before it gets its name (see
 * image_sync.c), and link() never replaces.  Where the file system has no O_TMPFILE a crash can
 * leave a file behind whose name begins with ".torrentpool-".
 */

#include <config.h>

#include "image_internal.h"
#include "image_qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define QCOW2_REFCOUNT_ORDER_16 4
#define OVERLAY_TMP_PREFIX ".torrentpool-"

typedef struct {
    guint64 capacity;
    guint cluster_bits;
    gboolean extended_l2;
    guint64 cluster_size;
    guint64 l1_size;            /* entries */
    guint64 l1_clusters;
    guint64 refcount_blocks;    /* one cluster each */
    guint64 refcount_table_clusters;
    guint64 clusters;           /* the whole file */
} OverlayLayout;


gboolean
virImageInvalid(GError **error, const char *message)
{
    g_set_error_literal(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_INVALID, message);
    return FALSE;
}


static guint64
virImageDivUp(guint64 value, guint64 unit)
{
    return value / unit + !!(value % unit);
}


static gboolean
virImageOverlayExtendedL2(const VirImageOverlayOptions *options)
{
    switch (options->extended_l2) {
    case VIR_IMAGE_EXTENDED_L2_ON:
        return TRUE;
    case VIR_IMAGE_EXTENDED_L2_OFF:
        return FALSE;
    case VIR_IMAGE_EXTENDED_L2_DEFAULT:
        break;
    }
    return VIR_IMAGE_OVERLAY_EXTENDED_L2 && options->cluster_bits == 0;
}


gboolean
virImageOverlayCheckClusters(guint64 cluster_size, VirImageExtendedL2 extended_l2, GError **error)
{
    if (cluster_size == 0)
        return TRUE;
    if (cluster_size < 1 << QCOW2_CLUSTER_BITS_MIN || cluster_size > 1 << QCOW2_CLUSTER_BITS_MAX ||
        (cluster_size & (cluster_size - 1)) != 0)
        return virImageInvalid(error, _("the clusters of a qcow2 image have a power of two of bytes, 512 bytes to 2 MiB"));
    if (extended_l2 == VIR_IMAGE_EXTENDED_L2_ON && cluster_size < 1 << QCOW2_EXTENDED_L2_BITS_MIN)
        return virImageInvalid(error, _("extended L2 entries need clusters of 16 KiB or more"));
    return TRUE;
}


static gboolean
virImageOverlayLayout(const VirImageOverlayOptions *options, OverlayLayout *l, GError **error)
{
    gboolean extended_l2 = virImageOverlayExtendedL2(options);
    guint bits = options->cluster_bits;
    guint64 before;

    if (bits == 0)
        bits = extended_l2 ? VIR_IMAGE_OVERLAY_CLUSTER_BITS : VIR_IMAGE_OVERLAY_CLUSTER_BITS_PLAIN;
    if (!virImageOverlayCheckClusters(G_GUINT64_CONSTANT(1) << MIN(bits, 63),
                                      options->extended_l2, error))
        return FALSE;
    if (options->capacity == 0 || options->capacity > G_MAXINT64 - VIR_IMAGE_SECTOR)
        return virImageInvalid(error, _("a clone needs a capacity between 512 bytes and 8 EiB"));

    l->cluster_bits = bits;
    l->extended_l2 = extended_l2;
    l->cluster_size = G_GUINT64_CONSTANT(1) << bits;
    l->capacity = virImageDivUp(options->capacity, VIR_IMAGE_SECTOR) * VIR_IMAGE_SECTOR;
    l->l1_size = virImageQcow2L1Entries(l->capacity, bits,
                                        virImageQcow2L2Entries(bits, extended_l2));
    if (l->l1_size > QCOW2_L1_BYTES_MAX / 8)
        return virImageInvalid(error, _("the capacity is too large for a qcow2 image with clusters of this size"));
    l->l1_clusters = virImageDivUp(l->l1_size * 8, l->cluster_size);

    /* the refcounts count the clusters that they lie in themselves */
    l->refcount_blocks = l->refcount_table_clusters = 1;
    do {
        before = l->refcount_blocks + l->refcount_table_clusters;
        l->clusters = 1 + before + l->l1_clusters;
        l->refcount_blocks = virImageDivUp(l->clusters * 2, l->cluster_size);
        l->refcount_table_clusters = virImageDivUp(l->refcount_blocks * 8, l->cluster_size);
    } while (l->refcount_blocks + l->refcount_table_clusters != before);

    return TRUE;
}


static gboolean
virImageOverlayCheckOptions(const char *name, const VirImageOverlayOptions *options, GError **error)
{
    if (!*name || strchr(name, '/') || g_str_equal(name, ".") || g_str_equal(name, "..") || strlen(name) > 255)
        return virImageInvalid(error, _("the clone's name is no file name"));
    if (!options->backing_file || !*options->backing_file ||
        strlen(options->backing_file) > QCOW2_BACKING_FILE_MAX)
        return virImageInvalid(error, _("the name of a clone's backing file has 1 to 1023 bytes"));
    if (!options->backing_format || !*options->backing_format ||
        strlen(options->backing_format) >= QCOW2_BACKING_FORMAT_MAX)
        return virImageInvalid(error, _("the name of a clone's backing format has 1 to 15 bytes"));
    return TRUE;
}


/* The header cluster's used bytes; @len is how many. */
static guint8 *
virImageOverlayHeader(const VirImageOverlayOptions *options,
                      const OverlayLayout *l,
                      gsize *len,
                      GError **error)
{
    gsize format_len = strlen(options->backing_format);
    gsize name_len = strlen(options->backing_file);
    gsize ext_end = QCOW2_V3_HEADER_LENGTH + 8 + (format_len + 7) / 8 * 8;
    gsize name_offset = ext_end + 8;
    guint64 l1_offset = (1 + l->refcount_table_clusters + l->refcount_blocks) << l->cluster_bits;
    guint8 *p;

    *len = name_offset + name_len;
    if (*len > l->cluster_size) {
        virImageInvalid(error, _("the name of the backing file does not fit into the clone's first cluster"));
        return NULL;
    }

    p = g_malloc0(*len);
    virImagePutBE32(p, QCOW2_MAGIC);
    virImagePutBE32(p + QCOW2_VERSION, 3);
    virImagePutBE64(p + QCOW2_BACKING_FILE_OFFSET, name_offset);
    virImagePutBE32(p + QCOW2_BACKING_FILE_SIZE, name_len);
    virImagePutBE32(p + QCOW2_CLUSTER_BITS, l->cluster_bits);
    virImagePutBE64(p + QCOW2_SIZE, l->capacity);
    virImagePutBE32(p + QCOW2_L1_SIZE, l->l1_size);
    virImagePutBE64(p + QCOW2_L1_TABLE_OFFSET, l1_offset);
    virImagePutBE64(p + QCOW2_REFCOUNT_TABLE_OFFSET, l->cluster_size);
    virImagePutBE32(p + QCOW2_REFCOUNT_TABLE_CLUSTERS, l->refcount_table_clusters);
    virImagePutBE64(p + QCOW2_INCOMPATIBLE_FEATURES,
                    l->extended_l2 ? QCOW2_INCOMPAT_EXTENDED_L2 : 0);
    virImagePutBE32(p + QCOW2_REFCOUNT_ORDER, QCOW2_REFCOUNT_ORDER_16);
    virImagePutBE32(p + QCOW2_HEADER_LENGTH, QCOW2_V3_HEADER_LENGTH);

    virImagePutBE32(p + QCOW2_V3_HEADER_LENGTH, QCOW2_EXT_BACKING_FORMAT);
    virImagePutBE32(p + QCOW2_V3_HEADER_LENGTH + 4, format_len);
    memcpy(p + QCOW2_V3_HEADER_LENGTH + 8, options->backing_format, format_len);
    /* eight zeros end the extensions */
    memcpy(p + name_offset, options->backing_file, name_len);
    return p;
}


gboolean
virImagePwrite(int fd, const guint8 *buf, gsize len, guint64 offset, GError **error)
{
    gsize done = 0;

    while (done < len) {
        ssize_t n = pwrite(fd, buf + done, len - done, offset + done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return virImageSystemError(error, errno, _("cannot write the clone"));
        done += n;
    }
    return TRUE;
}


static gboolean
virImageOverlayWriteRefcounts(int fd, const OverlayLayout *l, GError **error)
{
    guint64 first_block = 1 + l->refcount_table_clusters;
    g_autofree guint8 *table = g_malloc0(l->refcount_blocks * 8);
    g_autofree guint8 *counts = g_malloc0(l->clusters * 2);
    guint64 i;

    for (i = 0; i < l->refcount_blocks; i++)
        virImagePutBE64(table + i * 8, (first_block + i) << l->cluster_bits);
    /* the blocks follow each other, so all counts are one array */
    for (i = 0; i < l->clusters; i++)
        virImagePutBE16(counts + i * 2, 1);

    return virImagePwrite(fd, table, l->refcount_blocks * 8, l->cluster_size, error) &&
        virImagePwrite(fd, counts, l->clusters * 2, first_block << l->cluster_bits, error);
}


static gboolean
virImageOverlayWrite(int fd, const VirImageOverlayOptions *options, GError **error)
{
    g_autofree guint8 *header = NULL;
    OverlayLayout layout = { 0 };
    gsize len = 0;

    if (!virImageOverlayLayout(options, &layout, error) ||
        !(header = virImageOverlayHeader(options, &layout, &len, error)))
        return FALSE;

    if (ftruncate(fd, layout.clusters << layout.cluster_bits) < 0)
        return virImageSystemError(error, errno, _("cannot write the clone"));
    return virImagePwrite(fd, header, len, 0, error) &&
        virImageOverlayWriteRefcounts(fd, &layout, error);
}


static gboolean
virImageOverlayFill(int fd,
                    const VirImageOverlayOptions *options,
                    gboolean *sync_name,
                    GError **error)
{
    if (options->format == VIR_IMAGE_OVERLAY_VHD ?
        !virImageVhdWrite(fd, options, error) :
        !virImageOverlayWrite(fd, options, error))
        return FALSE;

    /* the mode last: a change of owner clears bits of it */
    if ((options->uid >= 0 || options->gid >= 0) &&
        fchown(fd, (uid_t)options->uid, (gid_t)options->gid) < 0)
        return virImageSystemError(error, errno, _("cannot set the owner of the clone"));
    if (fchmod(fd, options->mode) < 0)
        return virImageSystemError(error, errno, _("cannot set the mode of the clone"));
    if (virImageSyncContent(fd, sync_name) < 0)
        return virImageSystemError(error, errno, _("cannot write the clone"));
    return TRUE;
}


/* A new file without a name, or where that does not work with one of its own
 * in @tmp (which the caller frees, and unlinks the file). */
static int
virImageTempOpen(int dirfd, char **tmp, GError **error)
{
    int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    gsize tries;

    if (fd >= 0)
        return fd;

    /* EISDIR: a kernel that does not know O_TMPFILE */
    if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL) {
        for (tries = 0; tries < 100; tries++) {
            g_autofree char *name = g_strdup_printf(OVERLAY_TMP_PREFIX "%08x%08x",
                                                    g_random_int(), g_random_int());

            fd = openat(dirfd, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC, 0600);
            if (fd >= 0) {
                *tmp = g_steal_pointer(&name);
                return fd;
            }
            if (errno != EEXIST)
                break;
        }
    }

    virImageSystemError(error, errno, _("cannot create the clone"));
    return -1;
}


static gboolean
virImageTempLink(int dirfd, int fd, const char *tmp, const char *name, GError **error)
{
    char proc[64];
    int ret;

    if (tmp) {
        ret = linkat(dirfd, tmp, dirfd, name, 0);
        /* a file system without hard links may still rename without replacing */
        if (ret < 0 && errno != EEXIST)
            ret = renameat2(dirfd, tmp, dirfd, name, RENAME_NOREPLACE);
    } else {
        /* AT_EMPTY_PATH would take CAP_DAC_READ_SEARCH */
        g_snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
        ret = linkat(AT_FDCWD, proc, dirfd, name, AT_SYMLINK_FOLLOW);
        /* no /proc here */
        if (ret < 0 && errno == ENOENT)
            ret = linkat(fd, "", dirfd, name, AT_EMPTY_PATH);
    }

    if (ret < 0 && errno == EEXIST) {
        g_set_error(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_EXISTS,
                    _("there is a '%1$s' already"), name);
        return FALSE;
    }
    if (ret < 0)
        return virImageSystemError(error, errno, _("cannot give the clone its name"));
    return TRUE;
}


/**
 * virImageOverlayCreate:
 * @dirfd: descriptor of the directory, open for reading
 *
 * Returns TRUE when @name is there, whole, and will be whole after a crash if it
 * is there then.
 */
gboolean
virImageOverlayCreate(int dirfd,
                      const char *name,
                      const VirImageOverlayOptions *options,
                      GError **error)
{
    g_autofree char *tmp = NULL;
    gboolean sync_name = TRUE;
    gboolean ok;
    int fd;

    if (!virImageOverlayCheckOptions(name, options, error) ||
        (fd = virImageTempOpen(dirfd, &tmp, error)) < 0)
        return FALSE;

    ok = virImageOverlayFill(fd, options, &sync_name, error) &&
        virImageTempLink(dirfd, fd, tmp, name, error);
    if (tmp)
        unlinkat(dirfd, tmp, 0);
    /* it has been told already what could go wrong */
    g_close(fd, NULL);
    if (ok && sync_name && fsync(dirfd) < 0) {
        ok = virImageSystemError(error, errno, _("cannot write the clone's directory"));
        unlinkat(dirfd, name, 0);
    }
    return ok;
}
