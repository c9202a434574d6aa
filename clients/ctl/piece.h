/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_PIECE_H
#define CLIENTS_CTL_PIECE_H

/*
 * One write of a command: sent under its lease, and waited for as --timeout says, over lost
 * connections too. That there is no word from the broker is told after a moment, so that nobody
 * has to guess what is waited for.
 */

#include "clients/ctl/operator.h"

struct ctl_piece {
	vmsig_write_op op; /* without data when that is in a memfd */
	uint32_t flags;    /* enum vmsig_write_flags */
	int memfd;         /* sealed; -1: the data is in op.data */
	uint64_t offset;   /* in the memfd */
	size_t len;
};

/* 0, or a negated enum vmsig_error; ret_result, which is always set, is to be cleared with
 * vmsig_write_result_clear(). Two are about the time: -TIMEOUT, the broker has got the write and
 * nobody knows what came of it; -DISCONNECTED, it never got it. The lease is let go of then. */
__attribute__((warn_unused_result)) int ctl_piece_write(const struct ctl *ctl,
	struct ctl_hold *hold, const struct ctl_piece *piece, vmsig_write_result *ret_result);

#endif
