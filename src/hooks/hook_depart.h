/*
 * hook_depart.h: what the destination of a migration has to know
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* @changed: the domain in @xml with what its disks stand on, for g_free(), or NULL
 * where there is nothing to tell.  @socket is used only when a disk lies in a
 * torrentpool or in a pool of a type that is not known here.  FALSE with @error. */
gboolean virHookDepart(const char *xml,
                       gsize len,
                       const char *socket,
                       char **changed,
                       GError **error);

G_END_DECLS
