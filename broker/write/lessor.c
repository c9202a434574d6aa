/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/lessor.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/policy/share.h"
#include "broker/write/batch.h"
#include "broker/write/ending.h"
#include "broker/write/notice.h"
#include "broker/write/operator.h"
#include "broker/write/record.h"
#include "broker/write/refusal.h"
#include "broker/write/replay.h"

/* ---- what the store says later ---- */

void desk_lease_stored(struct desk *desk, uint64_t now_ns, uint64_t lease, uint64_t token)
{
	desk_enter(desk, now_ns);
	lease_stored(desk->engine, desk->now_ns, lease, token);
}

void desk_lease_failed(struct desk *desk, uint64_t now_ns, uint64_t lease, enum vmsig_error error)
{
	desk_enter(desk, now_ns);
	lease_store_failed(desk->engine, desk->now_ns, lease, error);
}

void desk_lease_lost(struct desk *desk, uint64_t now_ns, uint64_t lease, enum vmsig_error error)
{
	desk_enter(desk, now_ns);
	/* One that has ended meanwhile is no failure. */
	(void)!lease_revoke(desk->engine, desk->now_ns, lease, error);
}

/* ---- leases that survived ---- */

static void store_end(struct desk *desk, const struct lease_view *lease)
{
	const struct desk_ops *ops = &desk->env.ops;

	batch_begin(desk);
	if (!desk->batch.failed)
		batch_note(desk, ops->leases->end(ops->ctx, lease));
}

static int restore(void *arg, const struct lease_view *lease)
{
	struct desk *desk = arg;
	Vmsig__AuditRecord record;
	/* Where leases come from other hosts, none lifts the numbers that are given here. */
	int r = desk->env.roams ? lease_adopt(desk->engine, desk->now_ns, lease)
				: lease_restore(desk->engine, desk->now_ns, lease);

	if (r < 0)
		return r;
	record_lease(&record, desk, VMSIG__AUDIT_RECORD__KIND__RESTORED, lease);
	record.outcome = (uint32_t)r;
	record_append_lease(desk, &record, lease);
	if (r)
		store_end(desk, lease);
	else
		desk->restored++;
	return 0;
}

/* Not beyond a span from then. */
static void at_most(uint64_t *moment_ns, uint64_t from_ns, uint64_t span_ns)
{
	if (*moment_ns > from_ns && *moment_ns - from_ns > span_ns)
		*moment_ns = from_ns + span_ns;
}

void desk_lease_limit(struct desk *desk, uint64_t now_ns, struct lease_view *lease)
{
	const struct grant_rule *rule = operator_rule(desk, lease->tenant, lease->uid,
		desk_endpoint_subject(desk, lease->endpoint), NULL);

	/* One that the policy does not allow at all is revoked. */
	if (!rule)
		return;
	at_most(&lease->ttl_ns, 0, rule->ttl_max_ns);
	at_most(&lease->hold_until_ns, lease->granted_ns, rule->hold_max_ns);
	at_most(&lease->deadline_ns, now_ns, lease->ttl_ns);
	at_most(&lease->deadline_ns, lease->hold_until_ns, 0);
}

/* The engine has it (0), or it is over, and *ret_end is what that is owed by; -ENOMEM. */
static int adopt(struct desk *desk, const struct lease_view *lease, struct notice **ret_end)
{
	struct notice *end = notice_new(desk, LEASE_ACT_STORE_END, lease);
	int r = end ? lease_adopt(desk->engine, desk->now_ns, lease) : -ENOMEM;

	if (r > 0)
		r = ending_begin(desk, lease) ? -ENOMEM : r;
	if (r <= 0 && end)
		notice_free(desk, end);
	*ret_end = r > 0 ? end : NULL;
	return r;
}

