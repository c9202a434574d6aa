/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/ring.h"

struct linux_ring linux_ring(struct linux_kernel *kernel, uint64_t head, enum linux_field field)
{
	return (struct linux_ring){.kernel = kernel,
		.head = head,
		.at = head,
		.offset = kernel->fields.field[field].offset,
		.left = LINUX_RING_MAX};
}

bool linux_ring_next(struct linux_ring *ring, uint64_t *ret_object)
{
	struct {
		uint64_t next, prev;
	} links;
	uint64_t from = ring->at;

	ring->at = linux_word(ring->kernel, from);
	if (ring->kernel->fault)
		return false;
	linux_read(ring->kernel, ring->at, &links, sizeof(links));
	if (links.prev != from || ring->at % 8)
		linux_torn(ring->kernel);
	if (ring->kernel->fault || ring->at == ring->head)
		return false;
	if (!ring->left--) {
		linux_torn(ring->kernel);
		return false;
	}
	*ret_object = ring->at - ring->offset;
	return true;
}
