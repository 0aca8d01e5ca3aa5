/*
 * storage_torrentpool_state.c: what is remembered of running torrent pools
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Four things, all of which may be lost without losing a volume:
 *
 *  - the mark of a started pool, a file in libvirt's run directory with the
 *    kernel's boot id in it. Without it a restarted daemon would bring a
 *    stopped pool back, or start every pool at boot.
 *  - a record per pool in memory: on which connection to virttorrentd it was
 *    opened, which volumes are being created, which .torrent files were
 *    refused, and for which masters virttorrentd has told all there is to tell.
 *  - which volumes are being made a backing store or deleted just now, so that
 *    no overlay is left without what it is made on.
 *  - the queue of pools to be refreshed because something happened to one of
 *    their volumes. Only virStoragePoolRefresh() emits the event that clients
 *    listen for and a refresh is refused while a volume is being built, so a
 *    thread of ours calls it and tries again.
 *
 * Locks: stateLock guards the records and the queue. It may be taken with a
 * pool locked; no pool is locked and virttorrentd is not called under it.
 */

#include <config.h>

#include "configmake.h"
#include "datatypes.h"
#include "driver.h"
#include "storage_torrentpool_client.h"
#include "storage_torrentpool_conn.h"
#include "storage_torrentpool_def.h"
#include "storage_torrentpool_state.h"
#include "viralloc.h"
#include "virerror.h"
#include "virfile.h"
#include "virhash.h"
#include "viridentity.h"
#include "virlog.h"
#include "virthread.h"
#include "virutil.h"
#include "viruuid.h"

#define VIR_FROM_THIS VIR_FROM_STORAGE

VIR_LOG_INIT("storage.storage_torrentpool_state");

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_MAX 64

/* Bursts of events make one refresh. */
#define REFRESH_TICK_US (G_USEC_PER_SEC / 2)
#define REFRESH_MAX_DELAY_US (16 * G_USEC_PER_SEC)
#define REFRESH_MAX_TRIES 240

#define HELD_ALONE -1

typedef struct _virStorageTorrentPoolRefused virStorageTorrentPoolRefused;
struct _virStorageTorrentPoolRefused {
    off_t size;
    struct timespec mtime;
    char *reason;
};

typedef struct _virStorageTorrentPoolState virStorageTorrentPoolState;
struct _virStorageTorrentPoolState {
    unsigned int serial;  /* connection on which it is open; 0: on none */
    bool seen;
    GHashTable *creating; /* set of volume names */
    GHashTable *refused;  /* name -> virStorageTorrentPoolRefused */
    GHashTable *settled;  /* set of volume names */
};

typedef struct _virStorageTorrentPoolPending virStorageTorrentPoolPending;
struct _virStorageTorrentPoolPending {
    bool lost; /* not before virttorrentd is there again */
    unsigned int tries;
    gint64 due; /* monotonic time */
};

static virMutex stateLock = VIR_MUTEX_INITIALIZER;
static virCond statePendingCond;
static GHashTable *statePools;   /* UUID -> virStorageTorrentPoolState */
static GHashTable *statePending; /* UUID -> virStorageTorrentPoolPending */
static GHashTable *stateHeld;    /* path -> number of those who hold it, or
                                  * HELD_ALONE */


static void
virStorageTorrentPoolRefusedFree(void *opaque)
{
    virStorageTorrentPoolRefused *refused = opaque;

    g_free(refused->reason);
    g_free(refused);
}


static void
virStorageTorrentPoolStateFree(void *opaque)
{
    virStorageTorrentPoolState *state = opaque;

    g_hash_table_unref(state->creating);
    g_hash_table_unref(state->refused);
    g_hash_table_unref(state->settled);
    g_free(state);
}


