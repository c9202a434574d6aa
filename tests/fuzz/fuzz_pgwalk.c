/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page tables from hostile bytes: a byte that says how many levels there are, the root, an address
 * to translate, then the guest's memory: eight pages, of which every word is one of the input's.
 *
 * What is translated must be canonical, page-aligned and of a size that exists; a visit must find
 * the same and be over in time, whatever the tables point to.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guest/pgwalk.h"
#include "vmsig/vmsig_error.h"

#define PAGES 8u
#define TABLES_MAX 100u
#define LEAVES_MAX 2000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct ram {
	uint8_t bytes[PAGES * PGWALK_PAGE];
	unsigned reads, leaves;
	const struct pgwalk *walk;
	uint64_t last;
};

static struct ram ram;

static int read_ram(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	struct ram *of = ctx;

	of->reads++;
	if (gpa > sizeof(of->bytes) || len > sizeof(of->bytes) - gpa)
		return VMSIG_ERR_OUT_OF_RANGE;
	memcpy(buf, of->bytes + gpa, len);
	return 0;
}

static void check_leaf(const struct pgwalk *walk, const struct pgwalk_leaf *leaf)
{
	if (leaf->size != 4096 && leaf->size != 1ull << 21 && leaf->size != 1ull << 30)
		abort();
	if (leaf->gva % leaf->size || leaf->gpa % leaf->size)
		abort();
	if (!pgwalk_canonical(walk->levels, leaf->gva))
		abort();
}

static int visit(void *ctx, const struct pgwalk_leaf *leaf)
{
	struct ram *of = ctx;

	check_leaf(of->walk, leaf);
	if (of->leaves && leaf->gva <= of->last)
		abort();
	of->last = leaf->gva;
	return ++of->leaves == LEAVES_MAX ? VMSIG_ERR_QUOTA : 0;
}

/* The words repeat, so that a short input fills tables. */
static void fill(const uint8_t *data, size_t size)
{
	for (size_t at = 0; at < sizeof(ram.bytes); at += 8)
		memcpy(ram.bytes + at, data + at % size, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pgwalk walk = {.read = &read_ram, .ctx = &ram};
	struct pgwalk_leaf leaf;
	uint64_t gva;

	if (size < 1 + 8 + 8 + 8)
		return 0;
	walk.levels = data[0] & 1 ? 5 : 4;
	memcpy(&walk.root, data + 1, sizeof(walk.root));
	memcpy(&gva, data + 9, sizeof(gva));
	fill(data + 17, (size - 17) / 8 * 8);
	ram.reads = ram.leaves = 0;
	ram.walk = &walk;

	if (pgwalk_translate(&walk, gva, &leaf) == 0) {
		check_leaf(&walk, &leaf);
		if (gva < leaf.gva || gva - leaf.gva >= leaf.size)
			abort();
	}
	if (ram.reads > walk.levels)
		abort();
	ram.reads = 0;
	(void)!pgwalk_visit(&walk, 0, UINT64_MAX, TABLES_MAX, visit, &ram);
	if (ram.reads > TABLES_MAX)
		abort();
	return 0;
}
