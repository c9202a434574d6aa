/* SPDX-License-Identifier: Apache-2.0 */
/* Leases and the ledger on the simulated disk-> */
#include "tests/sim/disk_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

/* ---- looking up ---- */

static void lookup_add(struct lookup *lookup, size_t index, uint64_t hash)
{
	size_t *head;

	if (!lookup->heads) {
		lookup->heads = malloc(BUCKETS * sizeof(*lookup->heads));
		if (!lookup->heads)
			broken("out of memory");
		memset(lookup->heads, 0xff, BUCKETS * sizeof(*lookup->heads));
	}
	disk_grow(&lookup->next, index, &lookup->size, sizeof(*lookup->next));
	head = &lookup->heads[hash % BUCKETS];
	lookup->next[index] = *head;
	*head = index;
}

void rows_free(struct disk *disk)
{
	free(disk->by_key.heads);
	free(disk->by_key.next);
	free(disk->by_id.heads);
	free(disk->by_id.next);
	free(disk->rows);
	free(disk->leases);
}

/* ---- leases ---- */

static struct lease_row *lease_row(const struct disk *disk, uint64_t id)
{
	size_t i = disk->by_id.heads ? disk->by_id.heads[id % BUCKETS] : NO_ROW;

	while (i != NO_ROW && (!disk->leases[i].used || disk->leases[i].view.id != id))
		i = disk->by_id.next[i];
	return i == NO_ROW ? NULL : &disk->leases[i];
}

static uint64_t token_make(struct disk *disk, uint32_t endpoint)
{
	uint64_t *last = &disk->tokens[endpoint - 1], now = *disk->env.wall_ns / 1000;

	*last = *last < now ? now : *last + 1;
	return *last;
}

void disk_token_floor(struct disk *disk, uint32_t endpoint, uint64_t token)
{
	if (disk->tokens[endpoint - 1] < token)
		disk->tokens[endpoint - 1] = token;
}

static bool row_fails(struct disk *disk, uint32_t sides)
{
	if (!*disk->env.faults || dice(sides))
		return false;
	disk->doomed = true;
	return true;
}

/* In the batch, or by itself. */
static struct lease_row *row_add(struct disk *disk, const struct lease_row *row, bool in_batch)
{
	struct lease_row *added;

	disk_grow(&disk->leases, disk->nleases, &disk->leases_size, sizeof(*disk->leases));
	added = &disk->leases[disk->nleases];
	if (in_batch)
		change_note(disk, false, disk->nleases);
	lookup_add(&disk->by_id, disk->nleases++, row->view.id);
	*added = *row;
	added->used = true;
	if (disk->next_id <= row->view.id)
		disk->next_id = row->view.id + 1;
	return added;
}

static struct lease_row row_of(const struct lease_view *lease)
{
	struct lease_row row = {.view = *lease};

	strcpy(row.tenant, lease->tenant);
	memcpy(row.ranges, lease->ranges, lease->nranges * sizeof(*lease->ranges));
	return row;
}

int disk_put_lease(struct disk *disk, const struct lease_view *lease)
{
	const struct lease_row row = row_of(lease);

	if (disk_is_ghost(disk) || disk_fails(disk))
		return VMSIG_ERR_IO;
	(void)row_add(disk, &row, true);
	disk_token_floor(disk, lease->endpoint, lease->token);
	return 0;
}

bool disk_knows_lease(const struct disk *disk, uint64_t id)
{
	return lease_row(disk, id);
}

static int lease_grant(
	void *ctx, const struct lease_view *lease, uint64_t now_ns, uint64_t *ret_token)
{
	struct disk *disk = ctx;
	struct lease_row row = row_of(lease);

	*ret_token = 0;
	if (disk_is_ghost(disk) || row_fails(disk, 100))
		return VMSIG_ERR_IO;
	row.view.granted_ns = now_ns;
	row.view.deadline_ns = now_ns + lease->ttl_ns;
	row.view.hold_until_ns = now_ns + lease->hold_max_ns;
	if (!disk->shared) {
		row.view.token = *ret_token = token_make(disk, row.view.endpoint);
		(void)row_add(disk, &row, true);
		return 0;
	}
	if (disk->ngrants == GRANTS)
		broken("more grants than the simulated store answers");
	disk->grants[disk->ngrants++] = row;
	return 0;
}

static void grant_drop(struct disk *disk, size_t i)
{
	disk->ngrants--;
	memmove(&disk->grants[i], &disk->grants[i + 1],
		(disk->ngrants - i) * sizeof(disk->grants[0]));
}

static void grant_forget(struct disk *disk, uint64_t id)
{
	for (size_t i = 0; i < disk->ngrants; i++) {
		if (disk->grants[i].view.id == id)
			grant_drop(disk, i);
	}
}

