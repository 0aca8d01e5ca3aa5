/*
 * tsan-glib.c: tells ThreadSanitizer what GLib's threads wait for
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * GLib is not instrumented.  Its locks are futexes of its own and its queues
 * are guarded by them, so ThreadSanitizer sees neither and takes all that is
 * handed over through them for races.  This library is preloaded (LD_PRELOAD)
 * by tests/sanitize.sh tsan; it stands before those functions of GLib that our
 * sources use to lock and to hand over, and calls GLib's.
 *
 * Locks are told as locks, so that lock order is checked, too.  A handover is
 * told by the address of what is handed over: released by who gives, acquired
 * by who gets.  What GLib does inside itself is neither seen nor judged.
 *
 * Programs without ThreadSanitizer that a test starts load this as well: there
 * nothing is told.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <gio/gio.h>
#include <sanitizer/tsan_interface.h>


#pragma weak __tsan_acquire
#pragma weak __tsan_release
#pragma weak __tsan_mutex_destroy
#pragma weak __tsan_mutex_pre_lock
#pragma weak __tsan_mutex_post_lock
#pragma weak __tsan_mutex_pre_unlock
#pragma weak __tsan_mutex_post_unlock

/* The function of this name that comes after ours. */
#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) \
        next = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

/* Static ones exist without g_mutex_init(). */
#define LOCK_FLAGS __tsan_mutex_linker_init

static void
give(gconstpointer what)
{
    if (__tsan_release)
        __tsan_release((void *) what);
}

static void
get(gconstpointer what)
{
    if (__tsan_acquire)
        __tsan_acquire((void *) what);
}

static void
beforeLock(GMutex *mutex, unsigned flags)
{
    if (__tsan_mutex_pre_lock)
        __tsan_mutex_pre_lock(mutex, LOCK_FLAGS | flags);
}

static void
afterLock(GMutex *mutex, unsigned flags)
{
    if (__tsan_mutex_post_lock)
        __tsan_mutex_post_lock(mutex, LOCK_FLAGS | flags, 0);
}

static void
unlocked(GMutex *mutex)
{
    if (__tsan_mutex_pre_unlock) {
        __tsan_mutex_pre_unlock(mutex, LOCK_FLAGS);
        __tsan_mutex_post_unlock(mutex, LOCK_FLAGS);
    }
}

void
g_mutex_clear(GMutex *mutex)
{
    NEXT(g_mutex_clear);
    next(mutex);
    if (__tsan_mutex_destroy)
        __tsan_mutex_destroy(mutex, LOCK_FLAGS);
}

void
g_mutex_lock(GMutex *mutex)
{
    NEXT(g_mutex_lock);
    beforeLock(mutex, 0);
    next(mutex);
    afterLock(mutex, 0);
}

gboolean
g_mutex_trylock(GMutex *mutex)
{
    NEXT(g_mutex_trylock);
    gboolean ok;

    beforeLock(mutex, __tsan_mutex_try_lock);
    ok = next(mutex);
    afterLock(mutex, __tsan_mutex_try_lock | (ok ? 0 : __tsan_mutex_try_lock_failed));
    return ok;
}

void
g_mutex_unlock(GMutex *mutex)
{
    NEXT(g_mutex_unlock);
    unlocked(mutex);
    next(mutex);
}

/* Who waits has given the lock back meanwhile. */
void
g_cond_wait(GCond *cond, GMutex *mutex)
{
    NEXT(g_cond_wait);
    unlocked(mutex);
    next(cond, mutex);
    beforeLock(mutex, 0);
    afterLock(mutex, 0);
}

gboolean
g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end)
{
    NEXT(g_cond_wait_until);
    gboolean ok;

    unlocked(mutex);
    ok = next(cond, mutex, end);
    beforeLock(mutex, 0);
    afterLock(mutex, 0);
    return ok;
}

/* Counted references: the last one sees what was done with the others. */
gboolean
(g_atomic_ref_count_dec)(gatomicrefcount *refs)
{
    NEXT(g_atomic_ref_count_dec);
    gboolean last;

    give(refs);
    last = next(refs);
    if (last)
        get(refs);
    return last;
}

void
g_bytes_unref(GBytes *bytes)
{
    NEXT(g_bytes_unref);
    if (bytes) {
        give(bytes);
        get(bytes);
    }
    next(bytes);
}

