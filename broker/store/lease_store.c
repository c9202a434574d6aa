/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/lease_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sqlite3.h>

#include "broker/store/store.h"
#include "vmsig/vmsig_error.h"

#define ID_BLOCK 65536u /* ids that are reserved at once: one more write for so many leases */
#define RANGE_BYTES 16u /* two little-endian words */

enum statement {
	STMT_TOKEN,
	STMT_GRANT,
	STMT_RENEW,
	STMT_END,
	STMT_LOAD,
	STMT_FIND,
	STMT_ID_GET,
	STMT_ID_SET,
	STMTS,
};

static const char *const statements[STMTS] = {
	[STMT_TOKEN] =
		"UPDATE endpoint SET token = max(token + 1, ?2) WHERE id = ?1 RETURNING token",
	[STMT_GRANT] = ("INSERT INTO lease (id, endpoint, epoch, token, tenant, uid, priority, "
			"ranges, ttl, granted, deadline, hold) "
			"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"),
	[STMT_RENEW] = "UPDATE lease SET deadline = ?2 WHERE id = ?1",
	[STMT_END] = "UPDATE lease SET ended = ?2 WHERE id = ?1",
	[STMT_LOAD] = ("SELECT id, endpoint, epoch, token, tenant, uid, priority, ranges, ttl, "
		       "granted, deadline, hold FROM lease WHERE ended = 0 ORDER BY id"),
	[STMT_FIND] = "SELECT tenant, token FROM lease WHERE id = ?1",
	[STMT_ID_GET] = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'next_lease'",
	[STMT_ID_SET] = "UPDATE meta SET value = CAST(?1 AS TEXT) WHERE key = 'next_lease'",
};

/* What the open transaction has for the engine. */
struct pending {
	uint64_t id, token; /* token 0: a renewal */
};

struct embedded {
	struct lease_store base;
	struct store *db;
	sqlite3_stmt *stmts[STMTS];
	uint64_t reserved; /* ids below are ours */
	struct pending *pending;
	size_t npending, capacity;
};

static struct embedded *embedded_of(struct lease_store *store)
{
	return (struct embedded *)store;
}

static int reserve(struct embedded *embedded)
{
	size_t capacity = embedded->capacity ? embedded->capacity * 2 : 32;
	struct pending *grown;

	if (embedded->npending < embedded->capacity)
		return 0;
	grown = realloc(embedded->pending, capacity * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	embedded->pending = grown;
	embedded->capacity = capacity;
	return 0;
}

static int ids_reserve(struct embedded *embedded, uint64_t below)
{
	sqlite3_stmt *stmt = embedded->stmts[STMT_ID_SET];
	uint64_t end = below + ID_BLOCK;
	int r;

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)end);
	r = store_run(stmt);
	if (!r)
		embedded->reserved = end;
	return r;
}

static int next_token(struct embedded *embedded, uint32_t endpoint, uint64_t *ret_token)
{
	sqlite3_stmt *stmt = embedded->stmts[STMT_TOKEN];
	struct timespec now;
	int rc;

	clock_gettime(CLOCK_REALTIME, &now);
	sqlite3_bind_int64(stmt, 1, endpoint);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_token = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return rc == SQLITE_ROW ? 0 : VMSIG_ERR_IO;
}

static void put_word(uint8_t *to, uint64_t word)
{
	for (size_t i = 0; i < 8; i++)
		to[i] = (uint8_t)(word >> 8 * i);
}

static uint64_t get_word(const uint8_t *from)
{
	uint64_t word = 0;

	for (size_t i = 0; i < 8; i++)
		word |= (uint64_t)from[i] << 8 * i;
	return word;
}

