/*
 * hook_migrate.h: the destination of a migration, made ready
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

#include "hook_made.h"

G_BEGIN_DECLS

/* Makes the overlays that the guest in @xml comes to, on masters that are
 * fetched where they have to be.  @changed: the domain as it has to be here, for
 * g_free(), or NULL if it stays as it is.  FALSE with @error: nothing was left. */
gboolean virHookMigrate(const char *guest,
                        const char *xml,
                        gsize len,
                        const char *socket,
                        const char *config,
                        const VirHookPlaces *places,
                        char **changed,
                        GError **error);

G_END_DECLS
