/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/desk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/policy/share.h"
#include "broker/write/batch.h"
#include "broker/write/bill.h"
#include "broker/write/budget.h"
#include "broker/write/command_object.h"
#include "broker/write/docket.h"
#include "broker/write/ending.h"
#include "broker/write/lessor.h"
#include "broker/write/outcome.h"
#include "broker/write/pipeline.h"
#include "broker/write/record.h"
#include "broker/write/recover.h"
#include "broker/write/refusal.h"
#include "broker/write/replay.h"
#include "broker/write/payer.h"
#include "broker/write/site.h"
#include "broker/write/slices.h"

/* ---- the turn ---- */

/* Results come before the ends of their leases, and share whatever batch there is. */
static void collect(struct desk *desk)
{
	outcomes_tell(desk);
	if (outcomes_due(desk) || lessor_has_work(desk))
		outcomes_collect(desk);
	lessor_collect(desk);
	recover_collect(desk);
	pipeline_collect(desk);
	refusals_turn(desk, false);
	if (batch_is_open(desk))
		outcomes_collect(desk);
}

/* What it takes is paid by those whose records are in it. */
static int append(struct desk *desk, bool waits, uint64_t *ret_ticket)
{
	struct share_scope scope;
	int r;

	if (!batch_is_open(desk))
		return batch_end(desk, waits, ret_ticket);
	share_enter(&scope, desk->env.shares, NULL);
	r = batch_end(desk, waits, ret_ticket);
	bills_split(desk, share_leave(&scope));
	return r;
}

static void append_and_settle(struct desk *desk)
{
	bool waits = lessor_waits(desk) || pipeline_waits(desk);
	uint64_t ticket;
	int r = append(desk, waits, &ticket);

	recover_settle(desk, r);
	outcomes_settle(desk, r);
	lessor_settle(desk, r, ticket);
	pipeline_settle(desk, r, ticket);
}

static void check_closed(struct desk *desk)
{
	void (*closed)(void *arg) = desk->closed;

	if (!closed || desk->all)
		return;
	desk->closed = NULL;
	closed(desk->closed_arg);
}

void desk_turn(struct desk *desk, uint64_t now_ns)
{
	desk_enter(desk, now_ns);
	/* Leases wait for a restarted broker, whatever time closing takes. */
	if (!desk->closing)
		lease_advance(desk->engine, desk->now_ns);
	collect(desk);
	append_and_settle(desk);
	slices_look(desk);
	outcomes_tell(desk);
	check_closed(desk);
}

void desk_flush(struct desk *desk, uint64_t now_ns)
{
	desk_enter(desk, now_ns);
	if (batch_is_open(desk))
		append_and_settle(desk);
}

void desk_settle(struct desk *desk, uint64_t now_ns)
{
	desk_enter(desk, now_ns);
	outcomes_collect(desk);
	desk_flush(desk, now_ns);
}

bool desk_rest(struct desk *desk, uint64_t now_ns)
{
	desk_enter(desk, now_ns);
	if (!desk->record_ns || desk->closing || batch_is_stuck(desk))
		return false;
	desk_settle(desk, now_ns);
	return true;
}

void desk_committed(struct desk *desk, uint64_t now_ns, uint64_t ticket, int result)
{
	desk_enter(desk, now_ns);
	batch_answered(desk, ticket);
	if (desk->closing)
		return;
	lessor_answered(desk, ticket, result);
	pipeline_answered(desk, ticket, result);
}

/* When there is something to record, and it may be tried. */
static uint64_t record_due(const struct desk *desk)
{
	uint64_t due = desk->owed ? 0 : desk->record_ns ? desk->record_ns : UINT64_MAX;

	return due < desk->batch.retry_ns ? desk->batch.retry_ns : due;
}

