/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CORE_MEMWRITE_REG_H
#define BROKER_CORE_MEMWRITE_REG_H

/*
 * Registration of an endpoint's write path, through vmsig_emit.register_memwrite. An
 * endpoint without one refuses leases.
 */

#include <stdint.h>

typedef struct vmsig_memwrite_reg {
	uint32_t endpoint;
	uint32_t source; /* VMSIG_SRC_MEMWRITE */
	void *ctx;       /* the adapter's own */
} vmsig_memwrite_reg;

#endif
