/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/audit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sqlite3.h>

#include "broker/store/store.h"
#include "proto/chain/auditchain.h"
#include "vmsig/vmsig_error.h"

#define RECORD_STACK 2048 /* records up to this are packed on the stack */
#define PRUNE_BATCH 1024  /* records dropped in one transaction: a millisecond or two */
#define ROW_BYTES 64      /* of a record beside its body: hash, key, headers */
#define KEEP_LEAST 1024   /* newest records that retention never touches */
#define PRUNE_LEAST 256   /* records that are worth a transaction and a record */

enum statement {
	STMT_APPEND,
	STMT_HEAD,
	STMT_FIRST,
	STMT_GET,
	STMT_PAGE,
	STMT_DROP,
	STMT_ANCHOR_GET,
	STMT_ANCHOR_SET,
	STMT_USED,
	STMTS,
};

static const char *const statements[STMTS] = {
	[STMT_APPEND] = "INSERT INTO audit (id, body, hash) VALUES (?1, ?2, ?3)",
	[STMT_HEAD] = "SELECT id, body, hash FROM audit ORDER BY id DESC LIMIT 1",
	[STMT_FIRST] = "SELECT id FROM audit ORDER BY id LIMIT 1",
	[STMT_GET] = "SELECT id, body, hash FROM audit WHERE id = ?1",
	[STMT_PAGE] = "SELECT id, body, hash FROM audit WHERE id > ?1 AND id <= ?2 ORDER BY id "
		      "LIMIT ?3",
	[STMT_DROP] = "DELETE FROM audit WHERE id <= ?1",
	[STMT_ANCHOR_GET] = "SELECT value FROM meta WHERE key = 'audit_anchor'",
	[STMT_ANCHOR_SET] = "UPDATE meta SET value = ?1 WHERE key = 'audit_anchor'",
	[STMT_USED] = "SELECT (page_count - freelist_count) * page_size FROM "
		      "pragma_page_count, pragma_freelist_count, pragma_page_size",
};

struct audit {
	struct store *store;
	struct auditchain_md *md;
	sqlite3_stmt *stmts[STMTS];
	struct audit_head head; /* committed */
	struct audit_loss loss;
	uint64_t next_id; /* of the last record in the open transaction */
	uint8_t next_hash[AUDIT_HASH];
	uint64_t appended; /* bytes, since it was opened */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- opening ---- */

/* A row that is not what append() writes is damaged. */
static int row_read(sqlite3_stmt *stmt, uint64_t *ret_id, uint8_t ret_hash[static AUDIT_HASH])
{
	sqlite3_int64 id = sqlite3_column_int64(stmt, 0);

	if (id < 1 || sqlite3_column_bytes(stmt, 2) != AUDIT_HASH)
		return VMSIG_ERR_INTERNAL;
	*ret_id = (uint64_t)id;
	memcpy(ret_hash, sqlite3_column_blob(stmt, 2), AUDIT_HASH);
	return 0;
}

static int head_load(struct audit *audit)
{
	sqlite3_stmt *stmt = audit->stmts[STMT_HEAD];
	int rc = sqlite3_step(stmt), r = 0;

	if (rc == SQLITE_ROW)
		r = row_read(stmt, &audit->head.id, audit->head.hash);
	else if (rc != SQLITE_DONE)
		r = VMSIG_ERR_IO;
	sqlite3_reset(stmt);
	return r;
}

static int first_load(struct audit *audit)
{
	sqlite3_stmt *stmt = audit->stmts[STMT_FIRST];
	int rc = sqlite3_step(stmt);

	audit->head.first = audit->head.id + 1;
	if (rc == SQLITE_ROW)
		audit->head.first = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : VMSIG_ERR_IO;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* As far as it is one; a damaged anchor shows when the log is verified. */
static void anchor_parse(const char *text, uint8_t anchor[static AUDIT_HASH])
{
	for (size_t i = 0; i < AUDIT_HASH && text[2 * i] && text[2 * i + 1]; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return;
		anchor[i] = (uint8_t)(high << 4 | low);
	}
}

static int anchor_load(struct audit *audit)
{
	sqlite3_stmt *stmt = audit->stmts[STMT_ANCHOR_GET];
	int rc = sqlite3_step(stmt);
	const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;

	if (text)
		anchor_parse(text, audit->head.anchor);
	sqlite3_reset(stmt);
	return text ? 0 : VMSIG_ERR_INTERNAL;
}

static int hash_of(struct audit *audit, uint64_t id, uint8_t ret_hash[static AUDIT_HASH])
{
	sqlite3_stmt *stmt = audit->stmts[STMT_GET];
	uint64_t ignored;
	int rc, r;

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)id);
	rc = sqlite3_step(stmt);
	r = rc == SQLITE_ROW ? row_read(stmt, &ignored, ret_hash) : VMSIG_ERR_INTERNAL;
	sqlite3_reset(stmt);
	return r;
}