static int64_t capped(uint64_t value)
{
	return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

static uint64_t later(uint64_t now_ns, uint64_t span_ns)
{
	return span_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + span_ns;
}

static int insert(
	struct embedded *embedded, const struct lease_view *lease, uint64_t token, uint64_t now_ns)
{
	sqlite3_stmt *stmt = embedded->stmts[STMT_GRANT];
	uint8_t ranges[LEASE_RANGES_MAX * RANGE_BYTES];
	uint64_t hold_until = later(now_ns, lease->hold_max_ns);
	uint64_t deadline = later(now_ns, lease->ttl_ns);

	for (size_t i = 0; i < lease->nranges; i++) {
		put_word(ranges + i * RANGE_BYTES, lease->ranges[i].start);
		put_word(ranges + i * RANGE_BYTES + 8, lease->ranges[i].last);
	}
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)lease->id);
	sqlite3_bind_int64(stmt, 2, lease->endpoint);
	sqlite3_bind_int64(stmt, 3, lease->epoch);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)token);
	sqlite3_bind_text(stmt, 5, lease->tenant, -1, SQLITE_TRANSIENT);
	sqlite3_bind_int64(stmt, 6, lease->uid);
	sqlite3_bind_int64(stmt, 7, lease->priority);
	sqlite3_bind_blob(stmt, 8, ranges, (int)(lease->nranges * RANGE_BYTES), SQLITE_TRANSIENT);
	sqlite3_bind_int64(stmt, 9, capped(lease->ttl_ns));
	sqlite3_bind_int64(stmt, 10, capped(now_ns));
	/* A moment earlier than what the holder is told: early, never late. */
	sqlite3_bind_int64(stmt, 11, capped(deadline < hold_until ? deadline : hold_until));
	sqlite3_bind_int64(stmt, 12, capped(hold_until));
	return store_run(stmt);
}

static int embedded_grant(
	struct lease_store *store, const struct lease_view *lease, uint64_t now_ns)
{
	struct embedded *embedded = embedded_of(store);
	uint64_t token = 0;
	int r = reserve(embedded);

	if (!r)
		r = store_begin(embedded->db);
	if (!r && lease->id >= embedded->reserved)
		r = ids_reserve(embedded, lease->id + 1);
	if (!r)
		r = next_token(embedded, lease->endpoint, &token);
	if (!r)
		r = insert(embedded, lease, token, now_ns);
	if (r)
		return r;
	embedded->pending[embedded->npending++] = (struct pending){.id = lease->id, .token = token};
	return 0;
}

static int embedded_renew(struct lease_store *store, const struct lease_view *lease)
{
	struct embedded *embedded = embedded_of(store);
	sqlite3_stmt *stmt = embedded->stmts[STMT_RENEW];
	int r = reserve(embedded);

	if (!r)
		r = store_begin(embedded->db);
	if (r)
		return r;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)lease->id);
	sqlite3_bind_int64(stmt, 2, capped(lease->deadline_ns));
	r = store_run(stmt);
	if (!r)
		embedded->pending[embedded->npending++] = (struct pending){.id = lease->id};
	return r;
}

static int embedded_end(struct lease_store *store, const struct lease_view *lease)
{
	struct embedded *embedded = embedded_of(store);
	sqlite3_stmt *stmt = embedded->stmts[STMT_END];
	struct timespec now;
	int r = store_begin(embedded->db);

	if (r)
		return r;
	clock_gettime(CLOCK_REALTIME, &now);
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)lease->id);
	/* When it may be forgotten is for the wall clock, which goes on over a reboot. */
	sqlite3_bind_int64(stmt, 2, now.tv_sec > 1 ? (sqlite3_int64)now.tv_sec : 1);
	return store_run(stmt);
}

static void embedded_settled(struct lease_store *store, int result)
{
	struct embedded *embedded = embedded_of(store);
	const struct lease_store_events *events = &store->events;
	size_t n = embedded->npending;

	/* The engine may grant the next one from inside of stored(). */
	embedded->npending = 0;
	for (size_t i = 0; i < n; i++) {
		struct pending pending = embedded->pending[i];

		if (!result && pending.token)
			events->stored(store->arg, pending.id, pending.token);
		else if (result && pending.token)
			events->failed(store->arg, pending.id, VMSIG_ERR_IO);
		else if (result)
			events->lost(store->arg, pending.id, VMSIG_ERR_IO);
	}
}

