/*
 * hook_domain.c: the disks of a guest, out of its domain XML
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libvirt wrote the XML, but parts of it are what a user defined.  A document
 * type is refused outright: libvirt never writes one, and without it there are
 * no entities.  libxml2's own limits (depth, name and text lengths) stay on.
 *
 * What a disk stands on, libvirt does not tell in the XML of a migration: it drops
 * backing stores that it found out by itself.  So it is taken from a <backingStore>
 * that the user wrote or from the domain's metadata,
 *
 *     <torrent:guest xmlns:torrent='http://libvirt.org/schemas/storagepool/torrent/1.0'>
 *       <torrent:disk target='vda' master='debian.qcow2' format='qcow2'
 *                     capacity='10737418240' magnet='magnet:?...'/>
 *     </torrent:guest>
 *
 * and, where these are silent, from a <migration> of the same form that the hook of
 * the source added.  It never outlives the migration: what it tells of a disk may not be
 * true of the next one.
 */

#include <config.h>

#include "hook_domain.h"

#include <libxml/parser.h>
#include <libxml/tree.h>

#include "i18n.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)


GQuark
virHookErrorQuark(void)
{
    return g_quark_from_static_string("vir-hook-error");
}


void
virHookDiskFree(VirHookDisk *disk)
{
    if (!disk)
        return;

    g_free(disk->path);
    g_free(disk->pool);
    g_free(disk->volume);
    g_free(disk->format);
    g_free(disk->target);
    g_free(disk->master);
    g_free(disk->master_format);
    g_free(disk->magnet);
    g_free(disk);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirHookDisk, virHookDiskFree)


/* libvirt looks at elements without a namespace only. */
static gboolean
virHookXmlIs(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && !node->ns &&
        xmlStrEqual(node->name, BAD_CAST name);
}


static xmlNode *
virHookXmlNext(xmlNode *node, const char *name)
{
    while (node && !virHookXmlIs(node, name))
        node = node->next;
    return node;
}


static xmlNode *
virHookXmlChild(const xmlNode *parent, const char *name)
{
    return parent ? virHookXmlNext(parent->children, name) : NULL;
}


/* The attribute's value, @fallback where there is none; for g_free(). */
static char *
virHookXmlAttribute(xmlNode *node, const char *name, const char *fallback)
{
    xmlChar *value = node ? xmlGetNoNsProp(node, BAD_CAST name) : NULL;
    char *copy = g_strdup(value ? (const char *)value : fallback);

    xmlFree(value);
    return copy;
}


static gboolean
virHookDiskIsWritable(const xmlNode *node, const char *device)
{
    /* changes of a transient disk go to an overlay of libvirt's own */
    return !g_str_equal(device, "cdrom") &&
        !virHookXmlChild(node, "readonly") &&
        !virHookXmlChild(node, "transient");
}


/* NULL for a disk without a file, such as an empty drive or a network disk. */
static VirHookDisk *
virHookDiskParse(xmlNode *node)
{
    g_autoptr(VirHookDisk) disk = g_new0(VirHookDisk, 1);
    g_autofree char *type = virHookXmlAttribute(node, "type", "");
    g_autofree char *device = virHookXmlAttribute(node, "device", "disk");
    g_autofree char *policy = NULL;
    xmlNode *source = virHookXmlChild(node, "source");

    if (g_str_equal(type, "file")) {
        disk->path = virHookXmlAttribute(source, "file", NULL);
    } else if (g_str_equal(type, "volume")) {
        disk->pool = virHookXmlAttribute(source, "pool", NULL);
        disk->volume = virHookXmlAttribute(source, "volume", NULL);
    }
    if (!disk->path && !(disk->pool && disk->volume))
        return NULL;

    policy = virHookXmlAttribute(source, "startupPolicy", "mandatory");
    disk->optional = g_str_equal(policy, "optional");
    disk->format = virHookXmlAttribute(virHookXmlChild(node, "driver"), "type", "raw");
    disk->target = virHookXmlAttribute(virHookXmlChild(node, "target"), "dev", "?");
    disk->writable = virHookDiskIsWritable(node, device);
    return g_steal_pointer(&disk);
}


/* A <backingStore> that the user wrote; one level, as masters stand alone. */
static void
virHookDiskParseBacking(VirHookDisk *disk, xmlNode *node)
{
    xmlNode *backing = virHookXmlChild(node, "backingStore");
    g_autofree char *type = virHookXmlAttribute(backing, "type", "");
    g_autofree char *path = virHookXmlAttribute(virHookXmlChild(backing, "source"), "file", "");

    if (!g_str_equal(type, "file") || !g_path_is_absolute(path))
        return;

    disk->master = g_steal_pointer(&path);
    disk->master_format = virHookXmlAttribute(virHookXmlChild(backing, "format"), "type", "raw");
}


