/*
 * hook_made.c: what the hook made for a guest that is to come
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An overlay that was made for a migration has to go when the migration fails,
 * and must never go once the guest ran on it.  libvirt tells a hook neither;
 * so a note is kept in the run directory, one file for each guest:
 *
 *     made      'migrate begin' made the overlays
 *     incoming  'prepare begin' followed within VIR_HOOK_MADE_SECONDS
 *     started   QEMU is up and waits for the guest's memory
 *     left      QEMU is gone.  The guest may have run, or libvirt forgot that there
 *               was a migration, as it does when the client or QEMU itself dies
 *
 * Removed is a file only if it is still the very one (device and inode), and
 *   - in made, incoming: if it was not written to since, or
 *   - in incoming, started: if the status that libvirt keeps of the guest, at
 *     the time when QEMU was stopped, says that it was coming in and paused.
 *   - in left: if it was not written to since, when the very guest (uuid) comes again
 *     from another host, which so has what counts.  It would be written over anyway,
 *     but for what the guest has discarded meanwhile.
 * Whatever is not as expected, keeps the file and drops the note.
 *
 * An empty overlay under a guest that does not bring its disk along would be
 * silent corruption.  'started begin' therefore looks into the same status and
 * ends every start but that of a migration that copies storage.
 */

#include <config.h>

#include "hook_made.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook_domain.h"
#include "i18n.h"
#include "image.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

/* libvirt's VIR_MIGRATE_NON_SHARED_DISK and _INC */
#define MIGRATE_COPIES (0x40 | 0x80)

#define GROUP "guest"

typedef struct {
    gboolean known;              /* there is a status that can be read */
    gboolean incoming;           /* a migration to this host is under way */
    gboolean copies;             /* ... which copies storage */
    gboolean waiting;            /* the guest itself has not run yet */
} VirHookStatus;


void
virHookPlacesClear(VirHookPlaces *places)
{
    g_clear_pointer(&places->run_dir, g_free);
    g_clear_pointer(&places->status_dir, g_free);
}


/* Guests have names with anything in them. */
static char *
virHookMadeFile(const VirHookPlaces *places, const char *guest)
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, guest, -1);

    return g_build_filename(places->run_dir, sum, NULL);
}


static GKeyFile *
virHookMadeLoad(const char *file)
{
    g_autoptr(GKeyFile) note = g_key_file_new();

    if (!g_key_file_load_from_file(note, file, G_KEY_FILE_NONE, NULL))
        return NULL;
    return g_steal_pointer(&note);
}


static char *
virHookXmlValue(xmlNode *node, const char *name)
{
    xmlChar *value = node ? xmlGetNoNsProp(node, BAD_CAST name) : NULL;
    char *copy = g_strdup(value ? (const char *)value : "");

    xmlFree(value);
    return copy;
}


static void
virHookStatusParse(xmlNode *root, VirHookStatus *status)
{
    g_autofree char *state = virHookXmlValue(root, "state");
    g_autofree char *reason = virHookXmlValue(root, "reason");
    g_autofree char *async = NULL;
    g_autofree char *flags = NULL;
    xmlNode *job = root->children;

    while (job && !xmlStrEqual(job->name, BAD_CAST "job"))
        job = job->next;
    async = virHookXmlValue(job, "async");
    flags = virHookXmlValue(job, "flags");

    status->known = TRUE;
    status->incoming = g_str_equal(async, "migration in");
    status->copies = status->incoming && (g_ascii_strtoull(flags, NULL, 16) & MIGRATE_COPIES);
    status->waiting = status->incoming && g_str_equal(state, "paused") &&
        (g_str_equal(reason, "migration") || g_str_equal(reason, "starting up"));
}