int desk_lease_adopt(struct desk *desk, uint64_t now_ns, const struct lease_view *lease)
{
	static char detail[] = "it came with its guest from another host";
	struct lease_view here;
	struct notice *end;
	Vmsig__AuditRecord record;
	int r;

	desk_enter(desk, now_ns);
	/* A broker that was killed at this point has restored it; or this is asked again. */
	if (lease_find(desk->engine, lease->id, &here) || ending_is_open(desk, lease->id, NULL))
		return 0;
	r = adopt(desk, lease, &end);
	if (r < 0)
		return r;
	record_lease(&record, desk, VMSIG__AUDIT_RECORD__KIND__RESTORED, lease);
	record.outcome = (uint32_t)r;
	record.detail = detail;
	record_append_lease(desk, &record, lease);
	if (end) {
		store_end(desk, lease);
		DL_APPEND(desk->notices, end);
	} else if (!operator_allows(desk, lease, desk_endpoint_subject(desk, lease->endpoint))) {
		(void)!lease_revoke(desk->engine, desk->now_ns, lease->id, VMSIG_ERR_LEASE_REVOKED);
	}
	return 0;
}

int lessor_init(struct desk *desk)
{
	const struct desk_ops *ops = &desk->env.ops;
	uint64_t next_id;
	int r = ops->leases->next_id(ops->ctx, &next_id);

	return r ? r : lease_engine_new(&desk->engine, &desk->env.config->leases, next_id);
}

int lessor_restore(struct desk *desk)
{
	const struct desk_ops *ops = &desk->env.ops;

	return ops->leases->load(ops->ctx, restore, desk);
}

void lessor_free(struct desk *desk)
{
	lessor_drop_held(desk);
	notices_free(desk, desk->notices);
	notices_free(desk, desk->owed);
	if (desk->engine)
		lease_engine_free(desk->engine);
}

/* ---- what the engine wants ---- */

static void append(struct desk *desk, const struct lease_view *lease, Vmsig__AuditRecord__Kind kind)
{
	Vmsig__AuditRecord record;

	record_lease(&record, desk, kind, lease);
	record_append_lease(desk, &record, lease);
}

/* Of another host's lease, which came with a guest; whoever may write to the fleet's store may
 * have named those that come next here. */
static void number_is_taken(struct desk *desk, uint64_t lease)
{
	const struct desk_ops *ops = &desk->env.ops;
	uint64_t next_id;

	if (!ops->leases->next_id(ops->ctx, &next_id))
		lease_number_from(desk->engine, next_id);
	lease_store_failed(desk->engine, desk->now_ns, lease, VMSIG_ERR_BUSY);
}

static bool do_store_grant(struct desk *desk, const struct lease_view *lease)
{
	const struct desk_ops *ops = &desk->env.ops;
	uint64_t id = lease->id, token = 0;
	int r;

	batch_begin(desk);
	r = desk->batch.failed ? desk->batch.failed
			       : ops->leases->grant(ops->ctx, lease, desk->now_ns, &token);
	if (r == VMSIG_ERR_BUSY) {
		number_is_taken(desk, id);
		return false;
	}
	batch_note(desk, r);
	if (r)
		lease_store_failed(desk->engine, desk->now_ns, id, VMSIG_ERR_IO);
	else if (token)
		lease_stored(desk->engine, desk->now_ns, id, token);
	/* Its grant may be told by a later batch than this one, in which it is stored. */
	return !r && token;
}

static bool do_granted(struct desk *desk, const struct lease_view *lease)
{
	desk->counts.grants++;
	append(desk, lease, VMSIG__AUDIT_RECORD__KIND__GRANT);
	return true;
}

static bool do_store_renew(struct desk *desk, const struct lease_view *lease)
{
	const struct desk_ops *ops = &desk->env.ops;

	batch_begin(desk);
	if (!desk->batch.failed)
		batch_note(desk, ops->leases->renew(ops->ctx, lease));
	return true;
}

static bool do_notice(struct desk *desk, const struct lease_view *lease)
{
	append(desk, lease, VMSIG__AUDIT_RECORD__KIND__NOTICE);
	return true;
}

/* Also of one that nobody was told of. */
static bool do_store_end(struct desk *desk, const struct lease_view *lease)
{
	store_end(desk, lease);
	return true;
}