void
g_object_unref(gpointer object)
{
    NEXT(g_object_unref);
    give(object);
    get(object);
    next(object);
}

/* What is called in another thread, and what with. */
typedef struct {
    GSourceFunc func;
    GFunc work;
    gpointer opaque;
    GDestroyNotify destroy;
    gboolean serial;             /* of a pool: one thread at a time */
} Call;

static Call *
callNew(GSourceFunc func, gpointer opaque, GDestroyNotify destroy)
{
    Call *call = g_new0(Call, 1);

    call->func = func;
    call->opaque = opaque;
    call->destroy = destroy;
    give(call);
    return call;
}

static gboolean
callRun(gpointer user)
{
    Call *call = user;

    get(call);
    return call->func(call->opaque);
}

static void
callFree(gpointer user)
{
    Call *call = user;

    get(call);
    if (call->destroy)
        call->destroy(call->opaque);
    g_free(call);
}

guint
g_idle_add_full(gint priority, GSourceFunc func, gpointer opaque, GDestroyNotify destroy)
{
    NEXT(g_idle_add_full);
    return next(priority, callRun, callNew(func, opaque, destroy), callFree);
}

guint
g_idle_add(GSourceFunc func, gpointer opaque)
{
    return g_idle_add_full(G_PRIORITY_DEFAULT_IDLE, func, opaque, NULL);
}

void
g_main_context_invoke_full(GMainContext *context, gint priority, GSourceFunc func, gpointer opaque,
                           GDestroyNotify destroy)
{
    NEXT(g_main_context_invoke_full);
    next(context, priority, callRun, callNew(func, opaque, destroy), callFree);
}

/* Only what is called with nothing but its pointer. */
void
g_source_set_callback(GSource *source, GSourceFunc func, gpointer opaque, GDestroyNotify destroy)
{
    NEXT(g_source_set_callback);

    if (source->source_funcs == &g_idle_funcs || source->source_funcs == &g_timeout_funcs)
        next(source, callRun, callNew(func, opaque, destroy), callFree);
    else
        next(source, func, opaque, destroy);
}

/* A pool of threads. */
static void
poolRun(gpointer data, gpointer user)
{
    Call *call = user;

    get(call);
    get(data);
    if (call->serial)           /* threads of a pool do not wait for each other, but where only one may run */
        get(&call->serial);
    call->work(data, call->opaque);
    if (call->serial)
        give(&call->serial);
    give(&call->work);
}

GThreadPool *
g_thread_pool_new(GFunc func, gpointer user, gint max, gboolean exclusive, GError **error)
{
    NEXT(g_thread_pool_new);
    Call *call = callNew(NULL, user, NULL);

    call->work = func;
    call->serial = max == 1;
    give(call);
    return next(poolRun, call, max, exclusive, error);
}

gboolean
g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error)
{
    NEXT(g_thread_pool_push);
    give(data);
    return next(pool, data, error);
}

void
g_thread_pool_free(GThreadPool *pool, gboolean immediate, gboolean wait)
{
    NEXT(g_thread_pool_free);
    Call *call = pool->user_data;

    next(pool, immediate, wait);
    if (wait) {
        get(&call->work);
        g_free(call);
    }
}

/* GTask, which hands over twice. */
static void
taskRun(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    GTaskThreadFunc func = (GTaskThreadFunc) g_object_get_data(G_OBJECT(task), "tsan-glib");

    get(task);
    func(task, source, data, cancellable);
}

void
g_task_run_in_thread(GTask *task, GTaskThreadFunc func)
{
    NEXT(g_task_run_in_thread);
    g_object_set_data(G_OBJECT(task), "tsan-glib", (gpointer) func);
    give(task);
    next(task, taskRun);
}

void
g_task_return_boolean(GTask *task, gboolean result)
{
    NEXT(g_task_return_boolean);
    give(task);
    next(task, result);
}

void
g_task_return_error(GTask *task, GError *error)
{
    NEXT(g_task_return_error);
    give(task);
    next(task, error);
}

gpointer
g_task_get_task_data(GTask *task)
{
    NEXT(g_task_get_task_data);
    get(task);
    return next(task);
}

gboolean
g_task_propagate_boolean(GTask *task, GError **error)
{
    NEXT(g_task_propagate_boolean);
    get(task);
    return next(task, error);
}
