/*
 * log.c: where messages go
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * To the journal with their fields where stderr is the journal, else to stderr
 * as a line.  One line per message whatever is in it: names that come from a
 * network must not be able to forge another one.
 */

#include <config.h>

#include "log.h"

#include <string.h>
#include <unistd.h>

static const char *logRole = "";
static gboolean logVerbose;

static const char *
virTorrentLogField(const GLogField *fields, gsize n, const char *key)
{
    gsize i;

    for (i = 0; i < n; i++) {
        if (strcmp(fields[i].key, key) == 0 && fields[i].length == -1)
            return fields[i].value;
    }
    return "";
}

static const char *
virTorrentLogLevel(GLogLevelFlags level)
{
    if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
        return "error";
    if (level & G_LOG_LEVEL_WARNING)
        return "warning";
    if (level & (G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO))
        return "info";
    return "debug";
}

static GLogWriterOutput
virTorrentLogWrite(GLogLevelFlags level,
                   const GLogField *fields,
                   gsize n,
                   gpointer opaque G_GNUC_UNUSED)
{
    g_autoptr(GDateTime) now = NULL;
    g_autofree char *time = NULL;
    g_autofree char *text = NULL;
    g_autofree char *line = NULL;

    if (!logVerbose && (level & (G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG)))
        return G_LOG_WRITER_HANDLED;
    if (g_log_writer_is_journald(STDERR_FILENO))
        return g_log_writer_journald(level, fields, n, NULL);
    now = g_date_time_new_now_local();
    time = now ? g_date_time_format(now, "%F %T") : NULL;
    text = g_strdup(virTorrentLogField(fields, n, "MESSAGE"));
    line = g_strdup_printf("%s %s[%d] %s: %s\n", time ? time : "", logRole, (int) getpid(),
                           virTorrentLogLevel(level), g_strdelimit(text, "\n\r\t", ' '));
    if (write(STDERR_FILENO, line, strlen(line)) < 0)
        return G_LOG_WRITER_UNHANDLED;
    return G_LOG_WRITER_HANDLED;
}

void
virTorrentLogInit(const char *role, gboolean verbose)
{
    gboolean first = !*logRole;

    logRole = role;
    logVerbose = verbose;
    if (first)
        g_log_set_writer_func(virTorrentLogWrite, NULL, NULL);
}
