/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/tokens.h"

#include <string.h>

#define WORD_MAX 512u /* KSYM_NAME_LEN, include/linux/kallsyms.h */
#define DIGIT_FIRST 48u

static const uint8_t digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";

/* Where the word begins that ends before `end`; false: it is no word. One that is too long begins
 * where the longest would: it is the first, and runs into what is before the table. */
static bool word_before(const uint8_t *bytes, size_t end, size_t *ret_start)
{
	size_t at;

	if (end < 2 || bytes[end - 1])
		return false;
	at = end - 1;
	while (at > 0 && bytes[at - 1] && end - at <= WORD_MAX)
		at--;
	*ret_start = at;
	return true;
}

static bool read_words(struct linux_tokens *tokens, const uint8_t *bytes, size_t len)
{
	size_t at = tokens->at;

	tokens->words = bytes + at;
	for (size_t i = 0; i < LINUX_TOKENS; i++) {
		const uint8_t *end = at < len ? memchr(bytes + at, 0, len - at) : NULL;
		size_t n = end ? (size_t)(end - (bytes + at)) : WORD_MAX + 1;

		if (n > WORD_MAX || at - tokens->at > UINT16_MAX)
			return false;
		tokens->start[i] = (uint16_t)(at - tokens->at);
		tokens->len[i] = (uint16_t)n;
		at += n + 1;
	}
	tokens->end = at;
	return true;
}

/* Bytes before the first word may look like a part of it: the index knows how long that one is. */
static bool index_fits(struct linux_tokens *tokens, const uint8_t *bytes)
{
	uint16_t index[LINUX_TOKENS];
	uint16_t extra;

	memcpy(index, bytes, sizeof(index));
	if (index[0] || !index[1] || index[1] > tokens->start[1])
		return false;
	extra = (uint16_t)(tokens->start[1] - index[1]);
	for (size_t i = 1; i < LINUX_TOKENS; i++) {
		if (index[i] != tokens->start[i] - extra)
			return false;
	}
	memcpy(tokens->start, index, sizeof(index));
	tokens->at += extra;
	tokens->words += extra;
	tokens->len[0] = (uint16_t)(tokens->len[0] - extra);
	return true;
}

static bool find_index(struct linux_tokens *tokens, const uint8_t *bytes, size_t len)
{
	for (size_t align = 8; align >= 2; align /= 2) {
		size_t at = (tokens->end + align - 1) & ~(align - 1);

		if (at + sizeof(tokens->start) <= len && index_fits(tokens, bytes + at)) {
			tokens->end = at + sizeof(tokens->start);
			return true;
		}
	}
	return false;
}

bool linux_tokens_find(
	struct linux_tokens *ret_tokens, const uint8_t *bytes, size_t len, size_t from)
{
	while (from < len) {
		const uint8_t *found = memmem(bytes + from, len - from, digits, sizeof(digits));
		size_t at;
		unsigned i = 0;

		if (!found)
			break;
		at = (size_t)(found - bytes);
		from = at + 1;
		while (i < DIGIT_FIRST && word_before(bytes, at, &at))
			i++;
		ret_tokens->at = at;
		if (i == DIGIT_FIRST && read_words(ret_tokens, bytes, len) &&
			find_index(ret_tokens, bytes, len))
			return true;
	}
	return false;
}
