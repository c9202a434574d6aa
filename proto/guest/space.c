/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/space.h"

int space_read(const struct pgwalk *walk, uint64_t gva, void *buf, size_t len)
{
	char *to = buf;

	while (len) {
		struct pgwalk_leaf leaf;
		uint64_t into, n;
		int r = pgwalk_translate(walk, gva, &leaf);

		if (r)
			return r;
		into = gva - leaf.gva;
		n = leaf.size - into < len ? leaf.size - into : len;
		r = walk->read(walk->ctx, leaf.gpa + into, to, (size_t)n);
		if (r)
			return r;
		to += n;
		gva += n;
		len -= (size_t)n;
	}
	return 0;
}
