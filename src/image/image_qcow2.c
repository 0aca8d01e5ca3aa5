/*
 * image_qcow2.c: the header of qcow2 version 2 and 3
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Field names are those of QEMU's docs/interop/qcow2.txt.  Only what the pool
 * must know is taken, but everything that says where guest data lies is
 * checked: a header that QEMU refuses is refused here, so that what is
 * published as a master can be opened by others.
 */

#include <config.h>

#include "image_internal.h"
#include "image_qcow2.h"

typedef struct {
    guint32 version;
    guint64 backing_file_offset;
    guint32 backing_file_size;
    guint32 cluster_bits;
    guint64 size;
    guint32 crypt_method;
    guint32 l1_size;
    guint64 l1_table_offset;
    guint64 refcount_table_offset;
    guint32 refcount_table_clusters;
    guint64 incompatible_features;
    guint32 refcount_order;
    guint32 header_length;
} Qcow2Header;


static gboolean
virImageQcow2Decode(const guint8 *p, Qcow2Header *h, GError **error)
{
    h->version = virImageGetBE32(p + QCOW2_VERSION);
    h->backing_file_offset = virImageGetBE64(p + QCOW2_BACKING_FILE_OFFSET);
    h->backing_file_size = virImageGetBE32(p + QCOW2_BACKING_FILE_SIZE);
    h->cluster_bits = virImageGetBE32(p + QCOW2_CLUSTER_BITS);
    h->size = virImageGetBE64(p + QCOW2_SIZE);
    h->crypt_method = virImageGetBE32(p + QCOW2_CRYPT_METHOD);
    h->l1_size = virImageGetBE32(p + QCOW2_L1_SIZE);
    h->l1_table_offset = virImageGetBE64(p + QCOW2_L1_TABLE_OFFSET);
    h->refcount_table_offset = virImageGetBE64(p + QCOW2_REFCOUNT_TABLE_OFFSET);
    h->refcount_table_clusters = virImageGetBE32(p + QCOW2_REFCOUNT_TABLE_CLUSTERS);

    if (h->version == 2) {
        h->incompatible_features = 0;
        h->refcount_order = 4;
        h->header_length = QCOW2_V2_HEADER_LENGTH;
        return TRUE;
    }
    if (h->version != 3)
        return virImageCorrupt(error, _("qcow2 version %1$u is not known"), h->version);

    h->incompatible_features = virImageGetBE64(p + QCOW2_INCOMPATIBLE_FEATURES);
    h->refcount_order = virImageGetBE32(p + QCOW2_REFCOUNT_ORDER);
    h->header_length = virImageGetBE32(p + QCOW2_HEADER_LENGTH);
    return TRUE;
}


static gboolean
virImageQcow2CheckTables(const Qcow2Header *h, GError **error)
{
    guint64 cluster_size = G_GUINT64_CONSTANT(1) << h->cluster_bits;
    guint64 l2_entries = virImageQcow2L2Entries(h->cluster_bits,
                                                !!(h->incompatible_features & QCOW2_INCOMPAT_EXTENDED_L2));
    guint64 l1_needed = virImageQcow2L1Entries(h->size, h->cluster_bits, l2_entries);

    if (h->l1_size > QCOW2_L1_BYTES_MAX / 8 || h->l1_size < l1_needed)
        return virImageCorrupt(error, _("the qcow2 header gives its L1 table %1$u entries, which does not go with a capacity of %2$llu bytes"),
                               h->l1_size, (unsigned long long)h->size);

    if (h->l1_table_offset % cluster_size != 0 ||
        h->l1_table_offset > G_MAXINT64 - QCOW2_L1_BYTES_MAX)
        return virImageCorrupt(error, _("the qcow2 header has its L1 table at the impossible offset %1$llu"),
                               (unsigned long long)h->l1_table_offset);

    if (h->refcount_table_clusters == 0 ||
        h->refcount_table_clusters > (QCOW2_REFTABLE_BYTES_MAX >> h->cluster_bits) ||
        h->refcount_table_offset == 0 ||
        h->refcount_table_offset % cluster_size != 0 ||
        h->refcount_table_offset > G_MAXINT64 - QCOW2_REFTABLE_BYTES_MAX)
        return virImageCorrupt(error, _("the qcow2 header has an impossible refcount table"));

    return TRUE;
}


