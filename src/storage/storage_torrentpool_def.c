/*
 * storage_torrentpool_def.c: options of a torrent pool in its XML namespace
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The pool's XML may tell virttorrentd how to take part in the swarm:
 *
 *     <torrent:swarm>
 *       <torrent:listen address='10.0.0.5' port='6881'/>
 *       <torrent:bootstrap host='10.0.0.1' port='6881'/>
 *       <torrent:tracker url='https://tracker.example.org/announce'/>
 *       <torrent:webseed url='http://mirror.example.org/images/'/>
 *       <torrent:allow cidr='10.0.0.0/16'/>
 *       <torrent:tls/>
 *       <torrent:limit upload='50' download='100' unit='MiB/s'/>
 *       <torrent:discovery dht='yes' lsd='yes' pex='yes'/>
 *       <torrent:seed policy='always'/>
 *     </torrent:swarm>
 *
 * and the backend what clones are made of:
 *
 *     <torrent:clone format='qcow2' clusterSize='128' unit='KiB' extended_l2='yes'/>
 *
 * Everything is optional and bootstrap, tracker, webseed and allow may be
 * repeated. A value that virttorrentd or src/image would refuse is refused
 * here, when the pool is defined, rather than when it is used. What was given
 * is formatted again as it was given; nothing is added.
 */

#include <config.h>

#include "storage_source_conf.h"
#include "storage_torrentpool_def.h"
#include "viralloc.h"
#include "virbuffer.h"
#include "virenum.h"
#include "virerror.h"
#include "virsocketaddr.h"
#include "virstring.h"
#include "virutil.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

#define VIR_STORAGE_TORRENT_POOL_NS_HREF \
    "http://libvirt.org/schemas/storagepool/torrent/1.0"

typedef enum {
    VIR_STORAGE_TORRENT_POOL_SEED_DEFAULT = 0,
    VIR_STORAGE_TORRENT_POOL_SEED_ALWAYS,

    VIR_STORAGE_TORRENT_POOL_SEED_LAST,
} virStorageTorrentPoolSeed;

VIR_ENUM_DECL(virStorageTorrentPoolSeed);
VIR_ENUM_IMPL(virStorageTorrentPoolSeed,
              VIR_STORAGE_TORRENT_POOL_SEED_LAST,
              "default", "always",
);

typedef enum {
    VIR_STORAGE_TORRENT_POOL_CLONE_FORMAT_DEFAULT = 0,
    VIR_STORAGE_TORRENT_POOL_CLONE_FORMAT_QCOW2,
    VIR_STORAGE_TORRENT_POOL_CLONE_FORMAT_VHD,

    VIR_STORAGE_TORRENT_POOL_CLONE_FORMAT_LAST,
} virStorageTorrentPoolCloneFormat;

VIR_ENUM_DECL(virStorageTorrentPoolCloneFormat);
VIR_ENUM_IMPL(virStorageTorrentPoolCloneFormat,
              VIR_STORAGE_TORRENT_POOL_CLONE_FORMAT_LAST,
              "default", "qcow2", "vhd",
);

typedef struct _virStorageTorrentPoolHost virStorageTorrentPoolHost;
struct _virStorageTorrentPoolHost {
    char *name;
    unsigned int port;
};

typedef struct _virStorageTorrentPoolDef virStorageTorrentPoolDef;
struct _virStorageTorrentPoolDef {
    char *listenAddress;
    unsigned int listenPort; /* 0: not given */

    size_t nbootstrap;
    virStorageTorrentPoolHost *bootstrap;

    char **trackers; /* NULL terminated, or NULL */
    char **webseeds; /* likewise */
    char **allow;    /* CIDR, NULL terminated, or NULL */

    unsigned long long upload; /* in @unit; 0: not given */
    unsigned long long download;
    char *unit;

    virTristateBool dht;
    virTristateBool lsd;
    virTristateBool pex;

    virStorageTorrentPoolSeed seed;

