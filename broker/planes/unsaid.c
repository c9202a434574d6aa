/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/unsaid.h"

#include <utlist.h>

#define LOOKS_MOST 64u    /* a system call each, a fifth of a microsecond */
#define HURRY_NS 1000000u /* between looks for room that others wait for */

/* A part of the time after which a holder that takes nothing is disconnected: one that reads is
 * found out long before. */
#define PATIENCE_PART 4u
#define PATIENCE_MOST_NS 1000000000u

static uint64_t pause_of(uint64_t patience_ns)
{
	uint64_t part = patience_ns / PATIENCE_PART;

	return part < PATIENCE_MOST_NS ? part : PATIENCE_MOST_NS;
}

void unsaid_add(
	struct unsaid *unsaid, struct unsaid_node *node, uint64_t now_ns, uint64_t patience_ns)
{
	node->pause_ns = pause_of(patience_ns);
	node->due_ns = now_ns + node->pause_ns;
	node->is_listed = true;
	DL_APPEND(unsaid->nodes, node);
}

void unsaid_want(struct unsaid *unsaid, struct unsaid_node *node)
{
	if (!node->is_listed || node->is_wanted)
		return;
	node->is_wanted = true;
	unsaid->wanted++;
	DL_DELETE(unsaid->nodes, node);
	DL_PREPEND(unsaid->nodes, node);
}

void unsaid_remove(struct unsaid *unsaid, struct unsaid_node *node)
{
	if (!node->is_listed)
		return;
	unsaid->wanted -= node->is_wanted;
	DL_DELETE(unsaid->nodes, node);
	*node = (struct unsaid_node){0};
}

/* Also who is wanted: those that read nothing would be looked at in place of those that do. */
static void look_again(struct unsaid *unsaid, struct unsaid_node *node, uint64_t now_ns)
{
	node->due_ns = now_ns + node->pause_ns;
	DL_DELETE(unsaid->nodes, node);
	DL_APPEND(unsaid->nodes, node);
}

uint64_t unsaid_deadline(const struct unsaid *unsaid, bool hurry)
{
	uint64_t soon = unsaid->looked_ns + HURRY_NS;

	if (!unsaid->nodes)
		return UINT64_MAX;
	if ((hurry || unsaid->wanted) && soon < unsaid->nodes->due_ns)
		return soon;
	return unsaid->nodes->due_ns;
}

void unsaid_look(
	struct unsaid *unsaid, uint64_t now_ns, bool hurry, bool (*take)(struct unsaid_node *node))
{
	struct unsaid_node *node, *next, *last;
	unsigned looks = 0;

	if (now_ns < unsaid_deadline(unsaid, hurry))
		return;
	hurry = hurry || unsaid->wanted;
	if (hurry)
		unsaid->looked_ns = now_ns;
	last = unsaid->nodes->prev;
	for (node = unsaid->nodes; node && looks++ < LOOKS_MOST; node = next) {
		next = node == last ? NULL : node->next;
		if (!hurry && node->due_ns > now_ns)
			return;
		if (!take(node))
			look_again(unsaid, node, now_ns);
	}
}
