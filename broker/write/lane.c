/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of one lease's commands. Each command is in the lane of its lease from the moment
 * it came in until it is finished; one that takes several turns (bulk data, stopped vCPUs) owns
 * the lane meanwhile, and those that came after it wait there, releases too: what was sent
 * before a release is applied before it.
 */
#include "broker/write/state.h"

#include <errno.h>
#include <stdlib.h>

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
	lane = calloc(1, sizeof(*lane));
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

bool lane_wait(struct command *command)
{
	struct lane *lane = command->lane;

	if (!lane->owner || lane->owner == command)
		return false;
	DL_APPEND(lane->waiting, command);
	return true;
}

void lane_own(struct command *command)
{
	command->lane->owner = command;
}

void lane_leave(struct command *command)
{
	struct desk *desk = command->desk;
	struct lane *lane = command->lane;

	if (!lane)
		return;
	command->lane = NULL;
	if (lane->owner == command) {
		lane->owner = NULL;
		/* They came before what is ready by now. */
		DL_CONCAT(lane->waiting, desk->ready);
		desk->ready = lane->waiting;
		lane->waiting = NULL;
	}
	if (--lane->commands)
		return;
	HASH_DEL(desk->lanes, lane);
	free(lane);
}
