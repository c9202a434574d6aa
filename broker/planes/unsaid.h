/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_UNSAID_H
#define BROKER_PLANES_UNSAID_H

/*
 * Contexts in flight whose holders do not say that they have taken them (FEATURE_TAKEN_UNSAID): the
 * kernel is asked whether they have read all that they were sent, for then no descriptor of theirs
 * is in its queues. That costs a thirtieth of what a message and its answer do, and nobody waits
 * for the answer: each is looked at after a while, and sooner when somebody waits for what it
 * holds.
 *
 * A look goes over LOOKS_MOST of them at most, the one that has waited longest first; who is wanted
 * has its first look before all others, and then in turn with them. Pure: the clock is passed in,
 * and whoever has the connection is asked by a call.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of one holder; embedded in whoever has its connection. All zero: not in flight. */
struct unsaid_node {
	uint64_t due_ns, pause_ns; /* of the next look; from one to the next */
	bool is_listed, is_wanted;
	struct unsaid_node *prev, *next;
};

struct unsaid {
	struct unsaid_node *nodes; /* by due_ns, but for who has just been wanted: first */
	size_t wanted;
	uint64_t looked_ns; /* when somebody was last looked for in a hurry */
};

/* It is in flight from now on, and taken within `patience_ns` or it is looked at until it is. */
void unsaid_add(
	struct unsaid *unsaid, struct unsaid_node *node, uint64_t now_ns, uint64_t patience_ns);
/* Its holder has something else to get first, which waits. */
void unsaid_want(struct unsaid *unsaid, struct unsaid_node *node);
/* It is not in flight any more. Ignored when it is not there. */
void unsaid_remove(struct unsaid *unsaid, struct unsaid_node *node);

/* Asks for those whose time has come, or in a `hurry`: because others wait for room. `take` says
 * whether the holder has taken it; then it has removed the node. */
void unsaid_look(
	struct unsaid *unsaid, uint64_t now_ns, bool hurry, bool (*take)(struct unsaid_node *node));
/* When unsaid_look() has something to do; UINT64_MAX: nothing is in flight. */
uint64_t unsaid_deadline(const struct unsaid *unsaid, bool hurry);

#endif
