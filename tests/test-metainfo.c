/*
 * test-metainfo.c: hostile and honest .torrent bytes and magnet links
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The bytes are written by hand, so that nothing that writes them can be wrong
 * in the same way as what reads them.
 */

#include <config.h>

#include <string.h>

#include "metainfo.h"

#define HASH20 "aaaaaaaaaaaaaaaaaaaa"
#define HASH32 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* One-piece files need no piece layers, so these are whole torrents. */
#define V1(name, length, extra) \
    "d4:infod6:lengthi" length "e4:name" name "12:piece lengthi16384e6:pieces20:" HASH20 extra "ee"
#define V2_TREE(tree, rest) \
    "d4:infod9:file tree" tree "12:meta versioni2e" rest "ee"
#define V2_FILE(extra) "d0:d" extra "6:lengthi5e11:pieces root32:" HASH32 "ee"
#define V2_REST "4:name1:a12:piece lengthi16384e"

typedef struct {
    const char *test;
    const char *bytes;
    int code;               /* -1: it is fine */
} Case;

#define META VIR_TORRENT_ENGINE_ERROR_INVALID_METAINFO
#define NAME VIR_TORRENT_ENGINE_ERROR_INVALID_NAME

static const Case cases[] = {
    { "v1", V1("1:a", "5", ""), -1 },
    { "v2", V2_TREE("d1:a" V2_FILE("") "e", V2_REST), -1 },
    { "something behind it", V1("1:a", "5", "") "trailing junk d i", -1 },
    { "unknown keys", V1("1:a", "5", "5:zzzzzli1ei-2ed1:xleee"), -1 },
    { "executable", V2_TREE("d1:a" V2_FILE("4:attr1:x") "e", V2_REST), -1 },

    { "empty", "", META },
    { "text", "hello", META },
    { "html", "<html>", META },
    { "a list", "l1:ae", META },
    { "cut off", "d4:infod6:lengthi5e", META },
    { "string too long", "d4:info99999999999999999999:x", META },
    { "length overflows", "d4:info18446744073709551615:x", META },
    { "number overflows", V1("1:a", "99999999999999999999", ""), META },
    { "minus zero", V1("1:a", "-0", ""), META },
    { "leading zero", V1("1:a", "05", ""), META },
    { "no number", V1("1:a", "", ""), META },
    { "key is a number", "di1e1:ae", META },
    { "key without value", "d4:infoe", META },
    { "no info", "d3:foo3:bare", META },
    { "info is a string", "d4:info3:bare", META },
    { "keys out of order", "d4:infod4:name1:a6:lengthi5e12:piece lengthi16384e6:pieces20:" HASH20 "ee", META },
    { "name twice", V1("1:a4:name1:b", "5", ""), META },

    { "several files, v1",
      "d4:infod5:filesld6:lengthi5e4:pathl1:aeed6:lengthi5e4:pathl1:beee4:name1:x"
      "12:piece lengthi16384e6:pieces20:" HASH20 "ee", META },
    { "a directory of one file, v1",
      "d4:infod5:filesld6:lengthi5e4:pathl1:aeee4:name1:x"
      "12:piece lengthi16384e6:pieces20:" HASH20 "ee", META },
    { "a file and a list of files",
      "d4:infod5:filesld6:lengthi5e4:pathl1:aeee6:lengthi5e4:name1:x"
      "12:piece lengthi16384e6:pieces20:" HASH20 "ee", META },
    { "several files, v2", V2_TREE("d1:a" V2_FILE("") "1:b" V2_FILE("") "e", V2_REST), META },
    { "a directory, v2", V2_TREE("d1:ad1:b" V2_FILE("") "ee", V2_REST), META },
    { "file and directory, v2", V2_TREE("d1:ad0:d6:lengthi5e11:pieces root32:" HASH32 "e1:b" V2_FILE("") "ee",
                                        V2_REST), META },
    { "empty tree", V2_TREE("de", V2_REST), META },
    { "no tree", "d4:infod12:meta versioni2e" V2_REST "ee", META },
    { "symlink, v1", "d4:infod4:attr1:l6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:" HASH20
                     "12:symlink pathl3:etc6:shadoweee", META },
    { "symlink, v2", V2_TREE("d1:a" V2_FILE("4:attr1:l") "e", V2_REST), META },
    { "padding, v2", V2_TREE("d1:a" V2_FILE("4:attr1:p") "e", V2_REST), META },
    { "future version", V2_TREE("d1:a" V2_FILE("") "e", "4:name1:a") , META },

    { "nothing in it", V1("1:a", "0", ""), META },
    { "negative", V1("1:a", "-5", ""), META },
    { "larger than 64 TiB", V1("1:a", "70368744177665", ""), META },
    { "more pieces than hashes", V1("1:a", "16385", ""), META },
    { "piece length 1", "d4:infod6:lengthi1e4:name1:a12:piece lengthi1e6:pieces20:" HASH20 "ee", META },
    { "huge piece length", "d4:infod6:lengthi1e4:name1:a12:piece lengthi1073741824e6:pieces20:" HASH20 "ee",
      META },
    { "odd piece length, v2", V2_TREE("d1:a" V2_FILE("") "e", "4:name1:a12:piece lengthi16385e"), META },
    { "too many pieces", "d4:infod9:file treed1:ad0:d6:lengthi70368744177664e11:pieces root32:" HASH32
                         "eee12:meta versioni2e" V2_REST "ee", META },
    { "torn piece hashes", "d4:infod6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces19:aaaaaaaaaaaaaaaaaaaee",
      META },
    { "layers missing", "d4:infod9:file treed1:ad0:d6:lengthi99999e11:pieces root32:" HASH32
                        "eee12:meta versioni2e" V2_REST "ee", META },
    { "layers wrong", "d4:infod9:file treed1:ad0:d6:lengthi32768e11:pieces root32:" HASH32
                      "eee12:meta versioni2e" V2_REST "e12:piece layersd32:" HASH32 "64:" HASH32 HASH32 "ee",
      META },
    { "two lengths", "d4:infod9:file treed1:a" V2_FILE("") "e6:lengthi6e12:meta versioni2e4:name1:a"
                     "12:piece lengthi16384e6:pieces20:" HASH20 "ee", META },

    { "parent", V1("9:../passwd", "5", ""), NAME },
    { "absolute", V1("11:/etc/passwd", "5", ""), NAME },
    { "dot dot", V1("2:..", "5", ""), NAME },
    { "hidden", V1("7:.bashrc", "5", ""), NAME },
    { "option", V1("3:-rf", "5", ""), NAME },
    { "no name", V1("0:", "5", ""), NAME },
    { "newline", V1("3:a\nb", "5", ""), NAME },
    { "bidi", V1("5:a\u202eb", "5", ""), NAME },
    { "not UTF-8", V1("2:a\xff", "5", ""), NAME },
    { "hidden second name", "d4:infod6:lengthi5e4:name1:a10:name.utf-84:../x12:piece lengthi16384e"
                            "6:pieces20:" HASH20 "ee", NAME },
    { "trick in the tree", V2_TREE("d4:../x" V2_FILE("") "e", V2_REST), NAME },
    { "name is a list", V1("le", "5", ""), META },
    { "name missing", "d4:infod6:lengthi5e12:piece lengthi16384e6:pieces20:" HASH20 "ee", META },

    { "format is a path", "d4:infod9:file treed1:a" V2_FILE("") "e12:meta versioni2e" V2_REST
                          "11:torrentpoold6:format4:../xeee", META },
    { "capacity is negative", "d4:infod9:file treed1:a" V2_FILE("") "e12:meta versioni2e" V2_REST
                              "11:torrentpoold8:capacityi-1eeee", META },
};

