/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of a snapshot become what the store knows.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "broker/store/snapshot.h"
#include "vmsig/vmsig_error.h"

static int error_of(int rc)
{
	return rc == SQLITE_NOMEM ? -ENOMEM : VMSIG_ERR_IO;
}

/* ---- loading ---- */

static uint64_t column_u64(sqlite3_stmt *stmt, int column)
{
	return (uint64_t)sqlite3_column_int64(stmt, column);
}

static uint32_t column_u32(sqlite3_stmt *stmt, int column)
{
	return (uint32_t)sqlite3_column_int64(stmt, column);
}

/* Calls `each` for the rows. */
static int select_rows(struct sqlite3 *db, const char *sql,
	int (*each)(sqlite3_stmt *stmt, struct store_tables *tables), struct store_tables *tables)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), r = 0;

	while (rc == SQLITE_OK && !r && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		r = each(stmt, tables);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(stmt);
	return r ? r : rc == SQLITE_DONE ? 0 : error_of(rc);
}

/* What makes no sense is not there; no memory is another matter. */
static int unless_damaged(int r)
{
	return r == -ENOMEM ? r : 0;
}

/* id, epoch, name, session, token */
static int load_endpoint(sqlite3_stmt *stmt, struct store_tables *tables)
{
	const char *session = (const char *)sqlite3_column_text(stmt, 3);
	struct change change = {.kind = CHANGE_ENDPOINT,
		.endpoint = column_u32(stmt, 0),
		.epoch = column_u32(stmt, 1),
		.bytes = sqlite3_column_text(stmt, 2),
		.len = (size_t)sqlite3_column_bytes(stmt, 2)};
	struct table_endpoint *endpoint;
	int r = change.bytes && session ? tables_apply(tables, &change, NULL) : VMSIG_ERR_INTERNAL;

	endpoint = r ? NULL : tables_endpoint(tables, change.endpoint);
	if (!endpoint)
		return unless_damaged(r);
	endpoint->token = column_u64(stmt, 4);
	endpoint->damaged = strlen(session) >= sizeof(endpoint->session);
	if (!endpoint->damaged)
		strcpy(endpoint->session, session);
	return 0;
}

static uint64_t get_word(const uint8_t *from)
{
	uint64_t word = 0;

	for (size_t i = 0; i < 8; i++)
		word |= (uint64_t)from[i] << 8 * i;
	return word;
}

static size_t ranges_decode(const uint8_t *packed, size_t bytes, struct lease_range *ranges)
{
	if (!packed || !bytes || bytes % SNAPSHOT_RANGE_BYTES ||
		bytes / SNAPSHOT_RANGE_BYTES > LEASE_RANGES_MAX)
		return 0;
	for (size_t i = 0; i < bytes / SNAPSHOT_RANGE_BYTES; i++)
		ranges[i] =
			(struct lease_range){.start = get_word(packed + i * SNAPSHOT_RANGE_BYTES),
				.last = get_word(packed + i * SNAPSHOT_RANGE_BYTES + 8)};
	return bytes / SNAPSHOT_RANGE_BYTES;
}

/* id, endpoint, epoch, token, tenant, uid, priority, ranges, ttl, granted, deadline, hold, ended.
 * Of one that has ended the ranges do not matter. */
static int load_lease(sqlite3_stmt *stmt, struct store_tables *tables)
{
	const struct lease_range none = {0};
	struct lease_range ranges[LEASE_RANGES_MAX];
	const struct change end = {.kind = CHANGE_END,
		.key.lease = column_u64(stmt, 0),
		.number = column_u64(stmt, 12)};
	struct change grant = {.kind = CHANGE_GRANT,
		.key.lease = column_u64(stmt, 0),
		.endpoint = column_u32(stmt, 1),
		.epoch = column_u32(stmt, 2),
		.number = column_u64(stmt, 3),
		.bytes = sqlite3_column_text(stmt, 4),
		.len = (size_t)sqlite3_column_bytes(stmt, 4),
		.uid = column_u32(stmt, 5),
		.priority = column_u32(stmt, 6),
		.ranges = ranges,
		.ttl_ns = column_u64(stmt, 8),
		.granted_ns = column_u64(stmt, 9),
		.deadline_ns = column_u64(stmt, 10),
		.hold_until_ns = column_u64(stmt, 11)};
	int r;

	grant.nranges = ranges_decode(
		sqlite3_column_blob(stmt, 7), (size_t)sqlite3_column_bytes(stmt, 7), ranges);
	if (end.number) {
		grant.ranges = &none;
		grant.nranges = 1;
	}
	r = grant.bytes ? tables_apply(tables, &grant, NULL) : VMSIG_ERR_INTERNAL;
	if (!r && end.number)
		r = tables_apply(tables, &end, NULL);
	return unless_damaged(r);
}