    bool tls;

    bool swarm; /* the elements are there, maybe empty */
    bool clone;

    virStorageTorrentPoolCloneFormat cloneFormat;
    unsigned long long clusterSize; /* in @clusterUnit; 0: not given */
    char *clusterUnit;
    virTristateBool extendedL2;
};


static void
virStorageTorrentPoolDefFree(void *nsdata)
{
    virStorageTorrentPoolDef *def = nsdata;
    size_t i;

    if (!def)
        return;

    for (i = 0; i < def->nbootstrap; i++)
        g_free(def->bootstrap[i].name);
    g_free(def->bootstrap);

    g_free(def->listenAddress);
    g_strfreev(def->trackers);
    g_strfreev(def->webseeds);
    g_strfreev(def->allow);
    g_free(def->unit);
    g_free(def->clusterUnit);
    g_free(def);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStorageTorrentPoolDef,
                              virStorageTorrentPoolDefFree);


/* Bytes per second, from a @value in @unit: 'B/s', 'KiB/s', 'MB/s', ... and
 * KiB/s by default, as elsewhere in libvirt. */
static int
virStorageTorrentPoolDefScale(unsigned long long *value,
                              const char *unit)
{
    g_autofree char *suffix = g_strdup(unit ? unit : "KiB/s");
    char *slash = strstr(suffix, "/s");

    if (!slash || slash[2] != '\0') {
        virReportError(VIR_ERR_XML_ERROR,
                       _("unit '%1$s' of torrent:limit is no rate such as 'MiB/s'"),
                       suffix);
        return -1;
    }
    *slash = '\0';

    return virScaleInteger(value, suffix, 1024, LLONG_MAX);
}


static int
virStorageTorrentPoolDefCheckAllow(const char *cidr)
{
    g_autofree char *address = g_strdup(cidr);
    char *slash = strchr(address, '/');
    virSocketAddr addr = { 0 };
    unsigned int prefix;

    if (slash)
        *slash++ = '\0';

    if (virSocketAddrNumericFamily(address) < 0 ||
        virSocketAddrParse(&addr, address, AF_UNSPEC) < 0 ||
        (slash &&
         (virStrToLong_uip(slash, NULL, 10, &prefix) < 0 ||
          prefix > (VIR_SOCKET_ADDR_IS_FAMILY(&addr, AF_INET) ? 32 : 128)))) {
        virReportError(VIR_ERR_XML_ERROR,
                       _("cidr '%1$s' of torrent:allow is no network such as '10.0.0.0/16'"),
                       cidr);
        return -1;
    }

    return 0;
}


static int
virStorageTorrentPoolDefCheckTracker(const char *url)
{
    if (!STRPREFIX(url, "http://") &&
        !STRPREFIX(url, "https://") &&
        !STRPREFIX(url, "udp://")) {
        virReportError(VIR_ERR_XML_ERROR,
                       _("url '%1$s' of torrent:tracker is neither http, https nor udp"),
                       url);
        return -1;
    }

    return 0;
}


static int
virStorageTorrentPoolDefCheckWebSeed(const char *url)
{
    if (!STRPREFIX(url, "http://") &&
        !STRPREFIX(url, "https://")) {
        virReportError(VIR_ERR_XML_ERROR,
                       _("url '%1$s' of torrent:webseed is neither http nor https"),
                       url);
        return -1;
    }

    return 0;
}


static int
virStorageTorrentPoolDefParsePort(xmlNodePtr node,
                                  virXMLPropFlags flags,
                                  unsigned int *port)
{
    if (virXMLPropUInt(node, "port", 10, flags | VIR_XML_PROP_NONZERO, port) < 0)
        return -1;

    if (*port > 65535) {
        virReportError(VIR_ERR_XML_ERROR,
                       _("port %1$u of torrent:%2$s is larger than 65535"),
                       *port, (const char *)node->name);
        return -1;
    }

    return 0;
}


