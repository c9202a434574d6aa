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

int frame_parse(const uint8_t *data, size_t len, size_t frame_max, const uint8_t **ret_payload,
	size_t *ret_len)
{
	uint32_t n;

	if (len < FRAME_HEADER)
		return VMSIG_ERR_WOULD_BLOCK;
	n = (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
	if (n > frame_max)
		return VMSIG_ERR_PROTOCOL;
	if (len - FRAME_HEADER < n)
		return VMSIG_ERR_WOULD_BLOCK;
	*ret_payload = data + FRAME_HEADER;
	*ret_len = n;
	return 0;
}
