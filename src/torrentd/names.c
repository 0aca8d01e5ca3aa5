/*
 * names.c: which names a volume may have
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * See names.h.  Pure functions, no state.
 */

#include <config.h>

#include "names.h"

#include <string.h>

#include "engine.h"
#include "i18n.h"

/* What a name may not hold, beside the rules of its first byte. */
typedef gboolean (*virTorrentCharFunc)(gunichar c);

static gboolean
virTorrentCharIsControl(gunichar c)
{
    return g_unichar_type(c) == G_UNICODE_CONTROL;
}

/* Characters that change how the text around them is shown: with them
 * "exe.2wocq" can look like "qcow2.exe", or one line like two. */
static gboolean
virTorrentCharIsDeceptive(gunichar c)
{
    return virTorrentCharIsControl(c) ||
        c == 0x061c || c == 0x200e || c == 0x200f ||
        (c >= 0x2028 && c <= 0x202e) ||
        (c >= 0x2066 && c <= 0x2069);
}

static gboolean
virTorrentNameHas(const char *name, virTorrentCharFunc func)
{
    const char *p;

    for (p = name; *p; p = g_utf8_next_char(p)) {
        if (func(g_utf8_get_char(p)))
            return TRUE;
    }
    return FALSE;
}

/* For messages: bounded, and nothing in it that a terminal would obey. */
static char *
virTorrentNameQuote(const char *name)
{
    g_autofree char *head = g_strndup(name, 64);
    g_autofree char *valid = g_utf8_make_valid(head, -1);
    GString *out = g_string_new(NULL);
    const char *p;

    for (p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        g_string_append_unichar(out, virTorrentCharIsDeceptive(c) ? '?' : c);
    }
    if (strlen(name) > 64)
        g_string_append(out, "...");
    return g_string_free(out, FALSE);
}

static gboolean
virTorrentNameRefuse(const char *name, const char *why, GError **error)
{
    g_autofree char *quoted = virTorrentNameQuote(name);

    g_set_error(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_INVALID_NAME,
                _("volume name '%s' %s"), quoted, why);
    return FALSE;
}

gboolean
virTorrentNameCheckLocal(const char *name, GError **error)
{
    if (!name || !*name) {
        g_set_error_literal(error, VIR_TORRENT_ENGINE_ERROR,
                            VIR_TORRENT_ENGINE_ERROR_INVALID_NAME,
                            _("a volume name must not be empty"));
        return FALSE;
    }
    if (strchr(name, '/'))
        return virTorrentNameRefuse(name, _("must not contain '/'"), error);
    if (*name == '.')
        return virTorrentNameRefuse(name, _("must not begin with '.'"), error);
    if (strlen(name) > VIR_TORRENT_NAME_MAX)
        return virTorrentNameRefuse(name, _("is longer than 240 bytes"), error);
    if (!g_utf8_validate(name, -1, NULL))
        return virTorrentNameRefuse(name, _("is not valid UTF-8"), error);
    if (virTorrentNameHas(name, virTorrentCharIsControl))
        return virTorrentNameRefuse(name, _("must not contain control characters"), error);
    return TRUE;
}

gboolean
virTorrentNameCheckRemote(const char *name, GError **error)
{
    if (!virTorrentNameCheckLocal(name, error))
        return FALSE;
    if (*name == '-')
        return virTorrentNameRefuse(name, _("must not begin with '-'"), error);
    if (virTorrentNameHas(name, virTorrentCharIsDeceptive))
        return virTorrentNameRefuse(name, _("must not contain characters that change "
                                            "the direction of text"), error);
    return TRUE;
}
