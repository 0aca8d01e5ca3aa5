/*
 * hook_domain.c: the disks of a guest, out of its domain XML
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libvirt wrote the XML, but parts of it are what a user defined.  A document
 * type is refused outright: libvirt never writes one, and without it there are
 * no entities.  libxml2's own limits (depth, name and text lengths) stay on.
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


static GPtrArray *
virHookDomainCollect(const xmlNode *root)
{
    GPtrArray *disks = g_ptr_array_new_with_free_func((GDestroyNotify)virHookDiskFree);
    xmlNode *devices = virHookXmlChild(root, "devices");
    xmlNode *node;

    for (node = virHookXmlChild(devices, "disk"); node; node = virHookXmlNext(node->next, "disk")) {
        VirHookDisk *disk = virHookDiskParse(node);

        if (disk)
            g_ptr_array_add(disks, disk);
    }
    return disks;
}


GPtrArray *
virHookDomainDisks(const char *xml, gsize len, GError **error)
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

    return virHookDomainCollect(root);
}
