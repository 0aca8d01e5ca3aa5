/*
 * storage_torrentpool_client.h: what libvirt asks of virttorrentd
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <gio/gio.h>

#include "internal.h"
#include "storage_conf.h"

/* What virttorrentd knows of a volume. */
typedef struct _virStorageTorrentVolume virStorageTorrentVolume;
struct _virStorageTorrentVolume {
    char *name;
    virStorageVolTorrentState state;
    double progress;             /* percent of what @state does */
    char *format;                /* NULL: not known */
    unsigned long long capacity; /* bytes; 0: not known */
    unsigned long long size;     /* length of the file, bytes; 0: not known */
    unsigned long long done;     /* bytes here and verified */
    char *key;                   /* NULL: not known */
    char *magnet;                /* NULL: not known */
    char *error;                 /* state failed only */
};

void
virStorageTorrentVolumeFree(virStorageTorrentVolume *vol);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStorageTorrentVolume, virStorageTorrentVolumeFree);

/* All of these return false with @error set on failure. None of them waits
 * for longer than a few seconds. */

bool
virStorageTorrentClientOpenPool(const char *uuid,
                                const char *name,
                                const char *target,
                                GVariant *options,
                                GError **error);

bool
virStorageTorrentClientClosePool(const char *uuid,
                                 bool purge,
                                 GError **error);

/* The directories of all open pools, NULL terminated */
bool
virStorageTorrentClientListTargets(char ***targets,
                                   GError **error);

/* Elements of @vols are virStorageTorrentVolume. */
bool
virStorageTorrentClientListVolumes(const char *uuid,
                                   GPtrArray **vols,
                                   GError **error);

bool
virStorageTorrentClientGetVolume(const char *uuid,
                                 const char *name,
                                 virStorageTorrentVolume **vol,
                                 GError **error);

bool
virStorageTorrentClientPublishVolume(const char *uuid,
                                     const char *name,
                                     const char *format,
                                     unsigned long long capacity,
                                     GError **error);

bool
virStorageTorrentClientFetchMagnet(const char *uuid,
                                   const char *name,
                                   const char *magnet,
                                   const char *format,
                                   unsigned long long capacity,
                                   GError **error);

bool
virStorageTorrentClientFetchMetainfo(const char *uuid,
                                     const char *metainfo,
                                     size_t len,
                                     char **name,
                                     GError **error);

bool
virStorageTorrentClientRemoveVolume(const char *uuid,
                                    const char *name,
                                    GError **error);

/* Whether virttorrentd said that it knows no such volume or no such pool */
bool
virStorageTorrentClientIsUnknown(const GError *error);

/* Whether virttorrentd was there to say no */
bool
virStorageTorrentClientIsRefusal(const GError *error);

/* One sentence, without the D-Bus name that GLib puts before it */
char *
virStorageTorrentClientErrorMessage(const GError *error);

void
virStorageTorrentClientReportError(const GError *error);
