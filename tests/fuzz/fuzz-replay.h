/*
 * fuzz-replay.h: what a fuzz target and fuzz-replay.c want from each other
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#pragma once

#include <glib.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The target, as libFuzzer knows it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The target's own corpus: GBytes, made when asked for. */
GPtrArray *fuzzSeeds(void);
