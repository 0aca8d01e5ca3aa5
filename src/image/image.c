/*
 * image.c: what an image file is, told by its content
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The first probe that knows the magic decides.  What none of them knows is
 * raw, also a LUKS volume: as far as the pool is concerned its bytes are the
 * guest's.  A file that has a magic and then makes no sense is an error, never
 * raw: QEMU would be told the format by its magic elsewhere.
 */

#include <config.h>

#include "image_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

static const VirImageProbeFunc virImageProbes[] = {
    virImageProbeQcow2,
    virImageProbeQcow,
    virImageProbeQed,
    virImageProbeVhdx,
    virImageProbeVdi,
    virImageProbeVmdk,
    virImageProbeVpc,
};


GQuark
virImageErrorQuark(void)
{
    return g_quark_from_static_string("vir-image-error");
}


void
virImageInfoFree(VirImageInfo *info)
{
    if (!info)
        return;

    g_free(info->backing_file);
    g_free(info->backing_format);
    g_free(info);
}


gboolean
virImageIsStandalone(const VirImageInfo *info)
{
    return !info->backing_file && !info->external;
}


gboolean
virImageCorrupt(GError **error, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list ap;

    va_start(ap, format);
    message = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error_literal(error, VIR_IMAGE_ERROR, VIR_IMAGE_ERROR_CORRUPT, message);
    return FALSE;
}


gboolean
virImageSystemError(GError **error, int err, const char *what)
{
    VirImageError code = VIR_IMAGE_ERROR_FAILED;

    if (err == ENOSPC || err == EDQUOT)
        code = VIR_IMAGE_ERROR_NO_SPACE;
    else if (err == EEXIST)
        code = VIR_IMAGE_ERROR_EXISTS;

    g_set_error(error, VIR_IMAGE_ERROR, code, "%s: %s", what, g_strerror(err));
    return FALSE;
}


gssize
virImageReadSome(const VirImageFile *file,
                 guint64 offset,
                 void *buf,
                 gsize len,
                 GError **error)
{
    gsize done = 0;

    /* beyond what off_t can say there is no file either */
    if (offset >= file->length)
        return 0;

    while (done < len) {
        ssize_t n = pread(file->fd, (guint8 *)buf + done, len - done, offset + done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            virImageSystemError(error, errno, _("cannot read the image"));
            return -1;
        }
        if (n == 0)
            break;
        done += n;
    }

    return done;
}


gboolean
virImageRead(const VirImageFile *file,
             guint64 offset,
             void *buf,
             gsize len,
             GError **error)
{
    gssize got = virImageReadSome(file, offset, buf, len, error);

    if (got < 0)
        return FALSE;
    if ((gsize)got < len)
        return virImageCorrupt(error, _("the image ends before the %1$zu bytes at offset %2$llu that its header points to"),
                               len, (unsigned long long)offset);
    return TRUE;
}


char *
virImageReadName(const VirImageFile *file,
                 guint64 offset,
                 gsize len,
                 GError **error)
{
    g_autofree char *name = NULL;

    if (len > VIR_IMAGE_READ_MAX) {
        virImageCorrupt(error, _("the image names a backing file with %1$zu bytes"), len);
        return NULL;
    }

    name = g_malloc0(len + 1);
    if (!virImageRead(file, offset, name, len, error))
        return NULL;

    if (strlen(name) != len) {
        virImageCorrupt(error, _("the name of the image's backing file has a NUL byte in it"));
        return NULL;
    }
    return g_steal_pointer(&name);
}


static gboolean
virImageFileOpen(VirImageFile *file, int fd, GError **error)
{
    off_t end = lseek(fd, 0, SEEK_END);
    gssize got;

    if (end < 0)
        return virImageSystemError(error, errno, _("cannot get the length of the image"));

    file->fd = fd;
    file->length = end;
    if ((got = virImageReadSome(file, 0, file->head, sizeof(file->head), error)) < 0)
        return FALSE;
    file->head_length = got;
    return TRUE;
}


/**
 * virImageProbe:
 * @fd: descriptor open for reading; its offset is not preserved
 * @error: VIR_IMAGE_ERROR_CORRUPT or _FAILED
 *
 * Returns what the file is, to be freed with virImageInfoFree(), or NULL.
 */
VirImageInfo *
virImageProbe(int fd, GError **error)
{
    g_autofree VirImageFile *file = g_new0(VirImageFile, 1);
    g_autoptr(VirImageInfo) info = g_new0(VirImageInfo, 1);
    gsize i;

    if (!virImageFileOpen(file, fd, error))
        return NULL;

    for (i = 0; i < G_N_ELEMENTS(virImageProbes); i++) {
        GError *local = NULL;

        if (virImageProbes[i](file, info, &local))
            return g_steal_pointer(&info);
        if (local) {
            g_propagate_error(error, local);
            return NULL;
        }
    }

    info->format = "raw";
    info->capacity = file->length;
    return g_steal_pointer(&info);
}
