/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/docket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/write/command_object.h"

/* Of one tenant in one round: some 100 us of commands, and of bytes. */
#define ROUND_COMMANDS 16u
#define ROUND_BYTES (1u << 20)

struct docket *docket_unref(struct docket *docket)
{
	if (!docket || --docket->refs)
		return NULL;
	HASH_DEL(docket->desk->dockets, docket);
	free(docket);
	return NULL;
}

static struct docket *docket_new(struct desk *desk, const char *tenant)
{
	struct docket *docket = calloc(1, sizeof(*docket));

	if (!docket)
		return NULL;
	docket->desk = desk;
	snprintf(docket->tenant, sizeof(docket->tenant), "%s", tenant);
	for (unsigned kind = 0; kind < DOCKETS; kind++)
		docket->parts[kind].docket = docket;
	HASH_ADD_STR(desk->dockets, tenant, docket);
	if (!docket->hh.tbl) {
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
	docket->refs++;
	*ret_docket = docket;
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
	uint64_t bytes = 0;

	for (unsigned n = 0; part->commands && n < ROUND_COMMANDS && bytes < ROUND_BYTES; n++) {
		struct command *command = part->commands;

		bytes += command->nops ? command->bytes : 0;
		if (!serve(command))
			return false;
	}
	return true;
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

		docket->refs++;
		more = serve_part(part, serve);
		rotate(part, kind);
		docket_unref(docket);
	}
}
