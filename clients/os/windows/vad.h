/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_VAD_H
#define CLIENTS_OS_WINDOWS_VAD_H

/*
 * The tree of areas of an address space (VADs), in one of its shapes. It is visited in ascending
 * order and must be in that order, which also finds circles; its depth is bounded.
 */

#include "clients/os/windows/kernel.h"

/* All there are, from 7 to 11: where nodes have their children, and how many bytes their page
 * numbers have. */
#define WINDOWS_SHAPES 3u
extern const struct windows_area_shape windows_vad_shapes[WINDOWS_SHAPES];

struct windows_vad {
	uint64_t node;
	uint64_t start, end; /* [start, end) of addresses */
};

/* False stops. */
typedef bool (*windows_vad_fn)(void *ctx, const struct windows_vad *vad);
/* Of the process at `object`. What is no such tree is the kernel's fault (VMSIG_ERR_TORN). */
void windows_vad_visit(struct windows_kernel *kernel, const struct windows_area_shape *shape,
	uint64_t object, windows_vad_fn visit, void *ctx);

#endif
