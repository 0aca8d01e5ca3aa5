/*
 * image_foreign.c: formats that the pool reads but does not write
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * All that counts here is the capacity, and whether the file leads to another
 * one.  In doubt it does: what is refused as a master is an annoyance, what is
 * taken for standalone and is not lets a hostile master read its host's files.
 * A parent whose name the header does not tell in a form we read is `external`.
 *
 * Layouts: QEMU's docs/interop/qed_spec.txt, block/qcow.c, block/vmdk.c,
 * block/vdi.c; Microsoft's VHD and VHDX (MS-VHDX) specifications.
 */

#include <config.h>

#include "image_internal.h"
#include "image_vhd.h"

/* --- qcow, version 1 (big-endian) --- */

enum {
    QCOW_BACKING_FILE_OFFSET = 8,
    QCOW_BACKING_FILE_SIZE = 16,
    QCOW_SIZE = 24,
    QCOW_HEADER_LENGTH = 48,
};


gboolean
virImageProbeQcow(const VirImageFile *file, VirImageInfo *info, GError **error)
{
    static const guint8 magic[8] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 1 };
    guint64 offset;
    guint32 len;

    if (file->head_length < sizeof(magic) || memcmp(file->head, magic, sizeof(magic)) != 0)
        return FALSE;
    if (file->head_length < QCOW_HEADER_LENGTH)
        return virImageCorrupt(error, _("the image ends within its qcow header"));

    offset = virImageGetBE64(file->head + QCOW_BACKING_FILE_OFFSET);
    len = virImageGetBE32(file->head + QCOW_BACKING_FILE_SIZE);
    if (offset != 0) {
        if (len > 1023)
            return virImageCorrupt(error, _("the image names a backing file with %1$u bytes"), len);
        if (len > 0 && !(info->backing_file = virImageReadName(file, offset, len, error)))
            return FALSE;
    }

    info->format = "qcow";
    info->capacity = virImageGetBE64(file->head + QCOW_SIZE);
    return TRUE;
}


/* --- QED (little-endian) --- */

enum {
    QED_HEADER_SIZE = 12,
    QED_CLUSTER_SIZE = 4,
    QED_FEATURES = 16,
    QED_IMAGE_SIZE = 48,
    QED_BACKING_FILENAME_OFFSET = 56,
    QED_BACKING_FILENAME_SIZE = 60,
    QED_HEADER_LENGTH = 64,
};

#define QED_F_BACKING_FILE 1
#define QED_F_BACKING_FORMAT_NO_PROBE 4


gboolean
virImageProbeQed(const VirImageFile *file, VirImageInfo *info, GError **error)
{
    guint64 features;
    guint32 offset;
    guint32 len;

    if (file->head_length < 4 || memcmp(file->head, "QED\0", 4) != 0)
        return FALSE;
    if (file->head_length < QED_HEADER_LENGTH)
        return virImageCorrupt(error, _("the image ends within its QED header"));

    features = virImageGetLE64(file->head + QED_FEATURES);
    if (features & QED_F_BACKING_FILE) {
        offset = virImageGetLE32(file->head + QED_BACKING_FILENAME_OFFSET);
        len = virImageGetLE32(file->head + QED_BACKING_FILENAME_SIZE);
        if (len == 0 || len > 1023)
            return virImageCorrupt(error, _("the image names a backing file with %1$u bytes"), len);
        if (!(info->backing_file = virImageReadName(file, offset, len, error)))
            return FALSE;
        if (features & QED_F_BACKING_FORMAT_NO_PROBE)
            info->backing_format = g_strdup("raw");
    }

    info->format = "qed";
    info->capacity = virImageGetLE64(file->head + QED_IMAGE_SIZE);
    return TRUE;
}


/* --- VMDK (little-endian) --- */

enum {
    VMDK_CAPACITY = 12,         /* sectors */
    VMDK_DESC_OFFSET = 28,      /* sectors */
    VMDK_HEADER_LENGTH = 79,
};

/* QEMU looks at so many bytes of a descriptor, wherever that is said to end. */
#define VMDK_DESC_SIZE (20 * VIR_IMAGE_SECTOR)


/* The descriptor's NAME="VALUE": VALUE, or "" when it cannot be made out. */
static char *
virImageVmdkValue(const char *text, gsize len, const char *name)
{
    const char *start = memmem(text, len, name, strlen(name));
    const char *end = text + len;
    const char *stop;

    if (!start)
        return NULL;

    start += strlen(name);
    if (end - start < 2 || start[0] != '=' || start[1] != '"')
        return g_strdup("");
    start += 2;
    if (!(stop = memchr(start, '"', end - start)) || memchr(start, 0, stop - start))
        return g_strdup("");
    return g_strndup(start, stop - start);
}


