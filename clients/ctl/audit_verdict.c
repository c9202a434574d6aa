/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/audit_verdict.h"

#include <stdarg.h>
#include <stdio.h>

#include "vmsig/vmsig_error.h"

void ctl_audit_break(struct ctl_audit_verdict *verdict, uint64_t culprit, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(verdict->error, sizeof(verdict->error), format, args);
	va_end(args);
	verdict->culprit = culprit;
	verdict->broken = true;
}

/* What the chain calls a bad request is the log's fault. */
static int take_result(struct ctl_audit_verdict *verdict, const struct auditchain *chain, int r)
{
	if (r != VMSIG_ERR_BAD_REQUEST)
		return r;
	ctl_audit_break(verdict, auditchain_culprit(chain), "%s", auditchain_error(chain));
	return 0;
}

int ctl_audit_verdict_add(struct ctl_audit_verdict *verdict, struct auditchain *chain, uint64_t id,
	const uint8_t *body, size_t body_len, const uint8_t hash[static AUDITCHAIN_HASH])
{
	verdict->records++;
	return take_result(verdict, chain, auditchain_add(chain, id, body, body_len, hash));
}

int ctl_audit_verdict_finish(struct ctl_audit_verdict *verdict, struct auditchain *chain)
{
	int r = auditchain_finish(chain, &verdict->head, verdict->head_hash);

	verdict->lost = auditchain_lost(chain);
	return take_result(verdict, chain, r);
}
