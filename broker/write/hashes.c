/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/hashes.h"

#include "broker/write/command.h"
#include "broker/write/docket.h"

/* Of one run of commands: some 100 us of hashes. */
#define RUN_BYTES (128u << 10)

/* ---- what is to be there ---- */

static bool is_wanted(const struct command *command)
{
	return command->body && !command->body->bulk && command->nops == 1 && !command->data_known;
}

/* Commands that are looked at next, beginning with this one. */
static size_t gather(struct command *command, struct command *ret_commands[static MULTIHASH_LANES])
{
	uint64_t bytes = 0;
	size_t n = 0;

	for (; command && n < MULTIHASH_LANES && bytes <= RUN_BYTES; command = command->next) {
		if (!is_wanted(command))
			continue;
		bytes += command->bytes;
		ret_commands[n++] = command;
	}
	return n;
}

static int hash_together(struct command *first)
{
	const struct desk_ops *ops = &first->desk->env.ops;
	struct multihash_message messages[MULTIHASH_LANES] = {0};
	struct command *commands[MULTIHASH_LANES];
	size_t n = gather(first, commands);
	int r;

	for (size_t i = 0; i < n; i++)
		messages[i] = (struct multihash_message){.data = commands[i]->ops->data,
			.len = (size_t)commands[i]->bytes,
			.ret_hash = commands[i]->data_hash};
	r = ops->digests(ops->ctx, messages, n);
	for (size_t i = 0; !r && i < n; i++)
		commands[i]->data_known = true;
	return r;
}

int hashes_data(struct command *command)
{
	int r;

	if (command->data_known || command->body->bulk)
		return 0;
	if (is_wanted(command))
		return hash_together(command);
	r = command_hash_data(command);
	command->data_known = !r;
	return r;
}

/* ---- what was there before ---- */

/* A mask would want more than that hash, and who looks before has it. */
bool hashes_wait(const struct command *command)
{
	bool is_alone = !command->next && !command->desk->lists[COMMAND_FINISHED];

	return !is_alone && command->seen && !command->hashed && command->nops &&
	       !command_looks(command);
}

static void note_old(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;

	memcpy(command->new_hash, command->data_hash, DESK_HASH);
	command->hashed = true;
	ops->marks->hash(ops->ctx, command->mark, command->old_hash);
}

/* Of one tenant, beginning with this command. Returns the one after them. */
static struct command *hash_run(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	const struct docket *docket = command->docket;
	struct multihash_message messages[MULTIHASH_LANES] = {0};
	struct command *commands[MULTIHASH_LANES];
	uint64_t bytes = 0;
	size_t n = 0;

	for (; command && command->docket == docket && n < MULTIHASH_LANES && bytes <= RUN_BYTES;
		command = command->next) {
		if (!command->unhashed)
			continue;
		command->unhashed = false;
		bytes += command->bytes;
		messages[n] = (struct multihash_message){.data = command->old,
			.len = (size_t)command->bytes,
			.ret_hash = command->old_hash};
		commands[n++] = command;
	}
	if (n && !ops->digests(ops->ctx, messages, n)) {
		for (size_t i = 0; i < n; i++)
			note_old(commands[i]);
	}
	return command;
}

static struct command *next_unhashed(struct command *command)
{
	while (command && !command->unhashed)
		command = command->next;
	return command;
}

void hashes_old(struct desk *desk)
{
	struct command *command = desk->lists[COMMAND_FINISHED];

	while ((command = next_unhashed(command))) {
		struct share_scope scope;

		share_enter(&scope, desk->env.shares, command->docket->share);
		command = hash_run(command);
		(void)share_leave(&scope);
	}
}
