/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/vad.h"

#include <string.h>

#include "clients/os/windows/reader.h"

#define DEPTH_MAX 64u /* it is balanced */
#define PAGES_AT 0x18u
#define NODE_BYTES 0x28u
#define PAGE_SHIFT 12
#define PAGES_END (WINDOWS_USER_END >> PAGE_SHIFT)

const struct windows_area_shape windows_vad_shapes[WINDOWS_SHAPES] = {
	{.left = 8, .right = 16, .page_bytes = 8},
	{.left = 8, .right = 16, .page_bytes = 4},
	{.left = 0, .right = 8, .page_bytes = 5},
};

struct vad_node {
	uint64_t at, left, right;
	uint64_t first, last; /* pages */
};

static uint64_t number(const uint8_t *bytes, size_t size)
{
	uint64_t value = 0; /* little-endian, as the guest is */

	memcpy(&value, bytes, size);
	return value;
}

static void take_pages(const uint8_t *bytes, uint32_t page_bytes, struct vad_node *node)
{
	size_t size = page_bytes == 8 ? 8 : 4;

	node->first = number(bytes + PAGES_AT, size);
	node->last = number(bytes + PAGES_AT + size, size);
	if (page_bytes == 5) {
		node->first |= (uint64_t)bytes[PAGES_AT + 8] << 32;
		node->last |= (uint64_t)bytes[PAGES_AT + 9] << 32;
	}
}

static bool read_node(struct windows_kernel *kernel, const struct windows_area_shape *shape,
	uint64_t at, struct vad_node *ret_node)
{
	uint8_t bytes[NODE_BYTES];

	if (!windows_is_object(at))
		windows_torn(kernel);
	windows_read(kernel, at, bytes, sizeof(bytes));
	*ret_node = (struct vad_node){.at = at,
		.left = number(bytes + shape->left, 8),
		.right = number(bytes + shape->right, 8)};
	take_pages(bytes, shape->page_bytes, ret_node);
	if (ret_node->first > ret_node->last || ret_node->last >= PAGES_END)
		windows_torn(kernel);
	return !kernel->fault;
}

/* Nodes whose left side is being visited. */
struct vad_walk {
	struct windows_kernel *kernel;
	const struct windows_area_shape *shape;
	struct vad_node stack[DEPTH_MAX];
	unsigned depth;
};

static bool descend(struct vad_walk *walk, uint64_t at)
{
	for (; at; at = walk->stack[walk->depth++].left) {
		if (walk->depth == DEPTH_MAX)
			windows_torn(walk->kernel);
		if (walk->kernel->fault ||
			!read_node(walk->kernel, walk->shape, at, &walk->stack[walk->depth]))
			return false;
	}
	return !walk->kernel->fault;
}

void windows_vad_visit(struct windows_kernel *kernel, const struct windows_area_shape *shape,
	uint64_t object, windows_vad_fn visit, void *ctx)
{
	struct vad_walk walk = {.kernel = kernel, .shape = shape};
	uint64_t next = windows_word(kernel, object + shape->root + shape->indirect), from = 0;

	for (uint32_t n = 0; descend(&walk, next) && walk.depth; n++) {
		const struct vad_node node = walk.stack[--walk.depth];
		struct windows_vad vad = {.node = node.at,
			.start = node.first << PAGE_SHIFT,
			.end = (node.last + 1) << PAGE_SHIFT};

		if (node.first < from || n == WINDOWS_LIST_MAX) {
			windows_torn(kernel);
			return;
		}
		if (!visit(ctx, &vad))
			return;
		from = node.last + 1;
		next = node.right;
	}
}