static gboolean
virImageQcow2Check(const Qcow2Header *h, GError **error)
{
    guint64 unknown = h->incompatible_features & ~QCOW2_INCOMPAT_KNOWN;

    if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return virImageCorrupt(error, _("the qcow2 header has clusters of 2^%1$u bytes"), h->cluster_bits);

    if (h->header_length < (h->version == 2 ? QCOW2_V2_HEADER_LENGTH : QCOW2_V3_HEADER_LENGTH_MIN) ||
        h->header_length > (1u << h->cluster_bits))
        return virImageCorrupt(error, _("the qcow2 header says that it is %1$u bytes long"), h->header_length);

    if (unknown)
        return virImageCorrupt(error, _("the qcow2 image uses features that are not known here (bits 0x%1$llx)"),
                               (unsigned long long)unknown);

    if ((h->incompatible_features & QCOW2_INCOMPAT_EXTENDED_L2) && h->cluster_bits < QCOW2_EXTENDED_L2_BITS_MIN)
        return virImageCorrupt(error, _("the qcow2 header has extended L2 entries with clusters of 2^%1$u bytes"), h->cluster_bits);

    if (h->refcount_order > 6)
        return virImageCorrupt(error, _("the qcow2 header has refcounts of 2^%1$u bits"), h->refcount_order);

    if (h->crypt_method > 2)
        return virImageCorrupt(error, _("the qcow2 header names the encryption method %1$u"), h->crypt_method);

    if (h->size > G_MAXINT64)
        return virImageCorrupt(error, _("the qcow2 header has a capacity of %1$llu bytes"),
                               (unsigned long long)h->size);

    return virImageQcow2CheckTables(h, error);
}


/* Header extensions: type, length, data padded to 8.  They end with type 0, at
 * the backing file's name, or with the first cluster. */
static gboolean
virImageQcow2ReadExtensions(const VirImageFile *file,
                            const Qcow2Header *h,
                            VirImageInfo *info,
                            GError **error)
{
    guint64 end = h->backing_file_offset ? h->backing_file_offset : (G_GUINT64_CONSTANT(1) << h->cluster_bits);
    guint64 pos = h->header_length;

    while (pos + 8 <= end) {
        guint8 ext[8];
        guint32 type;
        guint32 len;
        gssize got = virImageReadSome(file, pos, ext, sizeof(ext), error);

        if (got < 0)
            return FALSE;
        /* a new image may be shorter than its first cluster */
        if (got < (gssize)sizeof(ext))
            return TRUE;

        type = virImageGetBE32(ext);
        len = virImageGetBE32(ext + 4);
        pos += 8;
        if (type == QCOW2_EXT_END)
            return TRUE;
        if (len > end - pos)
            return virImageCorrupt(error, _("a qcow2 header extension of %1$u bytes does not fit into the header"), len);

        if (type == QCOW2_EXT_BACKING_FORMAT && len > 0) {
            if (len >= QCOW2_BACKING_FORMAT_MAX)
                return virImageCorrupt(error, _("the qcow2 header has a backing format with a name of %1$u bytes"), len);
            g_free(info->backing_format);
            if (!(info->backing_format = virImageReadName(file, pos, len, error)))
                return FALSE;
        }
        pos += ((guint64)len + 7) & ~G_GUINT64_CONSTANT(7);
    }

    return TRUE;
}


static gboolean
virImageQcow2ReadBacking(const VirImageFile *file,
                         const Qcow2Header *h,
                         VirImageInfo *info,
                         GError **error)
{
    guint64 cluster_size = G_GUINT64_CONSTANT(1) << h->cluster_bits;

    if (h->backing_file_offset == 0)
        return TRUE;

    if (h->backing_file_offset < h->header_length ||
        h->backing_file_offset > cluster_size ||
        h->backing_file_size > MIN(QCOW2_BACKING_FILE_MAX, cluster_size - h->backing_file_offset))
        return virImageCorrupt(error, _("the qcow2 header has the name of its backing file at offset %1$llu, %2$u bytes long"),
                               (unsigned long long)h->backing_file_offset, h->backing_file_size);

    if (h->backing_file_size > 0)
        info->backing_file = virImageReadName(file, h->backing_file_offset, h->backing_file_size, error);
    return h->backing_file_size == 0 || info->backing_file;
}


gboolean
virImageProbeQcow2(const VirImageFile *file, VirImageInfo *info, GError **error)
{
    Qcow2Header h = { 0 };

    /* version 1 has another header: virImageProbeQcow() */
    if (file->head_length < 8 ||
        virImageGetBE32(file->head) != QCOW2_MAGIC ||
        virImageGetBE32(file->head + QCOW2_VERSION) == 1)
        return FALSE;

    if (file->head_length < QCOW2_V2_HEADER_LENGTH)
        return virImageCorrupt(error, _("the image ends within its qcow2 header"));

    if (!virImageQcow2Decode(file->head, &h, error) ||
        !virImageQcow2Check(&h, error) ||
        !virImageQcow2ReadBacking(file, &h, info, error) ||
        !virImageQcow2ReadExtensions(file, &h, info, error))
        return FALSE;

    info->format = "qcow2";
    info->capacity = h.size;
    info->cluster_bits = h.cluster_bits;
    info->external = !!(h.incompatible_features & QCOW2_INCOMPAT_DATA_FILE);
    return TRUE;
}