/* lease, writer, sequence, digest, intent, reply */
static int load_answer(sqlite3_stmt *stmt, struct store_tables *tables)
{
	const struct ledger_key key = {.lease = column_u64(stmt, 0),
		.writer = column_u64(stmt, 1),
		.sequence = column_u64(stmt, 2)};
	const void *reply = sqlite3_column_blob(stmt, 5);
	size_t len = (size_t)sqlite3_column_bytes(stmt, 5);
	struct ledger_answer *answer, *old;

	if (sqlite3_column_bytes(stmt, 3) != LEDGER_DIGEST)
		return 0;
	answer = answer_new(key.sequence, sqlite3_column_blob(stmt, 3), column_u64(stmt, 4),
		sqlite3_column_type(stmt, 5) != SQLITE_NULL, reply, len);
	if (!answer || answers_put(&tables->answers, &key, answer, &old)) {
		free(answer);
		return -ENOMEM;
	}
	free(old);
	return 0;
}

/* Texts of meta: next_lease, epoch_floor, boot_id, and the highest id of an endpoint. */
static int load_meta(sqlite3_stmt *stmt, struct store_tables *tables)
{
	const char *boot_id = (const char *)sqlite3_column_text(stmt, 2);

	tables->next_lease = column_u64(stmt, 0);
	tables->epoch_floor = column_u32(stmt, 1);
	snprintf(tables->boot_id, sizeof(tables->boot_id), "%s", boot_id ? boot_id : "");
	if (column_u32(stmt, 3) > tables->last_endpoint)
		tables->last_endpoint = column_u32(stmt, 3);
	return tables->next_lease ? 0 : VMSIG_ERR_INTERNAL;
}

#define META(key) "(SELECT value FROM meta WHERE key = '" key "')"

int snapshot_load(struct snapshot *snapshot, struct store_tables *tables, uint64_t *ret_number)
{
	struct sqlite3 *db = snapshot_db(snapshot);
	int r = select_rows(
		db, "SELECT id, epoch, name, session, token FROM endpoint", load_endpoint, tables);

	*ret_number = 0;
	if (!r)
		r = select_rows(db,
			"SELECT id, endpoint, epoch, token, tenant, uid, priority, ranges, ttl, "
			"granted, deadline, hold, ended FROM lease ORDER BY ended, id",
			load_lease, tables);
	if (!r)
		r = select_rows(db,
			"SELECT lease, writer, sequence, digest, intent, reply FROM ledger",
			load_answer, tables);
	if (!r)
		r = select_rows(db,
			"SELECT CAST(" META("next_lease") " AS INTEGER), CAST(" META(
				"epoch_floor") " AS INTEGER), " META("boot_id") ", (SELECT "
										"max(seq) FROM "
										"sqlite_sequence)",
			load_meta, tables);
	if (!r && !snapshot_is_old(snapshot))
		r = schema_number(db, "SELECT CAST(" META("journal") " AS INTEGER)", ret_number);
	return r;
}

/* ---- as far as it can be read ---- */

/* A path as SQLite's URIs want it. */
static void uri_of(const char *dir, char *uri, size_t size)
{
	size_t at = (size_t)snprintf(uri, size, "file:");

	for (; *dir && at + 4 < size; dir++)
		at += (size_t)snprintf(
			uri + at, size - at, strchr("%?#", *dir) ? "%%%02x" : "%c", *dir);
	snprintf(uri + at, size - at, "/" SNAPSHOT_FILE "?immutable=1");
}

void snapshot_peek(const char *dir, struct store_tables *tables)
{
	char uri[3 * PATH_MAX];
	sqlite3 *db = NULL;

	uri_of(dir, uri, sizeof(uri));
	if (sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL) == SQLITE_OK)
		(void)!select_rows(db, "SELECT id, epoch, name, '', token FROM endpoint",
			load_endpoint, tables);
	sqlite3_close(db);
}