static gboolean
virImageVmdkReadDescriptor(const VirImageFile *file,
                           guint64 offset,
                           VirImageInfo *info,
                           GError **error)
{
    g_autofree char *text = g_malloc0(VMDK_DESC_SIZE + 1);
    g_autofree char *type = NULL;
    gssize len = virImageReadSome(file, offset, text, VMDK_DESC_SIZE, error);

    if (len < 0)
        return FALSE;

    if (!info->backing_file)
        info->backing_file = virImageVmdkValue(text, len, "parentFileNameHint");

    type = virImageVmdkValue(text, len, "createType");
    if (type && !g_str_equal(type, "monolithicSparse") && !g_str_equal(type, "streamOptimized"))
        info->external = TRUE;
    return TRUE;
}


/* Sum of the extents' sizes: lines "ACCESS SECTORS TYPE ...". */
static guint64
virImageVmdkExtents(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", 1000);
    guint64 sectors = 0;
    gsize i;

    for (i = 0; lines[i]; i++) {
        if (g_str_has_prefix(lines[i], "RW ") || g_str_has_prefix(lines[i], "RDONLY "))
            sectors += g_ascii_strtoull(strchr(lines[i], ' '), NULL, 10) & 0xffffffffffff;
    }
    return sectors * VIR_IMAGE_SECTOR;
}


/* A text file that QEMU takes for a descriptor: comments and blank lines, then version=N. */
static gboolean
virImageVmdkIsText(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", 1000);
    gsize i;

    if (g_str_has_prefix(text, "# Disk DescriptorFile"))
        return TRUE;

    for (i = 0; lines[i]; i++) {
        g_strstrip(lines[i]);
        if (lines[i][0] != '#' && lines[i][0] != '\0')
            break;
    }
    return lines[i] && g_str_has_prefix(lines[i], "version=");
}


static gboolean
virImageProbeVmdkText(const VirImageFile *file, VirImageInfo *info)
{
    g_autofree char *text = g_strndup((const char *)file->head, file->head_length);

    if (!virImageVmdkIsText(text))
        return FALSE;

    info->format = "vmdk";
    info->capacity = virImageVmdkExtents(text);
    info->external = TRUE;
    info->backing_file = virImageVmdkValue(text, strlen(text), "parentFileNameHint");
    return TRUE;
}


gboolean
virImageProbeVmdk(const VirImageFile *file, VirImageInfo *info, GError **error)
{
    guint64 desc_offset;
    guint64 sectors;

    /* ESX's copy-on-write files: which parent is told elsewhere */
    if (file->head_length >= 16 && memcmp(file->head, "COWD", 4) == 0) {
        info->format = "vmdk";
        info->capacity = (guint64)virImageGetLE32(file->head + 12) * VIR_IMAGE_SECTOR;
        info->external = TRUE;
        return TRUE;
    }

    if (file->head_length < 4 || memcmp(file->head, "KDMV", 4) != 0)
        return virImageProbeVmdkText(file, info);
    if (file->head_length < VMDK_HEADER_LENGTH)
        return virImageCorrupt(error, _("the image ends within its VMDK header"));

    sectors = virImageGetLE64(file->head + VMDK_CAPACITY);
    desc_offset = virImageGetLE64(file->head + VMDK_DESC_OFFSET);
    if (sectors > G_MAXINT64 / VIR_IMAGE_SECTOR || desc_offset > G_MAXINT64 / VIR_IMAGE_SECTOR)
        return virImageCorrupt(error, _("the VMDK header has a capacity of %1$llu sectors"),
                               (unsigned long long)sectors);

    /* QEMU looks for the parent's name in sector 1, others where the header
     * says; without a capacity QEMU takes the descriptor's extents */
    info->external = sectors == 0;
    if (!virImageVmdkReadDescriptor(file, VIR_IMAGE_SECTOR, info, error) ||
        !virImageVmdkReadDescriptor(file, desc_offset * VIR_IMAGE_SECTOR, info, error))
        return FALSE;

    info->format = "vmdk";
    info->capacity = sectors * VIR_IMAGE_SECTOR;
    return TRUE;
}


/* --- VHD, alias vpc (big-endian) --- */

static gboolean
virImageVhdChecksumOk(const guint8 *footer)
{
    return virImageVhdChecksum(footer, VHD_FOOTER_LENGTH, VHD_CHECKSUM) ==
        virImageGetBE32(footer + VHD_CHECKSUM);
}


/* The file URL among the locators, which tapdisk goes by, as a path: relative
 * to the image's directory or absolute. */
