/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/release.h"

#include "broker/write/command.h"
#include "broker/write/ending.h"
#include "broker/write/lane.h"
#include "broker/write/operator.h"
#include "vmsig/vmsig_error.h"

const char release_away[] =
	"the guest is on its way to another host, and its leases with it; give it back there";

static void tell(struct command *command, int error, const char *detail)
{
	struct desk *desk = command->desk;
	struct desk_operator *op = operator_find(desk, command->session);

	if (op)
		desk->env.events->released(op->client, command->request_id, error, detail);
	command_free(command);
}

static void on_ended(struct desk_wait *wait, int error, const char *detail)
{
	tell((struct command *)(void *)((char *)wait - offsetof(struct command, wait)), error,
		detail);
}

static int check_room(struct desk_operator *op)
{
	const struct account_actor actor = operator_actor(op);
	struct account_refusal refusal;

	if (account_has_room(&op->account, DESK_RELEASES, 1))
		return 0;
	refusal = account_refuse(&op->account, DESK_RELEASES, 1, &actor);
	account_refusal_text(&refusal, op->detail, sizeof(op->detail));
	return VMSIG_ERR_QUOTA;
}

static int make(struct command **ret_command, struct desk *desk, struct desk_operator *op,
	uint64_t request_id, uint64_t lease)
{
	struct command *command;
	int r = check_room(op);

	if (!r)
		r = command_new(&command, desk, op, NULL, -1);
	if (r)
		return r;
	command->key.lease = lease;
	command->request_id = request_id;
	command->wait.done = on_ended;
	r = ending_reserve(desk, lease, &command->wait);
	if (r)
		command_free(command);
	else
		*ret_command = command;
	return r;
}

int release_new(struct desk *desk, struct desk_operator *op, uint64_t request_id, uint64_t lease,
	uint64_t token)
{
	struct command *command;
	int r = make(&command, desk, op, request_id, lease);

	if (r)
		return r;
	command->release = token;
	r = lane_enter(command);
	if (r) {
		command_free(command);
		return r;
	}
	op->releases++;
	command_move(command, COMMAND_READY);
	return 0;
}

/* Whether it was this operator's, with this token. */
static bool was_holder(
	struct desk *desk, const struct desk_operator *op, uint64_t lease, uint64_t token)
{
	const struct desk_ops *ops = &desk->env.ops;
	char tenant[LEASE_NAME_MAX + 1];
	uint64_t had;

	return ops->leases->find(ops->ctx, lease, tenant, &had) == 0 &&
	       strcmp(tenant, op->tenant->tenant.name) == 0 && had == token;
}

static void await(struct command *command, int error)
{
	command_move(command, COMMAND_PARTING);
	ending_await(&command->wait, error);
}

int release_now(struct desk *desk, struct desk_operator *op, uint64_t request_id, uint64_t lease,
	uint64_t token, bool *ret_later)
{
	struct command *command;
	int r = make(&command, desk, op, request_id, lease);

	if (r)
		return r;
	r = lease_release(desk->engine, desk->now_ns, op->tenant->tenant.name, lease, token);
	*ret_later =
		ending_is_open(desk, lease, NULL) && (!r || was_holder(desk, op, lease, token));
	if (*ret_later)
		await(command, r);
	else
		command_free(command);
	return *ret_later ? 0 : r;
}

/* Of one that was asked for again, as well: the lease may have ended otherwise, and before. */
static void part(struct command *command, int error)
{
	struct desk *desk = command->desk;
	const uint64_t lease = command->key.lease;
	struct desk_operator *op = operator_find(desk, command->session);

	if (op)
		op->releases--;
	lane_leave(command);
	/* Nobody is told any more; the lease is the next broker's if its end is not recorded. */
	if (desk->closing)
		command_free(command);
	else if (ending_is_open(desk, lease, NULL))
		await(command, 0);
	else
		tell(command, error, error ? release_away : NULL);
}

/* Those that were asked for once more are done with it. */
void release_begin(struct command *command)
{
	struct desk *desk = command->desk;
	struct command *other, *next;
	int r = lease_release(
		desk->engine, desk->now_ns, command->tenant, command->key.lease, command->release);
	/* One that has ended meanwhile is no failure. */
	int error = r == VMSIG_ERR_BUSY ? r : 0;

	DL_FOREACH_SAFE (command->lane->waiting, other, next) {
		if (!other->release)
			continue;
		command_move(other, COMMAND_READY);
		part(other, error);
	}
	part(command, error);
}
