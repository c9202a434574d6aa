/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/change.h"

#include <stdbool.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define RANGE_BYTES 16u

enum field {
	FIELD_END,
	FIELD_ENDPOINT,
	FIELD_EPOCH,
	FIELD_LEASE,
	FIELD_WRITER,
	FIELD_SEQUENCE,
	FIELD_NUMBER,
	FIELD_DIGEST,
	FIELD_TERMS,
	FIELD_RANGES,
	FIELD_BYTES,
};

#define FIELDS_MAX 8

static const uint8_t layouts[CHANGES][FIELDS_MAX] = {
	[CHANGE_ENDPOINT] = {FIELD_ENDPOINT, FIELD_EPOCH, FIELD_BYTES},
	[CHANGE_EPOCH] = {FIELD_ENDPOINT, FIELD_EPOCH},
	[CHANGE_SESSION] = {FIELD_ENDPOINT, FIELD_EPOCH, FIELD_BYTES},
	[CHANGE_GRANT] = {FIELD_LEASE, FIELD_ENDPOINT, FIELD_EPOCH, FIELD_NUMBER, FIELD_TERMS,
		FIELD_RANGES, FIELD_BYTES},
	[CHANGE_RENEW] = {FIELD_LEASE, FIELD_NUMBER},
	[CHANGE_END] = {FIELD_LEASE, FIELD_NUMBER},
	[CHANGE_IDS] = {FIELD_NUMBER},
	[CHANGE_INTEND] = {FIELD_LEASE, FIELD_WRITER, FIELD_SEQUENCE, FIELD_NUMBER, FIELD_DIGEST},
	[CHANGE_SETTLE] = {FIELD_LEASE, FIELD_WRITER, FIELD_SEQUENCE, FIELD_BYTES},
	[CHANGE_FORGET] = {FIELD_LEASE, FIELD_WRITER, FIELD_SEQUENCE},
	[CHANGE_DROP] = {FIELD_LEASE},
	[CHANGE_BOOT] = {FIELD_NUMBER, FIELD_BYTES},
	[CHANGE_SKIP] = {FIELD_ENDPOINT, FIELD_EPOCH, FIELD_NUMBER},
};

/* Of fields whose size is always the same. */
static const uint8_t sizes[] = {
	[FIELD_ENDPOINT] = 4,
	[FIELD_EPOCH] = 4,
	[FIELD_LEASE] = 8,
	[FIELD_WRITER] = 8,
	[FIELD_SEQUENCE] = 8,
	[FIELD_NUMBER] = 8,
	[FIELD_DIGEST] = LEDGER_DIGEST,
	[FIELD_TERMS] = 40,
	[FIELD_RANGES] = 2,
	[FIELD_BYTES] = 0,
};

size_t change_size(const struct change *change)
{
	const uint8_t *field = layouts[change->kind];
	size_t size = 1;

	for (; *field; field++) {
		size += sizes[*field];
		if (*field == FIELD_RANGES)
			size += change->nranges * RANGE_BYTES;
		else if (*field == FIELD_BYTES)
			size += change->len;
	}
	return size;
}

/* ---- encoding ---- */

static uint8_t *put(uint8_t *to, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> 8 * i);
	return to + bytes;
}

static uint8_t *put_bytes(uint8_t *to, const void *from, size_t len)
{
	if (len)
		memcpy(to, from, len);
	return to + len;
}

static uint8_t *put_terms(uint8_t *to, const struct change *change)
{
	to = put(to, change->ttl_ns, 8);
	to = put(to, change->granted_ns, 8);
	to = put(to, change->deadline_ns, 8);
	to = put(to, change->hold_until_ns, 8);
	to = put(to, change->uid, 4);
	return put(to, change->priority, 4);
}

static uint8_t *put_ranges(uint8_t *to, const struct change *change)
{
	to = put(to, change->nranges, 2);
	for (size_t i = 0; i < change->nranges; i++) {
		to = put(to, change->ranges[i].start, 8);
		to = put(to, change->ranges[i].last, 8);
	}
	return to;
}

