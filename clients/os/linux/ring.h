/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_RING_H
#define CLIENTS_OS_LINUX_RING_H

/*
 * struct list_head: rings of objects. A guest changes them while they are walked, and a hostile one
 * makes them endless: each entry has to point back to where the walk came from, which also finds
 * circles, and there is a bound.
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/os/linux/kernel.h"

#define LINUX_RING_MAX 100000u /* more processes, threads or modules than a guest has */

struct linux_ring {
	struct linux_kernel *kernel;
	uint64_t head, at;
	uint64_t offset; /* of the list_head in an object */
	uint32_t left;
};

/* `head` is a list_head, that of an object or one on its own. */
struct linux_ring linux_ring(struct linux_kernel *kernel, uint64_t head, enum linux_field field);
/* The next object; false at the end, or when the walk does not hold together, which is then the
 * kernel's fault. */
bool linux_ring_next(struct linux_ring *ring, uint64_t *ret_object);

#endif