static int
virStorageTorrentPoolDefParseListen(xmlXPathContextPtr ctxt,
                                    virStorageTorrentPoolDef *def)
{
    xmlNodePtr node = virXPathNode("./torrent:swarm/torrent:listen", ctxt);

    if (!node)
        return 0;

    def->listenAddress = virXMLPropString(node, "address");
    if (def->listenAddress && virSocketAddrNumericFamily(def->listenAddress) < 0) {
        virReportError(VIR_ERR_XML_ERROR,
                       _("address '%1$s' of torrent:listen is no IP address"),
                       def->listenAddress);
        return -1;
    }

    return virStorageTorrentPoolDefParsePort(node, VIR_XML_PROP_NONE,
                                             &def->listenPort);
}


static int
virStorageTorrentPoolDefParseBootstrap(xmlXPathContextPtr ctxt,
                                       virStorageTorrentPoolDef *def)
{
    g_autofree xmlNodePtr *nodes = NULL;
    int nnodes;
    size_t i;

    if ((nnodes = virXPathNodeSet("./torrent:swarm/torrent:bootstrap",
                                  ctxt, &nodes)) < 0)
        return -1;

    def->bootstrap = g_new0(virStorageTorrentPoolHost, nnodes);

    for (i = 0; i < nnodes; i++) {
        virStorageTorrentPoolHost *host = &def->bootstrap[def->nbootstrap++];

        if (!(host->name = virXMLPropStringRequired(nodes[i], "host")))
            return -1;

        if (virStorageTorrentPoolDefParsePort(nodes[i], VIR_XML_PROP_REQUIRED,
                                              &host->port) < 0)
            return -1;
    }

    return 0;
}


/* The attribute @prop, checked by @check, of all elements that @xpath finds. */
static int
virStorageTorrentPoolDefParseList(xmlXPathContextPtr ctxt,
                                  const char *xpath,
                                  const char *prop,
                                  int (*check)(const char *value),
                                  char ***list)
{
    g_autofree xmlNodePtr *nodes = NULL;
    int nnodes;
    size_t i;

    if ((nnodes = virXPathNodeSet(xpath, ctxt, &nodes)) < 0)
        return -1;

    if (nnodes == 0)
        return 0;

    *list = g_new0(char *, nnodes + 1);

    for (i = 0; i < nnodes; i++) {
        if (!((*list)[i] = virXMLPropStringRequired(nodes[i], prop)) ||
            check((*list)[i]) < 0)
            return -1;
    }

    return 0;
}


static int
virStorageTorrentPoolDefParseLimit(xmlXPathContextPtr ctxt,
                                   virStorageTorrentPoolDef *def)
{
    xmlNodePtr node = virXPathNode("./torrent:swarm/torrent:limit", ctxt);
    unsigned long long upload;
    unsigned long long download;

    if (!node)
        return 0;

    if (virXMLPropULongLong(node, "upload", 10, VIR_XML_PROP_NONZERO,
                            &def->upload) < 0 ||
        virXMLPropULongLong(node, "download", 10, VIR_XML_PROP_NONZERO,
                            &def->download) < 0)
        return -1;

    def->unit = virXMLPropString(node, "unit");

    upload = def->upload;
    download = def->download;

    if (virStorageTorrentPoolDefScale(&upload, def->unit) < 0 ||
        virStorageTorrentPoolDefScale(&download, def->unit) < 0)
        return -1;

    return 0;
}


static int
virStorageTorrentPoolDefParseDiscovery(xmlXPathContextPtr ctxt,
                                       virStorageTorrentPoolDef *def)
{
    xmlNodePtr node = virXPathNode("./torrent:swarm/torrent:discovery", ctxt);

    if (!node)
        return 0;

    if (virXMLPropTristateBool(node, "dht", VIR_XML_PROP_NONE, &def->dht) < 0 ||
        virXMLPropTristateBool(node, "lsd", VIR_XML_PROP_NONE, &def->lsd) < 0 ||
        virXMLPropTristateBool(node, "pex", VIR_XML_PROP_NONE, &def->pex) < 0)
        return -1;

    return 0;
}


