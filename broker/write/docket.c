/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/docket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/write/command_object.h"
#include "proto/mishap.h"

/* Of one tenant in one round: some 100 us of commands, and of bytes. */
#define ROUND_COMMANDS 16u
#define ROUND_BYTES (1u << 20)

struct docket *docket_ref(struct docket *docket)
{
	docket->refs++;
	return docket;
}

static void docket_free(struct docket *docket)
{
	HASH_DEL(docket->desk->dockets, docket);
	share_unref(docket->share);
	free(docket);
}

struct docket *docket_unref(struct docket *docket)
{
	if (docket && --docket->refs == 0)
		docket_free(docket);
	return NULL;
}

void dockets_free(struct desk *desk)
{
	struct docket *docket, *next;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->dockets, docket, next)
		docket_free(docket);
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
}

static struct docket *docket_new(struct desk *desk, const char *tenant)
{
	struct docket *docket = MISHAP("docket-memory") ? NULL : calloc(1, sizeof(*docket));

	if (!docket)
		return NULL;
	if (share_get(desk->env.shares, SHARE_TENANT, tenant, &docket->share)) {
		free(docket);
		return NULL;
	}
	docket->desk = desk;
	snprintf(docket->tenant, sizeof(docket->tenant), "%s", tenant);
	for (unsigned kind = 0; kind < DOCKETS; kind++)
		docket->parts[kind].docket = docket;
	HASH_ADD_STR(desk->dockets, tenant, docket);
	if (!docket->hh.tbl) {
		share_unref(docket->share);
		free(docket);
		return NULL;
	}
	return docket;
}

int docket_get(struct desk *desk, const char *tenant, struct docket **ret_docket)
{
	struct docket *docket = NULL;

	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_FIND_STR(desk->dockets, tenant, docket);
	if (!docket)
		docket = docket_new(desk, tenant);
	if (!docket)
		return -ENOMEM;
	*ret_docket = docket_ref(docket);
	return 0;
}

void docket_changed(struct docket *docket, enum docket_kind kind)
{
	struct docket_part *part = &docket->parts[kind];
	bool is_due = part->prev;

	if (is_due == (part->commands != NULL))
		return;
	if (is_due) {
		DL_DELETE(docket->desk->due[kind], part);
		part->prev = part->next = NULL;
		docket->desk->ndue[kind]--;
	} else {
		DL_APPEND(docket->desk->due[kind], part);
		docket->desk->ndue[kind]++;
	}
}

/* Whether the round goes on. */
static bool serve_part(struct docket_part *part, bool (*serve)(struct command *command))
{
	struct share_scope scope;
	uint64_t bytes = 0;
	bool more = true;

	share_enter(&scope, part->docket->desk->env.shares, part->docket->share);
	for (unsigned n = 0; more && part->commands && n < ROUND_COMMANDS && bytes < ROUND_BYTES;
		n++) {
		struct command *command = part->commands;

		bytes += command->nops ? command->bytes : 0;
		more = serve(command);
	}
	(void)share_leave(&scope);
	return more;
}

/* Who has more comes again after the others. */
static void rotate(struct docket_part *part, enum docket_kind kind)
{
	struct desk *desk = part->docket->desk;

	if (!part->commands)
		return;
	DL_DELETE(desk->due[kind], part);
	DL_APPEND(desk->due[kind], part);
}

void docket_round(struct desk *desk, enum docket_kind kind, bool (*serve)(struct command *command))
{
	bool more = true;

	for (size_t n = desk->ndue[kind]; more && n > 0 && desk->due[kind]; n--) {
		struct docket_part *part = desk->due[kind];
		struct docket *docket = part->docket;

		docket_ref(docket);
		more = serve_part(part, serve);
		rotate(part, kind);
		docket_unref(docket);
	}
}

/* Those of one tenant that follow each other. */
static void serve_run(
	struct command **list, void (*serve)(struct command *command, void *arg), void *arg)
{
	struct docket *docket = docket_ref((*list)->docket);
	struct share_scope scope;

	share_enter(&scope, docket->desk->env.shares, docket->share);
	while (*list && (*list)->docket == docket)
		serve(*list, arg);
	(void)share_leave(&scope);
	docket_unref(docket);
}

void docket_serve_all(struct desk *desk, enum command_state state,
	void (*serve)(struct command *command, void *arg), void *arg)
{
	while (desk->lists[state])
		serve_run(&desk->lists[state], serve, arg);
}
