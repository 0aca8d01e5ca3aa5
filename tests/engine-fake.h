/*
 * engine-fake.h: triggers of the fake engine
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * tests/engine-fake.c implements engine.h without a network: all engines of a
 * process form the swarm.  They find each other as real ones do - by address
 * (virTorrentEngineAddPeer(), x.pe of a magnet), through DHT bootstrap hosts,
 * by LSD - and copy real bytes into real files, piece by piece, verified, at
 * the pace of a timer and of the limits.  Metainfo and hashing are the real ones.
 *
 * Link with engine-fake.c, libtorrentd.la (or libenginebase.la); call
 * virTorrentFakeReset() between tests.  One thread only.
 */

#pragma once

#include "engine.h"

G_BEGIN_DECLS

/* Arms a fault for its next @times occasions (G_MAXUINT: all).
 *
 *   listen          virTorrentEngineNew() finds no port
 *   add             virTorrentEngineAdd() fails
 *   metadata-never  a magnet's info dictionary does not come
 *   corrupt         a peer sends a piece that is wrong
 *   enospc          writing a piece fails: the torrent FAILED
 *   eio             reading a piece at a seed fails: the seed FAILED
 *   resume-lost     resume data handed to Add is taken for damaged
 *   relocate        virTorrentEngineRelocate() fails
 *   stall           a step of a transfer moves nothing
 */
void virTorrentFakeFault(const char *what, guint times);

/* How often it happened: a test that arms a fault asserts that it did. */
guint virTorrentFakeFired(const char *what);

/* Disarms and forgets all faults. */
void virTorrentFakeReset(void);

/* Bytes per second where no limit is set; 0: as fast as the timer goes, one
 * piece a step. */
void virTorrentFakeSetSpeed(guint64 bytes_per_second);

G_END_DECLS