uint64_t desk_delay(const struct desk *desk, uint64_t now_ns)
{
	/* Leases wait for a restarted broker. */
	uint64_t due = desk->closing ? UINT64_MAX : lessor_deadline(desk);
	uint64_t record = record_due(desk);

	if (pipeline_is_ready(desk))
		return 0;
	if (record < due)
		due = record;
	if (desk->refusals_ns && desk->refusals_ns < due)
		due = desk->refusals_ns;
	return due == UINT64_MAX ? UINT64_MAX : due > now_ns ? due - now_ns : 0;
}

/* ---- life ---- */

static int open_parts(struct desk *desk)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	char version[] = VMSIG_VERSION;
	uint64_t ticket;
	int r = lessor_init(desk);

	if (r)
		return r;
	recover_loss(desk);
	record.kind = VMSIG__AUDIT_RECORD__KIND__START;
	record.version = version;
	record_append(desk, &record);
	/* What was written under leases that are over by now was written before. */
	recover_collect(desk);
	r = lessor_restore(desk);
	if (!r)
		r = append(desk, false, &ticket);
	recover_settle(desk, r);
	return r;
}

int desk_new(struct desk **ret_desk, const struct desk_env *env, uint64_t now_ns, char *error,
	size_t error_size)
{
	const struct desk_ops *ops = &env->ops;
	struct desk *desk = calloc(1, sizeof(*desk));
	int r = desk ? 0 : -ENOMEM;

	if (!r) {
		desk->env = *env;
		desk->policy = 1;
		payers_set_limit(desk, env->config->bulk_old);
		desk_enter(desk, now_ns);
		r = open_parts(desk);
	}
	if (!r) {
		*ret_desk = desk;
		return 0;
	}
	snprintf(error, error_size, "cannot open the leases and the audit log: %s (%s)",
		error_text(r), ops->records->error(ops->ctx));
	if (desk && batch_is_open(desk))
		ops->records->rollback(ops->ctx);
	desk_free(desk);
	return r;
}

static void drop_held(struct desk *desk)
{
	lessor_drop_held(desk);
	pipeline_drop_held(desk);
}

void desk_close(struct desk *desk, uint64_t now_ns, void (*closed)(void *arg), void *arg)
{
	desk_enter(desk, now_ns);
	desk->closing = true;
	desk->closed = closed;
	desk->closed_arg = arg;
	drop_held(desk);
	refusals_turn(desk, true);
	desk_settle(desk, now_ns);
	check_closed(desk);
}

struct desk *desk_free(struct desk *desk)
{
	if (!desk)
		return NULL;
	drop_held(desk);
	pipeline_free(desk);
	account_deinit(&desk->kept);
	endings_free(desk);
	sites_free(desk);
	replays_free(desk);
	lessor_free(desk);
	budgets_free(desk);
	refusals_free(desk);
	bills_free(desk);
	dockets_free(desk);
	free(desk->pieces);
	free(desk->scratch);
	free(desk);
	return NULL;
}

/* ---- looking ---- */

void desk_stats(struct desk *desk, struct metrics *metrics)
{
	static const char *const states[] = {[LEASE_WAITING] = "waiting",
		[LEASE_STORING] = "storing",
		[LEASE_ACTIVE] = "active",
		[LEASE_DRAINING] = "draining"};
	uint64_t leases[sizeof(states) / sizeof(states[0])] = {0}, cursor = 0, commands = 0;
	const struct command *command;
	struct lease_view lease;

	while (lease_next(desk->engine, &cursor, &lease))
		leases[lease.state]++;
	DL_FOREACH2 (desk->all, command, all_next)
		commands += command->state < COMMAND_DIGESTING;
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		metrics_add(metrics, METRICS_LEASES, states[i], leases[i]);
	metrics_add(metrics, METRICS_GRANTS, "", desk->counts.grants);
	metrics_add_errors(metrics, METRICS_LEASE_ENDS, &desk->counts.ends);
	metrics_add_errors(metrics, METRICS_WRITES, &desk->counts.outcomes);
	metrics_add(metrics, METRICS_WRITTEN, "", desk->counts.bytes);
	metrics_add(metrics, METRICS_COMMANDS, "", commands);
}
