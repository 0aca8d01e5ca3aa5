/*
 * image_vhd.h: the layout of VHD ("vpc"), for its reader and its writer
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Offsets and names as in Microsoft's "Virtual Hard Disk Image Format
 * Specification" of 2006.  All fields are big-endian.
 */

#pragma once

#include <glib.h>

/* hard disk footer */
enum {
    VHD_COOKIE = 0,
    VHD_FEATURES = 8,
    VHD_FILE_FORMAT_VERSION = 12,
    VHD_DATA_OFFSET = 16,
    VHD_TIME_STAMP = 24,        /* seconds since 2000-01-01 00:00 UTC */
    VHD_CREATOR_APPLICATION = 28,
    VHD_CREATOR_VERSION = 32,
    VHD_CREATOR_HOST_OS = 36,
    VHD_ORIGINAL_SIZE = 40,
    VHD_CURRENT_SIZE = 48,
    VHD_DISK_GEOMETRY = 56,
    VHD_DISK_TYPE = 60,
    VHD_CHECKSUM = 64,
    VHD_UNIQUE_ID = 68,
    VHD_FOOTER_LENGTH = 512,
};

/* dynamic disk header */
enum {
    VHD_DYN_COOKIE = 0,
    VHD_DYN_DATA_OFFSET = 8,
    VHD_DYN_TABLE_OFFSET = 16,
    VHD_DYN_HEADER_VERSION = 24,
    VHD_DYN_MAX_TABLE_ENTRIES = 28,
    VHD_DYN_BLOCK_SIZE = 32,
    VHD_DYN_CHECKSUM = 36,
    VHD_DYN_PARENT_UNIQUE_ID = 40,
    VHD_DYN_PARENT_TIME_STAMP = 56,
    VHD_DYN_PARENT_UNICODE_NAME = 64,
    VHD_DYN_PARENT_UNICODE_NAME_LENGTH = 512,
    VHD_DYN_PARENT_LOCATOR_ENTRY = 576,
    VHD_DYN_LENGTH = 1024,
};

/* parent locator entry */
enum {
    VHD_LOCATOR_PLATFORM_CODE = 0,
    VHD_LOCATOR_PLATFORM_DATA_SPACE = 4,
    VHD_LOCATOR_PLATFORM_DATA_LENGTH = 8,
    VHD_LOCATOR_PLATFORM_DATA_OFFSET = 16,
    VHD_LOCATOR_LENGTH = 24,
};

#define VHD_LOCATORS 8

#define VHD_PLATFORM_MACX 0x4d616358U       /* file URL, UTF-8 */
#define VHD_PLATFORM_W2RU 0x57327275U       /* relative name, UTF-16LE */
#define VHD_PLATFORM_W2KU 0x57326b75U       /* absolute name, UTF-16LE */

enum {
    VHD_TYPE_FIXED = 2,
    VHD_TYPE_DYNAMIC = 3,
    VHD_TYPE_DIFFERENCING = 4,
};

/* The one's complement of the sum of all bytes but the checksum's own. */
static inline guint32
virImageVhdChecksum(const guint8 *bytes, gsize len, gsize checksum_offset)
{
    guint32 sum = 0;
    gsize i;

    for (i = 0; i < len; i++) {
        if (i < checksum_offset || i >= checksum_offset + 4)
            sum += bytes[i];
    }
    return ~sum;
}
