/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_MEMO_H
#define PROTO_GUEST_MEMO_H

/*
 * Which things were judged already: a set of digests under a key that nobody else knows, for
 * who could make two things collide would hide one behind the other.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memo {
	uint64_t key[2];
	uint64_t *slots; /* 0: free */
	size_t size;     /* a power of two, or 0 */
	size_t count;
};

/* Draws the key. 0 or -errno. */
__attribute__((warn_unused_result)) int memo_init(struct memo *memo);
void memo_deinit(struct memo *memo);

/* 0: it is new, and is remembered; VMSIG_ERR_BUSY: it is known; -ENOMEM. */
__attribute__((warn_unused_result)) int memo_add(struct memo *memo, const void *data, size_t len);

#endif