static bool do_ended(struct desk *desk, const struct lease_view *lease)
{
	metrics_errors_note(&desk->counts.ends, (int)lease->reason);
	append(desk, lease, VMSIG__AUDIT_RECORD__KIND__END);
	replay_forget(desk, lease->id);
	return true;
}

static bool do_refused(struct desk *desk, const struct lease_view *lease)
{
	Vmsig__AuditRecord record;

	record_lease(&record, desk, VMSIG__AUDIT_RECORD__KIND__REFUSED, lease);
	refusal_record(desk, &record);
	return true;
}

/* Whether somebody waits for the batch with it. */
static bool (*const performers[])(struct desk *, const struct lease_view *) = {
	[LEASE_ACT_STORE_GRANT] = do_store_grant,
	[LEASE_ACT_GRANTED] = do_granted,
	[LEASE_ACT_STORE_RENEW] = do_store_renew,
	[LEASE_ACT_NOTICE] = do_notice,
	[LEASE_ACT_STORE_END] = do_store_end,
	[LEASE_ACT_ENDED] = do_ended,
	[LEASE_ACT_REFUSED] = do_refused,
};

/* Without memory for the share it is nobody's time. */
static void perform(struct desk *desk, const struct lease_action *action, struct notice *notice)
{
	struct share *share = NULL;
	struct share_scope scope;

	if (share_get(desk->env.shares, SHARE_TENANT, action->lease.tenant, &share))
		share = NULL;
	share_enter(&scope, desk->env.shares, share);
	if (performers[action->kind](desk, &action->lease))
		DL_APPEND(desk->notices, notice);
	else
		notice_free(desk, notice);
	(void)share_leave(&scope);
	share_unref(share);
}

/* ---- without memory ----
 *
 * What it takes to tell what comes of an action is had before that is taken from the engine: an
 * end of which nobody knows could not be owed to the store, and a grant that is not told would
 * be waited for. */

#define STARVED_NS (10ull * NS_PER_MS) /* until it is tried again */

static struct notice *prepare(struct desk *desk, const struct lease_action *action)
{
	if (action->kind == LEASE_ACT_STORE_END && ending_begin(desk, &action->lease))
		return NULL;
	return notice_new(desk, action->kind, &action->lease);
}

static void starve(struct desk *desk, const struct lease_action *action)
{
	if (!desk->starved_ns)
		desk_log(desk, DESK_LOG_ERROR,
			"out of memory; what becomes of leases has to wait for some",
			FACT_NUMBER("lease", action->lease.id), NO_FACT);
	desk->starved_ns = desk->now_ns + STARVED_NS;
}

static bool is_starved(const struct desk *desk)
{
	return desk->now_ns < desk->starved_ns;
}

/* Whether there was one that could be. */
static bool perform_next(struct desk *desk)
{
	struct lease_action action;
	struct notice *notice;

	if (is_starved(desk) || !lease_first_action(desk->engine, &action))
		return false;
	notice = prepare(desk, &action);
	if (!notice) {
		starve(desk, &action);
		return false;
	}
	desk->starved_ns = 0;
	(void)lease_next_action(desk->engine, &action);
	perform(desk, &action, notice);
	return true;
}

uint64_t lessor_deadline(const struct desk *desk)
{
	uint64_t due = lease_deadline(desk->engine);

	return due < desk->starved_ns ? desk->starved_ns : due;
}

/* ---- ends that are owed ---- */

/* Never after what came later: a lease that is granted instead of one that has ended must not
 * be stored ahead of that end. */
static void pay_ends(struct desk *desk)
{
	struct notice *notice;

	if (batch_is_stuck(desk) && !lease_has_actions(desk->engine))
		return;
	while ((notice = desk->owed)) {
		const struct lease_view lease = {
			.id = notice->lease, .endpoint = notice->endpoint, .token = notice->token};

		DL_DELETE(desk->owed, notice);
		DL_APPEND(desk->notices, notice);
		if (notice->kind == LEASE_ACT_STORE_END)
			store_end(desk, &lease);
	}
}

