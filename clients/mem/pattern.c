/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/mem/pattern.h"

#include <string.h>

#include "vmsig/vmsig_error.h"

static void find_anchor(struct mem_pattern *pattern)
{
	size_t run = 0;

	for (size_t i = 0; i < pattern->len; i++) {
		run = pattern->mask[i] == 0xff ? run + 1 : 0;
		if (run > pattern->anchor_len) {
			pattern->anchor_len = run;
			pattern->anchor = i + 1 - run;
		}
	}
	pattern->exact = pattern->anchor_len == pattern->len;
}

int mem_pattern_init(struct mem_pattern *pattern, const void *bytes, const void *mask, size_t len)
{
	const uint8_t *from = bytes;

	if (!len || len > PATTERN_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	if (mask)
		memcpy(pattern->mask, mask, len);
	else
		memset(pattern->mask, 0xff, len);
	for (size_t i = 0; i < len; i++)
		pattern->bytes[i] = from[i] & pattern->mask[i];
	pattern->len = len;
	pattern->anchor = pattern->anchor_len = 0;
	find_anchor(pattern);
	return 0;
}

bool mem_pattern_matches(const struct mem_pattern *pattern, const uint8_t *data)
{
	if (pattern->exact)
		return !memcmp(data, pattern->bytes, pattern->len);
	for (size_t i = 0; i < pattern->len; i++) {
		if ((data[i] & pattern->mask[i]) != pattern->bytes[i])
			return false;
	}
	return true;
}

/* Where the pattern could start next. */
static size_t find_candidate(
	const struct mem_pattern *pattern, const uint8_t *data, size_t len, size_t from)
{
	const uint8_t *at = data + from + pattern->anchor;
	const uint8_t *hit;

	if (!pattern->anchor_len)
		return from;
	hit = memmem(at, (size_t)(data + len - at), pattern->bytes + pattern->anchor,
		pattern->anchor_len);
	return hit ? (size_t)(hit - data) - pattern->anchor : len;
}

size_t mem_pattern_find(
	const struct mem_pattern *pattern, const uint8_t *data, size_t len, size_t from)
{
	while (from <= len && len - from >= pattern->len) {
		from = find_candidate(pattern, data, len, from);
		if (len - from < pattern->len)
			break;
		if (pattern->exact || mem_pattern_matches(pattern, data + from))
			return from;
		from++;
	}
	return len;
}
