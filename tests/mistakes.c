/*
 * mistakes.c: what tests/sanitize.sh has to find before its silence is believed
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Usage: mistakes none | overflow | undefined | leak | race
 *
 * "none" does the same as "race" with a lock of GLib's, and hands memory over to a
 * thread pool: nothing may be found there.
 */

#include <glib.h>
#include <string.h>

static GMutex lock;
static gboolean locked;
static int shared;

static void
count(gpointer data, gpointer user G_GNUC_UNUSED)
{
    int *mine = data;

    if (locked)
        g_mutex_lock(&lock);
    shared += *mine;
    if (locked)
        g_mutex_unlock(&lock);
    g_free(mine);
}

static void
countTwice(void)
{
    GThreadPool *pool = g_thread_pool_new(count, NULL, 2, TRUE, NULL);
    int i;

    for (i = 0; i < 2000; i++) {
        int *mine = g_new(int, 1);

        *mine = i;
        g_thread_pool_push(pool, mine, NULL);
    }
    g_thread_pool_free(pool, FALSE, TRUE);
}

/* Not inlined and volatile, or the compiler sees through it. */
static __attribute__((noinline)) int
overflow(volatile int length)
{
    g_autofree char *text = g_malloc(16);

    memset(text, 1, length);
    return text[3];
}

static __attribute__((noinline)) int
undefined(volatile int big)
{
    return big + 1;
}

static __attribute__((noinline)) void
leak(void)
{
    char *volatile text = g_strdup("leak");

    text[0] = 'L';
    text = NULL;
}

int
main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "none";

    locked = strcmp(what, "race") != 0;
    countTwice();
    if (strcmp(what, "overflow") == 0)
        return overflow(17) - 1;
    if (strcmp(what, "undefined") == 0)
        return undefined(G_MAXINT) > 0;
    if (strcmp(what, "leak") == 0)
        leak();
    return 0;
}