/* Rows are foreign input: NULL is one that makes no sense. */
static const char *row_decode(
	sqlite3_stmt *stmt, struct lease_view *view, struct lease_range *ranges)
{
	const char *tenant = (const char *)sqlite3_column_text(stmt, 4);
	size_t bytes = (size_t)sqlite3_column_bytes(stmt, 7);
	const uint8_t *packed = sqlite3_column_blob(stmt, 7);

	if (!tenant || strlen(tenant) > LEASE_NAME_MAX || !bytes || bytes % RANGE_BYTES ||
		bytes / RANGE_BYTES > LEASE_RANGES_MAX)
		return NULL;
	for (size_t i = 0; i < bytes / RANGE_BYTES; i++)
		ranges[i] = (struct lease_range){.start = get_word(packed + i * RANGE_BYTES),
			.last = get_word(packed + i * RANGE_BYTES + 8)};
	*view = (struct lease_view){
		.id = (uint64_t)sqlite3_column_int64(stmt, 0),
		.endpoint = (uint32_t)sqlite3_column_int64(stmt, 1),
		.epoch = (uint32_t)sqlite3_column_int64(stmt, 2),
		.token = (uint64_t)sqlite3_column_int64(stmt, 3),
		.tenant = tenant,
		.uid = (uint32_t)sqlite3_column_int64(stmt, 5),
		.priority = (uint32_t)sqlite3_column_int64(stmt, 6),
		.ranges = ranges,
		.nranges = bytes / RANGE_BYTES,
		.ttl_ns = (uint64_t)sqlite3_column_int64(stmt, 8),
		.granted_ns = (uint64_t)sqlite3_column_int64(stmt, 9),
		.deadline_ns = (uint64_t)sqlite3_column_int64(stmt, 10),
		.hold_until_ns = (uint64_t)sqlite3_column_int64(stmt, 11),
	};
	return tenant;
}

static int embedded_load(struct lease_store *store,
	int (*each)(void *arg, const struct lease_view *lease), void *arg)
{
	sqlite3_stmt *stmt = embedded_of(store)->stmts[STMT_LOAD];
	struct lease_range ranges[LEASE_RANGES_MAX];
	int rc, r = 0;

	while (!r && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct lease_view view;

		if (row_decode(stmt, &view, ranges))
			r = each(arg, &view);
	}
	sqlite3_reset(stmt);
	return r ? r : rc == SQLITE_DONE ? 0 : VMSIG_ERR_IO;
}

static int embedded_next_id(struct lease_store *store, uint64_t *ret_id)
{
	struct embedded *embedded = embedded_of(store);
	sqlite3_stmt *stmt = embedded->stmts[STMT_ID_GET];
	sqlite3_int64 next = 0;
	int rc = sqlite3_step(stmt);

	if (rc == SQLITE_ROW)
		next = sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	if (rc != SQLITE_ROW)
		return VMSIG_ERR_IO;
	if (next < 1)
		return VMSIG_ERR_INTERNAL;
	*ret_id = (uint64_t)next;
	return 0;
}

static int embedded_find(struct lease_store *store, uint64_t id,
	char tenant[static LEASE_NAME_MAX + 1], uint64_t *ret_token)
{
	sqlite3_stmt *stmt = embedded_of(store)->stmts[STMT_FIND];
	const char *text;
	int rc, r = VMSIG_ERR_NO_LEASE;

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)id);
	rc = sqlite3_step(stmt);
	text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
	if (text && strlen(text) <= LEASE_NAME_MAX) {
		strcpy(tenant, text);
		*ret_token = (uint64_t)sqlite3_column_int64(stmt, 1);
		r = 0;
	} else if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
		r = VMSIG_ERR_IO;
	}
	sqlite3_reset(stmt);
	return r;
}

static void embedded_free(struct lease_store *store)
{
	struct embedded *embedded = embedded_of(store);

	store_finalize(embedded->stmts, STMTS);
	free(embedded->pending);
	free(embedded);
}

static const struct lease_store_ops embedded_ops = {
	.grant = embedded_grant,
	.renew = embedded_renew,
	.end = embedded_end,
	.settled = embedded_settled,
	.load = embedded_load,
	.next_id = embedded_next_id,
	.find = embedded_find,
	.free = embedded_free,
};

int lease_store_new(struct lease_store **ret_store, struct store *db,
	const struct lease_store_events *events, void *arg)
{
	struct embedded *embedded = calloc(1, sizeof(*embedded));
	int r;

	if (!embedded)
		return -ENOMEM;
	embedded->base = (struct lease_store){.ops = &embedded_ops, .events = *events, .arg = arg};
	embedded->db = db;
	r = store_prepare(db, statements, embedded->stmts, STMTS);
	if (r) {
		embedded_free(&embedded->base);
		return r;
	}
	*ret_store = &embedded->base;
	return 0;
}
