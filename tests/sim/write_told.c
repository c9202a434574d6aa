/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the desk tells operators, against the reference: each request is answered once, each
 * outcome is what became of the command, tokens rise, nobody is overtaken, and nobody is refused
 * whose lease holds.
 */
#include "tests/sim/write_world.h"

#include <string.h>

#include "vmsig/vmsig_error.h"

#define OLD_KEPT 64 /* bytes before that are kept, whatever happens */

static void trace(unsigned kind, uint64_t id, uint64_t code)
{
	world.trace = (world.trace ^ (kind + id * 31 + code * 1009)) * 0x9e3779b97f4a7c15ull;
	world.trace ^= world.trace >> 29;
}

static unsigned index_of(const struct client *client)
{
	return (unsigned)(client - world.clients);
}

/* ---- leases ---- */

static struct model_lease *lease_of(struct client *client, uint64_t id)
{
	struct model_lease *lease = model_lease(id);

	if (!client->connected || lease->session != client->op.session)
		broken("%s is told of a lease that is not its own", tenant_names[client->tenant]);
	return lease;
}

/* Whoever waited before and is not less important comes before. */
static void check_order(const struct model_lease *lease)
{
	for (unsigned i = 0; i < world.nleases; i++) {
		const struct model_lease *other = &world.leases[i];
		struct lease_view view;

		if (other == lease || other->phase != ASKED || other->over ||
			other->site != lease->site || other->arrival > lease->arrival ||
			other->priority < lease->priority ||
			!ranges_overlap(
				other->ranges, other->nranges, lease->ranges, lease->nranges))
			continue;
		if (desk_lease_find(world.desk, other->id, &view) && view.state == LEASE_WAITING)
			broken("I9: lease %llu overtook %llu", (unsigned long long)lease->id,
				(unsigned long long)other->id);
	}
}

static void check_grant(const struct model_lease *lease, const struct lease_view *view)
{
	struct guest *guest = guest_find(view->endpoint);

	if (lease->phase != ASKED || lease->over)
		broken("lease %llu is granted again, or after its end",
			(unsigned long long)lease->id);
	if (view->token <= guest->last_token)
		broken("I2: token %llu of %s after %llu", (unsigned long long)view->token,
			guest->name, (unsigned long long)guest->last_token);
	if (view->deadline_ns > world.now + lease->ttl_ns)
		broken("I3: lease %llu is granted for longer than was asked for",
			(unsigned long long)lease->id);
	if (!disk_has_lease(disk, lease->id))
		broken("lease %llu is granted and not stored", (unsigned long long)lease->id);
	check_order(lease);
}

static void told_granted(void *arg, const struct lease_view *view)
{
	struct client *client = arg;
	struct model_lease *lease;
	unsigned index;

	if (world.ghost)
		return;
	lease = lease_of(client, view->id);
	trace(1, view->id, view->deadline_ns);
	say("%s has lease %llu", tenant_names[client->tenant], (unsigned long long)view->id);
	check_grant(lease, view);
	if (!pending_take(WAITS_LEASE, index_of(client), lease->id, &index))
		broken("a grant that nobody waits for");
	guest_find(view->endpoint)->last_token = view->token;
	lease->token = view->token;
	lease->epoch = view->epoch;
	lease->deadline_ns = view->deadline_ns;
	lease->phase = GRANTED;
	tallies[T_GRANTS]++;
}

static void told_refused(void *arg, const struct lease_view *view)
{
	struct client *client = arg;
	struct model_lease *lease;
	unsigned index;

	if (world.ghost)
		return;
	lease = lease_of(client, view->id);
	trace(2, view->id, view->reason);
	say("%s is refused lease %llu: %s", tenant_names[client->tenant],
		(unsigned long long)view->id, vmsig_error_name((int)view->reason));
	if (lease->phase != ASKED ||
		!pending_take(WAITS_LEASE, index_of(client), lease->id, &index))
		broken("a refusal that nobody waits for");
	lease->phase = OVER;
}

static void told_notice(void *arg, const struct lease_view *view)
{
	if (!world.ghost)
		lease_of(arg, view->id)->causes |= CAUSE_PREEMPTED;
}

/* Why it says that the lease has ended is true. */
static void check_reason(const struct model_lease *lease, enum vmsig_error reason)
{
	unsigned blurred = CAUSE_RESTART | CAUSE_DISK | CAUSE_GONE;
	bool wrong = false;

	if (lease->causes & blurred)
		return;
	if (reason == VMSIG_ERR_OK)
		wrong = !lease->release;
	else if (reason == VMSIG_ERR_LEASE_EXPIRED)
		wrong = world.now + MS < lease->deadline_ns;
	else if (reason == VMSIG_ERR_LEASE_REVOKED)
		wrong = !(lease->causes & (CAUSE_REVOKED | CAUSE_PREEMPTED | CAUSE_POLICY));
	else if (reason == VMSIG_ERR_STALE_EPOCH)
		wrong = !(lease->causes & CAUSE_EPOCH);
	if (wrong)
		broken("lease %llu has ended with %s, which is not so",
			(unsigned long long)lease->id, vmsig_error_name((int)reason));
}

