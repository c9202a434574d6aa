/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_MULTIHASH_H
#define BROKER_MULTIHASH_H

/*
 * SHA-256 of many messages at a time, by Intel's multi-buffer library (libipsec-mb), where the CPU
 * has AVX-512: sixteen take less than half of the time that they take OpenSSL one after the other.
 * One alone is faster with OpenSSL, whose result is the same.
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

/* Belongs to one thread. */
struct multihash;

/* NULL: this CPU or this build has none, or there is no memory. Freed by multihash_free(). */
struct multihash *multihash_new(void);
/* Accepts NULL, returns NULL. */
struct multihash *multihash_free(struct multihash *multihash);
/* Whether these, MULTIHASH_LANES at most, are done sooner by multihash_make() than one by one.
 * False for NULL. */
bool multihash_pays(
	const struct multihash *multihash, const struct multihash_message *messages, size_t n);
/* Whether it has made them, MULTIHASH_LANES at most; else none counts. */
__attribute__((warn_unused_result)) bool multihash_make(
	struct multihash *multihash, const struct multihash_message *messages, size_t n);

#endif
