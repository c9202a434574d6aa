/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/utf8.h"

#include <string.h>

size_t utf8_length(const unsigned char *text)
{
	static const struct {
		unsigned char first, last, second_first, second_last;
		size_t len;
	} forms[] = {
		{0x00, 0x7f, 0, 0, 1},
		{0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3},
		{0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t n = 1;

		if (text[0] < forms[i].first || text[0] > forms[i].last)
			continue;
		if (forms[i].len > 1 &&
			(text[1] < forms[i].second_first || text[1] > forms[i].second_last))
			return 0;
		/* The terminating NUL is no continuation byte, so this stays inside. */
		while (n < forms[i].len && (n == 1 || (text[n] & 0xc0) == 0x80))
			n++;
		return n == forms[i].len ? n : 0;
	}
	return 0;
}

bool utf8_is_control(const unsigned char *text, size_t len)
{
	return (len == 1 && (text[0] < 0x20 || text[0] == 0x7f)) ||
	       (len == 2 && text[0] == 0xc2 && text[1] < 0xa0);
}

void utf8_clean(char *to, size_t size, const char *text)
{
	while (size > 1 && *text) {
		const unsigned char *from = (const unsigned char *)text;
		size_t len = utf8_length(from), put = len;

		if (!len || utf8_is_control(from, len)) {
			put = 1;
			*to = '?';
		} else if (put >= size) {
			break;
		} else {
			memmove(to, text, put);
		}
		text += len ? len : 1;
		to += put;
		size -= put;
	}
	if (size)
		*to = '\0';
}
