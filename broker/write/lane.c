/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/lane.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/write/command.h"
#include "proto/mishap.h"

struct lane *lane_find(const struct desk *desk, uint64_t lease)
{
	struct lane *lane = NULL;

	HASH_FIND(hh, desk->lanes, &lease, sizeof(lease), lane);
	return lane;
}

static struct lane *lane_get(struct desk *desk, uint64_t lease)
{
	struct lane *lane = lane_find(desk, lease);

	if (lane)
		return lane;
	lane = MISHAP("lane-memory") ? NULL : calloc(1, sizeof(*lane));
	if (!lane)
		return NULL;
	lane->lease = lease;
	HASH_ADD(hh, desk->lanes, lease, sizeof(lane->lease), lane);
	if (!lane->hh.tbl) {
		free(lane);
		return NULL;
	}
	return lane;
}

int lane_enter(struct command *command)
{
	command->lane = lane_get(command->desk, command->key.lease);
	if (!command->lane)
		return -ENOMEM;
	command->lane->commands++;
	return 0;
}

bool lane_is_taken(const struct command *command)
{
	const struct lane *lane = command->lane;

	return lane->owner && lane->owner != command;
}

void lane_own(struct command *command)
{
	command->lane->owner = command;
}

/* The last one first: they came before what is ready by now. */
static void let_go(struct lane *lane)
{
	lane->owner = NULL;
	while (lane->waiting)
		command_move_first(lane->waiting->prev);
}

void lane_pass(struct command *command)
{
	struct lane *lane = command->lane;

	if (!lane || command->passed)
		return;
	command->passed = true;
	lane->passed++;
	if (lane->owner == command)
		let_go(lane);
}

bool lane_is_unsettled(const struct command *command)
{
	return command->lane->passed;
}

/* The last one that a release has waited for. */
static void settle(struct lane *lane, struct command *command)
{
	if (!command->passed)
		return;
	command->passed = false;
	lane->passed--;
	if (!lane->passed && lane->owner && lane->owner->state == COMMAND_WAITING)
		command_move_first(lane->owner);
}

void lane_leave(struct command *command)
{
	struct lane *lane = command->lane;

	if (!lane)
		return;
	settle(lane, command);
	command->lane = NULL;
	if (lane->owner == command)
		let_go(lane);
	if (--lane->commands)
		return;
	HASH_DEL(command->desk->lanes, lane);
	free(lane);
}

void lanes_end(struct desk *desk)
{
	struct lane *lane;

	for (lane = desk->lanes; lane; lane = lane->hh.next)
		let_go(lane);
}