static int
virStorageTorrentPoolDefParseSeed(xmlXPathContextPtr ctxt,
                                  virStorageTorrentPoolDef *def)
{
    xmlNodePtr node = virXPathNode("./torrent:swarm/torrent:seed", ctxt);

    if (!node)
        return 0;

    return virXMLPropEnum(node, "policy",
                          virStorageTorrentPoolSeedTypeFromString,
                          VIR_XML_PROP_REQUIRED | VIR_XML_PROP_NONZERO,
                          &def->seed);
}


/* An element that is there or not; what libvirt does not know it drops, and
 * here that must not make a private swarm a public one. */
static int
virStorageTorrentPoolDefParseTls(xmlXPathContextPtr ctxt,
                                 virStorageTorrentPoolDef *def)
{
    xmlNodePtr node = virXPathNode("./torrent:swarm/torrent:tls", ctxt);
    size_t i;

    if (!node)
        return 0;

    if (node->properties || node->children) {
        virReportError(VIR_ERR_XML_ERROR, "%s",
                       _("torrent:tls has neither attributes nor content; leave it out where the swarm is not private"));
        return -1;
    }

    for (i = 0; def->webseeds && def->webseeds[i]; i++) {
        if (!STRPREFIX(def->webseeds[i], "https://")) {
            virReportError(VIR_ERR_XML_ERROR,
                           _("url '%1$s' of torrent:webseed is not https, which torrent:tls demands"),
                           def->webseeds[i]);
            return -1;
        }
    }

    def->tls = true;
    return 0;
}


static VirImageExtendedL2
virStorageTorrentPoolDefExtendedL2(const virStorageTorrentPoolDef *def)
{
    switch (def->extendedL2) {
    case VIR_TRISTATE_BOOL_YES:
        return VIR_IMAGE_EXTENDED_L2_ON;
    case VIR_TRISTATE_BOOL_NO:
        return VIR_IMAGE_EXTENDED_L2_OFF;
    case VIR_TRISTATE_BOOL_ABSENT:
    case VIR_TRISTATE_BOOL_LAST:
        break;
    }

    return VIR_IMAGE_EXTENDED_L2_DEFAULT;
}


static int
virStorageTorrentPoolDefCheckClone(const virStorageTorrentPoolDef *def)
{
    unsigned long long size = def->clusterSize;
    g_autoptr(GError) err = NULL;

    if (def->cloneFormat == VIR_STORAGE_TORRENT_POOL_CLONE_FORMAT_VHD &&
        (def->clusterSize || def->clusterUnit || def->extendedL2)) {
        virReportError(VIR_ERR_XML_ERROR, "%s",
                       _("torrent:clone of format 'vhd' has neither clusterSize nor extended_l2, only qcow2 has"));
        return -1;
    }

    if (virScaleInteger(&size, def->clusterUnit, 1, LLONG_MAX) < 0)
        return -1;

    if (!virImageOverlayCheckClusters(size, virStorageTorrentPoolDefExtendedL2(def), &err)) {
        virReportError(VIR_ERR_XML_ERROR,
                       _("torrent:clone asks for clones that cannot be: %1$s"),
                       err->message);
        return -1;
    }

    return 0;
}


static int
virStorageTorrentPoolDefParseClone(xmlXPathContextPtr ctxt,
                                   virStorageTorrentPoolDef *def)
{
    xmlNodePtr node = virXPathNode("./torrent:clone", ctxt);

    if (!node)
        return 0;

    if (virXMLPropEnum(node, "format",
                       virStorageTorrentPoolCloneFormatTypeFromString,
                       VIR_XML_PROP_NONZERO, &def->cloneFormat) < 0 ||
        virXMLPropULongLong(node, "clusterSize", 10, VIR_XML_PROP_NONZERO,
                            &def->clusterSize) < 0 ||
        virXMLPropTristateBool(node, "extended_l2", VIR_XML_PROP_NONE,
                               &def->extendedL2) < 0)
        return -1;

    def->clusterUnit = virXMLPropString(node, "unit");

    return virStorageTorrentPoolDefCheckClone(def);
}


