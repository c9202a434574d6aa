/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/rsp.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int digit(uint8_t byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	byte = (uint8_t)tolower(byte);
	return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static enum rsp_event take_idle(struct rsp *rsp, uint8_t byte)
{
	if (byte == '$') {
		rsp->at = RSP_DATA;
		rsp->len = 0;
		rsp->sum = 0;
		rsp->too_long = false;
	}
	return byte == 3 ? RSP_INTERRUPT : byte == '-' ? RSP_AGAIN : RSP_NONE;
}

static void take_data(struct rsp *rsp, uint8_t byte)
{
	if (byte == '#') {
		rsp->at = RSP_SUM_HIGH;
		return;
	}
	rsp->sum = (uint8_t)(rsp->sum + byte);
	if (rsp->len < RSP_PACKET_MAX)
		rsp->data[rsp->len++] = (char)byte;
	else
		rsp->too_long = true;
}

enum rsp_event rsp_take(struct rsp *rsp, uint8_t byte)
{
	int value = digit(byte);

	switch (rsp->at) {
	case RSP_IDLE:
		return take_idle(rsp, byte);
	case RSP_DATA:
		take_data(rsp, byte);
		return RSP_NONE;
	case RSP_SUM_HIGH:
		rsp->told = value < 0 ? 0 : (uint8_t)(value * 16);
		rsp->at = value < 0 ? RSP_IDLE : RSP_SUM_LOW;
		return value < 0 ? RSP_BAD : RSP_NONE;
	default:
		rsp->at = RSP_IDLE;
		rsp->data[rsp->len] = 0;
		if (value < 0 || (rsp->told | value) != rsp->sum)
			return RSP_BAD;
		if (rsp->too_long)
			rsp->data[rsp->len = 0] = 0;
		return RSP_PACKET;
	}
}

bool rsp_is_again(const struct rsp *rsp, const uint8_t *bytes, size_t len)
{
	return len >= rsp->len + 4 && bytes[0] == '$' &&
	       memcmp(bytes + 1, rsp->data, rsp->len) == 0 && bytes[1 + rsp->len] == '#';
}

void rsp_hex(const uint8_t *bytes, size_t len, char *ret_text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		ret_text[2 * i] = digits[bytes[i] >> 4];
		ret_text[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret_text[2 * len] = 0;
}

size_t rsp_frame(const char *data, size_t len, char *ret_frame)
{
	static const char special[] = {'#', '$', '}', '*'};
	char sum_text[3];
	uint8_t sum = 0;
	size_t n = 0;

	ret_frame[n++] = '$';
	for (size_t i = 0; i < len; i++) {
		if (memchr(special, data[i], sizeof(special))) {
			ret_frame[n++] = '}';
			ret_frame[n++] = (char)(data[i] ^ 0x20);
		} else {
			ret_frame[n++] = data[i];
		}
	}
	for (size_t i = 1; i < n; i++)
		sum = (uint8_t)(sum + (uint8_t)ret_frame[i]);
	ret_frame[n++] = '#';
	rsp_hex(&sum, 1, sum_text);
	memcpy(ret_frame + n, sum_text, 2);
	return n + 2;
}

bool rsp_pair(const char *text, uint64_t *ret_first, uint64_t *ret_second)
{
	char *end;

	if (!isxdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*ret_first = strtoull(text, &end, 16);
	if (*end != ',' || !isxdigit((unsigned char)end[1]))
		return false;
	*ret_second = strtoull(end + 1, &end, 16);
	return !errno && (*end == 0 || *end == ':');
}