/* An end that is not durable would let the lease come back with a restart. It is owed then, and
 * so is the word about it; but who was not told of the grant has a request that has failed. */
static bool owe(struct desk *desk, struct notice *notice)
{
	if (notice->kind != LEASE_ACT_STORE_END &&
		(notice->kind != LEASE_ACT_ENDED || !notice->told))
		return false;
	notice->owed = true;
	DL_APPEND(desk->owed, notice);
	return true;
}

static void settle_end(struct desk *desk, const struct notice *notice, int result)
{
	if (notice->owed && !result)
		desk_log(desk, DESK_LOG_INFO,
			"the end of a lease that could not be recorded is recorded now",
			FACT_NUMBER("lease", notice->lease), NO_FACT);
	ending_settle(desk, notice->lease, result);
}

/* ---- the turn ---- */

bool lessor_has_work(const struct desk *desk)
{
	return (lease_has_actions(desk->engine) && !is_starved(desk)) ||
	       (desk->owed && !batch_is_stuck(desk));
}

void lessor_collect(struct desk *desk)
{
	const unsigned most = desk->env.lease_actions ? desk->env.lease_actions : LESSOR_ACTIONS;
	unsigned n = 0;

	pay_ends(desk);
	while (n < most && perform_next(desk))
		n++;
}

bool lessor_waits(const struct desk *desk)
{
	return desk->notices;
}

/* A grant that is not durable or has no record must not be used, nor time that is not durable. */
static void take_back(struct desk *desk, const struct notice *notice)
{
	if (notice->kind == LEASE_ACT_STORE_GRANT || notice->kind == LEASE_ACT_GRANTED ||
		notice->kind == LEASE_ACT_STORE_RENEW)
		desk_lease_lost(desk, desk->now_ns, notice->lease, VMSIG_ERR_IO);
}

static void settle(struct desk *desk, struct notice *notices, int result)
{
	struct notice *notice, *next;

	DL_FOREACH_SAFE (notices, notice, next) {
		if (notice->kind == LEASE_ACT_STORE_END)
			settle_end(desk, notice, result);
		if (result && owe(desk, notice))
			continue;
		if (result)
			take_back(desk, notice);
		if (!result || notice->kind != LEASE_ACT_GRANTED)
			notice_tell(desk, notice);
		notice_free(desk, notice);
	}
}

bool lessor_is_untold(const struct desk *desk, uint64_t lease)
{
	return lease_is_untold(desk->engine, lease) || notice_of_grant(desk, lease);
}

static bool is_grant_held(const struct desk *desk, uint64_t lease)
{
	const struct notice *grant = notice_of_grant(desk, lease);

	return grant && grant->ticket;
}

/* That somebody is asked to go needs no disk, and has a deadline. */
static void hold(struct desk *desk, struct notice *notices, uint64_t ticket)
{
	struct notice *notice, *next;

	DL_FOREACH_SAFE (notices, notice, next) {
		if (notice->kind == LEASE_ACT_NOTICE && !is_grant_held(desk, notice->lease)) {
			notice_tell(desk, notice);
			notice_free(desk, notice);
			continue;
		}
		notice->ticket = ticket;
		DL_APPEND(desk->held_notices, notice);
	}
}

void lessor_settle(struct desk *desk, int result, uint64_t ticket)
{
	struct notice *notices = desk->notices;

	desk->notices = NULL;
	if (ticket && desk->closing)
		notices_free(desk, notices);
	else if (ticket)
		hold(desk, notices, ticket);
	else
		settle(desk, notices, result);
}

void lessor_answered(struct desk *desk, uint64_t ticket, int result)
{
	struct notice *notice, *due = NULL;

	while ((notice = desk->held_notices) && notice->ticket <= ticket) {
		DL_DELETE(desk->held_notices, notice);
		DL_APPEND(due, notice);
	}
	/* What is told may bring new ones about. */
	settle(desk, due, result);
}

void lessor_drop_held(struct desk *desk)
{
	notices_free(desk, desk->held_notices);
	desk->held_notices = NULL;
}
