/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits for the disk, with `durability: power`: intents whose bytes must not change, and
 * answers about leases that must not be given, before the transaction that has them survives a
 * power cut. They go on in the order of their commits, when the sync that covers them has ended;
 * the loop does not wait. A sync that failed is final (syncer.h): then nothing is committed any
 * more, as on a full disk.
 */
#include "broker/write/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log.h"
#include "broker/syncer.h"
#include "vmsig/vmsig_error.h"

/* One that was asked for under a policy that waits keeps its place when the next one does not. */
static bool is_waited_for(const struct desk *desk)
{
	return desk->env.syncer && (desk->env.config->audit.power || desk->unsynced || desk->nheld);
}

int durable_failed(const struct desk *desk)
{
	return is_waited_for(desk) && syncer_failed(desk->env.syncer) ? VMSIG_ERR_IO : 0;
}

uint64_t durable_ask(struct desk *desk)
{
	return is_waited_for(desk) ? syncer_ask(desk->env.syncer) : 0;
}

void durable_hold(struct command *command, uint64_t sync)
{
	command->sync = sync;
	DL_APPEND(command->desk->unsynced, command);
}

void durable_hold_notices(struct desk *desk, struct notice *notices, size_t n, uint64_t sync)
{
	struct notice *grown = reallocarray(desk->held, desk->nheld + n, sizeof(*grown));

	for (size_t i = 0; i < n; i++)
		notices[i].sync = sync;
	if (grown) {
		desk->held = grown;
		memcpy(desk->held + desk->nheld, notices, n * sizeof(*notices));
		desk->nheld += n;
		return;
	}
	log_error("out of memory; operators are not told of leases, which end");
	notices_settle(desk, notices, n, -ENOMEM);
}

static void commands_go_on(struct desk *desk, uint64_t number, int result)
{
	struct command *command;

	while ((command = desk->unsynced) && command->sync <= number) {
		DL_DELETE(desk->unsynced, command);
		command->prev = command->next = NULL;
		command_proceed(command, result);
	}
}

static void notices_go_on(struct desk *desk, uint64_t number, int result)
{
	struct notice *notices = desk->held;
	size_t n = 0, left = desk->nheld;

	while (n < left && notices[n].sync <= number)
		n++;
	if (!n)
		return;
	/* What is told may bring new ones about. */
	desk->held = NULL;
	desk->nheld = 0;
	for (size_t i = n; i < left; i++)
		durable_hold_notices(desk, &notices[i], 1, notices[i].sync);
	notices_settle(desk, notices, n, result);
	free(notices);
}

static void on_synced(void *arg, uint64_t number, int result)
{
	struct desk *desk = arg;

	if (desk->closing)
		return;
	notices_go_on(desk, number, result);
	commands_go_on(desk, number, result);
}

void durable_init(struct desk *desk)
{
	if (desk->env.syncer)
		syncer_watch(desk->env.syncer, on_synced, desk);
}

/* A restarted broker knows from their marks that they never began. */
void durable_drop(struct desk *desk)
{
	struct command *command;

	if (desk->env.syncer)
		syncer_watch(desk->env.syncer, NULL, NULL);
	while ((command = desk->unsynced)) {
		DL_DELETE(desk->unsynced, command);
		command_free(command);
	}
	free(desk->held);
	desk->held = NULL;
	desk->nheld = 0;
}