/* @last_word: also on what was told already. */
static void
virHookDiskParseMetadata(VirHookDisk *disk, xmlNode *node, gboolean last_word)
{
    g_autofree char *master = virHookXmlAttribute(node, "master", "");
    g_autofree char *capacity = virHookXmlAttribute(node, "capacity", "");

    if (*master && (last_word || !disk->master)) {
        g_free(disk->master);
        disk->master = g_steal_pointer(&master);
        g_free(disk->master_format);
        disk->master_format = virHookXmlAttribute(node, "format", "qcow2");
    }
    if (!disk->magnet)
        disk->magnet = virHookXmlAttribute(node, "magnet", NULL);
    if (disk->capacity == 0 &&
        !g_ascii_string_to_unsigned(capacity, 10, 1, G_MAXINT64, &disk->capacity, NULL))
        disk->capacity = 0;
}


static gboolean
virHookXmlIsOurs(const xmlNode *node, const char *ns, const char *name)
{
    return node->type == XML_ELEMENT_NODE && node->ns &&
        xmlStrEqual(node->ns->href, BAD_CAST ns) &&
        xmlStrEqual(node->name, BAD_CAST name);
}


/* The first such element in the <metadata>, or NULL. */
static xmlNode *
virHookXmlMetadata(const xmlNode *root, const char *ns, const char *name)
{
    xmlNode *metadata = virHookXmlChild(root, "metadata");
    xmlNode *node = metadata ? metadata->children : NULL;

    while (node && !virHookXmlIsOurs(node, ns, name))
        node = node->next;
    return node;
}


static void
virHookDomainMetadata(const xmlNode *parent, const char *ns, GPtrArray *disks, gboolean last_word)
{
    xmlNode *node;
    guint i;

    for (node = parent ? parent->children : NULL; node; node = node->next) {
        g_autofree char *target = NULL;

        if (!virHookXmlIsOurs(node, ns, "disk"))
            continue;
        target = virHookXmlAttribute(node, "target", "");
        for (i = 0; i < disks->len; i++) {
            VirHookDisk *disk = g_ptr_array_index(disks, i);

            if (g_str_equal(disk->target, target))
                virHookDiskParseMetadata(disk, node, last_word);
        }
    }
}


static GPtrArray *
virHookDomainCollect(const xmlNode *root)
{
    GPtrArray *disks = g_ptr_array_new_with_free_func((GDestroyNotify)virHookDiskFree);
    g_autofree char *type = virHookXmlAttribute((xmlNode *)root, "type", "");
    gboolean copies = !g_str_equal(type, "xen"); /* Xen's migration copies no storage */
    xmlNode *devices = virHookXmlChild(root, "devices");
    xmlNode *node;

    for (node = virHookXmlChild(devices, "disk"); node; node = virHookXmlNext(node->next, "disk")) {
        VirHookDisk *disk = virHookDiskParse(node);

        if (!disk)
            continue;
        if (copies)
            virHookDiskParseBacking(disk, node);
        g_ptr_array_add(disks, disk);
    }
    if (copies) {
        virHookDomainMetadata(virHookXmlMetadata(root, VIR_HOOK_NAMESPACE, "guest"),
                              VIR_HOOK_NAMESPACE, disks, TRUE);
        virHookDomainMetadata(virHookXmlMetadata(root, VIR_HOOK_NAMESPACE_MIGRATION, "migration"),
                              VIR_HOOK_NAMESPACE_MIGRATION, disks, FALSE);
    }
    return disks;
}


/* The parsed @xml, whose root is a <domain>. */
static xmlDoc *
virHookDomainRead(const char *xml, gsize len, GError **error)
{
    g_autoptr(xmlDoc) doc = NULL;
    xmlNode *root;

    if (len > VIR_HOOK_DOMAIN_MAX) {
        g_set_error(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_DOMAIN,
                    _("the domain XML has more than %1$d bytes"), VIR_HOOK_DOMAIN_MAX);
        return NULL;
    }

    doc = xmlReadMemory(xml, len, "domain.xml", NULL,
                        XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    root = doc ? xmlDocGetRootElement(doc) : NULL;
    if (!root || doc->intSubset || doc->extSubset || !virHookXmlIs(root, "domain")) {
        g_set_error_literal(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_DOMAIN,
                            _("what libvirt handed over is no domain XML"));
        return NULL;
    }
    return g_steal_pointer(&doc);
}


GPtrArray *
virHookDomainDisks(const char *xml, gsize len, GError **error)
{
    g_autoptr(xmlDoc) doc = virHookDomainRead(xml, len, error);

    return doc ? virHookDomainCollect(xmlDocGetRootElement(doc)) : NULL;
}


gboolean
virHookDomainXenId(const char *xml, gsize len, guint *id)
{
    g_autoptr(xmlDoc) doc = virHookDomainRead(xml, len, NULL);
    xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    g_autofree char *type = virHookXmlAttribute(root, "type", "");
    g_autofree char *text = virHookXmlAttribute(root, "id", "");
    guint64 number;

    if (!g_str_equal(type, "xen") ||
        !g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT, &number, NULL))
        return FALSE;
    *id = number;
    return TRUE;
}