/* The record of the pool, made if there is none. stateLock is held. */
static virStorageTorrentPoolState *
virStorageTorrentPoolStateGet(virStoragePoolDef *def)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    virStorageTorrentPoolState *state;

    virUUIDFormat(def->uuid, uuid);

    if ((state = g_hash_table_lookup(statePools, uuid)))
        return state;

    state = g_new0(virStorageTorrentPoolState, 1);
    state->creating = virHashNew(NULL);
    state->refused = virHashNew(virStorageTorrentPoolRefusedFree);
    state->settled = virHashNew(NULL);
    g_hash_table_insert(statePools, g_strdup(uuid), state);

    return state;
}


static char *
virStorageTorrentPoolStateMarkPath(virStoragePoolDef *def)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autofree char *rundir = NULL;

    virUUIDFormat(def->uuid, uuid);

    if (geteuid() == 0)
        return g_strdup_printf(RUNSTATEDIR "/libvirt/storage/%s.torrentpool", uuid);

    rundir = virGetUserRuntimeDirectory();
    return g_strdup_printf("%s/storage/run/%s.torrentpool", rundir, uuid);
}


int
virStorageTorrentPoolStateMark(virStoragePoolDef *def)
{
    g_autofree char *path = virStorageTorrentPoolStateMarkPath(def);
    g_autofree char *boot = NULL;

    if (virFileReadAll(BOOT_ID_PATH, BOOT_ID_MAX, &boot) < 0)
        return -1;

    if (virFileWriteStr(path, boot, 0600) < 0) {
        virReportSystemError(errno,
                             _("cannot write '%1$s', which marks storage pool '%2$s' as started"),
                             path, def->name);
        return -1;
    }

    return 0;
}


bool
virStorageTorrentPoolStateIsMarked(virStoragePoolDef *def)
{
    g_autofree char *path = virStorageTorrentPoolStateMarkPath(def);
    g_autofree char *boot = NULL;
    g_autofree char *mark = NULL;

    if (virFileReadAllQuiet(path, BOOT_ID_MAX, &mark) < 0 ||
        virFileReadAllQuiet(BOOT_ID_PATH, BOOT_ID_MAX, &boot) < 0)
        return false;

    return STREQ(mark, boot);
}


/* It is stopped: no mark, no record, no pending refresh. */
void
virStorageTorrentPoolStateForget(virStoragePoolDef *def)
{
    g_autofree char *path = virStorageTorrentPoolStateMarkPath(def);
    char uuid[VIR_UUID_STRING_BUFLEN];

    virUUIDFormat(def->uuid, uuid);

    if (unlink(path) < 0 && errno != ENOENT)
        VIR_WARN("cannot remove '%s': %s", path, g_strerror(errno));

    VIR_WITH_MUTEX_LOCK_GUARD(&stateLock) {
        g_hash_table_remove(statePools, uuid);
        g_hash_table_remove(statePending, uuid);
    }
}


bool
virStorageTorrentPoolStateIsFirst(virStoragePoolDef *def)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);
    virStorageTorrentPoolState *state = virStorageTorrentPoolStateGet(def);
    bool seen = state->seen;

    state->seen = true;

    return !seen;
}


void
virStorageTorrentPoolStateAddCreating(virStoragePoolDef *def,
                                      const char *name)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);

    g_hash_table_add(virStorageTorrentPoolStateGet(def)->creating, g_strdup(name));
}


/* Returns whether it was there. */
bool
virStorageTorrentPoolStateRemoveCreating(virStoragePoolDef *def,
                                         const char *name)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);

    return g_hash_table_remove(virStorageTorrentPoolStateGet(def)->creating, name);
}


void
virStorageTorrentPoolStateClearCreating(virStoragePoolDef *def)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);

    g_hash_table_remove_all(virStorageTorrentPoolStateGet(def)->creating);
}


