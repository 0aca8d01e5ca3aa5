/*
 * bench-hash.c: how fast a file is published, beside what its hashing must cost
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * usage: bench-hash [DIRECTORY [MIB]]
 *
 * Writes a file of MIB (4096) into DIRECTORY (the system's temporary one),
 * hashes it with virTorrentHashStart(), and beside it measures SHA-256 of the same
 * amount of memory in blocks of 16 KiB on all cores: no publisher can be faster
 * than that.  Five rounds in turn, the best of each counts; the file is in the
 * page cache where memory suffices.  Seconds of processor time are compared too:
 * they tell the same on a machine that is busy with other things.  Ends with
 * lines that ./bench collects.
 */

#include <config.h>

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "merkle.h"

#define MIB (1024 * 1024)
#define ROUNDS 5

static double
cpuSeconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void
fillRandom(guint8 *data, gsize len)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    gsize i;

    for (i = 0; i < len; i++)
        data[i] = g_rand_int(rand);
}

static int
makeFile(const char *dir, guint64 mib)
{
    g_autofree char *path = g_build_filename(dir, "bench-hash-XXXXXX", NULL);
    g_autofree guint8 *data = g_malloc(MIB);
    int fd = g_mkstemp(path);
    guint64 i;

    if (fd < 0)
        g_error("cannot make a file in %s: %s", dir, g_strerror(errno));
    unlink(path);
    fillRandom(data, MIB);
    for (i = 0; i < mib; i++) {
        memcpy(data, &i, sizeof(i));
        if (write(fd, data, MIB) != MIB)
            g_error("cannot write %" G_GUINT64_FORMAT " MiB to %s: %s", mib, dir, g_strerror(errno));
    }
    if (fsync(fd) < 0)
        g_error("fsync: %s", g_strerror(errno));
    return fd;
}

/* --- what hashing costs --- */

static gpointer
limitWorker(gpointer opaque)
{
    gint64 *left = opaque;      /* MiB, atomic */
    g_autofree guint8 *data = g_malloc(MIB);
    guint8 out[EVP_MAX_MD_SIZE];
    EVP_MD *sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    gsize at;

    fillRandom(data, MIB);
    while (__atomic_fetch_sub(left, 1, __ATOMIC_RELAXED) > 0) {
        for (at = 0; at < MIB; at += VIR_TORRENT_BLOCK_SIZE) {
            EVP_DigestInit_ex2(ctx, sha256, NULL);
            EVP_DigestUpdate(ctx, data + at, VIR_TORRENT_BLOCK_SIZE);
            EVP_DigestFinal_ex(ctx, out, NULL);
        }
    }
    EVP_MD_CTX_free(ctx);
    EVP_MD_free(sha256);
    return NULL;
}

static double
measureLimit(guint64 mib)
{
    guint n = g_get_num_processors(), i;
    g_autofree GThread **threads = g_new0(GThread *, n);
    gint64 begin = g_get_monotonic_time();
    gint64 left = mib;

    for (i = 0; i < n; i++)
        threads[i] = g_thread_new("limit", limitWorker, &left);
    for (i = 0; i < n; i++)
        g_thread_join(threads[i]);
    return mib / ((g_get_monotonic_time() - begin) / 1e6);
}

/* --- what publishing takes --- */

static void
onHashed(VirTorrentHash *hash G_GNUC_UNUSED, GBytes *metainfo, const GError *error, gpointer opaque)
{
    if (!metainfo)
        g_error("%s", error->message);
    *(gboolean *)opaque = TRUE;
}

static double
measurePublish(int fd, guint64 mib)
{
    gboolean ready = FALSE;
    g_autoptr(GError) error = NULL;
    gint64 begin = g_get_monotonic_time();
    VirTorrentHash *hash = virTorrentHashStart(fd, "bench", "raw", 0, 0, NULL, onHashed, &ready, &error);
    double rate;

    if (!hash)
        g_error("%s", error->message);
    while (!ready)
        g_main_context_iteration(NULL, TRUE);
    rate = mib / ((g_get_monotonic_time() - begin) / 1e6);
    virTorrentHashFree(hash);
    return rate;
}

int
main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : g_get_tmp_dir();
    guint64 mib = argc > 2 ? g_ascii_strtoull(argv[2], NULL, 10) : 4096;
    double limit = 0, publish = 0, limit_cpu = G_MAXDOUBLE, publish_cpu = G_MAXDOUBLE;
    int fd, i;

    if (mib == 0 || argc > 3) {
        fprintf(stderr, "usage: %s [DIRECTORY [MIB]]\n", argv[0]);
        return EXIT_FAILURE;
    }
    fd = makeFile(dir, mib);
    for (i = 0; i < ROUNDS; i++) {
        double begin = cpuSeconds(), middle, l, p;

        l = measureLimit(mib);
        middle = cpuSeconds();
        p = measurePublish(fd, mib);
        limit = MAX(limit, l);
        publish = MAX(publish, p);
        limit_cpu = MIN(limit_cpu, middle - begin);
        publish_cpu = MIN(publish_cpu, cpuSeconds() - middle);
        printf("round %d: SHA-256 on %u cores %.0f MiB/s, publishing a file of %" G_GUINT64_FORMAT
               " MiB %.0f MiB/s\n", i + 1, g_get_num_processors(), l, mib, p);
    }
    close(fd);
    printf("figure publish.mib_per_s %.0f\n", publish);
    printf("figure publish.rate_over_sha256 %.3f\n", publish / limit);
    printf("figure publish.cpu_over_sha256 %.3f\n", publish_cpu / limit_cpu);
    return EXIT_SUCCESS;
}
