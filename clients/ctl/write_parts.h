/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_WRITE_PARTS_H
#define CLIENTS_CTL_WRITE_PARTS_H

/*
 * More than one message takes, written under one lease in parts of what the policy lets in at once:
 * as bulk data, or where the policy lets no bulk in, inside of messages. The parts are written in
 * order, each when the outcome of the one before is known, so that what is there when it ends early
 * is known too.
 */

#include <stddef.h>
#include <stdint.h>

#include "clients/ctl/piece.h"
#include "clients/ctl/write_data.h"

struct write_parts {
	const struct ctl *ctl;
	struct ctl_hold *hold;
	const struct write_data *data;
	uint64_t addr, cr3;
	uint32_t op_flags;
	uint32_t flags; /* of each part */
	/* The account. */
	size_t written; /* bytes from the start that are there for certain */
	size_t unknown; /* bytes behind these of which nobody knows */
};

/* 0, or the negated enum vmsig_error of the part that has failed; ret_result is that part's, to be
 * cleared. */
__attribute__((warn_unused_result)) int write_parts_run(
	struct write_parts *parts, vmsig_write_result *ret_result);
/* The message for it with the account, and its exit code. */
int write_parts_fail(const struct write_parts *parts, int error, const vmsig_write_result *result);

#endif