static void
testTable(void)
{
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        const Case *c = &cases[i];
        g_autoptr(GBytes) bytes = g_bytes_new_static(c->bytes, strlen(c->bytes));
        g_autoptr(GError) error = NULL;
        g_autoptr(VirTorrentMetainfo) info = virTorrentMetainfoParse(bytes, &error);

        g_test_message("%s: %s", c->test, error ? error->message : "fine");
        if ((c->code < 0) != (info != NULL))
            g_error("%s: %s", c->test, error ? error->message : "was accepted");
        if (c->code >= 0)
            g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, c->code);
    }
}

/* Whatever is cut off, nothing is read beyond it (for valgrind and ASan: each
 * piece lies in a block of its own). */
static void
testTruncated(void)
{
    static const char whole[] = V2_TREE("d1:a" V2_FILE("") "e", V2_REST);
    gsize len;

    for (len = 0; len < sizeof(whole) - 1; len++) {
        g_autofree char *copy = g_memdup2(whole, len ? len : 1);
        g_autoptr(GBytes) bytes = g_bytes_new_static(copy, len);
        g_autoptr(GError) error = NULL;

        g_assert_null(virTorrentMetainfoParse(bytes, &error));
        g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, META);
    }
}

static void
testDeep(void)
{
    g_autoptr(GString) deep = g_string_new("d1:a");
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GError) error = NULL;
    gsize i;

    for (i = 0; i < 1000000; i++)
        g_string_append_c(deep, 'l');
    bytes = g_bytes_new_static(deep->str, deep->len);
    g_assert_null(virTorrentMetainfoParse(bytes, &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, META);
    g_assert_nonnull(strstr(error->message, "nested"));
}