/* Whether the record that was noted as the newest is still there. Retention never drops it. */
static bool has_noted(struct audit *audit, uint64_t id, const uint8_t noted[static AUDIT_HASH])
{
	uint8_t hash[AUDIT_HASH];

	return id <= audit->head.id && (id < audit->head.first || hash_of(audit, id, hash) ||
					       memcmp(hash, noted, AUDIT_HASH) == 0);
}

static void compare_noted(struct audit *audit)
{
	struct audit_loss *loss = &audit->loss;

	loss->id = store_found_audit(audit->store, loss->hash);
	if (has_noted(audit, loss->id, loss->hash))
		loss->id = 0;
}

bool audit_lost(const struct audit *audit, struct audit_loss *ret_loss)
{
	*ret_loss = audit->loss;
	return audit->loss.id != 0;
}

int audit_new(struct audit **ret_audit, struct store *store)
{
	struct audit *audit = calloc(1, sizeof(*audit));
	int r;

	if (!audit)
		return -ENOMEM;
	audit->store = store;
	r = auditchain_md_new(&audit->md);
	if (!r)
		r = store_prepare(store, statements, audit->stmts, STMTS);
	if (!r)
		r = anchor_load(audit);
	if (!r)
		r = head_load(audit);
	if (!r)
		r = first_load(audit);
	if (r) {
		audit_free(audit);
		return r;
	}
	audit_rolled_back(audit);
	compare_noted(audit);
	*ret_audit = audit;
	return 0;
}

struct audit *audit_free(struct audit *audit)
{
	if (!audit)
		return NULL;
	store_finalize(audit->stmts, STMTS);
	auditchain_md_free(audit->md);
	free(audit);
	return NULL;
}

/* ---- appending ---- */

static int append_packed(struct audit *audit, uint64_t id, const uint8_t *body, size_t len)
{
	sqlite3_stmt *stmt = audit->stmts[STMT_APPEND];
	uint8_t hash[AUDIT_HASH];
	int r = auditchain_hash(audit->md, audit->next_hash, body, len, hash);

	if (r)
		return r;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)id);
	sqlite3_bind_blob(stmt, 2, body, (int)len, SQLITE_STATIC);
	sqlite3_bind_blob(stmt, 3, hash, AUDIT_HASH, SQLITE_STATIC);
	r = store_run(stmt);
	if (r)
		return r;
	audit->next_id = id;
	memcpy(audit->next_hash, hash, AUDIT_HASH);
	audit->appended += len + ROW_BYTES;
	return 0;
}

int audit_append(struct audit *audit, Vmsig__AuditRecord *record)
{
	uint8_t stack[RECORD_STACK], *body = stack;
	size_t len;
	int r;

	record->id = audit->next_id + 1;
	record->real_ns = clock_ns(CLOCK_REALTIME);
	record->boot_ns = clock_ns(CLOCK_BOOTTIME);
	len = vmsig__audit_record__get_packed_size(record);
	if (len > sizeof(stack)) {
		body = malloc(len);
		if (!body)
			return -ENOMEM;
	}
	vmsig__audit_record__pack(record, body);
	r = append_packed(audit, record->id, body, len);
	if (body != stack)
		free(body);
	return r;
}

