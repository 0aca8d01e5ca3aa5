/*
 * image_vhd.c: the differencing VHD that a clone begins as where it is asked for
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For hosts whose VHD code reads the parent (XCP-ng's tapdisk); QEMU's does
 * not.  The file, in sectors of 512 bytes:
 *
 *   0      copy of the hard disk footer
 *   1..2   dynamic disk header, which names the parent
 *   3..    block allocation table: no block is here yet
 *   ..     parent locators, a sector or more each
 *   last   hard disk footer
 *
 * The parent is known by its unique id; where it lies, two locators tell: a
 * file URL, which tapdisk takes first, and a UTF-16 name, which others read.
 */

#include <config.h>

#include "image_internal.h"
#include "image_vhd.h"

#include <errno.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VHD_VERSION 0x00010000
#define VHD_FEATURES_RESERVED 2             /* always set */
#define VHD_EPOCH G_GINT64_CONSTANT(946684800)
#define VHD_BLOCK_SIZE (2 * 1024 * 1024)
#define VHD_SIZE_MAX (G_GUINT64_CONSTANT(2040) * 1024 * 1024 * 1024)
#define VHD_BAT_UNUSED 0xff

typedef struct {
    guint32 code;
    char *data;
    gsize len;
    guint64 offset;
} VhdLocator;


static guint64
virImageVhdRoundUp(guint64 bytes)
{
    return (bytes + VIR_IMAGE_SECTOR - 1) / VIR_IMAGE_SECTOR * VIR_IMAGE_SECTOR;
}


static guint32
virImageVhdTime(gint64 seconds)
{
    return CLAMP(seconds - VHD_EPOCH, 0, G_MAXUINT32);
}


/* The footer, which every kind of VHD has at the end of its file. */
static gboolean
virImageVhdReadFooter(int fd, guint64 length, guint8 *footer)
{
    g_autofree VirImageFile *file = g_new0(VirImageFile, 1);

    file->fd = fd;
    file->length = length;
    return length >= VHD_FOOTER_LENGTH &&
        virImageRead(file, length - VHD_FOOTER_LENGTH, footer, VHD_FOOTER_LENGTH, NULL) &&
        memcmp(footer + VHD_COOKIE, "conectix", 8) == 0 &&
        virImageVhdChecksum(footer, VHD_FOOTER_LENGTH, VHD_CHECKSUM) == virImageGetBE32(footer + VHD_CHECKSUM);
}


static gboolean
virImageVhdReadParent(int fd, guint8 *footer, struct stat *sb, GError **error)
{
    guint32 type;

    if (fstat(fd, sb) < 0)
        return virImageSystemError(error, errno, _("cannot stat the parent of the VHD clone"));
    if (!virImageVhdReadFooter(fd, sb->st_size, footer))
        return virImageInvalid(error, _("a VHD clone needs a VHD as its parent"));

    type = virImageGetBE32(footer + VHD_DISK_TYPE);
    if (type != VHD_TYPE_FIXED && type != VHD_TYPE_DYNAMIC)
        return virImageInvalid(error, _("the parent of a VHD clone must not have a parent itself"));
    return TRUE;
}


static void
virImageVhdSetId(guint8 *footer)
{
    g_autofree char *uuid = g_uuid_string_random();
    const char *digit = uuid;
    gsize i;

    for (i = 0; i < 16; i++) {
        digit += *digit == '-';
        footer[VHD_UNIQUE_ID + i] = g_ascii_xdigit_value(digit[0]) << 4 | g_ascii_xdigit_value(digit[1]);
        digit += 2;
    }
    virImagePutBE32(footer + VHD_CHECKSUM, virImageVhdChecksum(footer, VHD_FOOTER_LENGTH, VHD_CHECKSUM));
}