static int
virStorageTorrentPoolDefParse(xmlXPathContextPtr ctxt,
                              void **data)
{
    g_autoptr(virStorageTorrentPoolDef) def = g_new0(virStorageTorrentPoolDef, 1);

    def->swarm = !!virXPathNode("./torrent:swarm", ctxt);
    def->clone = !!virXPathNode("./torrent:clone", ctxt);

    if (!def->swarm && !def->clone)
        return 0;

    if (virStorageTorrentPoolDefParseListen(ctxt, def) < 0 ||
        virStorageTorrentPoolDefParseBootstrap(ctxt, def) < 0 ||
        virStorageTorrentPoolDefParseList(ctxt,
                                          "./torrent:swarm/torrent:tracker",
                                          "url",
                                          virStorageTorrentPoolDefCheckTracker,
                                          &def->trackers) < 0 ||
        virStorageTorrentPoolDefParseList(ctxt,
                                          "./torrent:swarm/torrent:webseed",
                                          "url",
                                          virStorageTorrentPoolDefCheckWebSeed,
                                          &def->webseeds) < 0 ||
        virStorageTorrentPoolDefParseList(ctxt,
                                          "./torrent:swarm/torrent:allow",
                                          "cidr",
                                          virStorageTorrentPoolDefCheckAllow,
                                          &def->allow) < 0 ||
        virStorageTorrentPoolDefParseLimit(ctxt, def) < 0 ||
        virStorageTorrentPoolDefParseDiscovery(ctxt, def) < 0 ||
        virStorageTorrentPoolDefParseSeed(ctxt, def) < 0 ||
        virStorageTorrentPoolDefParseTls(ctxt, def) < 0 ||
        virStorageTorrentPoolDefParseClone(ctxt, def) < 0)
        return -1;

    *data = g_steal_pointer(&def);
    return 0;
}


static void
virStorageTorrentPoolDefFormatListen(virBuffer *buf,
                                     virStorageTorrentPoolDef *def)
{
    g_auto(virBuffer) attrs = VIR_BUFFER_INITIALIZER;

    virBufferEscapeString(&attrs, " address='%s'", def->listenAddress);
    if (def->listenPort)
        virBufferAsprintf(&attrs, " port='%u'", def->listenPort);

    virXMLFormatElement(buf, "torrent:listen", &attrs, NULL);
}


static void
virStorageTorrentPoolDefFormatLimit(virBuffer *buf,
                                    virStorageTorrentPoolDef *def)
{
    g_auto(virBuffer) attrs = VIR_BUFFER_INITIALIZER;

    if (def->upload)
        virBufferAsprintf(&attrs, " upload='%llu'", def->upload);
    if (def->download)
        virBufferAsprintf(&attrs, " download='%llu'", def->download);
    virBufferEscapeString(&attrs, " unit='%s'", def->unit);

    virXMLFormatElement(buf, "torrent:limit", &attrs, NULL);
}


static void
virStorageTorrentPoolDefFormatDiscovery(virBuffer *buf,
                                        virStorageTorrentPoolDef *def)
{
    g_auto(virBuffer) attrs = VIR_BUFFER_INITIALIZER;

    if (def->dht)
        virBufferAsprintf(&attrs, " dht='%s'", virTristateBoolTypeToString(def->dht));
    if (def->lsd)
        virBufferAsprintf(&attrs, " lsd='%s'", virTristateBoolTypeToString(def->lsd));
    if (def->pex)
        virBufferAsprintf(&attrs, " pex='%s'", virTristateBoolTypeToString(def->pex));

    virXMLFormatElement(buf, "torrent:discovery", &attrs, NULL);
}


