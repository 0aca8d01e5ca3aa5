/*
 * image.h: virtual disk images, as far as the pool has to understand them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Compiled into virttorrentd, into the hook and, within libvirt's tree, into
 * the storage backend: GLib only, no libvirt, no process started.  Formats
 * are read from a descriptor the caller opened, with bounded reads; nothing a
 * header says is trusted.  qcow2 follows QEMU's docs/interop/qcow2.txt and
 * takes its field names from there.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

#define VIR_IMAGE_ERROR (virImageErrorQuark())
GQuark virImageErrorQuark(void);

typedef enum {
    VIR_IMAGE_ERROR_FAILED,      /* a system call did, message has its reason */
    VIR_IMAGE_ERROR_CORRUPT,     /* a header that contradicts its format */
    VIR_IMAGE_ERROR_EXISTS,      /* the name is taken; nothing was changed */
    VIR_IMAGE_ERROR_INVALID,     /* arguments no image can be made of */
    VIR_IMAGE_ERROR_NO_SPACE,
} VirImageError;

typedef struct {
    const char *format;          /* static: "qcow2", "raw", "vpc", "vmdk", "qed", "qcow", "vhdx", "vdi" */
    guint64 capacity;            /* virtual size, bytes */
    char *backing_file;          /* as the header stores it; NULL: standalone */
    char *backing_format;        /* as the header stores it; NULL: not told */
    gboolean external;           /* guest data lies in another file that is not a backing file
                                  * (qcow2 external data file, vmdk extents, ...) */
    guint cluster_bits;          /* qcow2 only */
} VirImageInfo;

void virImageInfoFree(VirImageInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirImageInfo, virImageInfoFree)

/* What the file behind @fd is, by its content.  Whatever has no known magic is
 * raw with the file's length as capacity. Returns NULL with @error set. */
VirImageInfo *virImageProbe(int fd, GError **error);

/* A master must not lead anywhere else: no backing file, no parent, no external data. */
gboolean virImageIsStandalone(const VirImageInfo *info);

/* What a clone gets where nobody asks for anything else: clusters of 128 KiB
 * with extended L2 entries, that is in 32 subclusters of 4 KiB.  A first write
 * of 4 KiB then copies nothing from the master, where it copies 60 KiB with
 * QEMU's own default, and the tables are no larger than those.  Measured by
 * ./bench io; docs/clones.rst has the figures.  Takes QEMU 5.2 or newer. */
#define VIR_IMAGE_OVERLAY_CLUSTER_BITS 17
#define VIR_IMAGE_OVERLAY_EXTENDED_L2 TRUE
/* Where extended L2 entries are not wanted: larger clusters copy more. */
#define VIR_IMAGE_OVERLAY_CLUSTER_BITS_PLAIN 16

typedef enum {
    VIR_IMAGE_EXTENDED_L2_DEFAULT = 0,  /* as above if cluster_bits is 0, else off */
    VIR_IMAGE_EXTENDED_L2_ON,
    VIR_IMAGE_EXTENDED_L2_OFF,
} VirImageExtendedL2;

typedef enum {
    VIR_IMAGE_OVERLAY_QCOW2 = 0,
    VIR_IMAGE_OVERLAY_VHD,       /* differencing VHD: not for QEMU, which reads
                                  * zeros from it where its parent has data */
} VirImageOverlayFormat;

typedef struct {
    VirImageOverlayFormat format;
    int backing_fd;              /* VHD only: the parent, a fixed or dynamic VHD, open for reading */
    guint64 capacity;            /* virtual size, bytes; rounded up to 512; VHD: that of the parent */
    const char *backing_file;    /* stored as given; at most 1023 bytes */
    const char *backing_format;  /* recorded always */
    guint cluster_bits;          /* 0: VIR_IMAGE_OVERLAY_CLUSTER_BITS, or _PLAIN; qcow2 only */
    VirImageExtendedL2 extended_l2; /* qcow2 only */
    mode_t mode;                 /* of the new file */
    gint64 uid, gid;             /* -1: as the process */
} VirImageOverlayOptions;

/* Whether a qcow2 overlay can have clusters of @cluster_size bytes (0: by
 * default) with these entries; VIR_IMAGE_ERROR_INVALID if not. */
gboolean virImageOverlayCheckClusters(guint64 cluster_size,
                                      VirImageExtendedL2 extended_l2,
                                      GError **error);

/* Makes the overlay @name, qcow2 v3 or VHD, in the directory @dirfd: written whole under
 * a temporary name (O_TMPFILE where the file system has it), then linked; an
 * existing @name is never replaced.  A crash leaves either no volume or a whole one. */
gboolean virImageOverlayCreate(int dirfd,
                               const char *name,
                               const VirImageOverlayOptions *options,
                               GError **error);

/* Gives the VHD behind @fd, open for both, which is a copy of another, an identity
 * of its own, and brings it to the disk. */
gboolean virImageVhdRenew(int fd, GError **error);

/* Whether somebody has the file open for writing: a process on this host (a
 * file lease tells), or a QEMU anywhere that shares its locks (QEMU's image
 * locks, byte 101: shared write permission taken).  @fd is open for reading. */
gboolean virImageIsInUse(int fd);

/* What happens next on the same file system comes after the content of the file,
 * whenever the power fails; see image_sync.c. */
int virImageSyncContent(int fd, gboolean *sync_name);

G_END_DECLS