static VirHookStatus
virHookStatusRead(const VirHookPlaces *places, const char *guest)
{
    g_autofree char *name = g_strdup_printf("%s.xml", guest);
    g_autofree char *file = g_build_filename(places->status_dir, name, NULL);
    g_autofree char *text = NULL;
    g_autoptr(xmlDoc) doc = NULL;
    VirHookStatus status = { 0 };
    gsize len = 0;

    if (strchr(guest, '/') || !g_file_get_contents(file, &text, &len, NULL) || len > VIR_HOOK_DOMAIN_MAX)
        return status;

    doc = xmlReadMemory(text, len, "status.xml", NULL,
                        XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (doc && xmlDocGetRootElement(doc) &&
        xmlStrEqual(xmlDocGetRootElement(doc)->name, BAD_CAST "domstatus"))
        virHookStatusParse(xmlDocGetRootElement(doc), &status);
    return status;
}


/* The file's identity; with the time of the last change also its content's. */
static void
virHookMadeIdentity(const struct stat *sb, char **identity, char **content)
{
    *identity = g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT,
                                (guint64)sb->st_dev, (guint64)sb->st_ino);
    *content = g_strdup_printf("%" G_GINT64_FORMAT ":%" G_GINT64_FORMAT ".%09ld",
                               (gint64)sb->st_size, (gint64)sb->st_mtim.tv_sec, sb->st_mtim.tv_nsec);
}


gboolean
virHookMadeNote(const VirHookPlaces *places, const char *guest, const char *uuid, GPtrArray *paths, GError **error)
{
    g_autoptr(GKeyFile) note = g_key_file_new();
    g_autofree char *file = virHookMadeFile(places, guest);
    guint i;

    g_key_file_set_string(note, GROUP, "phase", "made");
    g_key_file_set_string(note, GROUP, "uuid", uuid);
    g_key_file_set_int64(note, GROUP, "time", g_get_monotonic_time());
    for (i = 0; i < paths->len; i++) {
        g_autofree char *group = g_strdup_printf("file%u", i);
        g_autofree char *identity = NULL;
        g_autofree char *content = NULL;
        struct stat sb;

        if (lstat(g_ptr_array_index(paths, i), &sb) < 0) {
            g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_MISSING,
                        _("'%1$s' was made and is gone"), (char *)g_ptr_array_index(paths, i));
            return FALSE;
        }
        virHookMadeIdentity(&sb, &identity, &content);
        g_key_file_set_string(note, group, "path", g_ptr_array_index(paths, i));
        g_key_file_set_string(note, group, "identity", identity);
        g_key_file_set_string(note, group, "content", content);
    }

    if (g_mkdir_with_parents(places->run_dir, 0700) < 0) {
        g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_MISSING,
                    _("cannot make the directory '%1$s': %2$s"), places->run_dir, g_strerror(errno));
        return FALSE;
    }
    return g_key_file_save_to_file(note, file, error);
}


/* Removes @path if it is still what was made; @content NULL: whatever was written to it since. */
static void
virHookMadeUnlink(const char *path, const char *identity, const char *content)
{
    g_autofree char *now_identity = NULL;
    g_autofree char *now_content = NULL;
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return;
    if (fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) && !virImageIsInUse(fd)) {
        virHookMadeIdentity(&sb, &now_identity, &now_content);
        if (g_strcmp0(now_identity, identity) == 0 &&
            (!content || g_str_equal(now_content, content)))
            unlink(path);
    }
    g_close(fd, NULL);
}


/* Removes the files of @note; @written: also those that were written to. */
static void
virHookMadeRemove(GKeyFile *note, gboolean written)
{
    g_auto(GStrv) groups = g_key_file_get_groups(note, NULL);
    gsize i;

    for (i = 0; groups[i]; i++) {
        g_autofree char *path = g_key_file_get_string(note, groups[i], "path", NULL);
        g_autofree char *identity = g_key_file_get_string(note, groups[i], "identity", NULL);
        g_autofree char *content = g_key_file_get_string(note, groups[i], "content", NULL);

        if (path && identity && content)
            virHookMadeUnlink(path, identity, written ? NULL : content);
    }
}


static gboolean
virHookMadeIn(GKeyFile *note, const char *phase)
{
    g_autofree char *now = g_key_file_get_string(note, GROUP, "phase", NULL);

    return g_strcmp0(now, phase) == 0;
}


