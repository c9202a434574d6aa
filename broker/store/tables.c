/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "vmsig/vmsig_error.h"

#define EPOCH_MAX (UINT32_MAX - 1)
#define LEASE_BYTES (sizeof(struct table_lease) + 32) /* and what the allocator takes */

/* ---- life ---- */

void tables_init(struct store_tables *tables)
{
	*tables = (struct store_tables){.next_lease = 1};
}

static struct table_lease *lease_of(struct idtree_node *node)
{
	return (struct table_lease *)(void *)node;
}

static void lease_free(struct table_lease *lease)
{
	free(lease->ranges);
	free(lease);
}

void tables_deinit(struct store_tables *tables)
{
	struct table_endpoint *endpoint, *next_endpoint;
	struct idtree_node *lease;

	HASH_CLEAR(hh_name, tables->endpoints_by_name);
	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, tables->endpoints, endpoint, next_endpoint) {
		HASH_DEL(tables->endpoints, endpoint);
		free(endpoint);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	while ((lease = idtree_pop(&tables->leases)))
		lease_free(lease_of(lease));
	answers_deinit(&tables->answers);
	tables_init(tables);
}

/* ---- looking ---- */

struct table_endpoint *tables_endpoint(const struct store_tables *tables, uint32_t id)
{
	struct table_endpoint *found = NULL;

	HASH_FIND(hh, tables->endpoints, &id, sizeof(id), found);
	return found;
}

struct table_endpoint *tables_endpoint_named(const struct store_tables *tables, const char *name)
{
	struct table_endpoint *found = NULL;

	HASH_FIND(hh_name, tables->endpoints_by_name, name, strlen(name), found);
	return found;
}

struct table_lease *tables_lease(const struct store_tables *tables, uint64_t id)
{
	return lease_of(idtree_find(&tables->leases, id));
}

struct table_lease *tables_lease_first(const struct store_tables *tables)
{
	return lease_of(idtree_first(&tables->leases));
}

struct table_lease *tables_lease_after(
	const struct store_tables *tables, const struct table_lease *lease)
{
	return lease_of(idtree_after(&tables->leases, lease->node.id));
}

/* ---- endpoints ---- */

static void endpoint_remove(struct store_tables *tables, struct table_endpoint *endpoint)
{
	tables->total -= endpoint->epoch;
	HASH_DELETE(hh_name, tables->endpoints_by_name, endpoint);
	HASH_DEL(tables->endpoints, endpoint);
	free(endpoint);
}

static int endpoint_insert(struct store_tables *tables, struct table_endpoint *endpoint)
{
	HASH_ADD(hh, tables->endpoints, id, sizeof(endpoint->id), endpoint);
	if (!endpoint->hh.tbl)
		return -ENOMEM;
	HASH_ADD_KEYPTR(hh_name, tables->endpoints_by_name, endpoint->name, strlen(endpoint->name),
		endpoint);
	if (endpoint->hh_name.tbl)
		return 0;
	HASH_DEL(tables->endpoints, endpoint);
	return -ENOMEM;
}

static int apply_endpoint(
	struct store_tables *tables, const struct change *change, struct undo *undo)
{
	struct table_endpoint *endpoint;

	if (!change->endpoint || !change->len || change->epoch > EPOCH_MAX ||
		memchr(change->bytes, 0, change->len))
		return VMSIG_ERR_INTERNAL;
	if (tables_endpoint(tables, change->endpoint))
		return 0;
	endpoint = calloc(1, sizeof(*endpoint) + change->len + 1);
	if (!endpoint)
		return -ENOMEM;
	endpoint->id = change->endpoint;
	endpoint->epoch = change->epoch;
	memcpy(endpoint->name, change->bytes, change->len);
	if (tables_endpoint_named(tables, endpoint->name)) {
		free(endpoint);
		return VMSIG_ERR_INTERNAL;
	}
	if (endpoint_insert(tables, endpoint)) {
		free(endpoint);
		return -ENOMEM;
	}
	tables->total += endpoint->epoch;
	if (endpoint->id > tables->last_endpoint)
		tables->last_endpoint = endpoint->id;
	*undo = (struct undo){.kind = UNDO_ENDPOINT, .endpoint = endpoint};
	return 0;
}

