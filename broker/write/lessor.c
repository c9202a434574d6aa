/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Performs what the lease engine wants, in its order: first all of it in the open transaction,
 * then the commit, then the words to the operators. A grant that is not durable is taken back;
 * an end that is not durable holds all the same, and is owed to the store.
 */
#include "broker/write/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log.h"
#include "vmsig/vmsig_error.h"

/* ---- what the store says ---- */

static void on_stored(void *arg, uint64_t id, uint64_t token)
{
	struct desk *desk = arg;

	lease_stored(desk->engine, desk_now(), id, token);
}

static void on_failed(void *arg, uint64_t id, enum vmsig_error error)
{
	struct desk *desk = arg;

	lease_store_failed(desk->engine, desk_now(), id, error);
}

static void on_lost(void *arg, uint64_t id, enum vmsig_error error)
{
	struct desk *desk = arg;

	/* One that has ended meanwhile is no failure. */
	(void)!lease_revoke(desk->engine, desk_now(), id, error);
}

static const struct lease_store_events store_events = {
	.stored = on_stored, .failed = on_failed, .lost = on_lost};

/* ---- leases that survived ---- */

static int restore(void *arg, const struct lease_view *lease)
{
	struct desk *desk = arg;
	Vmsig__AuditRecord record;
	int r = lease_restore(desk->engine, desk_now(), lease);

	if (r < 0)
		return r;
	record_lease(&record, desk, VMSIG__AUDIT_RECORD__KIND__RESTORED, lease);
	record.outcome = (uint32_t)r;
	record_append_lease(desk, &record, lease);
	if (r)
		desk_note(desk, desk->leases->ops->end(desk->leases, lease));
	return 0;
}

int lessor_init(struct desk *desk)
{
	uint64_t next_id;
	int r = lease_store_new(&desk->leases, desk->env.store, &store_events, desk);

	if (!r)
		r = desk->leases->ops->next_id(desk->leases, &next_id);
	if (!r)
		r = lease_engine_new(&desk->engine, &desk->env.config->leases, next_id);
	return r;
}

int lessor_restore(struct desk *desk)
{
	return desk->leases->ops->load(desk->leases, restore, desk);
}

/* ---- what the engine wants ---- */

static void notice_add(
	struct desk *desk, enum lease_action_kind kind, const struct lease_view *lease)
{
	struct notice *grown;

	if (desk->nnotices == desk->notices_size) {
		size_t size = desk->notices_size ? desk->notices_size * 2 : 32;

		grown = realloc(desk->notices, size * sizeof(*grown));
		if (!grown) {
			log_error("out of memory; an operator is not told of its lease",
				LOG_INT("lease", lease->id));
			return;
		}
		desk->notices = grown;
		desk->notices_size = size;
	}
	desk->notices[desk->nnotices++] = (struct notice){.kind = kind,
		.lease = lease->id,
		.session = lease->session,
		.reason = lease->reason};
}

static void append(struct desk *desk, const struct lease_view *lease, Vmsig__AuditRecord__Kind kind)
{
	Vmsig__AuditRecord record;

	record_lease(&record, desk, kind, lease);
	record_append_lease(desk, &record, lease);
}

static void do_store_grant(struct desk *desk, const struct lease_view *lease)
{
	desk_note(desk, desk->leases->ops->grant(desk->leases, lease, desk_now()));
}

static void do_granted(struct desk *desk, const struct lease_view *lease)
{
	append(desk, lease, VMSIG__AUDIT_RECORD__KIND__GRANT);
	notice_add(desk, LEASE_ACT_GRANTED, lease);
}

static void do_store_renew(struct desk *desk, const struct lease_view *lease)
{
	desk_note(desk, desk->leases->ops->renew(desk->leases, lease));
}

static void do_notice(struct desk *desk, const struct lease_view *lease)
{
	append(desk, lease, VMSIG__AUDIT_RECORD__KIND__NOTICE);
	notice_add(desk, LEASE_ACT_NOTICE, lease);
}

static void do_store_end(struct desk *desk, const struct lease_view *lease)
{
	desk_note(desk, desk->leases->ops->end(desk->leases, lease));
}

static void do_ended(struct desk *desk, const struct lease_view *lease)
{
	/* What was applied under it was applied before. */
	commands_record(desk);
	append(desk, lease, VMSIG__AUDIT_RECORD__KIND__END);
	notice_add(desk, LEASE_ACT_ENDED, lease);
	replay_forget(desk, lease->id);
}

static void do_refused(struct desk *desk, const struct lease_view *lease)
{
	Vmsig__AuditRecord record;

	record_lease(&record, desk, VMSIG__AUDIT_RECORD__KIND__REFUSED, lease);
	refusal_record(desk, &record);
	notice_add(desk, LEASE_ACT_REFUSED, lease);
}