static void told_ended(void *arg, const struct lease_view *view)
{
	struct client *client = arg;
	struct model_lease *lease;
	unsigned index;

	if (world.ghost)
		return;
	lease = lease_of(client, view->id);
	trace(3, view->id, view->reason);
	say("lease %llu of %s has ended: %s", (unsigned long long)view->id,
		tenant_names[client->tenant], vmsig_error_name((int)view->reason));
	if (lease->phase == OVER)
		broken("lease %llu has ended twice", (unsigned long long)view->id);
	if (lease->phase == GRANTED)
		check_reason(lease, view->reason);
	else if (!pending_take(WAITS_LEASE, index_of(client), lease->id, &index))
		broken("an end that nobody waits for");
	records_check_end(lease);
	model_end(lease, CAUSE_ENDED);
	if (lease->phase == GRANTED)
		model_over(lease);
	lease->phase = OVER;
}

static void told_released(void *arg, uint64_t request_id, int error, const char *detail)
{
	struct client *client = arg;
	unsigned index;

	if (world.ghost)
		return;
	trace(4, request_id, 0);
	if (!pending_take(WAITS_RELEASE, index_of(client), request_id, &index))
		broken("a release that nobody asked for is done");
	say("the release of lease %llu of %s is answered: %s",
		(unsigned long long)world.leases[index].id, tenant_names[client->tenant],
		vmsig_error_name(error));
	if (error != VMSIG_ERR_IO)
		records_check_end(&world.leases[index]);
	model_end(&world.leases[index], CAUSE_RELEASE);
	if (error == VMSIG_ERR_IO)
		return;
	if (error && error != VMSIG_ERR_NO_LEASE)
		check_reason(&world.leases[index], (enum vmsig_error)error);
	model_over(&world.leases[index]);
}

/* ---- commands ---- */

/* Nothing was done under a lease that, as far as anybody was told, holds. */
static void check_refusal(const struct model_command *command, int error)
{
	struct model_lease *lease = &world.leases[command->lease];

	if (error != VMSIG_ERR_NO_LEASE && error != VMSIG_ERR_LEASE_EXPIRED &&
		error != VMSIG_ERR_LEASE_REVOKED)
		return;
	if (command->lease == LEASES || lease->id != command->body.lease ||
		lease->token != command->body.token || lease->tenant != command->tenant ||
		command->early)
		return;
	/* Whoever is told that it is over is told so once and for all. */
	if (error != VMSIG_ERR_NO_LEASE && lease->phase == GRANTED)
		model_end(lease, CAUSE_TOLD);
	if (lease->causes & ~(unsigned)(CAUSE_RELEASE | CAUSE_ENDED | CAUSE_TOLD) ||
		world.now + MS >= lease->deadline_ns)
		return;
	if (!lease->release)
		broken("a write is refused with %s, and lease %llu holds", vmsig_error_name(error),
			(unsigned long long)lease->id);
	if (lease->release > command->order)
		broken("order: the release of lease %llu overtook a write that was sent before it",
			(unsigned long long)lease->id);
}

/* Of bulk data that a crash has cut off in the middle nobody knows the data: one with that number
 * may be the same. */
static bool is_like_unknown(const struct model_command *command)
{
	for (unsigned i = 0; command->body.bulk && i < world.ncommands; i++) {
		const struct model_command *other = &world.commands[i];

		if ((other->unknown || other->lost) && other->body.lease == command->body.lease &&
			other->body.sequence == command->body.sequence)
			return true;
	}
	return false;
}

static void check_applied(const struct model_command *command, const Vmsig__WriteResult *result)
{
	uint32_t outcome = result->outcome;

	if (outcome == VMSIG_ERR_UNKNOWN_OUTCOME) {
		if (!command->unknown && !command->lost && !is_like_unknown(command))
			broken("I7: an outcome is unknown that need not be");
		tallies[T_UNKNOWN]++;
		return;
	}
	if (command->unknown)
		broken("I7: the outcome of what was begun before a crash is told as %s",
			vmsig_error_name((int)outcome));
	if (outcome == VMSIG_ERR_OK && command->applied != command->body.bytes)
		broken("I5: OK, and %llu of %llu bytes were written",
			(unsigned long long)command->applied,
			(unsigned long long)command->body.bytes);
	if (outcome != VMSIG_ERR_OK && outcome != VMSIG_ERR_PARTIAL && command->applied)
		broken("I5: %s, and %llu bytes were written", vmsig_error_name((int)outcome),
			(unsigned long long)command->applied);
	if (result->written != command->applied)
		broken("I8: %llu bytes are said to be written, and %llu were",
			(unsigned long long)result->written, (unsigned long long)command->applied);
	tallies[T_PARTIAL] += outcome == VMSIG_ERR_PARTIAL;
}

