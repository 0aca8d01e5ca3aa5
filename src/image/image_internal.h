/*
 * image_internal.h: what the files of src/image share
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Nobody else includes this.  A probe is given the first bytes of the file;
 * whatever else it wants it reads itself, at most VIR_IMAGE_READ_MAX at once.
 */

#pragma once

#include "image.h"

#include <libintl.h>
#include <string.h>

#define _(s) dgettext("torrentpool", s)

#define VIR_IMAGE_SECTOR 512

/* What each probe is given of the file's beginning. */
#define VIR_IMAGE_HEAD_SIZE 4096

/* No probe reads more in one go, whatever a header says. */
#define VIR_IMAGE_READ_MAX (1024 * 1024)

typedef struct {
    int fd;
    guint64 length;                    /* of the file, bytes */
    guint8 head[VIR_IMAGE_HEAD_SIZE];  /* zeros behind the file's end */
    gsize head_length;                 /* bytes of the file in @head */
} VirImageFile;

/* Fills @info when the file is of the probe's format: TRUE.  FALSE without
 * @error: some other format.  FALSE with @error: broken or unreadable. */
typedef gboolean (*VirImageProbeFunc)(const VirImageFile *file,
                                      VirImageInfo *info,
                                      GError **error);

gboolean virImageProbeQcow2(const VirImageFile *file, VirImageInfo *info, GError **error);
gboolean virImageProbeQcow(const VirImageFile *file, VirImageInfo *info, GError **error);
gboolean virImageProbeQed(const VirImageFile *file, VirImageInfo *info, GError **error);
gboolean virImageProbeVmdk(const VirImageFile *file, VirImageInfo *info, GError **error);
gboolean virImageProbeVpc(const VirImageFile *file, VirImageInfo *info, GError **error);
gboolean virImageProbeVhdx(const VirImageFile *file, VirImageInfo *info, GError **error);
gboolean virImageProbeVdi(const VirImageFile *file, VirImageInfo *info, GError **error);

/* Reads exactly @len bytes at @offset; a shorter file is VIR_IMAGE_ERROR_CORRUPT. */
gboolean virImageRead(const VirImageFile *file,
                      guint64 offset,
                      void *buf,
                      gsize len,
                      GError **error);

/* Reads up to @len bytes at @offset; returns how many there were, -1 with @error set. */
gssize virImageReadSome(const VirImageFile *file,
                        guint64 offset,
                        void *buf,
                        gsize len,
                        GError **error);

/* A file name out of a header: no NUL within, else VIR_IMAGE_ERROR_CORRUPT. */
char *virImageReadName(const VirImageFile *file,
                       guint64 offset,
                       gsize len,
                       GError **error);

/* Writes all of a differencing VHD into the empty file @fd. */
gboolean virImageVhdWrite(int fd, const VirImageOverlayOptions *options, GError **error);

gboolean virImagePwrite(int fd, const guint8 *buf, gsize len, guint64 offset, GError **error);

/* Sets VIR_IMAGE_ERROR_INVALID and returns FALSE. */
gboolean virImageInvalid(GError **error, const char *message);

/* Sets VIR_IMAGE_ERROR_CORRUPT and returns FALSE. */
gboolean virImageCorrupt(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Sets the error that errno value @err stands for and returns FALSE. */
gboolean virImageSystemError(GError **error, int err, const char *what);

static inline guint16
virImageGetBE16(const guint8 *p)
{
    return (guint16)((p[0] << 8) | p[1]);
}

static inline guint32
virImageGetBE32(const guint8 *p)
{
    return ((guint32)virImageGetBE16(p) << 16) | virImageGetBE16(p + 2);
}

static inline guint64
virImageGetBE64(const guint8 *p)
{
    return ((guint64)virImageGetBE32(p) << 32) | virImageGetBE32(p + 4);
}

static inline guint16
virImageGetLE16(const guint8 *p)
{
    return (guint16)((p[1] << 8) | p[0]);
}

static inline guint32
virImageGetLE32(const guint8 *p)
{
    return ((guint32)virImageGetLE16(p + 2) << 16) | virImageGetLE16(p);
}

static inline guint64
virImageGetLE64(const guint8 *p)
{
    return ((guint64)virImageGetLE32(p + 4) << 32) | virImageGetLE32(p);
}

static inline void
virImagePutBE16(guint8 *p, guint16 value)
{
    p[0] = value >> 8;
    p[1] = value & 0xff;
}

static inline void
virImagePutBE32(guint8 *p, guint32 value)
{
    virImagePutBE16(p, value >> 16);
    virImagePutBE16(p + 2, value & 0xffff);
}

static inline void
virImagePutBE64(guint8 *p, guint64 value)
{
    virImagePutBE32(p, value >> 32);
    virImagePutBE32(p + 4, value & 0xffffffff);
}
