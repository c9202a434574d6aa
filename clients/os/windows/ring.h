/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_RING_H
#define CLIENTS_OS_WINDOWS_RING_H

/*
 * LIST_ENTRY: rings of objects, of the kernel and of the loader in a process. A guest changes them
 * while they are walked, and a hostile one makes them endless: each entry has to point back to
 * where the walk came from, which also finds circles, and there is a bound.
 */

#include "clients/os/windows/kernel.h"

struct windows_ring {
	struct windows_kernel *kernel;
	uint64_t root;
	uint64_t head, at;
	uint64_t offset; /* of the entry in an object */
	uint32_t left;
};

struct windows_ring windows_ring(struct windows_kernel *kernel, uint64_t head, uint64_t offset);
/* The same in a process' memory. */
struct windows_ring windows_ring_user(
	struct windows_kernel *kernel, uint64_t root, uint64_t head, uint64_t offset);
/* The next object; false at the end, or when the walk does not hold together, which is then the
 * kernel's fault. */
bool windows_ring_next(struct windows_ring *ring, uint64_t *ret_object);

#endif