static char *
virImageVhdParentPath(const VirImageFile *file, guint64 header_offset)
{
    guint8 entries[VHD_LOCATORS * VHD_LOCATOR_LENGTH];
    g_autofree char *url = NULL;
    const char *path;
    gsize i = 0;

    if (header_offset > G_MAXINT64 ||
        !virImageRead(file, header_offset + VHD_DYN_PARENT_LOCATOR_ENTRY, entries, sizeof(entries), NULL))
        return NULL;

    while (i < sizeof(entries) && virImageGetBE32(entries + i) != VHD_PLATFORM_MACX)
        i += VHD_LOCATOR_LENGTH;
    if (i == sizeof(entries) ||
        !(url = virImageReadName(file, virImageGetBE64(entries + i + VHD_LOCATOR_PLATFORM_DATA_OFFSET),
                                 virImageGetBE32(entries + i + VHD_LOCATOR_PLATFORM_DATA_LENGTH), NULL)) ||
        !g_utf8_validate(url, -1, NULL) || !g_str_has_prefix(url, "file://"))
        return NULL;

    path = url + strlen("file://");
    if (g_str_has_prefix(path, "./"))
        path += 2;
    return *path ? g_strdup(path) : NULL;
}


/* Its file's name alone, which every differencing disk has. */
static char *
virImageVhdParentName(const VirImageFile *file, guint64 header_offset)
{
    guint8 name[VHD_DYN_PARENT_UNICODE_NAME_LENGTH];
    gsize len = 0;

    if (header_offset > G_MAXINT64 ||
        !virImageRead(file, header_offset + VHD_DYN_PARENT_UNICODE_NAME, name, sizeof(name), NULL))
        return NULL;

    while (len < sizeof(name) && virImageGetBE16(name + len) != 0)
        len += 2;
    return len ? g_convert((const char *)name, len, "UTF-8", "UTF-16BE", NULL, NULL, NULL) : NULL;
}


static gboolean
virImageVhdFill(const VirImageFile *file, const guint8 *footer, VirImageInfo *info, GError **error)
{
    guint32 type = virImageGetBE32(footer + VHD_DISK_TYPE);
    guint64 size = virImageGetBE64(footer + VHD_CURRENT_SIZE);

    if (type < VHD_TYPE_FIXED || type > VHD_TYPE_DIFFERENCING)
        return virImageCorrupt(error, _("the VHD footer names the disk type %1$u"), type);
    if (size > G_MAXINT64)
        return virImageCorrupt(error, _("the VHD footer has a capacity of %1$llu bytes"),
                               (unsigned long long)size);

    if (type == VHD_TYPE_DIFFERENCING) {
        guint64 header_offset = virImageGetBE64(footer + VHD_DATA_OFFSET);

        if (!(info->backing_file = virImageVhdParentPath(file, header_offset)))
            info->backing_file = virImageVhdParentName(file, header_offset);
        info->backing_format = g_strdup("vpc");
        info->external = !info->backing_file;
    }
    info->format = "vpc";
    info->capacity = size;
    return TRUE;
}


gboolean
virImageProbeVpc(const VirImageFile *file, VirImageInfo *info, GError **error)
{
    guint8 footer[VHD_FOOTER_LENGTH];

    if (file->head_length >= sizeof(footer) && memcmp(file->head, "conectix", 8) == 0)
        return virImageVhdFill(file, file->head, info, error);

    /* A fixed disk has its footer at the end only, and the guest's bytes before
     * it; it takes more than the cookie to tell it from a guest's own last sector. */
    if (file->length < 2 * sizeof(footer))
        return FALSE;
    if (!virImageRead(file, file->length - sizeof(footer), footer, sizeof(footer), error))
        return FALSE;
    if (memcmp(footer, "conectix", 8) != 0 || !virImageVhdChecksumOk(footer) ||
        virImageGetBE64(footer + VHD_CURRENT_SIZE) > file->length - sizeof(footer))
        return FALSE;
    return virImageVhdFill(file, footer, info, error);
}


/* --- VHDX (little-endian) --- */

#define VHDX_REGION_TABLE_OFFSET (192 * 1024)
#define VHDX_TABLE_LENGTH (64 * 1024)
#define VHDX_ENTRY_LENGTH 32
#define VHDX_ENTRIES_MAX 2047

static const guint8 vhdxMetadataRegion[16] = {
    0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e,
};
static const guint8 vhdxFileParameters[16] = {
    0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b,
};
static const guint8 vhdxVirtualDiskSize[16] = {
    0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8,
};
static const guint8 vhdxParentLocator[16] = {
    0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c,
};


