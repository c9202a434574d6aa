/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_DOCKET_H
#define BROKER_WRITE_DOCKET_H

/*
 * One tenant's commands that may go on: those that are READY, and those whose intent was held
 * and is durable now. A round serves each tenant that has some, in turns, and of each no more
 * than others can wait for; what it costs is what it serves. Counted by the tenant's commands and
 * connections.
 */

#include "broker/write/state.h"

struct command;

struct docket_part {
	struct docket *docket;
	struct command *commands;
	struct docket_part *prev, *next; /* desk->due, while there are some */
};

struct docket {
	char tenant[LEASE_NAME_MAX + 1];
	struct desk *desk;
	struct share *share; /* the tenant's time */
	unsigned refs;
	struct docket_part parts[DOCKETS];
	UT_hash_handle hh; /* desk->dockets */
};

/* With a reference. -ENOMEM. */
__attribute__((warn_unused_result)) int docket_get(
	struct desk *desk, const char *tenant, struct docket **ret_docket);
struct docket *docket_ref(struct docket *docket);
/* Accepts NULL, returns NULL. */
struct docket *docket_unref(struct docket *docket);
/* All that are left. */
void dockets_free(struct desk *desk);

/* Commands were added to the part, or taken out of it. */
void docket_changed(struct docket *docket, enum docket_kind kind);
/* Serves a part of each tenant's commands, of which each goes elsewhere; false ends the round,
 * and leaves the command where it is. */
void docket_round(struct desk *desk, enum docket_kind kind, bool (*serve)(struct command *command));
/* Serves all commands of a state, in their order, of which each goes elsewhere. Like a round it is
 * at the expense of those that it serves. */
void docket_serve_all(struct desk *desk, enum command_state state,
	void (*serve)(struct command *command, void *arg), void *arg);

#endif
