/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_MEM_PATTERN_H
#define CLIENTS_MEM_PATTERN_H

/*
 * What a scan looks for: bytes under a mask. The longest run of bytes that must match with
 * all their bits is searched with memmem(3), the rest is compared around it. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_MAX 4096u /* bytes */

struct mem_pattern {
	uint8_t bytes[PATTERN_MAX]; /* under the mask */
	uint8_t mask[PATTERN_MAX];
	size_t len;
	size_t anchor, anchor_len; /* the run; 0 long: there is none */
	bool exact;                /* the run is all of it */
};

/* `mask` may be NULL. 0 or VMSIG_ERR_BAD_REQUEST: len is not 1 to PATTERN_MAX. */
__attribute__((warn_unused_result)) int mem_pattern_init(
	struct mem_pattern *pattern, const void *bytes, const void *mask, size_t len);

/* Whether the pattern->len bytes at `data` match. */
bool mem_pattern_matches(const struct mem_pattern *pattern, const uint8_t *data);

/* Offset of the first match in data[0, len) at or after `from`; `len` when there is none. */
size_t mem_pattern_find(
	const struct mem_pattern *pattern, const uint8_t *data, size_t len, size_t from);

#endif
