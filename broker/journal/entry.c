/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/entry.h"

#include <string.h>

#include "broker/journal/crc32c.h"

static bool header_fits(const struct entry_header *header)
{
	static const uint8_t zeros[sizeof(header->reserved)];

	return (header->type == JOURNAL_AUDIT || header->type == JOURNAL_STATE) &&
	       header->len <= JOURNAL_BODY_MAX && header->number && header->kind < 64 &&
	       memcmp(header->reserved, zeros, sizeof(zeros)) == 0;
}

bool entry_parse(const uint8_t *at, size_t available, struct entry_view *ret_view)
{
	struct entry_header header;
	size_t size;

	if (available < sizeof(header))
		return false;
	memcpy(&header, at, sizeof(header));
	if (!header_fits(&header))
		return false;
	size = entry_size(header.type, header.len);
	if (size > available)
		return false;
	*ret_view = (struct entry_view){
		.entry = {.type = header.type,
			.number = header.number,
			.id = header.id,
			.keys = {header.time_ns, header.endpoint, header.tenant, header.kind},
			.body = at + entry_body_at(header.type),
			.len = header.len},
		.hash = header.type == JOURNAL_AUDIT ? at + ENTRY_HEADER : NULL,
		.size = size};
	return true;
}

static uint32_t sum_of(const uint8_t *at, const struct entry_view *view)
{
	size_t from = sizeof(uint32_t);

	return crc32c(0, at + from, view->size - from);
}

bool entry_verify(const uint8_t *at, const struct entry_view *view)
{
	uint32_t sum;

	memcpy(&sum, at, sizeof(sum));
	return sum == sum_of(at, view);
}

void entry_seal(uint8_t *at, const struct entry_view *view, const uint8_t *hash)
{
	uint32_t sum;

	if (view->hash)
		memcpy(at + ENTRY_HEADER, hash, JOURNAL_HASH);
	sum = sum_of(at, view);
	memcpy(at, &sum, sizeof(sum));
}
