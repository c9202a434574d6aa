/* SPDX-License-Identifier: Apache-2.0 */
/* What the holder was told last of each endpoint, so that the order holds across reconnections
 * (R4). */
#define HASH_NONFATAL_OOM 1
#include "clients/lib/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* What the holder was told of one endpoint last. It outlives connections: a new one says
 * nothing of the contexts that an earlier one delivered. */
struct told {
	UT_hash_handle hh;
	uint64_t connection; /* in which the broker spoke of it last */
	uint32_t epoch;
	bool context; /* the holder has a context of that epoch */
	char name[VMSIG_NAME_MAX + 1];
};

static struct told *told_find(const vmsig *v, const char *name)
{
	struct told *told;

	HASH_FIND_STR(v->told, name, told);
	return told;
}

static int told_add(vmsig *v, const char *name, uint32_t epoch)
{
	struct told *told;

	if (HASH_COUNT(v->told) >= CLIENT_ENDPOINTS_MAX)
		return client_fail(v, VMSIG_ERR_QUOTA,
			"the broker speaks of more than %u endpoints; subscribe to fewer",
			CLIENT_ENDPOINTS_MAX);
	told = calloc(1, sizeof(*told));
	if (!told)
		return -ENOMEM;
	memcpy(told->name, name, strlen(name) + 1);
	told->epoch = epoch;
	told->connection = v->link.number;
	HASH_ADD_STR(v->told, name, told);
	if (!told->hh.tbl) {
		free(told);
		return -ENOMEM;
	}
	return 0;
}

int epochs_note(vmsig *v, const char *name, uint32_t epoch, bool *ret_invalidated)
{
	struct told *told = told_find(v, name);

	*ret_invalidated = false;
	if (!told)
		return told_add(v, name, epoch);
	/* Another connection may be to a broker that lost its store. */
	if (epoch < told->epoch && told->connection == v->link.number)
		return client_fail(v, VMSIG_ERR_PROTOCOL,
			"%s: the broker spoke of epoch %u after epoch %u", name, epoch,
			told->epoch);
	*ret_invalidated = told->context && epoch != told->epoch;
	if (*ret_invalidated)
		told->context = false;
	told->epoch = epoch;
	told->connection = v->link.number;
	return 0;
}

void epochs_set_context(vmsig *v, const char *name, bool context)
{
	struct told *told = told_find(v, name);

	if (told)
		told->context = context;
}

void epochs_forget(vmsig *v, const char *name)
{
	struct told *told = told_find(v, name);

	if (!told || told->context)
		return;
	HASH_DEL(v->told, told);
	free(told);
}

void epochs_deinit(vmsig *v)
{
	struct told *told = v->told;

	/* Elements stay linked in the order of their making when the table goes. */
	HASH_CLEAR(hh, v->told);
	while (told) {
		struct told *next = told->hh.next;

		free(told);
		told = next;
	}
}
