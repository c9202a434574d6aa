/* SPDX-License-Identifier: Apache-2.0 */
/* Queues of actions: flags and links inside the objects, so that nothing here can fail. */
#include "broker/read/state.h"

void action_add(struct core *core, enum action_queue queue, struct action_node *node,
	enum core_action_kind kind)
{
	if (!node->pending)
		DL_APPEND(core->queues[queue], node);
	node->pending |= 1u << kind;
}

void action_drop(struct core *core, enum action_queue queue, struct action_node *node)
{
	if (node->pending)
		DL_DELETE(core->queues[queue], node);
	node->pending = 0;
}

static void action_fill(
	struct core_action *action, enum core_action_kind kind, const struct action_node *node)
{
	*action = (struct core_action){.kind = kind, .session = node->session};
	if (node->session)
		action->error = node->session->error;
	if (!node->endpoint)
		return;
	action->endpoint = node->endpoint->id;
	action->name = node->endpoint->name;
	action->epoch = node->endpoint->epoch;
	action->reg = node->endpoint->reg;
	action->fingerprint = node->endpoint->stored;
}

bool core_next_action(struct core *core, struct core_action *ret_action)
{
	for (size_t q = 0; q < QUEUES; q++) {
		struct action_node *node = core->queues[q];
		enum core_action_kind kind;

		if (!node)
			continue;
		kind = (enum core_action_kind)__builtin_ctz(node->pending);
		node->pending &= ~(1u << kind);
		if (!node->pending)
			DL_DELETE(core->queues[q], node);
		action_fill(ret_action, kind, node);
		return true;
	}
	return false;
}
