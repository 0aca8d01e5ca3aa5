/*
 * hook_client.h: what the hook asks of virttorrentd
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The contract is src/torrentd/org.libvirt.Torrentd1.xml.  Nothing is
 * connected before the first question.  All calls are bounded in time.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct _VirHookClient VirHookClient;

VirHookClient *virHookClientNew(const char *socket);
void virHookClientFree(VirHookClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirHookClient, virHookClientFree)

/* Whether somebody answers at the socket. */
gboolean virHookClientConnect(VirHookClient *client, GError **error);

/* The target directory of the open pool called @name; NULL without @error: there is none. */
char *virHookClientPoolTarget(VirHookClient *client, const char *name, GError **error);

/* The uuid of the open pool whose target is the directory @dir, whatever way
 * it is written; NULL without @error: there is none. */
char *virHookClientPoolUuid(VirHookClient *client, const char *dir, GError **error);

/* Fetch this one first.  FALSE without @error: virttorrentd does not know it. */
gboolean virHookClientPrioritize(VirHookClient *client, const char *uuid, const char *name, GError **error);

/* Begin to fetch @name from @magnet, unless it is known already. */
gboolean virHookClientFetch(VirHookClient *client, const char *uuid, const char *name,
                            const char *magnet, GError **error);

typedef struct {
    char *state;
    char *error;                 /* the reason, in state failed */
    double progress;             /* percent */
    char *magnet;                /* NULL: not known yet */
} VirHookVolume;

void virHookVolumeFree(VirHookVolume *volume);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirHookVolume, virHookVolumeFree)

/* NULL without @error: virttorrentd does not know it. */
VirHookVolume *virHookClientGetVolume(VirHookClient *client, const char *uuid, const char *name, GError **error);

/* Sleeps until some volume changes its state, at most @ms. */
void virHookClientSleep(VirHookClient *client, guint ms);

G_END_DECLS
