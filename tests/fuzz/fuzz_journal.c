/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment of the journal from hostile bytes: the first byte says whether the sums are made
 * right first, to get behind them; then come 96 bytes of header and the entries.
 *
 * What is found must lie inside of the file, have consecutive numbers, and be found by the index
 * whenever the entries themselves would be.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/journal/blocks.h"
#include "broker/journal/segment.h"

#define MOST (256u << 10)
#define SUMMED 1u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t copy[MOST];

static void make_sums(size_t size)
{
	struct entry_view view;
	struct segment_header header;

	if (size >= sizeof(header)) {
		memcpy(&header, copy, sizeof(header));
		segment_header_make(&header);
		memcpy(copy, &header, sizeof(header));
	}
	for (size_t at = sizeof(header); at < size && entry_parse(copy + at, size - at, &view);
		at += view.size)
		entry_seal(copy + at, &view, copy);
}

static void check_query(const struct blocks *blocks, const struct entry_view *view)
{
	struct journal_query query = {.after = view->entry.id - 1,
		.until = view->entry.id,
		.from_ns = view->entry.keys.time_ns,
		.to_ns = view->entry.keys.time_ns,
		.endpoint = view->entry.keys.endpoint,
		.tenant = view->entry.keys.tenant,
		.kinds = 1ull << view->entry.keys.kind};

	if (!view->entry.id || !view->entry.keys.time_ns)
		return;
	if (!entry_matches_query(&view->entry, &query) && view->entry.type == JOURNAL_AUDIT)
		abort();
	if (entry_matches_query(&view->entry, &query) && view->entry.id >= query.until &&
		!(blocks->list[blocks->n - 1].kinds & query.kinds))
		abort();
}

static void scan(int fd, size_t size, uint64_t first)
{
	struct segment_scan scan;
	struct entry_view view;
	struct blocks blocks;
	uint64_t number = first - 1;

	if (blocks_init(&blocks, size))
		abort();
	segment_scan_init(&scan, fd, sizeof(struct segment_header), size, first);
	while (segment_scan_next(&scan, &view) == 1) {
		if (view.entry.number != ++number || scan.end > size || scan.at >= scan.end ||
			view.entry.len > JOURNAL_BODY_MAX)
			abort();
		blocks_add(&blocks, scan.at, &view);
		check_query(&blocks, &view);
	}
	segment_scan_deinit(&scan);
	blocks_deinit(&blocks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct segment_header header;
	int fd;

	if (size < 1 + sizeof(header) || size > MOST)
		return 0;
	memcpy(copy, data + 1, --size);
	if (data[0] & SUMMED)
		make_sums(size);
	memcpy(&header, copy, sizeof(header));
	(void)!segment_header_check(&header);
	fd = memfd_create("segment", MFD_CLOEXEC);
	if (fd < 0 || segment_write(fd, copy, size, 0))
		abort();
	scan(fd, size, header.first);
	close(fd);
	return 0;
}
