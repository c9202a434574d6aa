/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/journal/crc32c.h"
#include "broker/journal/segment.h"

#define MAGIC "VMSIGIX1"
#define COUNT_MAX (1u << 20) /* blocks: 32 GiB */

struct index_header {
	char magic[8];
	uint32_t count, block_bytes;
	struct blocks_end end;
	uint64_t to_ns;
	uint32_t blocks_sum;
	uint32_t sum; /* of all before it */
};

int blocks_init(struct blocks *blocks, uint64_t bytes)
{
	memset(blocks, 0, sizeof(*blocks));
	blocks->capacity = bytes / BLOCK_BYTES + 1;
	blocks->list = calloc(blocks->capacity, sizeof(*blocks->list));
	return blocks->list ? 0 : -ENOMEM;
}

void blocks_deinit(struct blocks *blocks)
{
	free(blocks->list);
	memset(blocks, 0, sizeof(*blocks));
}

/* ---- what is in a block ---- */

static uint64_t tenant_bit(uint32_t key)
{
	return 1ull << (key & 63);
}

static bool endpoint_bit(const uint64_t *words, uint32_t key)
{
	return words[(key >> 6) % BLOCK_NAMES] >> (key & 63) & 1;
}

static void block_note(struct block *block, const struct journal_entry *entry)
{
	const struct journal_keys *keys = &entry->keys;

	if (!block->first_id)
		block->first_id = entry->id;
	block->last_id = entry->id;
	if (!block->kinds || keys->time_ns < block->from_ns)
		block->from_ns = keys->time_ns;
	if (keys->time_ns > block->to_ns)
		block->to_ns = keys->time_ns;
	block->kinds |= 1ull << keys->kind;
	if (keys->tenant)
		block->tenants |= tenant_bit(keys->tenant);
	if (keys->endpoint)
		block->endpoints[(keys->endpoint >> 6) % BLOCK_NAMES] |= 1ull
									 << (keys->endpoint & 63);
}

static bool begins_block(const struct blocks *blocks, uint64_t offset)
{
	return !blocks->n ||
	       offset / BLOCK_BYTES != blocks->list[blocks->n - 1].offset / BLOCK_BYTES;
}

void blocks_add(struct blocks *blocks, uint64_t offset, const struct entry_view *view)
{
	const struct journal_entry *entry = &view->entry;

	if (begins_block(blocks, offset) && blocks->n < blocks->capacity)
		blocks->list[blocks->n++] =
			(struct block){.offset = offset, .number = entry->number};
	if (entry->type != JOURNAL_AUDIT)
		return;
	block_note(&blocks->list[blocks->n - 1], entry);
	if (entry->keys.time_ns > blocks->to_ns)
		blocks->to_ns = entry->keys.time_ns;
}

static bool in_range(uint64_t low, uint64_t high, uint64_t from, uint64_t to)
{
	return high >= from && (!to || low <= to);
}

bool block_may_match(const struct block *block, const struct journal_query *query)
{
	return block->first_id && block->last_id > query->after &&
	       (!query->until || block->first_id <= query->until) &&
	       in_range(block->from_ns, block->to_ns, query->from_ns, query->to_ns) &&
	       (!query->kinds || block->kinds & query->kinds) &&
	       (!query->tenant || block->tenants & tenant_bit(query->tenant)) &&
	       (!query->endpoint || endpoint_bit(block->endpoints, query->endpoint));
}

bool entry_matches_query(const struct journal_entry *entry, const struct journal_query *query)
{
	const struct journal_keys *keys = &entry->keys;

	return entry->type == JOURNAL_AUDIT && entry->id > query->after &&
	       (!query->until || entry->id <= query->until) &&
	       in_range(keys->time_ns, keys->time_ns, query->from_ns, query->to_ns) &&
	       (!query->kinds || query->kinds >> keys->kind & 1) &&
	       (!query->tenant || keys->tenant == query->tenant) &&
	       (!query->endpoint || keys->endpoint == query->endpoint);
}

/* ---- beside the segment ---- */

static void index_name(uint64_t first, char name[static SEGMENT_NAME_MAX])
{
	snprintf(name, SEGMENT_NAME_MAX, "%016" PRIx64 ".idx", first);
}

static void header_make(
	struct index_header *header, const struct blocks *blocks, const struct blocks_end *end)
{
	memset(header, 0, sizeof(*header));
	memcpy(header->magic, MAGIC, sizeof(header->magic));
	header->count = (uint32_t)blocks->n;
	header->block_bytes = sizeof(struct block);
	header->end = *end;
	header->to_ns = blocks->to_ns;
	header->blocks_sum = crc32c(0, blocks->list, blocks->n * sizeof(struct block));
	header->sum = crc32c(0, header, offsetof(struct index_header, sum));
}

int blocks_store(const struct blocks *blocks, int dir, uint64_t first, const struct blocks_end *end)
{
	struct index_header header;
	char name[SEGMENT_NAME_MAX];
	int fd, r;

	index_name(first, name);
	header_make(&header, blocks, end);
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = segment_write(fd, &header, sizeof(header), 0);
	if (!r)
		r = segment_write(
			fd, blocks->list, blocks->n * sizeof(struct block), sizeof(header));
	close(fd);
	if (r)
		(void)unlinkat(dir, name, 0);
	return r;
}

static bool header_fits(const struct index_header *header)
{
	return memcmp(header->magic, MAGIC, sizeof(header->magic)) == 0 &&
	       header->block_bytes == sizeof(struct block) && header->count <= COUNT_MAX &&
	       crc32c(0, header, offsetof(struct index_header, sum)) == header->sum;
}

static int read_blocks(int fd, struct blocks *blocks, struct blocks_end *ret_end)
{
	struct index_header header;
	size_t size;

	if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
		!header_fits(&header))
		return -ENOENT;
	size = header.count * sizeof(struct block);
	blocks->list = malloc(size ? size : 1);
	if (!blocks->list)
		return -ENOMEM;
	if (pread(fd, blocks->list, size, sizeof(header)) != (ssize_t)size ||
		crc32c(0, blocks->list, size) != header.blocks_sum)
		return -ENOENT;
	blocks->n = blocks->capacity = header.count;
	blocks->to_ns = header.to_ns;
	*ret_end = header.end;
	return 0;
}

int blocks_load(struct blocks *blocks, int dir, uint64_t first, struct blocks_end *ret_end)
{
	char name[SEGMENT_NAME_MAX];
	int fd, r;

	memset(blocks, 0, sizeof(*blocks));
	index_name(first, name);
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -ENOENT;
	r = read_blocks(fd, blocks, ret_end);
	close(fd);
	if (r)
		blocks_deinit(blocks);
	return r;
}

void blocks_unlink(int dir, uint64_t first)
{
	char name[SEGMENT_NAME_MAX];

	index_name(first, name);
	(void)unlinkat(dir, name, 0);
}
