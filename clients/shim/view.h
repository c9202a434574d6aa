/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_VIEW_H
#define CLIENTS_SHIM_VIEW_H

/* What the read plane says about the endpoint: its epoch and state, and a context to read it. */

#include <stdint.h>

#include "vmsig/vmsig.h"
#include "vmsig/vmsig_mem.h"

struct shim;

struct view {
	uint32_t epoch; /* the newest that was heard of; 0: none */
	uint32_t state; /* enum vmsig_endpoint_state */
	uint32_t guard; /* enum vmsig_guard */
	vmsig_memctx pod;
	vmsig_mem *mem;                    /* NULL: there is no context now */
	char reason[VMSIG_DETAIL_MAX + 1]; /* why not, or "" */
};

/* A delivery about the endpoint. */
void view_take(struct shim *shim, vmsig_delivery *delivery);
/* Waits for a context, as long as --wait says, and not for one that is older than the lease.
 * Then view->mem is there. */
int view_await(struct shim *shim);
void view_close(struct view *view);

#endif