static int undo_session(struct undo *undo, struct table_endpoint *endpoint)
{
	undo->session = strdup(endpoint->session);
	if (!undo->session)
		return -ENOMEM;
	undo->kind = UNDO_EPOCH;
	undo->endpoint = endpoint;
	undo->number = endpoint->epoch;
	return 0;
}

static void epoch_set(struct store_tables *tables, struct table_endpoint *endpoint, uint32_t epoch)
{
	tables->total += epoch;
	tables->total -= endpoint->epoch;
	endpoint->epoch = epoch;
}

static int apply_epoch(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	struct table_endpoint *endpoint = tables_endpoint(tables, change->endpoint);

	if (!endpoint)
		return 0;
	if (undo_session(undo, endpoint))
		return -ENOMEM;
	if (change->epoch > endpoint->epoch)
		epoch_set(tables, endpoint, change->epoch);
	endpoint->session[0] = '\0';
	return 0;
}

static int apply_session(
	struct store_tables *tables, const struct change *change, struct undo *undo)
{
	struct table_endpoint *endpoint = tables_endpoint(tables, change->endpoint);

	if (change->len >= VMSIG_SESSION_MAX)
		return VMSIG_ERR_INTERNAL;
	if (!endpoint || endpoint->epoch != change->epoch)
		return 0;
	if (undo_session(undo, endpoint))
		return -ENOMEM;
	if (change->len)
		memcpy(endpoint->session, change->bytes, change->len);
	endpoint->session[change->len] = '\0';
	return 0;
}

/* ---- leases ---- */

static struct table_lease *lease_make(const struct change *change)
{
	struct table_lease *lease = calloc(1, sizeof(*lease));

	if (!lease)
		return NULL;
	lease->ranges = calloc(change->nranges, sizeof(*lease->ranges));
	if (!lease->ranges) {
		free(lease);
		return NULL;
	}
	memcpy(lease->ranges, change->ranges, change->nranges * sizeof(*lease->ranges));
	memcpy(lease->tenant, change->bytes, change->len);
	lease->nranges = change->nranges;
	lease->node.id = change->key.lease;
	lease->token = change->number;
	lease->endpoint = change->endpoint;
	lease->epoch = change->epoch;
	lease->uid = change->uid;
	lease->priority = change->priority;
	lease->ttl_ns = change->ttl_ns;
	lease->granted_ns = change->granted_ns;
	lease->deadline_ns = change->deadline_ns;
	lease->hold_until_ns = change->hold_until_ns;
	return lease;
}

static void lease_insert(struct store_tables *tables, struct table_lease *lease)
{
	idtree_insert(&tables->leases, &lease->node);
	tables->lease_bytes += LEASE_BYTES;
}

static void lease_remove(struct store_tables *tables, struct table_lease *lease)
{
	idtree_remove(&tables->leases, &lease->node);
	tables->lease_bytes -= LEASE_BYTES;
}

static int apply_grant(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	struct table_endpoint *endpoint = tables_endpoint(tables, change->endpoint);
	struct table_lease *lease;

	if (change->len > LEASE_NAME_MAX || !change->nranges ||
		memchr(change->bytes, 0, change->len) || tables_lease(tables, change->key.lease))
		return VMSIG_ERR_INTERNAL;
	lease = lease_make(change);
	if (!lease)
		return -ENOMEM;
	lease_insert(tables, lease);
	/* A token that was not used after all may stay away. */
	if (endpoint && endpoint->token < lease->token)
		endpoint->token = lease->token;
	*undo = (struct undo){.kind = UNDO_GRANT, .lease = lease};
	return 0;
}