static void
virImageVhdFooter(guint8 *footer, const guint8 *parent)
{
    memset(footer, 0, VHD_FOOTER_LENGTH);
    memcpy(footer + VHD_COOKIE, "conectix", 8);
    virImagePutBE32(footer + VHD_FEATURES, VHD_FEATURES_RESERVED);
    virImagePutBE32(footer + VHD_FILE_FORMAT_VERSION, VHD_VERSION);
    virImagePutBE64(footer + VHD_DATA_OFFSET, VHD_FOOTER_LENGTH);
    virImagePutBE32(footer + VHD_TIME_STAMP, virImageVhdTime(time(NULL)));
    memcpy(footer + VHD_CREATOR_APPLICATION, "trnt", 4);
    virImagePutBE32(footer + VHD_CREATOR_VERSION, VHD_VERSION);
    memcpy(footer + VHD_CREATOR_HOST_OS, "Wi2k", 4);
    /* what the guest sees is the parent's disk, down to its geometry */
    memcpy(footer + VHD_ORIGINAL_SIZE, parent + VHD_CURRENT_SIZE, 8);
    memcpy(footer + VHD_CURRENT_SIZE, parent + VHD_CURRENT_SIZE, 8);
    memcpy(footer + VHD_DISK_GEOMETRY, parent + VHD_DISK_GEOMETRY, 4);
    virImagePutBE32(footer + VHD_DISK_TYPE, VHD_TYPE_DIFFERENCING);
    virImageVhdSetId(footer);
}


/* The locators of @path and where they lie, from @offset on; returns their end, 0 with @error set. */
static guint64
virImageVhdLocators(VhdLocator *locators, const char *path, guint64 offset, GError **error)
{
    gboolean absolute = path[0] == '/';
    g_autofree char *name = g_strdup_printf("%s%s", absolute ? "" : ".\\", path);
    gsize i;

    g_strdelimit(name, "/", '\\');
    locators[0].code = VHD_PLATFORM_MACX;
    locators[0].data = g_strdup_printf("file://%s%s", absolute ? "" : "./", path);
    locators[0].len = strlen(locators[0].data);
    locators[1].code = absolute ? VHD_PLATFORM_W2KU : VHD_PLATFORM_W2RU;
    locators[1].data = g_convert(name, -1, "UTF-16LE", "UTF-8", NULL, &locators[1].len, NULL);
    if (!locators[1].data) {
        virImageInvalid(error, _("the name of a VHD clone's parent is no UTF-8"));
        return 0;
    }

    for (i = 0; i < 2; i++) {
        locators[i].offset = offset;
        offset += virImageVhdRoundUp(locators[i].len);
    }
    return offset;
}


static gboolean
virImageVhdHeader(guint8 *header,
                  const guint8 *parent,
                  const struct stat *sb,
                  const char *path,
                  const VhdLocator *locators,
                  guint32 entries,
                  GError **error)
{
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *unicode = NULL;
    gsize len;
    gsize i;

    unicode = g_convert(base, -1, "UTF-16BE", "UTF-8", NULL, &len, NULL);
    if (!unicode || len > VHD_DYN_PARENT_UNICODE_NAME_LENGTH - 2)
        return virImageInvalid(error, _("the name of a VHD clone's parent has 1 to 255 characters"));

    memset(header, 0, VHD_DYN_LENGTH);
    memcpy(header + VHD_DYN_COOKIE, "cxsparse", 8);
    virImagePutBE64(header + VHD_DYN_DATA_OFFSET, G_MAXUINT64);
    virImagePutBE64(header + VHD_DYN_TABLE_OFFSET, VHD_FOOTER_LENGTH + VHD_DYN_LENGTH);
    virImagePutBE32(header + VHD_DYN_HEADER_VERSION, VHD_VERSION);
    virImagePutBE32(header + VHD_DYN_MAX_TABLE_ENTRIES, entries);
    virImagePutBE32(header + VHD_DYN_BLOCK_SIZE, VHD_BLOCK_SIZE);
    memcpy(header + VHD_DYN_PARENT_UNIQUE_ID, parent + VHD_UNIQUE_ID, 16);
    virImagePutBE32(header + VHD_DYN_PARENT_TIME_STAMP, virImageVhdTime(sb->st_mtime));
    memcpy(header + VHD_DYN_PARENT_UNICODE_NAME, unicode, len);

    for (i = 0; i < 2; i++) {
        guint8 *entry = header + VHD_DYN_PARENT_LOCATOR_ENTRY + i * VHD_LOCATOR_LENGTH;

        virImagePutBE32(entry + VHD_LOCATOR_PLATFORM_CODE, locators[i].code);
        virImagePutBE32(entry + VHD_LOCATOR_PLATFORM_DATA_SPACE,
                        virImageVhdRoundUp(locators[i].len) / VIR_IMAGE_SECTOR);
        virImagePutBE32(entry + VHD_LOCATOR_PLATFORM_DATA_LENGTH, locators[i].len);
        virImagePutBE64(entry + VHD_LOCATOR_PLATFORM_DATA_OFFSET, locators[i].offset);
    }
    virImagePutBE32(header + VHD_DYN_CHECKSUM, virImageVhdChecksum(header, VHD_DYN_LENGTH, VHD_DYN_CHECKSUM));
    return TRUE;
}


