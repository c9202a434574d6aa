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
	*ret_command = command;
	return 0;
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

int release_await(
	struct desk *desk, struct desk_operator *op, uint64_t request_id, uint64_t lease, int error)
{
	struct command *command;
	int r = make(&command, desk, op, request_id, lease);

	if (r)
		return r;
	r = ending_await(desk, lease, &command->wait, error);
	if (r) {
		command_free(command);
		return r;
	}
	command_move(command, COMMAND_PARTING);
	return 0;
}

/* Of one that was asked for again, as well: the lease may have ended otherwise, and before. */
static void part(struct command *command, int error)
{
	struct desk *desk = command->desk;
	const uint64_t lease = command->key.lease;
	struct desk_operator *op = operator_find(desk, command->session);
	int r = 0;

	if (op)
		op->releases--;
	command_move(command, COMMAND_PARTING);
	lane_leave(command);
	/* Nobody is told any more; the lease is the next broker's if its end is not recorded. */
	if (desk->closing)
		command_free(command);
	else if (!ending_is_open(desk, lease, NULL) ||
		 (r = ending_await(desk, lease, &command->wait, 0)))
		tell(command, r ? VMSIG_ERR_NO_MEMORY : error, error ? release_away : NULL);
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
