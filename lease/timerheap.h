/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEASE_TIMERHEAP_H
#define LEASE_TIMERHEAP_H

/*
 * Min-heap of moments, intrusive: the node is embedded in what it wakes. Room for a node is
 * reserved when its owner is made, so arming cannot fail.
 */

#include <stddef.h>
#include <stdint.h>

#define TIMERHEAP_NEVER UINT64_MAX

struct timerheap_node {
	uint64_t due;
	size_t index; /* place in the heap plus one; 0: not armed */
};

struct timerheap {
	struct timerheap_node **nodes;
	size_t n, capacity, reserved;
};

#define TIMERHEAP_INIT ((struct timerheap){0})

void timerheap_deinit(struct timerheap *heap);
/* Room for one more node; given back with timerheap_unreserve(). 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int timerheap_reserve(struct timerheap *heap);
void timerheap_unreserve(struct timerheap *heap);
/* Arms, moves, or with TIMERHEAP_NEVER disarms. */
void timerheap_set(struct timerheap *heap, struct timerheap_node *node, uint64_t due);
/* The earliest node, or NULL. */
struct timerheap_node *timerheap_first(const struct timerheap *heap);

#endif