static void (*const performers[])(struct desk *, const struct lease_view *) = {
	[LEASE_ACT_STORE_GRANT] = do_store_grant,
	[LEASE_ACT_GRANTED] = do_granted,
	[LEASE_ACT_STORE_RENEW] = do_store_renew,
	[LEASE_ACT_NOTICE] = do_notice,
	[LEASE_ACT_STORE_END] = do_store_end,
	[LEASE_ACT_ENDED] = do_ended,
	[LEASE_ACT_REFUSED] = do_refused,
};

/* ---- telling ---- */

/* Of one that is over only its name and the reason are left. */
static void notice_view(struct desk *desk, const struct notice *notice, struct lease_view *view)
{
	if (notice->kind != LEASE_ACT_GRANTED && notice->kind != LEASE_ACT_NOTICE) {
		*view = (struct lease_view){.id = notice->lease, .reason = notice->reason};
		return;
	}
	if (!lease_find(desk->engine, notice->lease, view))
		*view = (struct lease_view){0};
}

static void tell(struct desk *desk, const struct notice *notice)
{
	const struct desk_events *events = desk->env.events;
	struct desk_operator *op = desk_operator_find(desk, notice->session);
	struct lease_view view;

	notice_view(desk, notice, &view);
	/* One that has ended meanwhile is told by the notice of its end. */
	if (!op || !view.id)
		return;
	if (notice->kind == LEASE_ACT_GRANTED)
		events->granted(op->client, &view);
	else if (notice->kind == LEASE_ACT_NOTICE)
		events->notice(op->client, &view);
	else if (notice->kind == LEASE_ACT_ENDED)
		events->ended(op->client, &view);
	else
		events->refused(op->client, &view);
}

/* A grant without its record must not be used. */
static void take_back(struct desk *desk, const struct notice *notice)
{
	if (notice->kind == LEASE_ACT_GRANTED)
		on_lost(desk, notice->lease, VMSIG_ERR_IO);
}

/* An end that is not durable would let the lease come back with a restart. */
static void owe_end(struct desk *desk, const struct notice *notice)
{
	uint64_t *grown;

	if (notice->kind != LEASE_ACT_ENDED)
		return;
	grown = realloc(desk->owed, (desk->nowed + 1) * sizeof(*grown));
	if (!grown) {
		log_error("out of memory; the end of a lease is not recorded",
			LOG_INT("lease", notice->lease));
		return;
	}
	desk->owed = grown;
	desk->owed[desk->nowed++] = notice->lease;
}

static void pay_ends(struct desk *desk)
{
	if (!desk->nowed || desk_is_stuck(desk))
		return;
	/* What was applied under them was applied before. */
	commands_record(desk);
	desk->paying = desk->nowed;
	for (size_t i = 0; i < desk->nowed; i++) {
		const struct lease_view lease = {.id = desk->owed[i]};

		do_store_end(desk, &lease);
	}
}

void ends_recorded(struct desk *desk, int result)
{
	size_t paid = result ? 0 : desk->paying;

	desk->paying = 0;
	if (!paid)
		return;
	log_info("ends of leases that could not be recorded are recorded now",
		LOG_INT("leases", paid));
	desk->nowed -= paid;
	memmove(desk->owed, desk->owed + paid, desk->nowed * sizeof(*desk->owed));
}

/* Telling may close connections, but performs no action. */
void notices_settle(struct desk *desk, const struct notice *notices, size_t n, int result)
{
	for (size_t i = 0; i < n; i++) {
		if (result)
			take_back(desk, &notices[i]);
		if (!result || notices[i].kind != LEASE_ACT_GRANTED)
			tell(desk, &notices[i]);
		if (result)
			owe_end(desk, &notices[i]);
	}
}

static void settle_notices(struct desk *desk, int result)
{
	struct notice *notices = desk->notices;
	size_t n = desk->nnotices;
	uint64_t sync = n && !result ? durable_ask(desk) : 0;

	desk->notices = NULL;
	desk->nnotices = desk->notices_size = 0;
	if (sync)
		durable_hold_notices(desk, notices, n, sync);
	else
		notices_settle(desk, notices, n, result);
	free(notices);
}

bool lessor_turn(struct desk *desk)
{
	struct lease_action action;
	bool any = false;
	int r;

	pay_ends(desk);
	while (lease_next_action(desk->engine, &action)) {
		performers[action.kind](desk, &action.lease);
		any = true;
	}
	if (!any && !desk->failed && !store_is_open(desk->env.store))
		return false;
	r = desk_commit(desk);
	desk->leases->ops->settled(desk->leases, r);
	settle_notices(desk, r);
	return any;
}