/* The entry with @guid in a table whose entries begin at @first. */
static const guint8 *
virImageVhdxFind(const guint8 *table, gsize first, guint32 count, const guint8 *guid)
{
    gsize i;

    for (i = 0; i < count && first + (i + 1) * VHDX_ENTRY_LENGTH <= VHDX_TABLE_LENGTH; i++) {
        const guint8 *entry = table + first + i * VHDX_ENTRY_LENGTH;

        if (memcmp(entry, guid, 16) == 0)
            return entry;
    }
    return NULL;
}


static gboolean
virImageVhdxMetadata(const VirImageFile *file,
                     guint64 offset,
                     guint8 *table,
                     VirImageInfo *info,
                     GError **error)
{
    const guint8 *params;
    const guint8 *size;
    guint16 count;
    guint8 value[8];

    if (!virImageRead(file, offset, table, VHDX_TABLE_LENGTH, error))
        return FALSE;
    count = virImageGetLE16(table + 10);
    params = virImageVhdxFind(table, 32, count, vhdxFileParameters);
    size = virImageVhdxFind(table, 32, count, vhdxVirtualDiskSize);
    if (memcmp(table, "metadata", 8) != 0 || count > VHDX_ENTRIES_MAX || !params || !size)
        return virImageCorrupt(error, _("the VHDX image has broken metadata"));

    if (!virImageRead(file, offset + virImageGetLE32(params + 16), value, sizeof(value), error))
        return FALSE;
    /* bit 1: has a parent */
    info->external = (virImageGetLE32(value + 4) & 2) ||
        virImageVhdxFind(table, 32, count, vhdxParentLocator);

    if (!virImageRead(file, offset + virImageGetLE32(size + 16), value, sizeof(value), error))
        return FALSE;
    info->capacity = virImageGetLE64(value);
    return TRUE;
}


gboolean
virImageProbeVhdx(const VirImageFile *file, VirImageInfo *info, GError **error)
{
    g_autofree guint8 *table = NULL;
    const guint8 *region;
    guint64 offset;
    guint32 count;

    if (file->head_length < 8 || memcmp(file->head, "vhdxfile", 8) != 0)
        return FALSE;

    table = g_malloc0(VHDX_TABLE_LENGTH);
    if (!virImageRead(file, VHDX_REGION_TABLE_OFFSET, table, VHDX_TABLE_LENGTH, error))
        return FALSE;
    count = virImageGetLE32(table + 8);
    if (memcmp(table, "regi", 4) != 0 || count > VHDX_ENTRIES_MAX ||
        !(region = virImageVhdxFind(table, 16, count, vhdxMetadataRegion)))
        return virImageCorrupt(error, _("the VHDX image has a broken region table"));

    offset = virImageGetLE64(region + 16);
    if (offset > G_MAXINT64)
        return virImageCorrupt(error, _("the VHDX image has a broken region table"));
    if (!virImageVhdxMetadata(file, offset, table, info, error))
        return FALSE;

    info->format = "vhdx";
    return TRUE;
}


/* --- VDI (little-endian) --- */

enum {
    VDI_SIGNATURE = 0x40,
    VDI_IMAGE_TYPE = 0x4c,
    VDI_DISK_SIZE = 0x170,
    VDI_UUID_LINK = 0x1a8,
    VDI_UUID_PARENT = 0x1b8,
    VDI_HEADER_LENGTH = 0x1c8,
};

#define VDI_MAGIC 0xbeda107fU
#define VDI_TYPE_DYNAMIC 1
#define VDI_TYPE_STATIC 2


gboolean
virImageProbeVdi(const VirImageFile *file, VirImageInfo *info, GError **error)
{
    static const guint8 none[16];
    guint32 type;

    if (file->head_length < VDI_SIGNATURE + 4 ||
        virImageGetLE32(file->head + VDI_SIGNATURE) != VDI_MAGIC)
        return FALSE;
    if (file->head_length < VDI_HEADER_LENGTH)
        return virImageCorrupt(error, _("the image ends within its VDI header"));

    /* undo and differencing images name their parent by uuid */
    type = virImageGetLE32(file->head + VDI_IMAGE_TYPE);
    info->external = (type != VDI_TYPE_DYNAMIC && type != VDI_TYPE_STATIC) ||
        memcmp(file->head + VDI_UUID_LINK, none, sizeof(none)) != 0 ||
        memcmp(file->head + VDI_UUID_PARENT, none, sizeof(none)) != 0;
    info->format = "vdi";
    info->capacity = virImageGetLE64(file->head + VDI_DISK_SIZE);
    return TRUE;
}