static void
testManyTokens(void)
{
    g_autoptr(GString) many = g_string_new("d1:al");
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GError) error = NULL;
    gsize i;

    for (i = 0; i < 5000000; i++)
        g_string_append(many, "0:");
    g_string_append(many, "ee");
    bytes = g_bytes_new_static(many->str, many->len);
    g_assert_null(virTorrentMetainfoParse(bytes, &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, META);
    g_assert_nonnull(strstr(error->message, "too many parts"));
}

static void
testTooLong(void)
{
    g_autofree char *zeros = g_malloc0(VIR_TORRENT_METAINFO_MAX + 1);
    g_autoptr(GBytes) bytes = g_bytes_new_static(zeros, VIR_TORRENT_METAINFO_MAX + 1);
    g_autoptr(GError) error = NULL;

    zeros[0] = 'd';
    g_assert_null(virTorrentMetainfoParse(bytes, &error));
    g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, META);
    g_assert_nonnull(strstr(error->message, "64 MiB"));
}

static void
testFields(void)
{
    static const char v1[] = V1("1:a", "5", "");
    static const char v2[] =
        "d4:infod9:file treed5:x.imgd0:d6:lengthi5e11:pieces root32:" HASH32 "eee"
        "12:meta versioni2e4:name1:y12:piece lengthi32768e11:torrentpoold8:capacityi1048576e6:format5:qcow2eee";
    g_autoptr(GBytes) b1 = g_bytes_new_static(v1, strlen(v1));
    g_autoptr(GBytes) b2 = g_bytes_new_static(v2, strlen(v2));
    g_autoptr(GError) error = NULL;
    g_autoptr(VirTorrentMetainfo) i1 = virTorrentMetainfoParse(b1, &error);
    g_autoptr(VirTorrentMetainfo) i2 = i1 ? virTorrentMetainfoParse(b2, &error) : NULL;
    g_autofree char *sum1 = g_compute_checksum_for_data(G_CHECKSUM_SHA1, (const guchar *)v1 + 7,
                                                        strlen(v1) - 8);
    g_autofree char *sum2 = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)v2 + 7,
                                                        strlen(v2) - 8);
    g_autofree char *key1 = g_strconcat("urn:btih:", sum1, NULL);
    g_autofree char *key2 = g_strconcat("urn:btmh:1220", sum2, NULL);

    g_assert_no_error(error);
    g_assert_cmpstr(i1->name, ==, "a");
    g_assert_cmpstr(i1->key, ==, key1);
    g_assert_cmpuint(i1->size, ==, 5);
    g_assert_null(i1->format);
    g_assert_cmpuint(i1->capacity, ==, 0);
    g_assert_cmpstr(i2->name, ==, "x.img");     /* the file's own name */
    g_assert_cmpstr(i2->key, ==, key2);
    g_assert_cmpuint(i2->piece_length, ==, 32768);
    g_assert_cmpstr(i2->format, ==, "qcow2");
    g_assert_cmpuint(i2->capacity, ==, 1048576);
}

#define H40 "0123456789abcdef0123456789ABCDEF01234567"
#define H64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

typedef struct {
    const char *magnet;
    const char *key;            /* NULL: refused */
    const char *name;
    int code;
} MagnetCase;