/* If the next phase cannot be noted, there is no note: the file stays. */
static void
virHookMadeEnter(GKeyFile *note, const char *file, const char *phase)
{
    g_key_file_set_string(note, GROUP, "phase", phase);
    if (!g_key_file_save_to_file(note, file, NULL))
        unlink(file);
}


/* Removes what @note tells if its time is over; @again: of a guest that comes
 * again, with @uuid. */
static void
virHookMadeSweepOne(GKeyFile *note, const char *file, gboolean again, const char *uuid)
{
    g_autofree char *noted = g_key_file_get_string(note, GROUP, "uuid", NULL);
    gint64 age = g_get_monotonic_time() - g_key_file_get_int64(note, GROUP, "time", NULL);

    if (virHookMadeIn(note, "made") && (again || age >= VIR_HOOK_MADE_SECONDS * G_TIME_SPAN_SECOND)) {
        virHookMadeRemove(note, FALSE);
        unlink(file);
    } else if (virHookMadeIn(note, "left") && again) {
        if (g_strcmp0(noted, uuid) == 0)
            virHookMadeRemove(note, FALSE);
        unlink(file);
    }
}


void
virHookMadeSweep(const VirHookPlaces *places, const char *again, const char *uuid)
{
    g_autofree char *now = again ? virHookMadeFile(places, again) : NULL;
    g_autoptr(GDir) dir = g_dir_open(places->run_dir, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(places->run_dir, name, NULL);
        g_autoptr(GKeyFile) note = virHookMadeLoad(file);

        if (note)
            virHookMadeSweepOne(note, file, g_strcmp0(file, now) == 0, uuid);
    }
}


void
virHookMadePrepare(const VirHookPlaces *places, const char *guest)
{
    g_autofree char *file = virHookMadeFile(places, guest);
    g_autoptr(GKeyFile) note = virHookMadeLoad(file);

    if (!note)
        return;
    if (virHookMadeIn(note, "made"))
        virHookMadeEnter(note, file, "incoming");
    else
        unlink(file);
}


gboolean
virHookMadeStarted(const VirHookPlaces *places, const char *guest, GError **error)
{
    g_autofree char *file = virHookMadeFile(places, guest);
    g_autoptr(GKeyFile) note = virHookMadeLoad(file);

    if (!note || !virHookMadeIn(note, "incoming"))
        return TRUE;

    if (!virHookStatusRead(places, guest).copies) {
        g_set_error_literal(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_REFUSED,
                            _("its disk was made empty for a migration that copies storage, and this is none:"
                              " migrate with --copy-storage-inc"));
        return FALSE;
    }
    virHookMadeEnter(note, file, "started");
    return TRUE;
}


/* The files stay, as they are now. */
static void
virHookMadeLeave(GKeyFile *note, const char *file)
{
    g_auto(GStrv) groups = g_key_file_get_groups(note, NULL);
    gsize i;

    for (i = 0; groups[i]; i++) {
        g_autofree char *path = g_key_file_get_string(note, groups[i], "path", NULL);
        g_autofree char *identity = NULL;
        g_autofree char *content = NULL;
        struct stat sb;

        if (!path || lstat(path, &sb) < 0)
            continue;
        /* one of another identity stays what it is: not ours */
        virHookMadeIdentity(&sb, &identity, &content);
        g_key_file_set_string(note, groups[i], "content", content);
    }
    virHookMadeEnter(note, file, "left");
}


void
virHookMadeStopped(const VirHookPlaces *places, const char *guest)
{
    g_autofree char *file = virHookMadeFile(places, guest);
    g_autoptr(GKeyFile) note = virHookMadeLoad(file);
    gboolean never_ran;

    /* made: it stopped before a new one comes, nothing to do with that one */
    if (!note || virHookMadeIn(note, "made") || virHookMadeIn(note, "left"))
        return;

    never_ran = virHookStatusRead(places, guest).waiting;
    if (!never_ran && virHookMadeIn(note, "started")) {
        virHookMadeLeave(note, file);
        return;
    }
    virHookMadeRemove(note, never_ran);
    unlink(file);
}
