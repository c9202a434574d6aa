/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/hashes.h"

#include "broker/write/command.h"

/* Of the commands after one that is looked at: some 100 us of hashes. */
#define AHEAD_BYTES (128u << 10)

static bool is_wanted(const struct command *command)
{
	return command->body && !command->body->bulk && command->nops == 1 && !command->data_known;
}

/* Commands that are looked at next, beginning with this one. */
static size_t gather(struct command *command, struct command *ret_commands[static MULTIHASH_LANES])
{
	uint64_t bytes = 0;
	size_t n = 0;

	for (; command && n < MULTIHASH_LANES && bytes <= AHEAD_BYTES; command = command->next) {
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
