/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/ring.h"

#include "clients/os/windows/reader.h"

struct ring_links {
	uint64_t next, prev;
};

struct windows_ring windows_ring(struct windows_kernel *kernel, uint64_t head, uint64_t offset)
{
	return (struct windows_ring){.kernel = kernel,
		.root = kernel->root,
		.head = head,
		.at = head,
		.offset = offset,
		.left = WINDOWS_LIST_MAX};
}

struct windows_ring windows_ring_user(
	struct windows_kernel *kernel, uint64_t root, uint64_t head, uint64_t offset)
{
	struct windows_ring ring = windows_ring(kernel, head, offset);

	ring.root = root;
	return ring;
}

static struct ring_links read_links(const struct windows_ring *ring, uint64_t at)
{
	struct ring_links links = {0};

	/* Neither half leads into the other. */
	if ((at ^ ring->head) >> 63)
		windows_torn(ring->kernel);
	windows_read_under(ring->kernel, ring->root, at, &links, sizeof(links));
	return links;
}

bool windows_ring_next(struct windows_ring *ring, uint64_t *ret_object)
{
	uint64_t from = ring->at;

	ring->at = read_links(ring, from).next;
	if (ring->kernel->fault)
		return false;
	if (read_links(ring, ring->at).prev != from || ring->at % 8)
		windows_torn(ring->kernel);
	if (ring->kernel->fault || ring->at == ring->head)
		return false;
	if (!ring->left--) {
		windows_torn(ring->kernel);
		return false;
	}
	*ret_object = ring->at - ring->offset;
	return true;
}