static const MagnetCase magnets[] = {
    { "magnet:?xt=urn:btih:" H40, "urn:btih:0123456789abcdef0123456789abcdef01234567", NULL, 0 },
    { "MAGNET:?XT=URN:BTIH:" H40, "urn:btih:0123456789abcdef0123456789abcdef01234567", NULL, 0 },
    { "magnet:?xt=urn:btih:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
      "urn:btih:0000000000000000000000000000000000000000", NULL, 0 },
    { "magnet:?xt=urn:btih:74======AAAAAAAAAAAAAAAAAAAAAAAA", NULL, NULL, 0 },
    { "magnet:?xt=urn:btmh:1220" H64 "&dn=debian-12.qcow2&x.pe=10.0.0.5:6881&x.pe=[fd00::5]:6881",
      "urn:btmh:1220" H64, "debian-12.qcow2", 0 },
    { "magnet:?xt=urn:btmh:1220" H64 "&dn=a%2Bb+c", "urn:btmh:1220" H64, "a+b c", 0 },
    { "magnet:?xt=urn:btmh:1220" H64 "&dn=Gr%C3%B6%C3%9Fe%201+2", "urn:btmh:1220" H64, "Größe 1 2", 0 },
    { "magnet:?xt=urn:btmh:1220" H64 "&xt=urn:btih:" H40, "urn:btmh:1220" H64, NULL, 0 },
    { "magnet:?xt.1=urn:btih:" H40 "&xt.2=urn:btmh:1220" H64, "urn:btmh:1220" H64, NULL, 0 },
    { "magnet:?xt=urn:btih:" H40 "&xt=urn:ed2k:31D6CFE0D16AE931B73C59D7E0C089C0&&junk&kt=",
      "urn:btih:0123456789abcdef0123456789abcdef01234567", NULL, 0 },

    { "", NULL, NULL, 0 },
    { "http://x/y.torrent", NULL, NULL, 0 },
    { "magnet:?", NULL, NULL, 0 },
    { "magnet:?dn=x", NULL, NULL, 0 },
    { "magnet:?xt=urn:sha1:AAAA", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:0123", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:zz23456789abcdef0123456789abcdef01234567", NULL, NULL, 0 },
    { "magnet:?xt=urn:btmh:1220" H40, NULL, NULL, 0 },
    { "magnet:?xt=urn:btmh:1114" H64, NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:" H40 "&xt=urn:btih:1123456789abcdef0123456789abcdef01234567", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:" H40 "&dn=%zz", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:" H40 "&dn=a%00b", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:" H40 "&x.pe=10.0.0.5", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:" H40 "&x.pe=some.host:6881", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:" H40 "&x.pe=10.0.0.5:99999", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:" H40 "&x.pe=fd00::5:6881", NULL, NULL, 0 },
    { "magnet:?xt=urn:btih:" H40 "&dn=..%2F..%2Fetc", NULL, NULL, NAME },
    { "magnet:?xt=urn:btih:" H40 "&dn=.hidden", NULL, NULL, NAME },
    { "magnet:?xt=urn:btih:" H40 "&dn=", NULL, NULL, NAME },
};

static void
testMagnets(void)
{
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(magnets); i++) {
        const MagnetCase *c = &magnets[i];
        g_autoptr(GError) error = NULL;
        g_autoptr(VirTorrentMetainfo) info = virTorrentMagnetParse(c->magnet, &error);

        g_test_message("%s: %s", c->magnet, error ? error->message : "fine");
        if ((c->key != NULL) != (info != NULL))
            g_error("%s: %s", c->magnet, error ? error->message : "was accepted");
        if (!c->key) {
            int code = c->code ? c->code : VIR_TORRENT_ENGINE_ERROR_INVALID_MAGNET;

            g_assert_error(error, VIR_TORRENT_ENGINE_ERROR, code);
            continue;
        }
        g_assert_cmpstr(info->key, ==, c->key);
        g_assert_cmpstr(info->name, ==, c->name);
    }
}

static void
testMagnetLists(void)
{
    g_auto(VirTorrentMagnet) parts = { 0 };
    g_autoptr(GError) error = NULL;

    virTorrentMagnetRead("magnet:?xt=urn:btih:" H40 "&x.pe=10.0.0.5:1&x.pe=%5Bfd00::5%5D:2"
                         "&tr=http%3A%2F%2F10.0.0.1%3A6969%2Fannounce&tr.1=udp://h:1/&tr=file:///etc/passwd"
                         "&ws=http%3A%2F%2F10.0.0.1%2Fimages%2F&ws.1=https://h/a&ws=ftp://h/a&ws=http:///a",
                         &parts, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(g_strv_length(parts.peers), ==, 2);
    g_assert_cmpstr(parts.peers[1], ==, "[fd00::5]:2");
    g_assert_cmpuint(g_strv_length(parts.trackers), ==, 2);
    g_assert_cmpstr(parts.trackers[0], ==, "http://10.0.0.1:6969/announce");
    g_assert_cmpuint(g_strv_length(parts.webseeds), ==, 2);
    g_assert_cmpstr(parts.webseeds[0], ==, "http://10.0.0.1/images/");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/metainfo/table", testTable);
    g_test_add_func("/metainfo/truncated", testTruncated);
    g_test_add_func("/metainfo/deep", testDeep);
    g_test_add_func("/metainfo/many-tokens", testManyTokens);
    g_test_add_func("/metainfo/too-long", testTooLong);
    g_test_add_func("/metainfo/fields", testFields);
    g_test_add_func("/magnet/table", testMagnets);
    g_test_add_func("/magnet/lists", testMagnetLists);
    return g_test_run();
}
