/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/memo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmsig/vmsig_error.h"

#define SIZE_FIRST 64u

int memo_init(struct memo *memo)
{
	*memo = (struct memo){0};
	if (getrandom(memo->key, sizeof(memo->key), 0) != sizeof(memo->key))
		return -errno;
	return 0;
}

void memo_deinit(struct memo *memo)
{
	free(memo->slots);
	*memo = (struct memo){0};
}

static uint64_t rotate(uint64_t value, unsigned bits)
{
	return value << bits | value >> (64 - bits);
}

static void sip_rounds(uint64_t v[static 4], int rounds)
{
	while (rounds--) {
		v[0] += v[1];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[0] = rotate(v[0], 32);
		v[2] += v[3];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[2] = rotate(v[2], 32);
	}
}

/* SipHash-2-4 (Aumasson, Bernstein 2012). */
static uint64_t siphash(const uint64_t key[static 2], const unsigned char *data, size_t len)
{
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
		key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull};
	uint64_t word, last = (uint64_t)len << 56;

	for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		v[3] ^= word;
		sip_rounds(v, 2);
		v[0] ^= word;
	}
	while (len--)
		last |= (uint64_t)data[len] << 8 * len;
	v[3] ^= last;
	sip_rounds(v, 2);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The slot that has the digest, or the free one where it belongs. */
static uint64_t *slot_of(uint64_t *slots, size_t size, uint64_t digest)
{
	size_t at = digest & (size - 1);

	while (slots[at] && slots[at] != digest)
		at = (at + 1) & (size - 1);
	return &slots[at];
}

static int grow(struct memo *memo)
{
	size_t size = memo->size ? 2 * memo->size : SIZE_FIRST;
	uint64_t *slots = calloc(size, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < memo->size; i++) {
		if (memo->slots[i])
			*slot_of(slots, size, memo->slots[i]) = memo->slots[i];
	}
	free(memo->slots);
	memo->slots = slots;
	memo->size = size;
	return 0;
}

int memo_add(struct memo *memo, const void *data, size_t len)
{
	uint64_t digest = siphash(memo->key, data, len), *slot;

	if (!digest)
		digest = 1;
	/* At most half full: a look-up stays short. */
	if (2 * memo->count >= memo->size && grow(memo) < 0)
		return -ENOMEM;
	slot = slot_of(memo->slots, memo->size, digest);
	if (*slot)
		return VMSIG_ERR_BUSY;
	*slot = digest;
	memo->count++;
	return 0;
}