static int lease_change(struct disk *disk, const struct lease_view *lease, bool ended)
{
	struct lease_row *row;

	if (disk_is_ghost(disk) || row_fails(disk, 200))
		return VMSIG_ERR_IO;
	grant_forget(disk, lease->id);
	row = lease_row(disk, lease->id);
	if (!row)
		return 0;
	change_note(disk, false, (size_t)(row - disk->leases));
	if (ended)
		row->ended = true;
	else
		row->view.deadline_ns = lease->deadline_ns;
	return 0;
}

static int lease_renew_row(void *ctx, const struct lease_view *lease)
{
	struct disk *disk = ctx;

	return lease_change(disk, lease, false);
}

static int lease_end_row(void *ctx, const struct lease_view *lease)
{
	struct disk *disk = ctx;

	return lease_change(disk, lease, true);
}

static const struct lease_row *row_after(const struct disk *disk, uint64_t id)
{
	const struct lease_row *next = NULL;

	for (size_t i = 0; i < disk->nleases; i++) {
		const struct lease_row *row = &disk->leases[i];

		if (row->used && !row->ended && row->view.id > id &&
			(!next || row->view.id < next->view.id))
			next = row;
	}
	return next;
}

/* In the order of their ids. */
static int lease_load(void *ctx, int (*each)(void *arg, const struct lease_view *lease), void *arg)
{
	struct disk *disk = ctx;
	const struct lease_row *next = row_after(disk, 0);

	while (next) {
		struct lease_row row = *next;
		int r;

		row.view.tenant = row.tenant;
		row.view.ranges = row.ranges;
		r = disk_is_ghost(disk) ? VMSIG_ERR_IO : each(arg, &row.view);
		if (r)
			return r;
		next = row_after(disk, row.view.id);
	}
	return 0;
}

static int lease_next_id(void *ctx, uint64_t *ret_id)
{
	struct disk *disk = ctx;
	*ret_id = disk->next_id;
	return disk_is_ghost(disk) ? VMSIG_ERR_IO : 0;
}

static int lease_find_row(
	void *ctx, uint64_t id, char tenant[static TENANT_MAX], uint64_t *ret_token)
{
	struct disk *disk = ctx;
	const struct lease_row *row = lease_row(disk, id);

	if (disk_is_ghost(disk))
		return VMSIG_ERR_IO;
	if (!row)
		return VMSIG_ERR_NO_LEASE;
	strcpy(tenant, row->tenant);
	*ret_token = row->view.token;
	return 0;
}

const struct desk_lease_ops disk_leases = {
	.grant = lease_grant,
	.renew = lease_renew_row,
	.end = lease_end_row,
	.load = lease_load,
	.next_id = lease_next_id,
	.find = lease_find_row,
};

void grants_answer(struct disk *disk)
{
	while (disk->ngrants && dice(3)) {
		struct lease_row row = disk->grants[0];

		grant_drop(disk, 0);
		if (*disk->env.faults && dice(12) == 0) {
			desk_lease_failed(
				*disk->env.desk, *disk->env.now_ns, row.view.id, VMSIG_ERR_IO);
			continue;
		}
		row.view.token = token_make(disk, row.view.endpoint);
		(void)row_add(disk, &row, false);
		desk_lease_stored(*disk->env.desk, *disk->env.now_ns, row.view.id, row.view.token);
	}
}

bool disk_has_lease(const struct disk *disk, uint64_t id)
{
	const struct lease_row *row = lease_row(disk, id);

	return row && !row->ended;
}

bool disk_leaves_lease(const struct disk *disk, uint64_t id)
{
	const struct lease_row *row = lease_row(disk, id), *before = row;

	/* The first change in the open batch has what was there. */
	for (size_t i = disk->nchanges; row && i > batch_open(disk); i--) {
		const struct change *change = &disk->changes[i - 1];

		if (!change->is_row && &disk->leases[change->index] == row)
			before = &change->lease;
	}
	return before && before->used && !before->ended;
}

void rows_recount(struct disk *disk)
{
	memset(disk->tokens, 0, disk->env.endpoints * sizeof(*disk->tokens));
	disk->next_id = 1;
	disk->ngrants = 0;
	for (size_t i = 0; i < disk->nleases; i++) {
		const struct lease_view *view = &disk->leases[i].view;

		if (!disk->leases[i].used)
			continue;
		if (disk->next_id <= view->id)
			disk->next_id = view->id + 1;
		if (disk->tokens[view->endpoint - 1] < view->token)
			disk->tokens[view->endpoint - 1] = view->token;
	}
}

/* ---- the ledger ---- */

static uint64_t key_hash(const struct ledger_key *key)
{
	return (key->lease * 31 + key->writer) * 31 + key->sequence;
}

static struct row *row_find(const struct disk *disk, const struct ledger_key *key)
{
	size_t i = disk->by_key.heads ? disk->by_key.heads[key_hash(key) % BUCKETS] : NO_ROW;

	while (i != NO_ROW &&
		(!disk->rows[i].used || memcmp(&disk->rows[i].key, key, sizeof(*key)) != 0))
		i = disk->by_key.next[i];
	return i == NO_ROW ? NULL : &disk->rows[i];
}

