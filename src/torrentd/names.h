/*
 * names.h: which names a volume may have
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A volume's name becomes a file name in the pool directory and, with a suffix
 * such as ".torrent", in the private directory below it.  What the local
 * administrator types is only kept from leaving the directory or hiding in it;
 * what comes from a network may besides not fool a person or a program that
 * reads it.  Every name is checked before it meets a path.
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* Bytes: NAME_MAX less the longest suffix and some room for temporary names. */
#define VIR_TORRENT_NAME_MAX 240

/* Both set @error (VIR_TORRENT_ENGINE_ERROR_INVALID_NAME) and return FALSE
 * where @name is refused; a refused name is quoted harmlessly in the message. */
gboolean virTorrentNameCheckLocal(const char *name, GError **error);
gboolean virTorrentNameCheckRemote(const char *name, GError **error);

G_END_DECLS
