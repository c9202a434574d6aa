/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/frame.h"

#include "vmsig/vmsig_error.h"

void frame_header(uint8_t header[FRAME_HEADER], uint32_t len)
{
	header[0] = (uint8_t)(len >> 24);
	header[1] = (uint8_t)(len >> 16);
	header[2] = (uint8_t)(len >> 8);
	header[3] = (uint8_t)len;
}

static uint32_t length_of(const uint8_t header[FRAME_HEADER])
{
	return (uint32_t)header[0] << 24 | (uint32_t)header[1] << 16 | (uint32_t)header[2] << 8 |
	       header[3];
}

int frame_parse(const uint8_t *data, size_t len, size_t frame_max, const uint8_t **ret_payload,
	size_t *ret_len)
{
	uint32_t n;

	if (len < FRAME_HEADER)
		return VMSIG_ERR_WOULD_BLOCK;
	n = length_of(data);
	if (n > frame_max)
		return VMSIG_ERR_PROTOCOL;
	if (len - FRAME_HEADER < n)
		return VMSIG_ERR_WOULD_BLOCK;
	*ret_payload = data + FRAME_HEADER;
	*ret_len = n;
	return 0;
}

size_t frame_missing(const uint8_t *data, size_t len)
{
	size_t size = FRAME_HEADER;

	if (len >= FRAME_HEADER)
		size += length_of(data);
	return size > len ? size - len : 0;
}