char *
virHookDomainUuid(const char *xml, gsize len)
{
    g_autoptr(xmlDoc) doc = virHookDomainRead(xml, len, NULL);
    xmlNode *node = doc ? virHookXmlChild(xmlDocGetRootElement(doc), "uuid") : NULL;
    xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
    char *copy = g_strdup(text ? (const char *)text : "");

    xmlFree(text);
    return copy;
}


/* @disk's element, if it is this one, becomes a type='file'. */
static gboolean
virHookDiskShift(const VirHookDisk *disk, xmlNode *node)
{
    xmlNode *source = virHookXmlChild(node, "source");
    g_autofree char *type = virHookXmlAttribute(node, "type", "");
    g_autofree char *target = virHookXmlAttribute(virHookXmlChild(node, "target"), "dev", "?");

    if (!disk->shifted || !source || !g_str_equal(type, "volume") || !g_str_equal(target, disk->target))
        return FALSE;

    xmlSetProp(node, BAD_CAST "type", BAD_CAST "file");
    xmlUnsetProp(source, BAD_CAST "pool");
    xmlUnsetProp(source, BAD_CAST "volume");
    xmlUnsetProp(source, BAD_CAST "mode");
    xmlSetProp(source, BAD_CAST "file", BAD_CAST disk->path);
    return TRUE;
}


static gboolean
virHookDomainShift(const xmlNode *root, GPtrArray *disks)
{
    xmlNode *devices = virHookXmlChild(root, "devices");
    gboolean any = FALSE;
    xmlNode *node;
    guint i;

    for (node = virHookXmlChild(devices, "disk"); node; node = virHookXmlNext(node->next, "disk")) {
        for (i = 0; i < disks->len; i++)
            any |= virHookDiskShift(g_ptr_array_index(disks, i), node);
    }
    return any;
}


static gboolean
virHookDomainForget(const xmlNode *root)
{
    gboolean any = FALSE;
    xmlNode *node;

    while ((node = virHookXmlMetadata(root, VIR_HOOK_NAMESPACE_MIGRATION, "migration"))) {
        xmlUnlinkNode(node);
        xmlFreeNode(node);
        any = TRUE;
    }
    return any;
}


static char *
virHookDomainWrite(xmlDoc *doc, GError **error)
{
    xmlChar *text = NULL;
    char *copy;

    xmlDocDumpMemory(doc, &text, NULL);
    if (!text)
        g_set_error_literal(error, VIR_HOOK_ERROR, VIR_HOOK_ERROR_DOMAIN, _("the domain XML cannot be written"));
    copy = g_strdup((const char *)text);
    xmlFree(text);
    return copy;
}


gboolean
virHookDomainArrive(const char *xml, gsize len, GPtrArray *disks, char **changed, GError **error)
{
    g_autoptr(xmlDoc) doc = virHookDomainRead(xml, len, error);
    gboolean any;

    *changed = NULL;
    if (!doc)
        return FALSE;
    any = virHookDomainForget(xmlDocGetRootElement(doc));
    any |= virHookDomainShift(xmlDocGetRootElement(doc), disks);
    return !any || (*changed = virHookDomainWrite(doc, error));
}


static void
virHookDiskTell(const VirHookDisk *disk, xmlNode *parent)
{
    xmlNode *node = xmlNewChild(parent, parent->ns, BAD_CAST "disk", NULL);

    xmlSetProp(node, BAD_CAST "target", BAD_CAST disk->target);
    xmlSetProp(node, BAD_CAST "master", BAD_CAST disk->master);
    xmlSetProp(node, BAD_CAST "format", BAD_CAST disk->master_format);
    if (disk->magnet)
        xmlSetProp(node, BAD_CAST "magnet", BAD_CAST disk->magnet);
    if (disk->capacity) {
        g_autofree char *capacity = g_strdup_printf("%" G_GUINT64_FORMAT, disk->capacity);

        xmlSetProp(node, BAD_CAST "capacity", BAD_CAST capacity);
    }
}


char *
virHookDomainDepart(const char *xml, gsize len, GPtrArray *disks, GError **error)
{
    g_autoptr(xmlDoc) doc = virHookDomainRead(xml, len, error);
    xmlNode *root;
    xmlNode *metadata;
    xmlNode *node;
    guint i;

    if (!doc)
        return NULL;

    root = xmlDocGetRootElement(doc);
    virHookDomainForget(root);
    if (!(metadata = virHookXmlChild(root, "metadata")))
        metadata = xmlNewChild(root, NULL, BAD_CAST "metadata", NULL);
    node = xmlNewChild(metadata, NULL, BAD_CAST "migration", NULL);
    xmlSetNs(node, xmlNewNs(node, BAD_CAST VIR_HOOK_NAMESPACE_MIGRATION, BAD_CAST "torrent-migration"));
    for (i = 0; i < disks->len; i++) {
        const VirHookDisk *disk = g_ptr_array_index(disks, i);

        if (disk->master)
            virHookDiskTell(disk, node);
    }
    return virHookDomainWrite(doc, error);
}
