/*
 * tsan-glib.h: tells ThreadSanitizer what GLib's locks order
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Included into every file of a -fsanitize=thread build (tests/sanitize.sh
 * tsan).  GLib, which is not instrumented, makes its locks out of futexes: seen
 * from ThreadSanitizer nothing that they protect is protected.  The interface
 * of <sanitizer/tsan_interface.h> says it: what happened before a release is
 * seen by who acquires the same address.
 */

#pragma once

#include <glib.h>
#include <sanitizer/tsan_interface.h>

static inline void
tsanMutexLock(GMutex *mutex)
{
    g_mutex_lock(mutex);
    __tsan_acquire(mutex);
}

static inline gboolean
tsanMutexTrylock(GMutex *mutex)
{
    if (!g_mutex_trylock(mutex))
        return FALSE;
    __tsan_acquire(mutex);
    return TRUE;
}

static inline void
tsanMutexUnlock(GMutex *mutex)
{
    __tsan_release(mutex);
    g_mutex_unlock(mutex);
}

static inline void
tsanCondWait(GCond *cond, GMutex *mutex)
{
    __tsan_release(mutex);
    g_cond_wait(cond, mutex);
    __tsan_acquire(mutex);
}

static inline gboolean
tsanCondWaitUntil(GCond *cond, GMutex *mutex, gint64 end)
{
    gboolean signalled;

    __tsan_release(mutex);
    signalled = g_cond_wait_until(cond, mutex, end);
    __tsan_acquire(mutex);
    return signalled;
}

static inline void
tsanQueuePush(GAsyncQueue *queue, gpointer data)
{
    __tsan_release(queue);
    g_async_queue_push(queue, data);
}

static inline gpointer
tsanQueuePop(GAsyncQueue *queue)
{
    gpointer data = g_async_queue_pop(queue);

    __tsan_acquire(queue);
    return data;
}

static inline gpointer
tsanQueueTryPop(GAsyncQueue *queue)
{
    gpointer data = g_async_queue_try_pop(queue);

    __tsan_acquire(queue);
    return data;
}

/* A thread starts with what its maker has seen, and its joiner sees all of it.
 * g_thread_new() calls pthread_create(), which is known; the thread's own start
 * in GLib is not. */
#define g_mutex_lock(mutex) tsanMutexLock(mutex)
#define g_mutex_trylock(mutex) tsanMutexTrylock(mutex)
#define g_mutex_unlock(mutex) tsanMutexUnlock(mutex)
#define g_cond_wait(cond, mutex) tsanCondWait(cond, mutex)
#define g_cond_wait_until(cond, mutex, end) tsanCondWaitUntil(cond, mutex, end)
#define g_async_queue_push(queue, data) tsanQueuePush(queue, data)
#define g_async_queue_pop(queue) tsanQueuePop(queue)
#define g_async_queue_try_pop(queue) tsanQueueTryPop(queue)
