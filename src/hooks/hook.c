/*
 * hook.c: virt-torrentpool-hook, called by libvirt around a guest's life
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One program for /etc/libvirt/hooks/qemu.d/ and libxl.d/: it is called as
 *
 *     virt-torrentpool-hook GUEST OPERATION SUB-OPERATION EXTRA < DOMAIN-XML
 *
 * Rules:
 *  - only an operation in the table can fail: a failing 'reconnect' would kill
 *    a running guest, and operations that are not known today must not either;
 *  - nothing on stdout but a changed domain XML, of 'migrate begin' and
 *    'migrate-out begin': libvirt takes all that is there for one;
 *  - one sentence on stderr where it fails: libvirt shows it to its client;
 *  - libvirt is never called: it waits for us.
 */

#include <config.h>

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hook_check.h"
#include "hook_depart.h"
#include "hook_domain.h"
#include "hook_made.h"
#include "hook_migrate.h"
#include "hook_xen.h"
#include "i18n.h"

typedef gboolean (*VirHookFunc)(const char *guest, const VirHookPlaces *places, GError **error);


/* All of stdin, but no more than a domain can have. */
static char *
virHookReadDomain(gsize *len, GError **error)
{
    g_autoptr(GString) xml = g_string_new(NULL);
    char buf[8192];

    while (xml->len <= VIR_HOOK_DOMAIN_MAX) {
        ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_DOMAIN,
                        _("cannot read the domain XML: %1$s"), g_strerror(errno));
            return NULL;
        }
        if (n == 0)
            break;
        g_string_append_len(xml, buf, n);
    }

    *len = xml->len;
    return g_string_free(g_steal_pointer(&xml), FALSE);
}


/* The environment's words are for tests; libvirt starts hooks without them. */
static char *
virHookSocket(void)
{
    const char *socket = g_getenv("VIRTTORRENTD_SOCKET");

    if (socket)
        return g_strdup(socket);
    if (geteuid() == 0)
        return g_strdup(RUNSTATEDIR "/libvirt/virttorrentd-sock");
    return g_build_filename(g_get_user_runtime_dir(), "libvirt", "virttorrentd-sock", NULL);
}


static char *
virHookConfig(void)
{
    const char *config = g_getenv("VIRTTORRENTD_CONFIG");

    if (config)
        return g_strdup(config);
    if (geteuid() == 0)
        return g_strdup(SYSCONFDIR "/libvirt/virttorrentd.conf");
    return g_build_filename(g_get_user_config_dir(), "libvirt", "virttorrentd.conf", NULL);
}


static void
virHookPlacesInit(VirHookPlaces *places)
{
    const char *run_dir = g_getenv("VIRT_TORRENTPOOL_RUN");
    const char *status_dir = g_getenv("VIRT_TORRENTPOOL_STATUS");
    const char *base = geteuid() == 0 ? RUNSTATEDIR : g_get_user_runtime_dir();

    places->run_dir = run_dir ? g_strdup(run_dir) : g_build_filename(base, "libvirt", "virt-torrentpool-hook", NULL);
    if (status_dir)
        places->status_dir = g_strdup(status_dir);
    else
        places->status_dir = g_build_filename(base, "libvirt", "qemu", geteuid() == 0 ? "" : "run", NULL);
}


static gboolean
virHookMigrateBegin(const char *guest, const VirHookPlaces *places, GError **error)
{
    g_autofree char *xml = NULL;
    g_autofree char *socket = virHookSocket();
    g_autofree char *config = virHookConfig();
    g_autofree char *changed = NULL;
    g_autofree char *uuid = NULL;
    gsize len = 0;

    if (!(xml = virHookReadDomain(&len, error)))
        return FALSE;

    uuid = virHookDomainUuid(xml, len);
    virHookMadeSweep(places, guest, uuid);
    if (!virHookMigrate(guest, xml, len, socket, config, places, &changed, error))
        return FALSE;
    if (changed)
        fputs(changed, stdout);
    return TRUE;
}


static gboolean
virHookMigrateOutBegin(const char *guest G_GNUC_UNUSED, const VirHookPlaces *places G_GNUC_UNUSED, GError **error)
{
    g_autofree char *xml = NULL;
    g_autofree char *socket = virHookSocket();
    g_autofree char *changed = NULL;
    gsize len = 0;

    if (!(xml = virHookReadDomain(&len, error)) ||
        !virHookDepart(xml, len, socket, &changed, error))
        return FALSE;
    if (changed)
        fputs(changed, stdout);
    return TRUE;
}


