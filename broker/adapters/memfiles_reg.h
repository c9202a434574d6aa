/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_MEMFILES_REG_H
#define BROKER_ADAPTERS_MEMFILES_REG_H

/*
 * Registration of an endpoint whose RAM may be in several files, through
 * vmsig_emit.register_memfiles, after the endpoint's own. From then on its descriptors are had
 * here: the seam of vmsig_memctx_reg and vmsig_memwrite_reg knows one file. All calls are made on
 * the loop thread; none may block it. They are valid until unregister_memctx() has returned.
 */

#include <stdint.h>

#include "vmsig/vmsig_memfile.h"

typedef struct vmsig_memfiles_reg {
	uint32_t endpoint;
	uint32_t _pad;
	void *ctx; /* the adapter's own */

	/* Fresh open file descriptions of all files that describe()'s file_off counts in, in their
	 * order, which the caller closes, and the bytes of each that count. How many there are, at
	 * least 1; or -errno, and then there is none. O_RDONLY; O_RDWR for the write path. */
	int (*share)(void *ctx, int ret_fds[static VMSIG_MEMFILES_MAX],
		uint64_t ret_sizes[static VMSIG_MEMFILES_MAX]);
	int (*share_writable)(void *ctx, int ret_fds[static VMSIG_MEMFILES_MAX],
		uint64_t ret_sizes[static VMSIG_MEMFILES_MAX]);
} vmsig_memfiles_reg;

#endif
