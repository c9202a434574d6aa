/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/history.h"

static const char *add_context(struct history *history, const struct core_delivery *delivery)
{
	if (delivery->pod.epoch != delivery->epoch)
		return "R3: the locator does not carry the core's epoch";
	if (!(delivery->pod.flags & VMSIG_MEMCTX_RDONLY))
		return "R1: RDONLY is not set";
	if (!delivery->nfiles)
		return "R2: a context without a descriptor";
	if (history->context_epoch && history->context_epoch != delivery->epoch &&
		!history->invalidated)
		return "R4: a newer context before the invalidation of the older one";
	history->context_epoch = delivery->epoch;
	history->invalidated = false;
	return NULL;
}

static const char *add_invalidation(struct history *history, const struct core_delivery *delivery)
{
	if (delivery->epoch <= history->last_epoch)
		return "R4: an invalidation that names no newer epoch";
	history->invalidated = true;
	return NULL;
}

const char *history_add(struct history *history, const struct core_delivery *delivery)
{
	const char *wrong = NULL;

	if (delivery->epoch < history->last_epoch)
		return "R4: something of an older epoch after something of a newer one";
	if (delivery->kind == VMSIG_EV_MEMCTX)
		wrong = add_context(history, delivery);
	else if (delivery->kind == VMSIG_EV_MEMCTX_INVALIDATED)
		wrong = add_invalidation(history, delivery);
	else if (history->context_epoch && delivery->epoch != history->context_epoch &&
		 !history->invalidated && delivery->state != VMSIG_STATE_GONE)
		wrong = "R4: a state of a newer epoch before the invalidation";
	/* An endpoint that went, or that the policy took away, has taken its context with it. */
	if (delivery->kind == VMSIG_EV_ENDPOINT_STATE && delivery->state == VMSIG_STATE_GONE)
		history->invalidated = true;
	if (delivery->kind == VMSIG_EV_MEMCTX)
		history->last_state = VMSIG_STATE_READY;
	else if (delivery->kind == VMSIG_EV_ENDPOINT_STATE)
		history->last_state = delivery->state;
	history->last_epoch = delivery->epoch;
	return wrong;
}
