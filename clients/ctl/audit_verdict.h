/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_AUDIT_VERDICT_H
#define CLIENTS_CTL_AUDIT_VERDICT_H

/* What verifying the audit log, or an export of it, has found. */

#include <stdbool.h>
#include <stdint.h>

#include "proto/chain/auditchain.h"

struct ctl_audit_verdict {
	bool broken;
	uint64_t culprit; /* record that `error` is about; 0: none */
	char error[512];
	uint64_t records, first; /* intact: so many, from this one on */
	uint64_t lost;           /* the newest record that says that some were lost; 0: none */
	uint64_t head;
	uint8_t head_hash[AUDITCHAIN_HASH];
};

/* It is broken, and the sentence says how. */
__attribute__((format(printf, 3, 4))) void ctl_audit_break(
	struct ctl_audit_verdict *verdict, uint64_t culprit, const char *format, ...);
/* Adds a record to the chain: broken when it does not fit. 0, or an error of the chain that says
 * nothing about the log. */
__attribute__((warn_unused_result)) int ctl_audit_verdict_add(struct ctl_audit_verdict *verdict,
	struct auditchain *chain, uint64_t id, const uint8_t *body, size_t body_len,
	const uint8_t hash[static AUDITCHAIN_HASH]);
/* The chain has ended: sets the head. Likewise. */
__attribute__((warn_unused_result)) int ctl_audit_verdict_finish(
	struct ctl_audit_verdict *verdict, struct auditchain *chain);

#endif