void
virStorageTorrentPoolStateAddRefused(virStoragePoolDef *def,
                                     const char *name,
                                     const struct stat *sb,
                                     const char *reason)
{
    virStorageTorrentPoolRefused *refused = g_new0(virStorageTorrentPoolRefused, 1);
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);

    refused->size = sb->st_size;
    refused->mtime = sb->st_mtim;
    refused->reason = g_strdup(reason);

    g_hash_table_insert(virStorageTorrentPoolStateGet(def)->refused,
                        g_strdup(name), refused);
}


/* Returns why the file was refused, to be freed by the caller, or NULL if it
 * was not, or changed since. */
char *
virStorageTorrentPoolStateGetRefused(virStoragePoolDef *def,
                                     const char *name,
                                     const struct stat *sb)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);
    virStorageTorrentPoolRefused *refused;

    refused = g_hash_table_lookup(virStorageTorrentPoolStateGet(def)->refused, name);

    if (!refused ||
        refused->size != sb->st_size ||
        refused->mtime.tv_sec != sb->st_mtim.tv_sec ||
        refused->mtime.tv_nsec != sb->st_mtim.tv_nsec)
        return NULL;

    return g_strdup(refused->reason);
}


/* A master that is being seeded changes only by what virttorrentd tells. */
void
virStorageTorrentPoolStateSetSettled(virStoragePoolDef *def,
                                     const char *name,
                                     const virStorageTorrentVolume *known)
{
    if (!known || known->state != VIR_STORAGE_VOL_TORRENT_STATE_SEEDING)
        return;

    VIR_WITH_MUTEX_LOCK_GUARD(&stateLock) {
        g_hash_table_add(virStorageTorrentPoolStateGet(def)->settled, g_strdup(name));
    }
}


bool
virStorageTorrentPoolStateIsSettled(virStoragePoolDef *def,
                                    const char *name)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);

    return g_hash_table_contains(virStorageTorrentPoolStateGet(def)->settled, name);
}


/* Whether @path stays until it is released: it is about to get an overlay. */
bool
virStorageTorrentPoolStateHold(const char *path)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);
    int count = GPOINTER_TO_INT(g_hash_table_lookup(stateHeld, path));

    if (count == HELD_ALONE)
        return false;

    g_hash_table_insert(stateHeld, g_strdup(path), GINT_TO_POINTER(count + 1));
    return true;
}


void
virStorageTorrentPoolStateRelease(const char *path)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);
    int count = GPOINTER_TO_INT(g_hash_table_lookup(stateHeld, path));

    if (count > 1)
        g_hash_table_insert(stateHeld, g_strdup(path), GINT_TO_POINTER(count - 1));
    else
        g_hash_table_remove(stateHeld, path);
}


/* Whether nobody holds @path nor can until it is released: it is about to go. */
bool
virStorageTorrentPoolStateHoldAlone(const char *path)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);

    if (g_hash_table_contains(stateHeld, path))
        return false;

    g_hash_table_insert(stateHeld, g_strdup(path), GINT_TO_POINTER(HELD_ALONE));
    return true;
}


/* stateLock is held. */
static void
virStorageTorrentPoolStateQueue(const char *uuid,
                                bool lost,
                                unsigned int tries)
{
    virStorageTorrentPoolPending *pending = g_new0(virStorageTorrentPoolPending, 1);
    gint64 delay = MIN(REFRESH_TICK_US << MIN(tries, 10), REFRESH_MAX_DELAY_US);

    pending->lost = lost;
    pending->tries = tries;
    pending->due = g_get_monotonic_time() + delay;
    g_hash_table_insert(statePending, g_strdup(uuid), pending);
    virCondSignal(&statePendingCond);
}


/* Runs in a thread of GDBus, see virStorageTorrentConnEvent. */
static void
virStorageTorrentPoolStateEvent(const char *uuid,
                                const char *name,
                                const char *state)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);
    virStorageTorrentPoolState *record;
    GHashTableIter iter;
    void *key;
    void *value;

    if (uuid) {
        VIR_DEBUG("pool=%s volume=%s state=%s", uuid, name, state);
        if ((record = g_hash_table_lookup(statePools, uuid))) {
            g_hash_table_remove(record->settled, name);
            virStorageTorrentPoolStateQueue(uuid, false, 0);
        }
        return;
    }

    g_hash_table_iter_init(&iter, statePools);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        record = value;
        g_hash_table_remove_all(record->settled);
        virStorageTorrentPoolStateQueue(key, true, 0);
    }
}


