/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/chain/multihash.h"

#include <assert.h>
#include <string.h>

#define BLOCK 64u
#define LENGTH 8u /* bytes at the end of the last block, which say how long the message is */

/* Blocks that OpenSSL does with the CPU's instructions for SHA in the time that one of each lane
 * takes: 7 to 8, measured. */
#define PAYS 8u

static size_t blocks_of(const struct multihash_message *message)
{
	return (message->len + 1 + LENGTH + BLOCK - 1) / BLOCK;
}

#ifdef __x86_64__

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw")))

static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
	0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const uint32_t constants[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b,
	0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6,
	0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d,
	0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
	0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585,
	0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa,
	0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* ---- where the blocks of a lane are ---- */

struct lane {
	const uint8_t *data;
	size_t whole, all;       /* blocks that are in `data`, and all of them */
	uint8_t tail[2 * BLOCK]; /* the others: the rest, padded, and the length */
};

static void lane_init(struct lane *lane, const struct multihash_message *message)
{
	size_t rest = message->len % BLOCK, size;
	uint64_t bits = (uint64_t)message->len * 8;

	lane->data = message->data;
	lane->whole = message->len / BLOCK;
	lane->all = blocks_of(message);
	size = (lane->all - lane->whole) * BLOCK;
	memset(lane->tail, 0, size);
	if (rest)
		memcpy(lane->tail, message->data + message->len - rest, rest);
	lane->tail[rest] = 0x80;
	for (size_t i = 0; i < LENGTH; i++)
		lane->tail[size - 1 - i] = (uint8_t)(bits >> 8 * i);
}

static const uint8_t *lane_block(const struct lane *lane, size_t block)
{
	return block < lane->whole ? lane->data + block * BLOCK
				   : lane->tail + (block - lane->whole) * BLOCK;
}

/* ---- sixteen blocks ---- */

/* Of rows of sixteen words each. */
AVX512 static void transpose(__m512i row[static MULTIHASH_LANES])
{
	__m512i t[MULTIHASH_LANES];

	for (size_t i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
	}
	for (size_t i = 0; i < 16; i += 4) {
		row[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		row[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		row[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		row[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (size_t i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0xdd);
	}
	for (size_t i = 0; i < 8; i++) {
		row[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		row[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
	}
}

#define XOR3 0x96
#define CHOOSE 0xca
#define MAJORITY 0xe8
#define XOR(a, b, c) _mm512_ternarylogic_epi32(a, b, c, XOR3)
#define ROR(x, n) _mm512_ror_epi32(x, n)
#define ADD(a, b) _mm512_add_epi32(a, b)

/* Words of the message, the first of each lane in w[0]. */
AVX512 static void load(__m512i w[static 16], const uint8_t *const blocks[static MULTIHASH_LANES])
{
	const __m512i big_endian =
		_mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);

	for (size_t i = 0; i < MULTIHASH_LANES; i++)
		w[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(blocks[i]), big_endian);
	transpose(w);
}

AVX512 static inline __m512i schedule(const __m512i w[static 16], size_t i)
{
	__m512i old = w[(i + 1) % 16], young = w[(i + 14) % 16];
	__m512i s0 = XOR(ROR(old, 7), ROR(old, 18), _mm512_srli_epi32(old, 3));
	__m512i s1 = XOR(ROR(young, 17), ROR(young, 19), _mm512_srli_epi32(young, 10));

	return ADD(ADD(w[i % 16], s0), ADD(w[(i + 9) % 16], s1));
}

/* s[0] to s[7] are a to h, one place further with each round. */
#define AT(letter) s[((letter) + 64 - i) % 8]

AVX512 static void compress(__m512i state[static 8],
	const uint8_t *const blocks[static MULTIHASH_LANES], __mmask16 which)
{
	__m512i w[16], s[8];

	load(w, blocks);
	memcpy(s, state, sizeof(s));
#pragma GCC unroll 64
	for (size_t i = 0; i < 64; i++) {
		__m512i a = AT(0), e = AT(4), t;

		if (i >= 16)
			w[i % 16] = schedule(w, i);
		t = ADD(AT(7), ADD(w[i % 16], _mm512_set1_epi32((int)constants[i])));
		t = ADD(t, XOR(ROR(e, 6), ROR(e, 11), ROR(e, 25)));
		t = ADD(t, _mm512_ternarylogic_epi32(e, AT(5), AT(6), CHOOSE));
		AT(3) = ADD(AT(3), t);
		t = ADD(t, XOR(ROR(a, 2), ROR(a, 13), ROR(a, 22)));
		AT(7) = ADD(t, _mm512_ternarylogic_epi32(a, AT(1), AT(2), MAJORITY));
	}
	for (size_t i = 0; i < 8; i++)
		state[i] = _mm512_mask_add_epi32(state[i], which, state[i], s[i]);
}

AVX512 static void store(
	const __m512i state[static 8], const struct multihash_message *messages, size_t n)
{
	uint32_t words[8][MULTIHASH_LANES];

	for (size_t i = 0; i < 8; i++)
		_mm512_storeu_si512(words[i], state[i]);
	for (size_t lane = 0; lane < n; lane++) {
		for (size_t i = 0; i < 8; i++) {
			uint32_t word = __builtin_bswap32(words[i][lane]);

			memcpy(messages[lane].ret_hash + 4 * i, &word, sizeof(word));
		}
	}
}

/* Lanes that are through, or have no message, do the work of another one once more, in vain. */
AVX512 void multihash_make(const struct multihash_message *messages, size_t n)
{
	struct lane lanes[MULTIHASH_LANES];
	const uint8_t *blocks[MULTIHASH_LANES];
	__m512i state[8];
	size_t most = 0;

	assert(n > 0 && n <= MULTIHASH_LANES);
	for (size_t i = 0; i < n; i++) {
		lane_init(&lanes[i], &messages[i]);
		most = lanes[i].all > most ? lanes[i].all : most;
	}
	for (size_t i = 0; i < 8; i++)
		state[i] = _mm512_set1_epi32((int)start[i]);
	for (size_t block = 0; block < most; block++) {
		unsigned which = 0;

		for (size_t i = 0; i < MULTIHASH_LANES; i++) {
			bool goes_on = i < n && block < lanes[i].all;

			which |= (unsigned)goes_on << i;
			blocks[i] = goes_on ? lane_block(&lanes[i], block) : lanes[0].tail;
		}
		compress(state, blocks, (__mmask16)which);
	}
	store(state, messages, n);
}

bool multihash_is_there(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

#else

bool multihash_is_there(void)
{
	return false;
}

void multihash_make(const struct multihash_message *messages, size_t n)
{
	assert(false);
}

#endif

bool multihash_pays(const struct multihash_message *messages, size_t n)
{
	size_t most = 0, all = 0;

	if (n < PAYS || !multihash_is_there())
		return false;
	for (size_t i = 0; i < n; i++) {
		size_t blocks = blocks_of(&messages[i]);

		all += blocks;
		most = blocks > most ? blocks : most;
	}
	return all >= most * PAYS;
}
