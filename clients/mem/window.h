/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_MEM_WINDOW_H
#define CLIENTS_MEM_WINDOW_H

/*
 * The part of an address space that a scan looks at: a buffer of bytes at consecutive
 * addresses. It is filled piece by piece in ascending order of addresses; pieces that touch
 * are searched as one, so a match may lie across them.
 *
 * Holes of the RAM file are never read. They count as zeros as far as a match that also has
 * bytes of data may reach into them: at most pattern->len - 1 zeros of a hole are in the
 * window in a row, so that nothing matches inside a hole.
 */

#include <stddef.h>
#include <stdint.h>

#include "clients/mem/mem.h"
#include "clients/mem/pattern.h"

#define WINDOW_SIZE (256u << 10) /* bytes; stays in a core's cache */

struct window {
	vmsig_mem *mem;
	struct mem_pattern pattern;
	/* Told of each match; anything but 0 stops. */
	int (*match)(void *ctx, uint64_t addr);
	void *ctx;
	/* Reads anew what a match is made of, when its parts are of different moments. */
	int (*reread)(void *ctx, uint64_t addr, void *buf, size_t len);
	int stopped;       /* what match returned */
	uint64_t base;     /* address of bytes[0] */
	size_t len;        /* bytes in the window */
	size_t zeros;      /* of them at the end, out of a hole */
	uint64_t sequence; /* of the coherence page when the last piece was read */
	bool mixed;        /* pieces were read at different sequences */
	uint8_t bytes[WINDOW_SIZE];
};

/* Adds [addr, addr + len), which is [off, off + len) of the RAM file. 0, what match()
 * returned (then it is in `stopped` too), or as mem_phys_coherent(). */
__attribute__((warn_unused_result)) int window_feed(
	struct window *window, uint64_t addr, uint64_t off, uint64_t len);

/* Searches what is left. */
__attribute__((warn_unused_result)) int window_finish(struct window *window);

#endif
