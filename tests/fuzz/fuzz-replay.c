/*
 * fuzz-replay.c: runs a fuzz target without a fuzzer
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Usage: PROGRAM [FILE...] | --seeds DIRECTORY
 *
 * Given files it runs each; asked for seeds, it writes them for libFuzzer.  Given none it takes the corpus of the target,
 * fuzzSeeds(), and for each seed all truncations of its first bytes and up to
 * twenty thousand mutations (of large ones fewer), the same ones each time.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>

#include "fuzz-replay.h"

#define MUTATIONS 20000
#define MUTATED_BYTES (256 * 1024 * 1024)
#define TRUNCATIONS 1100


/* Most of what is interesting stands in front, or at a multiple of 64 KiB. */
static gsize
replayPlace(gsize len, GRand *rand)
{
    gsize span = g_rand_boolean(rand) ? 128 : 4096;
    gsize start = 0;

    if (len > 65536 && g_rand_boolean(rand))
        start = g_rand_int_range(rand, 0, len / 65536) * 65536;
    return start + g_rand_int_range(rand, 0, MIN(span, len - start));
}


static void
replayMutations(const guint8 *seed, gsize len, GRand *rand)
{
    g_autofree guint8 *copy = g_malloc(len);
    gsize count = MIN(MUTATIONS, MUTATED_BYTES / len);
    gsize i;

    for (i = 0; i < count; i++) {
        static const guint8 extremes[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
        guint n = g_rand_int_range(rand, 1, 5);

        memcpy(copy, seed, len);
        while (n--) {
            gsize where = replayPlace(len, rand);

            copy[where] = g_rand_boolean(rand) ? extremes[g_rand_int_range(rand, 0, G_N_ELEMENTS(extremes))] :
                (guint8)g_rand_int(rand);
        }
        LLVMFuzzerTestOneInput(copy, len);
    }
}


static void
replaySeed(const guint8 *seed, gsize len, GRand *rand)
{
    gsize cut;

    LLVMFuzzerTestOneInput(seed, len);
    for (cut = 0; cut < MIN(len, TRUNCATIONS); cut++) {
        /* a copy of its own size, so that a sanitizer sees where it ends */
        g_autofree guint8 *copy = g_memdup2(seed, cut);

        LLVMFuzzerTestOneInput(copy, cut);
    }
    if (len > 0)
        replayMutations(seed, len, rand);
}


static int
replayWriteSeeds(const char *dir)
{
    g_autoptr(GPtrArray) seeds = fuzzSeeds();
    guint n;

    for (n = 0; n < seeds->len; n++) {
        g_autofree char *name = g_strdup_printf("seed-%u", n);
        g_autofree char *path = g_build_filename(dir, name, NULL);
        g_autoptr(GError) error = NULL;
        gsize len;
        const char *seed = g_bytes_get_data(seeds->pdata[n], &len);

        if (!g_file_set_contents(path, seed, len, &error))
            g_error("%s", error->message);
    }
    return EXIT_SUCCESS;
}


int
main(int argc, char **argv)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20261121);
    g_autoptr(GPtrArray) seeds = NULL;
    guint n;

    if (argc == 3 && g_str_equal(argv[1], "--seeds"))
        return replayWriteSeeds(argv[2]);
    for (n = 1; n < (guint)argc; n++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *bytes = NULL;
        gsize len;

        if (!g_file_get_contents(argv[n], &bytes, &len, &error))
            g_error("%s", error->message);
        LLVMFuzzerTestOneInput((const guint8 *)bytes, len);
    }
    if (argc > 1)
        return EXIT_SUCCESS;

    seeds = fuzzSeeds();
    g_assert_cmpuint(seeds->len, >, 0);
    for (n = 0; n < seeds->len; n++) {
        gsize len;
        const guint8 *seed = g_bytes_get_data(seeds->pdata[n], &len);

        replaySeed(seed, len, rand);
    }
    printf("%u seeds\n", seeds->len);
    return EXIT_SUCCESS;
}
