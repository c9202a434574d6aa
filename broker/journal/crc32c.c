/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/crc32c.h"

#include <string.h>

/* Of the sixteen values of four bits; polynomial 0x82f63b78. */
static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc,
	0x5125dad3, 0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};

static uint32_t crc_soft(uint32_t crc, const uint8_t *at, size_t len)
{
	for (; len; len--) {
		crc ^= *at++;
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_hard(
	uint32_t crc, const uint8_t *at, size_t len)
{
	uint64_t sum = crc, word;

	for (; len >= sizeof(word); len -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		sum = __builtin_ia32_crc32di(sum, word);
	}
	for (; len; len--)
		sum = __builtin_ia32_crc32qi((uint32_t)sum, *at++);
	return (uint32_t)sum;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	return __builtin_cpu_supports("sse4.2") ? ~crc_hard(~crc, data, len)
						: ~crc_soft(~crc, data, len);
}
#else
uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	return ~crc_soft(~crc, data, len);
}
#endif
