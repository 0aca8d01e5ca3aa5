/*
 * conf.h: what virttorrentd.conf says
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * (Not config.h: that one is made by configure.)
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

#define VIR_TORRENT_CONF_GROUP "virttorrentd"

typedef struct {
    char *user;                  /* engine's user in system scope; "+UID" for a number */
    guint max_clients;           /* connections to the D-Bus socket at once */
    guint max_hashes;            /* files hashed at once, the others wait */
    guint hash_threads;          /* per file; 0: one per core */
    guint resume_interval;       /* seconds between savings of resume data */
    guint scrub_interval;        /* days until a master is read again; 0: never by itself */
    guint scrub_rate;            /* MiB/s */
    guint verity;                /* 1: fs-verity on masters where the file system has it */
    char *tls_dir;               /* certificates of private swarms */
} VirTorrentConf;

void virTorrentConfFree(VirTorrentConf *conf);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirTorrentConf, virTorrentConfFree)

VirTorrentConf *virTorrentConfNew(void);

/* Reads @file; one that is missing is an error only if @required.
 * G_KEY_FILE_ERROR or G_FILE_ERROR with a sentence that names @file. */
VirTorrentConf *virTorrentConfLoad(const char *file, gboolean required, GError **error);

/* One line of the table that code, sample file and manual are held to. */
typedef struct {
    const char *key;
    const char *fallback;        /* as written in the file */
    guint64 min, max;            /* numbers; both 0: a string */
    gsize offset;                /* in VirTorrentConf */
} VirTorrentConfOption;

extern const VirTorrentConfOption virTorrentConfOptions[];  /* ends with key NULL */

G_END_DECLS
