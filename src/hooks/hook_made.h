/*
 * hook_made.h: what the hook made for a guest that is to come
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* Where it is noted, and where libvirt keeps the status of running guests. */
typedef struct {
    char *run_dir;
    char *status_dir;
} VirHookPlaces;

void virHookPlacesClear(VirHookPlaces *places);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VirHookPlaces, virHookPlacesClear)

/* An overlay that 'migrate begin' made and no 'prepare begin' came for within
 * this time is removed: the migration went no further. */
#define VIR_HOOK_MADE_SECONDS 30

/* Notes that @paths (char *) were made for @guest just now. */
gboolean virHookMadeNote(const VirHookPlaces *places,
                         const char *guest,
                         const char *uuid,
                         GPtrArray *paths,
                         GError **error);

/* Removes what is left of migrations that went no further; of @again with its
 * @uuid, a guest that comes once more, or NULL, without waiting for the time to be over. */
void virHookMadeSweep(const VirHookPlaces *places, const char *again, const char *uuid);

/* 'prepare begin', 'started begin' and 'stopped end' of @guest. */
void virHookMadePrepare(const VirHookPlaces *places, const char *guest);
gboolean virHookMadeStarted(const VirHookPlaces *places, const char *guest, GError **error);
void virHookMadeStopped(const VirHookPlaces *places, const char *guest);

G_END_DECLS
