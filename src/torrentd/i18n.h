/*
 * i18n.h: messages of the daemon in the user's language
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * _() looks a message up in the project's own catalogue, so that code which
 * runs inside another program (the tests, say) needs no textdomain() call.
 * N_() only marks one for the catalogue.
 */

#pragma once

#include <libintl.h>

#define _(s) dgettext("torrentpool", s)
#define N_(s) s
