/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/radix.h"

#define SLOTS 64u
#define BITS 6u
#define SHIFT_MAX 60u
#define WIDE_MAX 18u /* shift of a slot that is one entry: pages of 1 GiB */

struct radix_walk {
	struct linux_kernel *kernel;
	linux_radix_fn visit;
	void *ctx;
	uint32_t left;
	bool stopped;
};

struct radix_node {
	uint64_t slots[SLOTS];
	uint64_t shift;
};

static bool is_node(uint64_t entry)
{
	return (entry & 3) == 2 && entry > 4096;
}

/* One that says where the entry is of which it is a part. */
static bool is_sibling(uint64_t entry)
{
	return (entry & 3) == 2 && entry < 4096;
}

/* A level below `above`, which is its shift; the topmost one may have any. */
static bool load(
	struct linux_kernel *kernel, uint64_t entry, uint64_t above, struct radix_node *ret_node)
{
	uint64_t at = entry - 2;

	ret_node->shift = linux_get(kernel, at, LINUX_NODE_SHIFT);
	linux_read(kernel, linux_at(kernel, at, LINUX_NODE_SLOTS), ret_node->slots,
		sizeof(ret_node->slots));
	if (ret_node->shift > SHIFT_MAX || ret_node->shift % BITS || ret_node->shift >= above)
		linux_torn(kernel);
	return !kernel->fault;
}

static uint64_t slot_of(struct linux_kernel *kernel, const struct radix_node *node, unsigned i)
{
	uint64_t entry = node->slots[i];

	if (!is_sibling(entry))
		return entry;
	if (entry >> 2 >= i || is_sibling(node->slots[entry >> 2]) ||
		is_node(node->slots[entry >> 2])) {
		linux_torn(kernel);
		return 0;
	}
	return node->slots[entry >> 2];
}

/* Numbers are marked by their lowest bit. */
static uint64_t pointer(uint64_t entry)
{
	return entry & 1 ? 0 : entry;
}

uint64_t linux_radix_get(struct linux_kernel *kernel, uint64_t head, uint64_t index)
{
	uint64_t above = SHIFT_MAX + BITS;
	struct radix_node node;

	if (!is_node(head))
		return index ? 0 : pointer(head);
	while (is_node(head)) {
		if (!load(kernel, head, above, &node))
			return 0;
		/* Only the topmost node may be too small. */
		if (above > SHIFT_MAX && node.shift + BITS < 64 && index >> (node.shift + BITS))
			return 0;
		above = node.shift;
		head = slot_of(kernel, &node, (unsigned)(index >> node.shift) % SLOTS);
	}
	return kernel->fault ? 0 : pointer(head);
}

static void take(struct radix_walk *walk, uint64_t first, uint64_t shift, uint64_t entry)
{
	if (shift > WIDE_MAX) {
		linux_torn(walk->kernel);
		return;
	}
	for (uint64_t i = 0; i < 1ull << shift && !walk->stopped; i++) {
		if (!walk->left--) {
			linux_torn(walk->kernel);
			walk->stopped = true;
			return;
		}
		walk->stopped = !walk->visit(walk->ctx, first + i, entry);
	}
}

static void descend(struct radix_walk *walk, uint64_t entry, uint64_t above, uint64_t first)
{
	struct radix_node node;

	if (!load(walk->kernel, entry, above, &node))
		return;
	for (unsigned i = 0; i < SLOTS && !walk->stopped && !walk->kernel->fault; i++) {
		uint64_t slot = slot_of(walk->kernel, &node, i);
		uint64_t index = first + ((uint64_t)i << node.shift);

		if (is_node(slot))
			descend(walk, slot, node.shift, index);
		else if (pointer(slot))
			take(walk, index, node.shift, slot);
	}
}

void linux_radix_visit(struct linux_kernel *kernel, uint64_t head, linux_radix_fn visit, void *ctx)
{
	struct radix_walk walk = {
		.kernel = kernel, .visit = visit, .ctx = ctx, .left = LINUX_RADIX_MAX};

	if (is_node(head))
		descend(&walk, head, SHIFT_MAX + BITS, 0);
	else if (pointer(head))
		take(&walk, 0, 0, head);
}
