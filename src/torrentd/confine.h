/*
 * confine.h: system calls that this program never needs
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* From now on starting a program, tracing another process, mounting, loading code into the
 * kernel and the like fail with EPERM in this process and what it forks, and the kernel's audit
 * log tells of the attempt.  FALSE with @error where the kernel cannot do that, or nothing is known
 * of this architecture. */
gboolean virTorrentConfineCalls(GError **error);

G_END_DECLS
