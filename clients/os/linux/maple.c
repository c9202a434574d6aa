/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/maple.h"

#include <string.h>

/* include/linux/maple_tree.h, unchanged from 6.1 to 7.3. */
#define NODE 256u /* bytes, and what one is aligned to */
#define DEPTH_MAX 12u
#define SLOTS_MAX 32u

enum { TYPE_LEAF = 1, TYPE_RANGE = 2, TYPE_ARANGE = 3 };

struct maple_walk {
	struct linux_kernel *kernel;
	linux_maple_fn visit;
	void *ctx;
	uint32_t left; /* nodes and entries */
	bool stopped;
};

struct maple_node {
	uint64_t words[NODE / 8];
	unsigned pivot, slot; /* indices of the first of each */
	unsigned slots;       /* one more than there are pivots */
	bool leaf;
};

/* The root is marked as a node; below it no mark is needed, for only leaves have anything else. */
static bool is_root(uint64_t entry)
{
	return (entry & 3) == 2 && entry > 4096;
}

static bool is_node(uint64_t entry)
{
	return (entry & 3) == 0 && entry > 4096;
}

static bool load(struct maple_walk *walk, uint64_t entry, struct maple_node *ret_node)
{
	struct linux_kernel *kernel = walk->kernel;
	uint64_t type = entry >> 3 & 15, at = entry & ~(uint64_t)(NODE - 1);
	bool arange = type == TYPE_ARANGE;
	uint32_t pivot =
		kernel->fields.field[arange ? LINUX_MAPLE_ARANGE_PIVOT : LINUX_MAPLE_RANGE_PIVOT]
			.offset;
	uint32_t slot =
		kernel->fields.field[arange ? LINUX_MAPLE_ARANGE_SLOT : LINUX_MAPLE_RANGE_SLOT]
			.offset;

	linux_read(kernel, at, ret_node->words, NODE);
	ret_node->pivot = pivot / 8;
	ret_node->slot = slot / 8;
	ret_node->slots = slot > pivot ? (slot - pivot) / 8 + 1 : 0;
	ret_node->leaf = type == TYPE_LEAF;
	if (type < TYPE_LEAF || type > TYPE_ARANGE || ret_node->slots < 2 ||
		ret_node->slots > SLOTS_MAX || ret_node->slot + ret_node->slots > NODE / 8)
		linux_torn(kernel);
	/* One that is being freed is its own parent. */
	if ((ret_node->words[0] & ~(uint64_t)(NODE - 1)) == at)
		linux_torn(kernel);
	return !kernel->fault;
}

static void descend(
	struct maple_walk *walk, uint64_t entry, uint64_t first, uint64_t last, unsigned depth);

static void take(struct maple_walk *walk, const struct maple_node *node, uint64_t entry,
	uint64_t first, uint64_t last, unsigned depth)
{
	if (!walk->left) {
		linux_torn(walk->kernel);
		return;
	}
	walk->left--;
	if (!node->leaf)
		descend(walk, entry, first, last, depth + 1);
	else if (entry & 3)
		linux_torn(walk->kernel);
	else if (entry)
		walk->stopped = !walk->visit(walk->ctx, first, last, entry);
}

/* Slot i is of [the pivot before it + 1, its pivot]; a pivot of 0 says that it is the last. */
static void descend(
	struct maple_walk *walk, uint64_t entry, uint64_t first, uint64_t last, unsigned depth)
{
	struct maple_node node;

	if (depth > DEPTH_MAX || (depth && !is_node(entry)))
		linux_torn(walk->kernel);
	if (walk->kernel->fault || !load(walk, entry, &node))
		return;
	for (unsigned i = 0; i < node.slots && !walk->stopped && !walk->kernel->fault; i++) {
		uint64_t end = i + 1 < node.slots ? node.words[node.pivot + i] : last;

		if (i && !end)
			end = last;
		if (end < first || end > last) {
			linux_torn(walk->kernel);
			return;
		}
		take(walk, &node, node.words[node.slot + i], first, end, depth);
		if (end == last)
			return;
		first = end + 1;
	}
}

void linux_maple_visit(struct linux_kernel *kernel, uint64_t root, linux_maple_fn visit, void *ctx)
{
	struct maple_walk walk = {
		.kernel = kernel, .visit = visit, .ctx = ctx, .left = 2 * LINUX_MAPLE_MAX};

	if (is_root(root))
		descend(&walk, root, 0, UINT64_MAX, 0);
	else if (root)
		visit(ctx, 0, 0, root);
}
