/*
 * hook_xen.h: whether a Xen guest has its disks
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* How long the device model may take to open a disk; it is far quicker, and says
 * so where it cannot. */
#define VIR_HOOK_XEN_SECONDS 60

/* Waits until the device model of the guest with this domain @id has opened each
 * of its disks, @seconds at most.  FALSE with VIR_HOOK_ERROR_MISSING: one sentence
 * that names the first it did not open, and why if its @log tells.  @xenstore: its
 * device or socket; where it does not answer, TRUE. */
gboolean virHookXenOpened(guint id,
                          const char *log,
                          const char *xenstore,
                          guint seconds,
                          GError **error);

G_END_DECLS