static void
virStorageTorrentPoolDefFormatClone(virBuffer *buf,
                                    virStorageTorrentPoolDef *def)
{
    g_auto(virBuffer) attrs = VIR_BUFFER_INITIALIZER;

    if (def->cloneFormat)
        virBufferAsprintf(&attrs, " format='%s'",
                          virStorageTorrentPoolCloneFormatTypeToString(def->cloneFormat));
    if (def->clusterSize)
        virBufferAsprintf(&attrs, " clusterSize='%llu'", def->clusterSize);
    virBufferEscapeString(&attrs, " unit='%s'", def->clusterUnit);
    if (def->extendedL2)
        virBufferAsprintf(&attrs, " extended_l2='%s'",
                          virTristateBoolTypeToString(def->extendedL2));

    virXMLFormatElementEmpty(buf, "torrent:clone", &attrs, NULL);
}


static void
virStorageTorrentPoolDefFormatSwarm(virBuffer *buf,
                                    virStorageTorrentPoolDef *def)
{
    g_auto(virBuffer) child = VIR_BUFFER_INIT_CHILD(buf);
    size_t i;

    virStorageTorrentPoolDefFormatListen(&child, def);

    for (i = 0; i < def->nbootstrap; i++) {
        virBufferEscapeString(&child, "<torrent:bootstrap host='%s'",
                              def->bootstrap[i].name);
        virBufferAsprintf(&child, " port='%u'/>\n", def->bootstrap[i].port);
    }

    for (i = 0; def->trackers && def->trackers[i]; i++)
        virBufferEscapeString(&child, "<torrent:tracker url='%s'/>\n",
                              def->trackers[i]);

    for (i = 0; def->webseeds && def->webseeds[i]; i++)
        virBufferEscapeString(&child, "<torrent:webseed url='%s'/>\n",
                              def->webseeds[i]);

    for (i = 0; def->allow && def->allow[i]; i++)
        virBufferEscapeString(&child, "<torrent:allow cidr='%s'/>\n",
                              def->allow[i]);

    if (def->tls)
        virBufferAddLit(&child, "<torrent:tls/>\n");

    virStorageTorrentPoolDefFormatLimit(&child, def);
    virStorageTorrentPoolDefFormatDiscovery(&child, def);

    if (def->seed)
        virBufferAsprintf(&child, "<torrent:seed policy='%s'/>\n",
                          virStorageTorrentPoolSeedTypeToString(def->seed));

    virXMLFormatElementEmpty(buf, "torrent:swarm", NULL, &child);
}


static int
virStorageTorrentPoolDefFormat(virBuffer *buf,
                               void *nsdata)
{
    virStorageTorrentPoolDef *def = nsdata;

    if (!def)
        return 0;

    if (def->swarm)
        virStorageTorrentPoolDefFormatSwarm(buf, def);
    if (def->clone)
        virStorageTorrentPoolDefFormatClone(buf, def);

    return 0;
}


static void
virStorageTorrentPoolDefAddHosts(GVariantDict *dict,
                                 const virStorageTorrentPoolDef *def)
{
    GVariantBuilder hosts;
    size_t i;

    if (def->nbootstrap == 0)
        return;

    g_variant_builder_init(&hosts, G_VARIANT_TYPE_STRING_ARRAY);

    for (i = 0; i < def->nbootstrap; i++) {
        const virStorageTorrentPoolHost *host = &def->bootstrap[i];
        g_autofree char *address = NULL;

        if (strchr(host->name, ':'))
            address = g_strdup_printf("[%s]:%u", host->name, host->port);
        else
            address = g_strdup_printf("%s:%u", host->name, host->port);

        g_variant_builder_add(&hosts, "s", address);
    }

    g_variant_dict_insert_value(dict, "bootstrap",
                                g_variant_builder_end(&hosts));
}


