/*
 * image_qcow2.h: the qcow2 header's layout, for its reader and its writer
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Offsets and names as in QEMU's docs/interop/qcow2.txt; limits as QEMU has
 * them (block/qcow2.h).  All fields are big-endian.
 */

#pragma once

#include <glib.h>

#define QCOW2_MAGIC 0x514649fbU  /* "QFI\xfb" */

enum {
    QCOW2_VERSION = 4,
    QCOW2_BACKING_FILE_OFFSET = 8,
    QCOW2_BACKING_FILE_SIZE = 16,
    QCOW2_CLUSTER_BITS = 20,
    QCOW2_SIZE = 24,
    QCOW2_CRYPT_METHOD = 32,
    QCOW2_L1_SIZE = 36,
    QCOW2_L1_TABLE_OFFSET = 40,
    QCOW2_REFCOUNT_TABLE_OFFSET = 48,
    QCOW2_REFCOUNT_TABLE_CLUSTERS = 56,
    QCOW2_NB_SNAPSHOTS = 60,
    QCOW2_SNAPSHOTS_OFFSET = 64,
    QCOW2_V2_HEADER_LENGTH = 72,
    QCOW2_INCOMPATIBLE_FEATURES = 72,
    QCOW2_COMPATIBLE_FEATURES = 80,
    QCOW2_AUTOCLEAR_FEATURES = 88,
    QCOW2_REFCOUNT_ORDER = 96,
    QCOW2_HEADER_LENGTH = 100,
    QCOW2_V3_HEADER_LENGTH_MIN = 104,
    QCOW2_V3_HEADER_LENGTH = 112,  /* with compression_type and padding */
};

#define QCOW2_INCOMPAT_DATA_FILE (G_GUINT64_CONSTANT(1) << 2)
#define QCOW2_INCOMPAT_EXTENDED_L2 (G_GUINT64_CONSTANT(1) << 4)
/* dirty, corrupt, external data file, compression type, extended L2 entries */
#define QCOW2_INCOMPAT_KNOWN G_GUINT64_CONSTANT(0x1f)

#define QCOW2_EXT_END 0U
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acaU

#define QCOW2_CLUSTER_BITS_MIN 9
#define QCOW2_CLUSTER_BITS_MAX 21
#define QCOW2_EXTENDED_L2_BITS_MIN 14
#define QCOW2_BACKING_FILE_MAX 1023
#define QCOW2_BACKING_FORMAT_MAX 16
#define QCOW2_L1_BYTES_MAX (32U * 1024 * 1024)
#define QCOW2_REFTABLE_BYTES_MAX (8U * 1024 * 1024)

/* Clusters that one L2 table maps: its entries have 8 bytes, extended ones 16. */
static inline guint64
virImageQcow2L2Entries(guint cluster_bits, gboolean extended_l2)
{
    return (G_GUINT64_CONSTANT(1) << cluster_bits) / (extended_l2 ? 16 : 8);
}

/* Entries of the L1 table that map @size bytes, @size up to G_MAXINT64. */
static inline guint64
virImageQcow2L1Entries(guint64 size, guint cluster_bits, guint64 l2_entries)
{
    guint64 bytes_per_entry = l2_entries << cluster_bits;

    return size / bytes_per_entry + !!(size % bytes_per_entry);
}
