/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/text.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/windows/reader.h"
#include "vmsig/vmsig_error.h"

#define REPLACEMENT 0xfffdu
#define HIGH_FIRST 0xd800u
#define LOW_FIRST 0xdc00u
#define LOW_LAST 0xdfffu

/* UNICODE_STRING. */
struct text_string {
	uint16_t len, size; /* bytes */
	uint32_t pad;
	uint64_t units;
};

/* The character that begins at units[*at], which is moved behind it. */
static uint32_t next_character(const uint16_t *units, size_t n, size_t *at)
{
	uint32_t unit = units[(*at)++];

	if (unit < HIGH_FIRST || unit > LOW_LAST)
		return unit;
	if (unit >= LOW_FIRST || *at == n || units[*at] < LOW_FIRST || units[*at] > LOW_LAST)
		return REPLACEMENT;
	return 0x10000 + ((unit - HIGH_FIRST) << 10) + (units[(*at)++] - LOW_FIRST);
}

/* The bytes of a character, as UTF-8. */
static size_t put_character(uint32_t character, char ret_bytes[static 4])
{
	size_t more = character < 0x80 ? 0 : character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
	static const uint8_t leads[] = {0, 0xc0, 0xe0, 0xf0};

	for (size_t i = more; i > 0; i--) {
		ret_bytes[i] = (char)(0x80 | (character & 0x3f));
		character >>= 6;
	}
	ret_bytes[0] = (char)(leads[more] | character);
	return more + 1;
}

size_t windows_text_convert(const uint16_t *units, size_t n, char *ret_text, size_t size)
{
	size_t len = 0;

	for (size_t at = 0; at < n && units[at];) {
		char bytes[4];
		size_t k = put_character(next_character(units, n, &at), bytes);

		if (len + k >= size)
			break;
		memcpy(ret_text + len, bytes, k);
		len += k;
	}
	ret_text[len] = 0;
	return len;
}

void windows_text(struct windows_kernel *kernel, uint64_t root, uint64_t gva, char *ret_text,
	size_t size, size_t *ret_len)
{
	struct text_string string;
	uint16_t *units;

	*ret_len = 0;
	ret_text[0] = 0;
	windows_read_under(kernel, root, gva, &string, sizeof(string));
	if (kernel->fault || !string.len)
		return;
	if (string.len % 2 || (string.units ^ gva) >> 63) {
		windows_torn(kernel);
		return;
	}
	units = malloc(string.len);
	if (!units) {
		kernel->fault = VMSIG_ERR_NO_MEMORY;
		return;
	}
	windows_read_under(kernel, root, string.units, units, string.len);
	if (!kernel->fault)
		*ret_len = windows_text_convert(units, string.len / 2, ret_text, size);
	free(units);
}
