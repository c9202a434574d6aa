/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_LIB_LOCATOR_H
#define CLIENTS_LIB_LOCATOR_H

/*
 * The payload of a MEMCTX event: its segments, and behind them RAM's files when they are several
 * (vmsig_memfile.h). It owns the descriptors of all files but the first, which is the delivery's
 * ram_fd.
 */

#include "vmsig/vmsig_memfile.h"

/* RAM files in their order; `n` is at least 1. */
struct locator_files {
	int fds[VMSIG_MEMFILES_MAX];
	uint64_t sizes[VMSIG_MEMFILES_MAX]; /* bytes that count */
	size_t n;
};

/* A payload without descriptors, with room for them: of nothing it is empty. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int locator_new(
	vmsig_payload *ret_payload, uint32_t nseg, uint32_t nfiles);
vmsig_memseg *locator_segs(const vmsig_payload *payload);
/* Takes over the descriptors of all files but the first. Does nothing with a single file. */
void locator_set_files(const vmsig_payload *payload, const struct locator_files *files);

#endif