static int row_look(void *ctx, const struct ledger_key *key, struct ledger_entry *ret_entry)
{
	struct disk *disk = ctx;
	const struct row *row = row_find(disk, key);

	*ret_entry = (struct ledger_entry){0};
	if (disk_is_ghost(disk) || (*disk->env.faults && dice(300) == 0))
		return VMSIG_ERR_IO;
	if (!row)
		return VMSIG_ERR_NO_LEASE;
	memcpy(ret_entry->digest, row->digest, LEDGER_DIGEST);
	ret_entry->intent = row->intent;
	ret_entry->done = row->done;
	if (!row->done)
		return 0;
	ret_entry->reply = malloc(row->reply_len ? row->reply_len : 1);
	if (!ret_entry->reply)
		return -ENOMEM;
	memcpy(ret_entry->reply, row->reply, row->reply_len);
	ret_entry->reply_len = row->reply_len;
	return 0;
}

static int row_intend(void *ctx, const struct ledger_key *key,
	const uint8_t digest[static LEDGER_DIGEST], uint64_t intent)
{
	struct disk *disk = ctx;
	struct row *row = row_find(disk, key);

	if (disk_is_ghost(disk) || disk_fails(disk))
		return VMSIG_ERR_IO;
	if (!row) {
		disk_grow(&disk->rows, disk->nrows, &disk->rows_size, sizeof(*disk->rows));
		lookup_add(&disk->by_key, disk->nrows, key_hash(key));
		row = &disk->rows[disk->nrows++];
	}
	change_note(disk, true, (size_t)(row - disk->rows));
	*row = (struct row){.used = true, .key = *key, .intent = intent};
	memcpy(row->digest, digest, LEDGER_DIGEST);
	return 0;
}

static int row_settle(void *ctx, const struct ledger_key *key, const void *reply, size_t len)
{
	struct disk *disk = ctx;
	struct row *row = row_find(disk, key);

	if (disk_is_ghost(disk) || disk_fails(disk))
		return VMSIG_ERR_IO;
	if (!row && disk->doomed)
		return VMSIG_ERR_IO;
	if (!row)
		broken("I6: a result of what has no row in the ledger");
	change_note(disk, true, (size_t)(row - disk->rows));
	row->done = true;
	row->reply = disk_keep(disk, reply, len);
	row->reply_len = len;
	return 0;
}

static int row_forget(void *ctx, const struct ledger_key *key)
{
	struct disk *disk = ctx;
	struct row *row = row_find(disk, key);

	if (disk_is_ghost(disk))
		return VMSIG_ERR_IO;
	if (!row)
		return 0;
	change_note(disk, true, (size_t)(row - disk->rows));
	row->used = false;
	return 0;
}

static int key_compare(const struct ledger_key *a, const struct ledger_key *b)
{
	if (a->lease != b->lease)
		return a->lease < b->lease ? -1 : 1;
	if (a->writer != b->writer)
		return a->writer < b->writer ? -1 : 1;
	return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

static bool row_next_open(void *ctx, struct ledger_key *cursor, struct ledger_entry *ret_entry)
{
	struct disk *disk = ctx;
	const struct row *best = NULL;

	for (size_t i = 0; i < disk->nrows; i++) {
		const struct row *row = &disk->rows[i];

		if (row->used && !row->done && key_compare(&row->key, cursor) > 0 &&
			(!best || key_compare(&row->key, &best->key) < 0))
			best = row;
	}
	if (!best || disk_is_ghost(disk))
		return false;
	*cursor = best->key;
	*ret_entry = (struct ledger_entry){.intent = best->intent};
	return true;
}

static int row_highest(void *ctx, uint64_t lease, uint64_t writer, uint64_t *ret_sequence)
{
	struct disk *disk = ctx;
	*ret_sequence = 0;
	if (disk_is_ghost(disk))
		return VMSIG_ERR_IO;
	for (size_t i = 0; i < disk->nrows; i++) {
		const struct row *row = &disk->rows[i];

		if (row->used && row->key.lease == lease && row->key.writer == writer &&
			row->key.sequence > *ret_sequence)
			*ret_sequence = row->key.sequence;
	}
	return 0;
}

bool disk_next_answer(
	const struct disk *disk, uint64_t lease, size_t *cursor, struct disk_answer *ret_answer)
{
	while (*cursor < disk->nrows) {
		const struct row *row = &disk->rows[(*cursor)++];

		if (!row->used || row->key.lease != lease)
			continue;
		*ret_answer = (struct disk_answer){.key = row->key,
			.done = row->done,
			.reply = row->reply,
			.reply_len = row->reply_len};
		memcpy(ret_answer->digest, row->digest, LEDGER_DIGEST);
		return true;
	}
	return false;
}

const struct desk_ledger_ops disk_ledger = {
	.find = row_look,
	.intend = row_intend,
	.settle = row_settle,
	.forget = row_forget,
	.next_open = row_next_open,
	.highest = row_highest,
};