static int apply_renew(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	struct table_lease *lease = tables_lease(tables, change->key.lease);

	if (!lease)
		return 0;
	*undo = (struct undo){.kind = UNDO_RENEW, .lease = lease, .number = lease->deadline_ns};
	lease->deadline_ns = change->number;
	return 0;
}

static void lease_end(struct store_tables *tables, struct table_lease *lease, uint64_t ended)
{
	lease->ended = ended ? ended : 1;
	DL_APPEND(tables->ended, lease);
}

static int apply_end(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	struct table_lease *lease = tables_lease(tables, change->key.lease);

	if (!lease || lease->ended)
		return 0;
	lease_end(tables, lease, change->number);
	*undo = (struct undo){.kind = UNDO_END, .lease = lease};
	return 0;
}

static int apply_ids(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	*undo = (struct undo){.kind = UNDO_IDS, .number = tables->next_lease};
	if (change->number > tables->next_lease)
		tables->next_lease = change->number;
	return 0;
}

static int apply_drop(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	struct table_lease *lease = tables_lease(tables, change->key.lease);

	if (lease) {
		if (lease->ended)
			DL_DELETE(tables->ended, lease);
		lease_remove(tables, lease);
	}
	*undo = (struct undo){.kind = UNDO_DROP,
		.lease = lease,
		.dropped = answers_detach(&tables->answers, change->key.lease),
		.answers = &tables->answers};
	return 0;
}

/* ---- writes ---- */

/* What a change puts into a slot, or NULL: nothing that would go there. */
static int put(struct store_tables *tables, const struct ledger_key *key,
	struct ledger_answer *answer, struct undo *undo)
{
	int r = answer ? 0 : -ENOMEM;

	*undo = (struct undo){.kind = UNDO_PUT, .key = *key};
	if (!r)
		r = answers_put(&tables->answers, key, answer, &undo->old);
	if (!r)
		return 0;
	undo->kind = UNDO_NOTHING;
	free(answer);
	return r;
}

static int apply_intend(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	return put(tables, &change->key,
		answer_new(change->key.sequence, change->digest, change->number, false, NULL, 0),
		undo);
}

static const struct ledger_answer *answer_of(
	const struct store_tables *tables, const struct change *change)
{
	const struct ledger_answer *answer = answers_slot(&tables->answers, &change->key);

	return answer && answer->sequence == change->key.sequence ? answer : NULL;
}

static int apply_settle(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	const struct ledger_answer *old = answer_of(tables, change);

	if (!old)
		return 0;
	return put(tables, &change->key,
		answer_new(
			old->sequence, old->digest, old->intent, true, change->bytes, change->len),
		undo);
}

static int apply_forget(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	if (!answer_of(tables, change))
		return 0;
	*undo = (struct undo){.kind = UNDO_TAKE,
		.key = change->key,
		.old = answers_take(&tables->answers, &change->key)};
	return 0;
}

/* ---- when the store is opened ---- */

static int apply_boot(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	struct table_lease *lease;

	if (change->len >= sizeof(tables->boot_id))
		return VMSIG_ERR_INTERNAL;
	memcpy(tables->boot_id, change->bytes, change->len);
	tables->boot_id[change->len] = '\0';
	for (lease = tables_lease_first(tables); lease; lease = tables_lease_after(tables, lease)) {
		if (!lease->ended)
			lease_end(tables, lease, change->number);
	}
	return 0;
}

static uint32_t skipped(uint32_t epoch, uint32_t by, uint32_t least)
{
	uint64_t rises = (uint64_t)epoch + by;

	if (rises < least)
		rises = least;
	return rises < EPOCH_MAX ? (uint32_t)rises : EPOCH_MAX;
}

static int apply_skip(struct store_tables *tables, const struct change *change, struct undo *undo)
{
	struct table_endpoint *endpoint, *next;

	HASH_ITER (hh, tables->endpoints, endpoint, next) {
		epoch_set(tables, endpoint,
			skipped(endpoint->epoch, change->endpoint, change->epoch));
		endpoint->session[0] = '\0';
	}
	if (change->number)
		tables->epoch_floor = change->epoch;
	return 0;
}