static void
virStorageTorrentPoolDefAddBool(GVariantDict *dict,
                                const char *key,
                                virTristateBool value)
{
    if (value != VIR_TRISTATE_BOOL_ABSENT)
        g_variant_dict_insert(dict, key, "b", value == VIR_TRISTATE_BOOL_YES);
}


static void
virStorageTorrentPoolDefAddLimit(GVariantDict *dict,
                                 const char *key,
                                 unsigned long long value,
                                 const char *unit)
{
    /* cannot fail, it was tried when the XML was parsed */
    if (value > 0 && virStorageTorrentPoolDefScale(&value, unit) == 0)
        g_variant_dict_insert(dict, key, "t", (guint64)value);
}


GVariant *
virStorageTorrentPoolDefGetOptions(const void *nsdata)
{
    const virStorageTorrentPoolDef *def = nsdata;
    g_auto(GVariantDict) dict = G_VARIANT_DICT_INIT(NULL);

    if (!def)
        return g_variant_dict_end(&dict);

    if (def->listenAddress)
        g_variant_dict_insert(&dict, "listen-address", "s", def->listenAddress);
    if (def->listenPort)
        g_variant_dict_insert(&dict, "listen-port", "q", (guint16)def->listenPort);

    virStorageTorrentPoolDefAddHosts(&dict, def);

    if (def->trackers)
        g_variant_dict_insert(&dict, "trackers", "^as", def->trackers);
    if (def->webseeds)
        g_variant_dict_insert(&dict, "webseeds", "^as", def->webseeds);
    if (def->allow)
        g_variant_dict_insert(&dict, "allow", "^as", def->allow);

    virStorageTorrentPoolDefAddLimit(&dict, "upload-limit",
                                     def->upload, def->unit);
    virStorageTorrentPoolDefAddLimit(&dict, "download-limit",
                                     def->download, def->unit);

    virStorageTorrentPoolDefAddBool(&dict, "dht", def->dht);
    virStorageTorrentPoolDefAddBool(&dict, "lsd", def->lsd);
    virStorageTorrentPoolDefAddBool(&dict, "pex", def->pex);

    if (def->tls)
        g_variant_dict_insert(&dict, "tls", "b", TRUE);

    if (def->seed)
        g_variant_dict_insert(&dict, "seed", "s",
                              virStorageTorrentPoolSeedTypeToString(def->seed));

    return g_variant_dict_end(&dict);
}


int
virStorageTorrentPoolDefGetCloneFormat(const void *nsdata)
{
    const virStorageTorrentPoolDef *def = nsdata;

    if (def && def->cloneFormat == VIR_STORAGE_TORRENT_POOL_CLONE_FORMAT_VHD)
        return VIR_STORAGE_FILE_VPC;

    return VIR_STORAGE_FILE_QCOW2;
}


void
virStorageTorrentPoolDefGetClone(const void *nsdata,
                                 VirImageOverlayOptions *options)
{
    const virStorageTorrentPoolDef *def = nsdata;
    unsigned long long size;

    if (!def)
        return;

    if (virStorageTorrentPoolDefGetCloneFormat(def) == VIR_STORAGE_FILE_VPC)
        options->format = VIR_IMAGE_OVERLAY_VHD;

    /* cannot fail, it was tried when the XML was parsed */
    size = def->clusterSize;
    if (size > 0 && virScaleInteger(&size, def->clusterUnit, 1, LLONG_MAX) == 0)
        options->cluster_bits = g_bit_storage(size) - 1;

    options->extended_l2 = virStorageTorrentPoolDefExtendedL2(def);
}


virXMLNamespace virStorageTorrentPoolXMLNamespace = {
    .parse = virStorageTorrentPoolDefParse,
    .free = virStorageTorrentPoolDefFree,
    .format = virStorageTorrentPoolDefFormat,
    .prefix = "torrent",
    .uri = VIR_STORAGE_TORRENT_POOL_NS_HREF,
};
