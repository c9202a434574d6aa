/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_SPACE_H
#define PROTO_GUEST_SPACE_H

/*
 * Memory as it is mapped under a root.
 */

#include "proto/guest/pgwalk.h"

/* Bytes at `gva`, over as many pages as they take. 0, or what pgwalk_translate() or the read
 * returned. */
__attribute__((warn_unused_result)) int space_read(
	const struct pgwalk *walk, uint64_t gva, void *buf, size_t len);

#endif
