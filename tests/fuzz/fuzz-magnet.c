/*
 * fuzz-magnet.c: any text as a magnet link
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * With libFuzzer: tests/sanitize.sh fuzz.  Linked with fuzz-replay.c instead,
 * it is a test that make check runs.
 *
 * Promise: an error, or parts that are whole: hashes of their length in lower
 * case, a name that may become a file's; and a link that is written from them
 * says the same when it is read again.
 */

#include <config.h>

#include "fuzz-replay.h"
#include "magnet.h"
#include "metainfo.h"
#include "names.h"

#define H40 "0123456789abcdef0123456789abcdef01234567"
#define H64 H40 "89abcdef01234567ffffffff"


GPtrArray *
fuzzSeeds(void)
{
    static const char *const links[] = {
        "magnet:?xt=urn:btih:" H40,
        "magnet:?xt=urn:btih:AEBAGBAFAYDQQCIKBMGA2DQPCAIREEYU&dn=a+b%20c&tr=http%3A%2F%2F10.0.0.1%3A6969%2Fannounce",
        "magnet:?xt.1=urn:btih:" H40 "&xt.2=urn:btmh:1220" H64 "&dn=Gr%C3%B6%C3%9Fe&xl=17",
        "magnet:?xt=urn:btmh:1220" H64 "&dn=debian-12.qcow2&x.pe=10.0.0.5:6881&x.pe=%5Bfd00%3A%3A5%5D%3A6881&junk&=&&",
        "magnet:?xt=urn:btmh:1220" H64 ";dn=..%2Fetc;ws=http://10.0.0.1/a",
    };
    GPtrArray *seeds = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(links); i++)
        g_ptr_array_add(seeds, g_bytes_new_static(links[i], strlen(links[i])));
    return seeds;
}


static void
fuzzHex(const char *hash, gsize len)
{
    if (hash) {
        g_assert_cmpuint(strlen(hash), ==, len);
        g_assert_cmpuint(strspn(hash, "0123456789abcdef"), ==, len);
    }
}


static void
fuzzAgain(const VirTorrentMagnet *parts)
{
    g_autofree char *key = virTorrentMagnetKey(parts);
    g_autofree char *link = virTorrentMagnetFormat(key, parts->name, 0, (const char *const *)parts->peers,
                                                   (const char *const *)parts->trackers,
                                                   (const char *const *)parts->webseeds);
    g_auto(VirTorrentMagnet) again = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *key_again = NULL;

    virTorrentMagnetRead(link, &again, &error);
    g_assert_no_error(error);
    key_again = virTorrentMagnetKey(&again);
    g_assert_cmpstr(key, ==, key_again);
    g_assert_cmpstr(parts->name, ==, again.name);
    g_assert_true(g_strv_equal((const char *const *)parts->peers, (const char *const *)again.peers));
    g_assert_true(g_strv_equal((const char *const *)parts->trackers, (const char *const *)again.trackers));
    g_assert_true(g_strv_equal((const char *const *)parts->webseeds, (const char *const *)again.webseeds));
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_auto(VirTorrentMagnet) parts = { 0 };
    g_autoptr(GError) error = NULL;

    if (!virTorrentMagnetRead(text, &parts, &error)) {
        g_assert_nonnull(error);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        return 0;
    }
    g_assert_no_error(error);
    g_assert_true(parts.btih || parts.btmh);
    fuzzHex(parts.btih, 40);
    fuzzHex(parts.btmh, 64);
    if (parts.name)
        g_assert_true(virTorrentNameCheckRemote(parts.name, NULL));
    fuzzAgain(&parts);
    return 0;
}