void
virStorageTorrentPoolStateAwait(virStoragePoolDef *def)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);

    virUUIDFormat(def->uuid, uuid);

    if (!g_hash_table_contains(statePending, uuid))
        virStorageTorrentPoolStateQueue(uuid, true, 1);
}


/* Whether the storage driver is complete. While it still looks at its pools it
 * lets connections in, but cannot send an event; its capabilities are the last
 * thing that it sets up. */
static bool
virStorageTorrentPoolStateIsDriverReady(void)
{
    static bool ready;
    g_autoptr(virConnect) conn = NULL;
    g_autofree char *caps = NULL;

    if (!ready &&
        (conn = virGetConnectStorage()) &&
        (caps = virConnectGetStoragePoolCapabilities(conn, 0)))
        ready = !!strstr(caps, "<pool type='torrentpool' supported='yes'>");

    return ready;
}


/* Returns 0 when there is nothing left to be done, -1 to be called again. */
static int
virStorageTorrentPoolStateRefresh(const char *uuid,
                                  const virStorageTorrentPoolPending *pending)
{
    g_autoptr(virConnect) conn = NULL;
    g_autoptr(virStoragePool) pool = NULL;

    /* what was listed when it went away is better than what is on disk */
    if (pending->lost && !virStorageTorrentConnPing())
        return -1;

    if (!(conn = virGetConnectStorage()))
        return -1;

    if (!(pool = virStoragePoolLookupByUUIDString(conn, uuid)))
        return 0;

    /* It may be about to become active. */
    if (virStoragePoolIsActive(pool) != 1)
        return -1;

    return virStoragePoolRefresh(pool, 0);
}


/* Takes one pool whose time has come. Returns false if there is none. */
static bool
virStorageTorrentPoolStateTakeDue(char **uuid,
                                  virStorageTorrentPoolPending *pending)
{
    VIR_LOCK_GUARD lock = virLockGuardLock(&stateLock);
    gint64 now = g_get_monotonic_time();
    GHashTableIter iter;
    void *key;
    void *value;

    g_hash_table_iter_init(&iter, statePending);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        *pending = *(virStorageTorrentPoolPending *)value;

        if (pending->due > now)
            continue;

        *uuid = g_strdup(key);
        g_hash_table_iter_remove(&iter);
        return true;
    }

    return false;
}


/* Tries every pool whose time has come. */
static void
virStorageTorrentPoolStateRefreshDue(void)
{
    virStorageTorrentPoolPending pending = { 0 };

    if (!virStorageTorrentPoolStateIsDriverReady())
        return;

    while (true) {
        g_autofree char *uuid = NULL;

        if (!virStorageTorrentPoolStateTakeDue(&uuid, &pending))
            return;

        if (virStorageTorrentPoolStateRefresh(uuid, &pending) == 0)
            continue;

        VIR_DEBUG("cannot refresh pool %s yet", uuid);

        VIR_WITH_MUTEX_LOCK_GUARD(&stateLock) {
            if ((pending.lost || pending.tries < REFRESH_MAX_TRIES) &&
                g_hash_table_contains(statePools, uuid) &&
                !g_hash_table_contains(statePending, uuid))
                virStorageTorrentPoolStateQueue(uuid, pending.lost, pending.tries + 1);
        }
    }
}