/* ---- all of them ---- */

static int (*const appliers[CHANGES])(
	struct store_tables *tables, const struct change *change, struct undo *undo) = {
	[CHANGE_ENDPOINT] = apply_endpoint,
	[CHANGE_EPOCH] = apply_epoch,
	[CHANGE_SESSION] = apply_session,
	[CHANGE_GRANT] = apply_grant,
	[CHANGE_RENEW] = apply_renew,
	[CHANGE_END] = apply_end,
	[CHANGE_IDS] = apply_ids,
	[CHANGE_INTEND] = apply_intend,
	[CHANGE_SETTLE] = apply_settle,
	[CHANGE_FORGET] = apply_forget,
	[CHANGE_DROP] = apply_drop,
	[CHANGE_BOOT] = apply_boot,
	[CHANGE_SKIP] = apply_skip,
};

int tables_apply(struct store_tables *tables, const struct change *change, struct undo *ret_undo)
{
	struct undo undo = {0};
	int r = appliers[change->kind](tables, change, &undo);

	if (ret_undo)
		*ret_undo = undo;
	else
		tables_keep(&undo);
	return r;
}

static void undo_epoch(struct store_tables *tables, struct undo *undo)
{
	epoch_set(tables, undo->endpoint, (uint32_t)undo->number);
	strcpy(undo->endpoint->session, undo->session);
	free(undo->session);
}

/* The slot was in use: that cannot fail. */
static void undo_answer(struct store_tables *tables, struct undo *undo)
{
	struct ledger_answer *gone = NULL;

	if (!undo->old)
		gone = answers_take(&tables->answers, &undo->key);
	else if (answers_put(&tables->answers, &undo->key, undo->old, &gone))
		free(undo->old);
	free(gone);
}

static void undo_drop(struct store_tables *tables, struct undo *undo)
{
	struct table_lease *lease = undo->lease;

	if (undo->dropped)
		answers_attach(&tables->answers, undo->dropped);
	if (!lease)
		return;
	lease_insert(tables, lease);
	if (lease->ended)
		DL_PREPEND(tables->ended, lease);
}

void tables_undo(struct store_tables *tables, struct undo *undo)
{
	switch (undo->kind) {
	case UNDO_NOTHING:
		break;
	case UNDO_ENDPOINT:
		endpoint_remove(tables, undo->endpoint);
		break;
	case UNDO_EPOCH:
		undo_epoch(tables, undo);
		break;
	case UNDO_GRANT:
		lease_remove(tables, undo->lease);
		lease_free(undo->lease);
		break;
	case UNDO_RENEW:
		undo->lease->deadline_ns = undo->number;
		break;
	case UNDO_END:
		DL_DELETE(tables->ended, undo->lease);
		undo->lease->ended = 0;
		break;
	case UNDO_IDS:
		tables->next_lease = undo->number;
		break;
	case UNDO_PUT:
	case UNDO_TAKE:
		undo_answer(tables, undo);
		break;
	case UNDO_DROP:
		undo_drop(tables, undo);
		break;
	}
	undo->kind = UNDO_NOTHING;
}

void tables_keep(struct undo *undo)
{
	if (undo->kind == UNDO_EPOCH)
		free(undo->session);
	if (undo->kind == UNDO_PUT || undo->kind == UNDO_TAKE)
		free(undo->old);
	if (undo->kind == UNDO_END) {
		free(undo->lease->ranges);
		undo->lease->ranges = NULL;
		undo->lease->nranges = 0;
	}
	if (undo->kind == UNDO_DROP) {
		if (undo->dropped)
			answers_bury(undo->answers, undo->dropped);
		if (undo->lease)
			lease_free(undo->lease);
	}
	undo->kind = UNDO_NOTHING;
}