void audit_committed(struct audit *audit)
{
	if (audit->head.id == audit->next_id)
		return;
	audit->head.id = audit->next_id;
	memcpy(audit->head.hash, audit->next_hash, AUDIT_HASH);
	store_note_audit(audit->store, audit->head.id, audit->head.hash);
}

void audit_rolled_back(struct audit *audit)
{
	audit->next_id = audit->head.id;
	/* The first record after everything was dropped goes on from the anchor. */
	memcpy(audit->next_hash,
		audit->head.first > audit->head.id ? audit->head.anchor : audit->head.hash,
		AUDIT_HASH);
}

uint64_t audit_appended(const struct audit *audit)
{
	return audit->appended;
}

void audit_head(const struct audit *audit, struct audit_head *ret_head)
{
	*ret_head = audit->head;
}

int audit_digest(struct audit *audit, const void *data, size_t len, uint8_t ret_digest[AUDIT_HASH])
{
	return auditchain_digest(audit->md, data, len, ret_digest);
}

/* ---- reading ---- */

int audit_get(struct audit *audit, uint64_t id, Vmsig__AuditRecord **ret_record)
{
	sqlite3_stmt *stmt = audit->stmts[STMT_GET];
	int rc, r = 0;

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)id);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		*ret_record = vmsig__audit_record__unpack(
			NULL, (size_t)sqlite3_column_bytes(stmt, 1), sqlite3_column_blob(stmt, 1));
		r = *ret_record ? 0 : VMSIG_ERR_INTERNAL;
	} else {
		r = rc == SQLITE_DONE ? VMSIG_ERR_BAD_REQUEST : VMSIG_ERR_IO;
	}
	sqlite3_reset(stmt);
	return r;
}

static int blob_copy(sqlite3_stmt *stmt, int column, ProtobufCBinaryData *ret_data)
{
	size_t len = (size_t)sqlite3_column_bytes(stmt, column);

	ret_data->data = malloc(len ? len : 1);
	if (!ret_data->data)
		return -ENOMEM;
	if (len)
		memcpy(ret_data->data, sqlite3_column_blob(stmt, column), len);
	ret_data->len = len;
	return 0;
}

static int page_add(struct audit_page *page, sqlite3_stmt *stmt)
{
	Vmsig__AuditRow *row;
	int r;

	if (page->n == page->capacity) {
		size_t capacity = page->capacity ? page->capacity * 2 : 64;
		Vmsig__AuditRow *grown = realloc(page->rows, capacity * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		page->rows = grown;
		page->capacity = capacity;
	}
	row = &page->rows[page->n++];
	vmsig__audit_row__init(row);
	row->id = (uint64_t)sqlite3_column_int64(stmt, 0);
	r = blob_copy(stmt, 1, &row->body);
	return r ? r : blob_copy(stmt, 2, &row->hash);
}

int audit_page(struct audit *audit, uint64_t after, uint32_t limit, struct audit_page *ret_page)
{
	sqlite3_stmt *stmt = audit->stmts[STMT_PAGE];
	struct audit_page page = {0};
	size_t bytes = 0;
	int rc, r = 0;

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)(after > INT64_MAX ? INT64_MAX : after));
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)audit->head.id);
	sqlite3_bind_int64(stmt, 3, limit ? (sqlite3_int64)limit : -1);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		bytes += (size_t)sqlite3_column_bytes(stmt, 1) + 64;
		if (page.n && bytes > AUDIT_PAGE_BYTES)
			break;
		r = page_add(&page, stmt);
		if (r)
			break;
	}
	sqlite3_reset(stmt);
	if (!r && rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = VMSIG_ERR_IO;
	if (r)
		audit_page_free(&page);
	else
		*ret_page = page;
	return r;
}

