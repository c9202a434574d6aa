/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/operator.h"

#include <errno.h>
#include <stdio.h>

#include "broker/write/command_object.h"
#include "broker/write/docket.h"

#define COMMANDS_PER_PENDING 4 /* writes are cheap to have in line, and come in windows of 64 */

/* Of one connection, that wait for the disk: it may ask for each lease again and again. */
#define RELEASES_MAX 1024u

struct account_actor operator_actor(const struct desk_operator *op)
{
	return (struct account_actor){
		.tenant = op->tenant->tenant.name, .uid = op->uid, .pid = (int32_t)op->pid};
}

struct desk_operator *operator_find(struct desk *desk, uint64_t session)
{
	struct desk_operator *op = NULL;

	if (session)
		HASH_FIND(hh, desk->operators, &session, sizeof(session), op);
	return op;
}

const struct grant_rule *operator_rule(const struct desk *desk, const char *tenant, uint32_t uid,
	const struct selector_subject *endpoint, const struct grant_tenant **ret_tenant)
{
	struct identity identity = {.role = IDENTITY_OPERATOR};
	const struct grant_tenant *entry;

	snprintf(identity.name, sizeof(identity.name), "%s", tenant);
	entry = grant_find(desk->env.config->by_identity, desk->env.config->ntenants, &identity);
	if (!entry || !grant_has_uid(entry, uid) || !endpoint)
		return NULL;
	if (ret_tenant)
		*ret_tenant = entry;
	return grant_write_rule(entry, endpoint);
}

bool operator_covers(const struct grant_rule *rule, const struct lease_range *range)
{
	for (size_t i = 0; i < rule->nranges; i++) {
		uint64_t start = rule->ranges[i].gpa;

		if (start <= range->start && range->last - start <= rule->ranges[i].len - 1)
			return true;
	}
	return !rule->nranges;
}

bool operator_allows(const struct desk *desk, const struct lease_view *lease,
	const struct selector_subject *endpoint)
{
	const struct grant_rule *rule =
		operator_rule(desk, lease->tenant, lease->uid, endpoint, NULL);

	if (!rule || lease->priority > rule->priority_max)
		return false;
	for (size_t i = 0; i < lease->nranges; i++) {
		if (!operator_covers(rule, &lease->ranges[i]))
			return false;
	}
	return true;
}

const struct desk_ruling *operator_ruling(const struct desk *desk, struct desk_operator *op,
	uint32_t endpoint, const struct selector_subject *subject)
{
	struct desk_ruling *ruling = &op->ruling;

	if (ruling->policy == desk->policy && ruling->endpoint == endpoint &&
		ruling->tenant == op->tenant)
		return ruling;
	*ruling = (struct desk_ruling){.policy = desk->policy,
		.endpoint = endpoint,
		.tenant = op->tenant,
		.sees = tenant_sees(&op->tenant->tenant, subject)};
	if (ruling->sees)
		ruling->rule = grant_write_rule(op->tenant, subject);
	return ruling;
}

void operator_pay(struct command *command, uint64_t session)
{
	struct desk_operator *payer = operator_find(command->desk, command->session);

	charge_refund(&command->number);
	charge_refund(&command->room);
	if (payer)
		DL_DELETE2(payer->own, command, own_prev, own_next);
	command->session = session;
	payer = operator_find(command->desk, session);
	if (!payer)
		return;
	charge_force(
		&command->number, &payer->account, command->body ? DESK_WRITES : DESK_RELEASES, 1);
	charge_force(&command->room, &payer->account, DESK_BYTES, command->size);
	DL_APPEND2(payer->own, command, own_prev, own_next);
}

void operator_pay_more(struct command *command, uint64_t size)
{
	command->size = size;
	charge_resize(&command->room, size);
}

static void complain(struct command *command, const struct charge *charge)
{
	const struct account_actor actor = {
		.tenant = command->tenant, .uid = command->uid, .pid = (int32_t)command->pid};
	struct account_refusal refusal =
		account_refuse(charge->account, charge->slot, charge->amount, &actor);

	/* Without what is refused. */
	refusal.used -= charge->amount;
	account_refusal_text(&refusal, command->detail, sizeof(command->detail));
}

int operator_check(struct command *command, struct desk_operator *op)
{
	const struct charge *const charges[] = {&command->number, &command->room};

	account_set_limit(&op->account, DESK_WRITES,
		(uint64_t)op->tenant->tenant.quota.pending * COMMANDS_PER_PENDING);
	account_set_limit(&op->account, DESK_BYTES, op->tenant->queued_max);
	for (size_t i = 0; i < sizeof(charges) / sizeof(charges[0]); i++) {
		if (!account_is_over(&op->account, charges[i]->slot))
			continue;
		complain(command, charges[i]);
		return VMSIG_ERR_QUOTA;
	}
	return 0;
}

static const struct account_kind kind = {.owner = "connection",
	.slots = {[DESK_WRITES] = {"writes without an outcome", "quota.pending",
			  "wait for some, or raise quota.pending"},
		[DESK_BYTES] = {"bytes of writes without an outcome", "quota.queued",
			"wait for some, or raise quota.queued"},
		[DESK_RELEASES] = {
			"releases without an answer", "the bound of releases", "wait for some"}}};

int desk_operator_open(struct desk *desk, struct desk_operator *op)
{
	if (desk->closing)
		return VMSIG_ERR_SHUTTING_DOWN;
	account_init(&op->account, &kind, "");
	account_set_limit(&op->account, DESK_RELEASES, RELEASES_MAX);
	if (docket_get(desk, op->tenant->tenant.name, &op->docket))
		return -ENOMEM;
	op->session = ++desk->last_session;
	HASH_ADD(hh, desk->operators, session, sizeof(op->session), op);
	if (op->hh.tbl)
		return 0;
	op->docket = docket_unref(op->docket);
	return -ENOMEM;
}

void desk_operator_close(struct desk *desk, uint64_t now_ns, struct desk_operator *op)
{
	desk_enter(desk, now_ns);
	while (op->own)
		operator_pay(op->own, 0);
	account_deinit(&op->account);
	HASH_DEL(desk->operators, op);
	op->docket = docket_unref(op->docket);
	lease_disconnect(desk->engine, desk->now_ns, op->session);
}
