/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_MEMWRITE_TARGET_H
#define BROKER_MEMWRITE_TARGET_H

/*
 * An endpoint's RAM files inside of memwrite/: mapped writable for the stores, all into one range
 * of addresses, and read by descriptor, because reading a hole of a tmpfs or hugetlbfs file through
 * a shared mapping allocates its page at our cost and pread() does not.
 */

#include "broker/memwrite/memwrite.h"
#include "proto/guest/span.h"

struct memwrite_target {
	uint64_t serial; /* no two targets of one process have the same */
	uint8_t *base;
	size_t len;
	struct span files; /* to read by; without one the file system has no read(2), and the
			    * mapping is read */
	struct physmap map;
	uint64_t kcr3;
	unsigned levels;
	vmsig_coherence *page;
};

/* All of [off, off + len) of the files: 0, or VMSIG_ERR_OUT_OF_RANGE when it has shrunk. */
__attribute__((warn_unused_result)) int target_read(
	const struct memwrite_target *target, uint64_t off, void *buf, size_t len);

#endif