/* The guest of Xen runs: it must have its disks, if one of them is ours. */
static gboolean
virHookXenStarted(const char *guest, guint id, const char *xml, gsize len, GError **error)
{
    const char *xenstore = g_getenv("VIRT_TORRENTPOOL_XENSTORE");
    const char *logs = g_getenv("VIRT_TORRENTPOOL_XEN_LOGS");
    g_autofree char *socket = virHookSocket();
    g_autofree char *log = g_strdup_printf("%s/qemu-dm-%s.log", logs ? logs : "/var/log/xen", guest);
    g_autoptr(GPtrArray) disks = virHookDomainDisks(xml, len, error);

    if (!disks)
        return FALSE;
    return !virHookDisksPooled(disks, socket) ||
        virHookXenOpened(id, log, xenstore ? xenstore : "/dev/xen/xenbus", VIR_HOOK_XEN_SECONDS, error);
}


static gboolean
virHookStartedBegin(const char *guest, const VirHookPlaces *places, GError **error)
{
    g_autofree char *xml = NULL;
    gsize len = 0;
    guint id;

    if (!(xml = virHookReadDomain(&len, error)))
        return FALSE;
    if (virHookDomainXenId(xml, len, &id))
        return virHookXenStarted(guest, id, xml, len, error);
    return virHookMadeStarted(places, guest, error);
}


/* Nothing of this can fail: the guest is gone. */
static gboolean
virHookStoppedEnd(const char *guest, const VirHookPlaces *places, GError **error G_GNUC_UNUSED)
{
    virHookMadeStopped(places, guest);
    virHookMadeSweep(places, NULL, NULL);
    return TRUE;
}


static gboolean
virHookPrepareBegin(const char *guest, const VirHookPlaces *places, GError **error)
{
    g_autofree char *xml = NULL;
    g_autofree char *socket = virHookSocket();
    g_autofree char *config = virHookConfig();
    g_autoptr(GPtrArray) disks = NULL;
    gsize len = 0;

    virHookMadeSweep(places, NULL, NULL);
    virHookMadePrepare(places, guest);
    if (!(xml = virHookReadDomain(&len, error)) ||
        !(disks = virHookDomainDisks(xml, len, error)))
        return FALSE;

    return virHookPrepare(disks, socket, config, error);
}


/* Whatever is not here succeeds and does nothing. */
static const struct {
    const char *operation;
    const char *sub_operation;
    VirHookFunc func;
} hookOperations[] = {
    { "migrate", "begin", virHookMigrateBegin },
    { "migrate-out", "begin", virHookMigrateOutBegin },
    { "prepare", "begin", virHookPrepareBegin },
    { "started", "begin", virHookStartedBegin },
    { "stopped", "end", virHookStoppedEnd },
};


static int
virHookRun(const char *guest, const char *operation, const char *sub_operation)
{
    g_auto(VirHookPlaces) places = { NULL, NULL };
    gsize i;

    virHookPlacesInit(&places);
    for (i = 0; i < G_N_ELEMENTS(hookOperations); i++) {
        g_autoptr(GError) error = NULL;

        if (!g_str_equal(hookOperations[i].operation, operation) ||
            !g_str_equal(hookOperations[i].sub_operation, sub_operation))
            continue;
        if (hookOperations[i].func(guest, &places, &error))
            continue;
        fprintf(stderr, _("torrentpool: guest '%1$s': %2$s\n"), guest, error->message);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}


static int
virHookUsage(const char *option)
{
    if (g_strcmp0(option, "--version") == 0) {
        printf("%s\n", PACKAGE_STRING);
        return EXIT_SUCCESS;
    }
    if (g_strcmp0(option, "--help") == 0) {
        printf(_("Usage: virt-torrentpool-hook GUEST OPERATION SUB-OPERATION EXTRA < DOMAIN-XML\n"
                 "       virt-torrentpool-hook --help | --version\n"
                 "\n"
                 "libvirt calls this from hooks/qemu.d and hooks/libxl.d; see virt-torrentpool-hook(8).\n"));
        return EXIT_SUCCESS;
    }
    fprintf(stderr, _("torrentpool: the hook takes a guest, an operation and a sub-operation (see --help)\n"));
    return EXIT_FAILURE;
}


int
main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    bindtextdomain("torrentpool", LOCALEDIR);

    if (argc < 4)
        return virHookUsage(argc == 2 ? argv[1] : NULL);
    return virHookRun(argv[1], argv[2], argv[3]);
}