static void
virStorageTorrentPoolStateThread(void *opaque G_GNUC_UNUSED)
{
    g_autoptr(virIdentity) identity = virIdentityGetSystem();

    if (identity)
        ignore_value(virIdentitySetCurrent(identity));

    while (true) {
        VIR_WITH_MUTEX_LOCK_GUARD(&stateLock) {
            while (g_hash_table_size(statePending) == 0)
                ignore_value(virCondWait(&statePendingCond, &stateLock));
        }

        g_usleep(REFRESH_TICK_US);
        virStorageTorrentPoolStateRefreshDue();
        virResetLastError();
    }
}


static int
virStorageTorrentPoolRefreshOnceInit(void)
{
    virThread thread;

    if (virThreadCreateFull(&thread, false, virStorageTorrentPoolStateThread,
                            "torrent-refresh", false, NULL) < 0) {
        virReportSystemError(errno, "%s",
                             _("cannot start the thread that refreshes torrent pools"));
        return -1;
    }

    return 0;
}

/* Not when the backend is registered, since a thread does not survive a fork. */
VIR_ONCE_GLOBAL_INIT(virStorageTorrentPoolRefresh);


/**
 * virStorageTorrentPoolStateOpen:
 * @def: the pool
 * @insist: try although an attempt to reach virttorrentd failed just now
 * @error: filled on failure
 *
 * Makes sure that virttorrentd is there and looks after the pool; starts it,
 * and opens the pool again, where it had gone away.
 */
bool
virStorageTorrentPoolStateOpen(virStoragePoolDef *def,
                               bool insist,
                               GError **error)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    unsigned int serial;
    bool open = false;

    if (virStorageTorrentPoolRefreshInitialize() < 0) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                            virGetLastErrorMessage());
        return false;
    }

    /* if it answers, it is asked again from now on */
    if (insist)
        virStorageTorrentConnPing();

    if (!virStorageTorrentConnConnect(insist, &serial, error))
        return false;

    VIR_WITH_MUTEX_LOCK_GUARD(&stateLock) {
        open = virStorageTorrentPoolStateGet(def)->serial == serial;
    }

    if (open && !insist)
        return true;

    virUUIDFormat(def->uuid, uuid);

    if (!virStorageTorrentClientOpenPool(uuid, def->name, def->target.path,
                                         virStorageTorrentPoolDefGetOptions(def->namespaceData),
                                         error))
        return false;

    VIR_WITH_MUTEX_LOCK_GUARD(&stateLock) {
        virStorageTorrentPoolState *state = virStorageTorrentPoolStateGet(def);

        /* what is listed was known to another virttorrentd, or to none */
        if (state->serial != 0 && state->serial != serial)
            virStorageTorrentPoolStateQueue(uuid, false, 0);

        state->serial = serial;
    }

    return true;
}


/**
 * virStorageTorrentPoolStateOpenReport:
 * @def: the pool
 * @uuid: filled with its UUID, VIR_UUID_STRING_BUFLEN bytes
 *
 * The same for those who cannot go on without virttorrentd.
 *
 * Returns 0 on success, -1 on error
 */
int
virStorageTorrentPoolStateOpenReport(virStoragePoolDef *def,
                                     char *uuid)
{
    g_autoptr(GError) err = NULL;

    virUUIDFormat(def->uuid, uuid);

    if (!virStorageTorrentPoolStateOpen(def, false, &err)) {
        virStorageTorrentClientReportError(err);
        return -1;
    }

    return 0;
}


/**
 * virStorageTorrentPoolStateInit:
 *
 * To be called once, when the backend is registered.
 *
 * Returns 0 on success, -1 on error
 */
int
virStorageTorrentPoolStateInit(void)
{
    if (virCondInit(&statePendingCond) < 0) {
        virReportSystemError(errno, "%s",
                             _("cannot initialize the condition of torrent pools"));
        return -1;
    }

    statePools = virHashNew(virStorageTorrentPoolStateFree);
    statePending = virHashNew(g_free);
    stateHeld = virHashNew(NULL);

    virStorageTorrentConnSetEvent(virStorageTorrentPoolStateEvent);

    return 0;
}
