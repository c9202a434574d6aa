/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_CHAIN_MULTIHASH_H
#define PROTO_CHAIN_MULTIHASH_H

/*
 * SHA-256 of many messages at a time: where the CPU has AVX-512, the same step is made of sixteen
 * of them with each instruction. One alone is faster with OpenSSL, whose result is the same.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MULTIHASH_SIZE 32u
#define MULTIHASH_LANES 16u

struct multihash_message {
	const uint8_t *data;
	size_t len;
	uint8_t *ret_hash; /* MULTIHASH_SIZE bytes */
};

/* Whether this CPU can at all. */
bool multihash_is_there(void);
/* Whether these, MULTIHASH_LANES at most, are done sooner by multihash_make() than one by one. */
bool multihash_pays(const struct multihash_message *messages, size_t n);
/* 1 to MULTIHASH_LANES of them, where multihash_is_there(). Any thread. */
void multihash_make(const struct multihash_message *messages, size_t n);

#endif