static uint8_t *put_field(uint8_t *to, const struct change *change, enum field field)
{
	switch (field) {
	case FIELD_ENDPOINT:
		return put(to, change->endpoint, 4);
	case FIELD_EPOCH:
		return put(to, change->epoch, 4);
	case FIELD_LEASE:
		return put(to, change->key.lease, 8);
	case FIELD_WRITER:
		return put(to, change->key.writer, 8);
	case FIELD_SEQUENCE:
		return put(to, change->key.sequence, 8);
	case FIELD_NUMBER:
		return put(to, change->number, 8);
	case FIELD_DIGEST:
		return put_bytes(to, change->digest, LEDGER_DIGEST);
	case FIELD_TERMS:
		return put_terms(to, change);
	case FIELD_RANGES:
		return put_ranges(to, change);
	case FIELD_BYTES:
		return put_bytes(to, change->bytes, change->len);
	case FIELD_END:
		break;
	}
	return to;
}

void change_encode(const struct change *change, uint8_t *body)
{
	const uint8_t *field = layouts[change->kind];

	*body++ = (uint8_t)change->kind;
	for (; *field; field++)
		body = put_field(body, change, *field);
}

/* ---- decoding ---- */

struct change_reader {
	const uint8_t *at;
	size_t left;
	bool damaged;
};

static uint64_t get(struct change_reader *reader, size_t bytes)
{
	uint64_t value = 0;

	if (reader->left < bytes) {
		reader->damaged = true;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)reader->at[i] << 8 * i;
	reader->at += bytes;
	reader->left -= bytes;
	return value;
}

static const uint8_t *get_bytes(struct change_reader *reader, size_t len)
{
	const uint8_t *at = reader->at;

	if (reader->left < len) {
		reader->damaged = true;
		return at;
	}
	reader->at += len;
	reader->left -= len;
	return at;
}

static void get_terms(struct change_reader *reader, struct change *change)
{
	change->ttl_ns = get(reader, 8);
	change->granted_ns = get(reader, 8);
	change->deadline_ns = get(reader, 8);
	change->hold_until_ns = get(reader, 8);
	change->uid = (uint32_t)get(reader, 4);
	change->priority = (uint32_t)get(reader, 4);
}

static void get_ranges(
	struct change_reader *reader, struct change *change, struct lease_range *ranges)
{
	size_t n = (size_t)get(reader, 2);

	if (!n || n > LEASE_RANGES_MAX || reader->left < n * RANGE_BYTES) {
		reader->damaged = true;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		ranges[i].start = get(reader, 8);
		ranges[i].last = get(reader, 8);
	}
	change->ranges = ranges;
	change->nranges = n;
}

static void get_field(struct change_reader *reader, struct change *change, enum field field,
	struct lease_range *ranges)
{
	switch (field) {
	case FIELD_ENDPOINT:
		change->endpoint = (uint32_t)get(reader, 4);
		break;
	case FIELD_EPOCH:
		change->epoch = (uint32_t)get(reader, 4);
		break;
	case FIELD_LEASE:
		change->key.lease = get(reader, 8);
		break;
	case FIELD_WRITER:
		change->key.writer = get(reader, 8);
		break;
	case FIELD_SEQUENCE:
		change->key.sequence = get(reader, 8);
		break;
	case FIELD_NUMBER:
		change->number = get(reader, 8);
		break;
	case FIELD_DIGEST:
		change->digest = get_bytes(reader, LEDGER_DIGEST);
		break;
	case FIELD_TERMS:
		get_terms(reader, change);
		break;
	case FIELD_RANGES:
		get_ranges(reader, change, ranges);
		break;
	case FIELD_BYTES:
		change->len = reader->left;
		change->bytes = get_bytes(reader, reader->left);
		break;
	case FIELD_END:
		break;
	}
}

int change_decode(
	struct change *ret_change, struct lease_range *ranges, const void *body, size_t len)
{
	struct change_reader reader = {.at = body, .left = len};
	struct change change = {0};
	uint64_t kind = get(&reader, 1);

	if (reader.damaged)
		return VMSIG_ERR_INTERNAL;
	if (!kind || kind >= CHANGES)
		return VMSIG_ERR_UNSUPPORTED;
	change.kind = (enum change_kind)kind;
	for (const uint8_t *field = layouts[kind]; *field; field++)
		get_field(&reader, &change, *field, ranges);
	if (reader.damaged || reader.left)
		return VMSIG_ERR_INTERNAL;
	*ret_change = change;
	return 0;
}