void audit_page_free(struct audit_page *page)
{
	for (size_t i = 0; i < page->n; i++) {
		free(page->rows[i].body.data);
		free(page->rows[i].hash.data);
	}
	free(page->rows);
	*page = (struct audit_page){0};
}

/* ---- retention ---- */

static int used_bytes(struct audit *audit, uint64_t *ret_bytes)
{
	sqlite3_stmt *stmt = audit->stmts[STMT_USED];
	int rc = sqlite3_step(stmt);

	if (rc == SQLITE_ROW)
		*ret_bytes = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return rc == SQLITE_ROW ? 0 : VMSIG_ERR_IO;
}

/* The last record of the next batch, and whether it is due. */
static int prune_due(
	struct audit *audit, uint64_t bytes, uint64_t age_ms, uint64_t last, bool *ret_due)
{
	uint64_t now_ns = clock_ns(CLOCK_REALTIME), used;
	Vmsig__AuditRecord *record;
	int r = used_bytes(audit, &used);

	*ret_due = !r && used > bytes;
	if (r || *ret_due)
		return r;
	r = audit_get(audit, last, &record);
	if (r)
		return r;
	*ret_due = record->real_ns < now_ns && (now_ns - record->real_ns) / 1000000 > age_ms;
	vmsig__audit_record__free_unpacked(record, NULL);
	return 0;
}

static int anchor_store(struct audit *audit, const uint8_t anchor[static AUDIT_HASH])
{
	static const char digits[] = "0123456789abcdef";
	sqlite3_stmt *stmt = audit->stmts[STMT_ANCHOR_SET];
	char text[2 * AUDIT_HASH + 1];

	for (size_t i = 0; i < AUDIT_HASH; i++) {
		text[2 * i] = digits[anchor[i] >> 4];
		text[2 * i + 1] = digits[anchor[i] & 15];
	}
	text[2 * AUDIT_HASH] = '\0';
	sqlite3_bind_text(stmt, 1, text, -1, SQLITE_TRANSIENT);
	return store_run(stmt);
}

static int prune_until(struct audit *audit, uint64_t last, uint8_t anchor[static AUDIT_HASH])
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	sqlite3_stmt *drop = audit->stmts[STMT_DROP];
	int r = hash_of(audit, last, anchor);

	if (r)
		return r;
	record.kind = VMSIG__AUDIT_RECORD__KIND__PRUNED;
	record.pruned = last;
	record.anchor = (ProtobufCBinaryData){.data = anchor, .len = AUDIT_HASH};
	r = audit_append(audit, &record);
	if (r)
		return r;
	sqlite3_bind_int64(drop, 1, (sqlite3_int64)last);
	r = store_run(drop);
	return r ? r : anchor_store(audit, anchor);
}

int audit_prune(struct audit *audit, uint64_t bytes, uint64_t age_ms, bool *ret_more)
{
	uint8_t anchor[AUDIT_HASH];
	uint64_t last;
	bool due = false;
	int r = store_alone(audit->store);

	*ret_more = false;
	/* Few at a time would append as many records that say so. */
	if (r || audit->head.id + 1 - audit->head.first < KEEP_LEAST + PRUNE_LEAST)
		return r;
	last = audit->head.first + PRUNE_BATCH - 1;
	if (last + KEEP_LEAST > audit->head.id)
		last = audit->head.id - KEEP_LEAST;
	r = prune_due(audit, bytes, age_ms, last, &due);
	if (r || !due)
		return r;
	r = store_begin(audit->store);
	if (!r)
		r = prune_until(audit, last, anchor);
	if (!r)
		r = store_commit(audit->store);
	if (r) {
		store_rollback(audit->store);
		audit_rolled_back(audit);
		return r;
	}
	audit->head.first = last + 1;
	memcpy(audit->head.anchor, anchor, AUDIT_HASH);
	audit_committed(audit);
	*ret_more = true;
	return 0;
}
