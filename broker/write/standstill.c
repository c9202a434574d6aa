/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/standstill.h"

#include <stdio.h>

#include "broker/write/command.h"
#include "broker/write/docket.h"
#include "broker/write/site.h"

static void ask(struct command *command);

static void next(struct site *site)
{
	while (!site->quiescing && site->waiting)
		ask(site->waiting);
}

static void fail(struct command *command, int error)
{
	snprintf(command->detail, sizeof(command->detail),
		"the guest's vCPUs could not be stopped (%s); nothing was written",
		vmsig_error_name(error));
	command->still(command, error);
}

static void on_stopped(void *arg, uint64_t now_ns, int error)
{
	struct command *command = arg;
	struct desk *desk = command->desk;
	const struct desk_ops *ops = &desk->env.ops;
	struct site *site = command->site;
	struct share_scope scope;
	int r = error;

	desk_enter(desk, now_ns);
	share_enter(&scope, desk->env.shares, command->docket->share);
	if (!r)
		r = ops->guests->quiesced(ops->ctx, site->id);
	if (!error && r)
		ops->guests->resume(ops->ctx, site->id);
	command->is_still = !r;
	if (r) {
		site->quiescing = NULL;
		fail(command, r);
	} else {
		command->still(command, 0);
	}
	(void)share_leave(&scope);
	next(site);
}

static void ask(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	struct site *site = command->site;
	int r;

	if (site->quiescing) {
		command_move(command, COMMAND_QUEUED);
		return;
	}
	r = ops->guests->quiesce(ops->ctx, site->id, command->quiesce_ms, on_stopped, command);
	if (r) {
		fail(command, r);
		return;
	}
	site->quiescing = command;
	command_move(command, COMMAND_STOPPING);
}

void standstill_begin(struct command *command, void (*still)(struct command *command, int error))
{
	command->still = still;
	ask(command);
}

void standstill_end(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	struct site *site = command->site;

	command->is_still = false;
	site->quiescing = NULL;
	ops->guests->resume(ops->ctx, site->id);
	next(site);
}
