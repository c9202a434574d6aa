/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_ENTRY_H
#define BROKER_JOURNAL_ENTRY_H

/*
 * An entry as it stands in the ring and in a segment, frozen by tests/data/journal:
 *
 *   offset  bytes
 *        0  4      sum: CRC-32C of all that follows
 *        4  4      len: bytes of the body
 *        8  8      number
 *       16  8      id: of an AUDIT entry its own, of a STATE entry that of the AUDIT entry before
 *       24  8      time_ns
 *       32  4      key of the endpoint's name
 *       36  4      key of the tenant's
 *       40  2      kind
 *       42  1      type: 1 AUDIT, 2 STATE
 *       43  5      0
 *       48  32     AUDIT only: SHA-256(that of the AUDIT entry before | body)
 *        …  len    body
 *        …  0..7   0, up to a multiple of 8
 *
 * Numbers are little-endian. In the ring, sum and hash are not there yet: the thread fills them
 * in when it moves the entry to a segment. Nothing but zeros follows the last entry of a segment,
 * so that nothing old can be taken for an entry.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/journal/journal.h"

#define ENTRY_ALIGN 8u
#define ENTRY_HEADER 48u

struct entry_header {
	uint32_t sum;
	uint32_t len;
	uint64_t number;
	uint64_t id;
	uint64_t time_ns;
	uint32_t endpoint, tenant;
	uint16_t kind;
	uint8_t type;
	uint8_t reserved[5];
};
_Static_assert(sizeof(struct entry_header) == ENTRY_HEADER, "the format is frozen");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

/* Bytes that an entry takes, where its body begins. */
static inline size_t entry_body_at(enum journal_type type)
{
	return type == JOURNAL_AUDIT ? ENTRY_HEADER + JOURNAL_HASH : ENTRY_HEADER;
}
static inline size_t entry_size(enum journal_type type, size_t len)
{
	return (entry_body_at(type) + len + ENTRY_ALIGN - 1) & ~(size_t)(ENTRY_ALIGN - 1);
}

/* An entry where it stands. */
struct entry_view {
	struct journal_entry entry;
	const uint8_t *hash; /* AUDIT */
	size_t size;
};

/* What is at `at`, of which `available` bytes may be looked at, as far as its shape goes. False:
 * it is no entry, or not a whole one. */
bool entry_parse(const uint8_t *at, size_t available, struct entry_view *ret_view);
/* Whether the sum of what was parsed fits. */
bool entry_verify(const uint8_t *at, const struct entry_view *view);
/* Fills in the hash of an AUDIT entry and the sum. */
void entry_seal(uint8_t *at, const struct entry_view *view, const uint8_t *hash);

#endif