static gboolean
virImageVhdWriteAll(int fd,
                    const guint8 *parent,
                    const struct stat *sb,
                    const VirImageOverlayOptions *options,
                    VhdLocator *locators,
                    GError **error)
{
    guint64 size = virImageGetBE64(parent + VHD_CURRENT_SIZE);
    guint64 entries = size / VHD_BLOCK_SIZE + !!(size % VHD_BLOCK_SIZE);
    guint64 bat_len = virImageVhdRoundUp(entries * 4);
    guint64 end = virImageVhdLocators(locators, options->backing_file,
                                      VHD_FOOTER_LENGTH + VHD_DYN_LENGTH + bat_len, error);
    g_autofree guint8 *file = NULL;

    if (end == 0)
        return FALSE;

    file = g_malloc0(end + VHD_FOOTER_LENGTH);
    virImageVhdFooter(file, parent);
    if (!virImageVhdHeader(file + VHD_FOOTER_LENGTH, parent, sb, options->backing_file, locators, entries, error))
        return FALSE;
    memset(file + VHD_FOOTER_LENGTH + VHD_DYN_LENGTH, VHD_BAT_UNUSED, bat_len);
    memcpy(file + locators[0].offset, locators[0].data, locators[0].len);
    memcpy(file + locators[1].offset, locators[1].data, locators[1].len);
    memcpy(file + end, file, VHD_FOOTER_LENGTH);
    return virImagePwrite(fd, file, end + VHD_FOOTER_LENGTH, 0, error);
}


gboolean
virImageVhdWrite(int fd, const VirImageOverlayOptions *options, GError **error)
{
    guint8 parent[VHD_FOOTER_LENGTH];
    VhdLocator locators[2] = { 0 };
    struct stat sb;
    guint64 size;
    gboolean ok;

    if (!g_str_equal(options->backing_format, "vpc"))
        return virImageInvalid(error, _("a VHD clone needs a VHD as its parent"));
    if (!virImageVhdReadParent(options->backing_fd, parent, &sb, error))
        return FALSE;

    size = virImageGetBE64(parent + VHD_CURRENT_SIZE);
    if (size == 0 || size > VHD_SIZE_MAX)
        return virImageInvalid(error, _("the parent of a VHD clone has a capacity between 512 bytes and 2040 GiB"));
    if (options->capacity != size)
        return virImageInvalid(error, _("a VHD clone has the capacity of its parent"));

    ok = virImageVhdWriteAll(fd, parent, &sb, options, locators, error);
    g_free(locators[0].data);
    g_free(locators[1].data);
    return ok;
}


gboolean
virImageVhdRenew(int fd, GError **error)
{
    guint8 footer[VHD_FOOTER_LENGTH];
    struct stat sb;

    if (fstat(fd, &sb) < 0 || !virImageVhdReadFooter(fd, sb.st_size, footer))
        return virImageCorrupt(error, _("the VHD has no footer at its end"));

    virImageVhdSetId(footer);
    /* all but fixed ones have a copy of it at the beginning */
    if (virImageGetBE32(footer + VHD_DISK_TYPE) != VHD_TYPE_FIXED &&
        !virImagePwrite(fd, footer, sizeof(footer), 0, error))
        return FALSE;
    if (!virImagePwrite(fd, footer, sizeof(footer), sb.st_size - VHD_FOOTER_LENGTH, error))
        return FALSE;
    if (fsync(fd) < 0)
        return virImageSystemError(error, errno, _("cannot write the clone"));
    return TRUE;
}