static void check_old(struct model_command *command, const Vmsig__WriteResult *result)
{
	const struct body_op *op = &command->body.ops[0];
	size_t len =
		op->words * WORD < sizeof(command->old) ? op->words * WORD : sizeof(command->old);

	if (!command->body.want_old || result->outcome != VMSIG_ERR_OK || command->lost)
		return;
	if (!result->old.len && command->body.bytes > OLD_KEPT)
		return;
	if (result->old.len != command->body.bytes)
		broken("want_old: %zu bytes before of %llu", result->old.len,
			(unsigned long long)command->body.bytes);
	if (command->old_known && memcmp(result->old.data, command->old, len) != 0)
		broken("want_old: the bytes before were others");
}

static void check_again(const struct model_command *command, const Vmsig__WriteResult *result)
{
	tallies[T_REPLAYED]++;
	if (command->lost && result->outcome == VMSIG_ERR_UNKNOWN_OUTCOME)
		return;
	if (!result->replayed)
		broken("I6: an outcome is told again as a new one");
	if (result->outcome != command->outcome || result->written != command->written ||
		result->failed_op != command->failed_op)
		broken("I6: %s of %llu bytes was told before, and now %s of %llu",
			vmsig_error_name((int)command->outcome),
			(unsigned long long)command->written,
			vmsig_error_name((int)result->outcome),
			(unsigned long long)result->written);
}

/* A second's worth may be saved up. */
static void check_rate(const struct model_command *command)
{
	const struct grant_tenant *tenant = policy_tenant(0, command->tenant);
	double rate = tenant->rules[command->rule].writes_rate;
	double elapsed = (double)(world.now - world.full_ns) / 1e9;
	unsigned long long *passed = &world.passed[command->tenant][command->rule];

	if ((double)++*passed > rate * elapsed + rate + 1)
		broken("quota: %s has written %llu times in %.2f s, and may %.0f times a second",
			tenant_names[command->tenant], *passed, elapsed, rate);
}

static struct model_command *command_take(struct client *client, uint64_t request_id)
{
	unsigned index;

	if (!client->connected)
		broken("who is not there is told of a command");
	if (!pending_take(WAITS_WRITE, index_of(client), request_id, &index))
		broken("request %llu is answered, and nobody waits for that",
			(unsigned long long)request_id);
	return &world.commands[index];
}

static void told_written(void *arg, uint64_t request_id, const Vmsig__WriteResult *result)
{
	struct client *client = arg;
	struct model_command *command;

	if (world.ghost)
		return;
	trace(5, request_id, result->outcome);
	command = command_take(client, request_id);
	say("command %zu of lease %llu/%llu: %s, %llu bytes", (size_t)(command - world.commands),
		(unsigned long long)command->body.lease, (unsigned long long)command->body.sequence,
		vmsig_error_name((int)result->outcome), (unsigned long long)result->written);
	check_rate(command);
	check_old(command, result);
	if (command->answered) {
		check_again(command, result);
		return;
	}
	check_refusal(command, (int)result->outcome);
	check_applied(command, result);
	command->answered = true;
	command->rejected = false;
	command->outcome = result->outcome;
	command->failed_op = result->failed_op;
	command->written = result->written;
}

/* Another command has its number. */
static void check_mismatch(const struct model_command *command)
{
	for (unsigned i = 0; i < world.ncommands; i++) {
		const struct model_command *other = &world.commands[i];

		if (other != command && other->body.lease == command->body.lease &&
			other->body.sequence == command->body.sequence)
			return;
	}
	broken("I6: REPLAY_MISMATCH, and no other command has that number");
}

static void told_rejected(void *arg, uint64_t request_id, int error, const char *detail)
{
	struct client *client = arg;
	struct model_command *command;

	if (world.ghost)
		return;
	trace(6, request_id, (uint64_t)error);
	command = command_take(client, request_id);
	say("command %zu of lease %llu/%llu is rejected: %s (%s)",
		(size_t)(command - world.commands), (unsigned long long)command->body.lease,
		(unsigned long long)command->body.sequence, vmsig_error_name(error),
		detail ? detail : "");
	if (error == VMSIG_ERR_INTERNAL)
		broken("I6: a command is rejected with INTERNAL");
	if (error == VMSIG_ERR_REPLAY_MISMATCH)
		check_mismatch(command);
	if (command->applied && command->transmissions == 1)
		broken("I6: %llu bytes of a command are written that is rejected with %s",
			(unsigned long long)command->applied, vmsig_error_name(error));
	check_refusal(command, error);
	command->rejected = true;
	tallies[T_REJECTED]++;
}

const struct desk_events told_events = {
	.granted = told_granted,
	.refused = told_refused,
	.notice = told_notice,
	.ended = told_ended,
	.released = told_released,
	.written = told_written,
	.rejected = told_rejected,
};
