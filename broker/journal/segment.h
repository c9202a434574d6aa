/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_SEGMENT_H
#define BROKER_JOURNAL_SEGMENT_H

/*
 * A segment: a file of a fixed size, whose blocks are allocated when it is made, named by the
 * number of its first entry (sixteen hexadecimal digits and ".seg"). Frozen by
 * tests/data/journal:
 *
 *   offset  bytes
 *        0  8      "VMSIGJNL"
 *        8  4      version, 1
 *       12  4      4096: where the first entry begins
 *       16  16     the journal's identity, random
 *       32  8      number of the first entry
 *       40  8      id of the newest AUDIT entry before this segment
 *       48  32     its hash: the anchor, when retention has dropped what was before
 *       80  8      when it was begun, CLOCK_REALTIME in ns
 *       88  4      0
 *       92  4      CRC-32C of all before it
 *       96  …      0
 *     4096  …      entries (entry.h), then zeros
 *
 * Only the newest segment is written to. It is synced before the next one begins, so a power cut
 * tears that one only, and its tail is cut at the first entry that does not verify.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/journal/entry.h"

#define SEGMENT_VERSION 1u
#define SEGMENT_HEADER 4096u
#define SEGMENT_IDENTITY 16u
#define SEGMENT_NAME_MAX 32u
#define SEGMENT_SPARE "spare"

struct segment_header {
	char magic[8];
	uint32_t version, header_bytes;
	uint8_t identity[SEGMENT_IDENTITY];
	uint64_t first;
	uint64_t base_id;
	uint8_t anchor[JOURNAL_HASH];
	uint64_t begun_ns;
	uint32_t reserved;
	uint32_t sum;
};
_Static_assert(sizeof(struct segment_header) == 96, "the format is frozen");

void segment_name(uint64_t first, char ret_name[static SEGMENT_NAME_MAX]);
/* Whether it is a segment's name, and whose. */
bool segment_parse_name(const char *name, uint64_t *ret_first);

/* Fills in magic, version, time and sum. */
void segment_header_make(struct segment_header *header);
/* 0; VMSIG_ERR_INTERNAL: it is none; VMSIG_ERR_UNSUPPORTED: of a newer version. */
__attribute__((warn_unused_result)) int segment_header_check(const struct segment_header *header);

/* Allocates `bytes` of an empty file that read as zeros. -errno. */
__attribute__((warn_unused_result)) int segment_allocate(int fd, uint64_t bytes);
/* All of it, or -errno: what came of it is not known. */
__attribute__((warn_unused_result)) int segment_write(
	int fd, const void *data, size_t len, uint64_t at);

/* Walks the entries of a file. Members are private, but: */
struct segment_scan {
	int fd;
	uint64_t at;     /* where the entry is that was given last */
	uint64_t end;    /* behind it */
	uint64_t number; /* of it */
	uint64_t id;     /* of the newest AUDIT entry so far */
	uint8_t hash[JOURNAL_HASH];

	uint64_t limit; /* nothing is read from there on */
	uint8_t *buffer;
	uint64_t buffer_at;
	size_t buffered, capacity;
};

/* From the entry at `offset` on, which has the number `first`, up to `limit`. */
void segment_scan_init(
	struct segment_scan *scan, int fd, uint64_t offset, uint64_t limit, uint64_t first);
void segment_scan_deinit(struct segment_scan *scan);
/* 1: an entry, borrowed until the next call; 0: what follows is none that verifies and has the
 * next number; -errno. */
__attribute__((warn_unused_result)) int segment_scan_next(
	struct segment_scan *scan, struct entry_view *ret_view);

/* Bytes from `from` up to the last one that is not 0. -errno. */
__attribute__((warn_unused_result)) int segment_rest(int fd, uint64_t from, uint64_t *ret_bytes);

#endif
