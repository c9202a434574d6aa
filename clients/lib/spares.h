/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_LIB_SPARES_H
#define CLIENTS_LIB_SPARES_H

/*
 * Memory of writes that are over, for those that follow: a window of 64 pages which is given back
 * and taken again makes the C library shrink and grow the heap, and the kernel clear each page
 * anew, which is a quarter of what such a writer does. It keeps SPARES_MAX bytes at most.
 */

#include <stddef.h>

#define SPARES_MAX (512u << 10)

struct spare;

/* All zero: none. */
struct spares {
	struct spare *list; /* the last one that was given comes first */
	size_t bytes;
};

/* `size` bytes or more, with anything in them; NULL: there is no memory. */
void *spares_take(struct spares *spares, size_t size);
/* What spares_take() returned, of whichever spares; accepts NULL. */
void spares_give(struct spares *spares, void *memory);
void spares_deinit(struct spares *spares);

#endif
