/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/audit_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "clients/ctl/ctl.h"
#include "vmsig/vmsig_error.h"

#define SQL_MAX 4096u
#define HEX_MAX 20u

struct ctl_audit_sqlite {
	char *path;
	sqlite3 *db;
	sqlite3_stmt *record, *range;
	uint64_t count;
	bool made, finished;
};

/* Behind the members: what is shown of them for people, and what proves them. */
enum extra { EXTRA_TIME, EXTRA_HASH, EXTRA_PREVIOUS, EXTRA_BODY, EXTRAS };

static const char *const extras[EXTRAS] = {"time TEXT", "hash BLOB", "previous BLOB", "body BLOB"};

static const char indexes[] = "CREATE INDEX records_time ON records (time);"
			      "CREATE INDEX records_endpoint ON records (endpoint, id);"
			      "CREATE INDEX records_tenant ON records (tenant, id);"
			      "CREATE INDEX ranges_record ON ranges (record);"
			      "COMMIT";

static const char range_insert[] = "INSERT INTO ranges VALUES (?1, ?2, ?3)";

static int fail(struct ctl_audit_sqlite *sqlite)
{
	return ctl_fail(VMSIG_ERR_IO, "cannot write %s: %s", sqlite->path,
		sqlite->db ? sqlite3_errmsg(sqlite->db) : "out of memory");
}

/* ---- the tables, from the message's descriptor: a new member has a column as well ---- */

static const ProtobufCFieldDescriptor *field_at(unsigned i)
{
	return &vmsig__audit_record__descriptor.fields[i];
}

static unsigned field_count(void)
{
	return vmsig__audit_record__descriptor.n_fields;
}

static bool is_named(const ProtobufCFieldDescriptor *field, const char *name)
{
	return strcmp(field->name, name) == 0;
}

/* Moments are below 2^63 for some centuries; tokens and writers may be anything. */
static bool is_hex(const ProtobufCFieldDescriptor *field)
{
	return field->type == PROTOBUF_C_TYPE_FIXED64 && !is_named(field, "real_ns") &&
	       !is_named(field, "boot_ns");
}

static const char *column_type(const ProtobufCFieldDescriptor *field)
{
	if (is_named(field, "id"))
		return "INTEGER PRIMARY KEY";
	if (field->type == PROTOBUF_C_TYPE_BYTES)
		return "BLOB";
	if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_ENUM ||
		is_hex(field) || is_named(field, "outcome"))
		return "TEXT";
	return "INTEGER";
}

/* Ranges have a table of their own. */
static bool has_column(const ProtobufCFieldDescriptor *field)
{
	return field->type != PROTOBUF_C_TYPE_MESSAGE;
}

struct sql_text {
	char at[SQL_MAX];
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void text_add(
	struct sql_text *text, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text->at + text->len, sizeof(text->at) - text->len, format, args);
	va_end(args);
	if (n > 0 && text->len + (size_t)n < sizeof(text->at))
		text->len += (size_t)n;
}

static void sql_create(struct sql_text *sql)
{
	text_add(sql, "PRAGMA journal_mode = OFF; BEGIN; CREATE TABLE records (");
	for (unsigned i = 0; i < field_count(); i++) {
		const ProtobufCFieldDescriptor *field = field_at(i);

		if (has_column(field))
			text_add(sql, "%s %s, ", field->name, column_type(field));
	}
	for (unsigned i = 0; i < EXTRAS; i++)
		text_add(sql, "%s%s", extras[i], i + 1 < EXTRAS ? ", " : ");");
	text_add(sql, "CREATE TABLE ranges (record INTEGER, start TEXT, last TEXT)");
}

static void sql_insert(struct sql_text *sql)
{
	unsigned columns = EXTRAS;

	for (unsigned i = 0; i < field_count(); i++)
		columns += has_column(field_at(i));
	text_add(sql, "INSERT INTO records VALUES (?");
	while (--columns)
		text_add(sql, ", ?");
	text_add(sql, ")");
}

static bool tables_make(struct ctl_audit_sqlite *sqlite)
{
	struct sql_text create = {.len = 0}, insert = {.len = 0};

	sql_create(&create);
	sql_insert(&insert);
	return sqlite3_exec(sqlite->db, create.at, NULL, NULL, NULL) == SQLITE_OK &&
	       sqlite3_prepare_v2(sqlite->db, insert.at, -1, &sqlite->record, NULL) == SQLITE_OK &&
	       sqlite3_prepare_v2(sqlite->db, range_insert, -1, &sqlite->range, NULL) == SQLITE_OK;
}

int ctl_audit_sqlite_new(struct ctl_audit_sqlite **ret_sqlite, const char *path)
{
	struct ctl_audit_sqlite *sqlite = calloc(1, sizeof(*sqlite));
	int fd, code;

	if (sqlite)
		sqlite->path = strdup(path);
	if (!sqlite || !sqlite->path) {
		free(sqlite);
		return ctl_fail(VMSIG_ERR_INTERNAL, "no memory for the export");
	}
	/* Made here, so that nobody else reads what only an administrator may. */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		code = ctl_fail(VMSIG_ERR_IO, "cannot make %s: %s", path,
			errno == EEXIST ? "it is there already; name a new file" : strerror(errno));
		ctl_audit_sqlite_free(sqlite);
		return code;
	}
	close(fd);
	sqlite->made = true;
	if (sqlite3_open_v2(path, &sqlite->db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
		!tables_make(sqlite)) {
		code = fail(sqlite);
		ctl_audit_sqlite_free(sqlite);
		return code;
	}
	*ret_sqlite = sqlite;
	return EXIT_OK;
}

/* ---- rows ---- */

static void bind_hex(sqlite3_stmt *stmt, int column, uint64_t value)
{
	char text[HEX_MAX];

	snprintf(text, sizeof(text), "0x%016" PRIx64, value);
	sqlite3_bind_text(stmt, column, text, -1, SQLITE_TRANSIENT);
}

static void bind_number(sqlite3_stmt *stmt, int column, uint64_t value)
{
	if (value > INT64_MAX)
		bind_hex(stmt, column, value);
	else
		sqlite3_bind_int64(stmt, column, (sqlite3_int64)value);
}

/* Left NULL without a value. */
static void bind_member(sqlite3_stmt *stmt, int column, const ProtobufCFieldDescriptor *field,
	const Vmsig__AuditRecord *record)
{
	const void *member = (const char *)record + field->offset;
	const ProtobufCBinaryData *bytes = member;
	char *const *text = member;
	const uint64_t *wide = member;
	const uint32_t *narrow = member;

	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		if ((*text)[0])
			sqlite3_bind_text(stmt, column, *text, -1, SQLITE_TRANSIENT);
		break;
	case PROTOBUF_C_TYPE_BYTES:
		if (bytes->len)
			sqlite3_bind_blob(
				stmt, column, bytes->data, (int)bytes->len, SQLITE_TRANSIENT);
		break;
	case PROTOBUF_C_TYPE_FIXED64:
		if (*wide && is_hex(field))
			bind_hex(stmt, column, *wide);
		else if (*wide)
			bind_number(stmt, column, *wide);
		break;
	case PROTOBUF_C_TYPE_UINT64:
		if (*wide)
			bind_number(stmt, column, *wide);
		break;
	default:
		if (*narrow)
			bind_number(stmt, column, *narrow);
	}
}

/* Members that mean something without a value, or are shown by their names. */
static bool bind_special(sqlite3_stmt *stmt, int column, const ProtobufCFieldDescriptor *field,
	const struct ctl_audit_entry *entry)
{
	char kind[AUDIT_KIND_MAX];

	if (is_named(field, "id")) {
		bind_number(stmt, column, entry->id);
	} else if (is_named(field, "kind")) {
		ctl_audit_entry_kind(entry, kind);
		sqlite3_bind_text(stmt, column, kind, -1, SQLITE_TRANSIENT);
	} else if (!entry->record) {
		return true;
	} else if (is_named(field, "outcome")) {
		sqlite3_bind_text(stmt, column, vmsig_error_name((int)entry->record->outcome), -1,
			SQLITE_STATIC);
	} else if (is_named(field, "uid") && entry->record->tenant[0]) {
		bind_number(stmt, column, entry->record->uid);
	} else {
		return false;
	}
	return true;
}

static void bind_extras(sqlite3_stmt *stmt, int column, const struct ctl_audit_entry *entry,
	const uint8_t *previous)
{
	char time[TEXT_TIME_MAX];

	if (entry->record) {
		text_time(entry->record->real_ns, 9, time);
		sqlite3_bind_text(stmt, column + EXTRA_TIME, time, -1, SQLITE_TRANSIENT);
	}
	sqlite3_bind_blob(
		stmt, column + EXTRA_HASH, entry->hash, AUDITCHAIN_HASH, SQLITE_TRANSIENT);
	sqlite3_bind_blob(
		stmt, column + EXTRA_PREVIOUS, previous, AUDITCHAIN_HASH, SQLITE_TRANSIENT);
	sqlite3_bind_blob(
		stmt, column + EXTRA_BODY, entry->body, (int)entry->body_len, SQLITE_TRANSIENT);
}

static bool run(sqlite3_stmt *stmt)
{
	bool done = sqlite3_step(stmt) == SQLITE_DONE;

	return sqlite3_reset(stmt) == SQLITE_OK && done;
}

static bool add_ranges(struct ctl_audit_sqlite *sqlite, const struct ctl_audit_entry *entry)
{
	const Vmsig__AuditRecord *record = entry->record;
	bool done = true;

	for (size_t i = 0; record && done && i < record->n_ranges; i++) {
		bind_number(sqlite->range, 1, entry->id);
		bind_hex(sqlite->range, 2, record->ranges[i]->start);
		bind_hex(sqlite->range, 3, record->ranges[i]->last);
		done = run(sqlite->range);
	}
	return done;
}

int ctl_audit_sqlite_add(struct ctl_audit_sqlite *sqlite, const struct ctl_audit_entry *entry,
	const uint8_t previous[static AUDITCHAIN_HASH])
{
	int column = 1;

	sqlite3_clear_bindings(sqlite->record);
	for (unsigned i = 0; i < field_count(); i++) {
		const ProtobufCFieldDescriptor *field = field_at(i);

		if (!has_column(field))
			continue;
		if (!bind_special(sqlite->record, column, field, entry))
			bind_member(sqlite->record, column, field, entry->record);
		column++;
	}
	bind_extras(sqlite->record, column, entry, previous);
	if (!run(sqlite->record) || !add_ranges(sqlite, entry))
		return fail(sqlite);
	sqlite->count++;
	return EXIT_OK;
}

/* ---- the end ---- */

int ctl_audit_sqlite_finish(struct ctl_audit_sqlite *sqlite)
{
	if (sqlite3_exec(sqlite->db, indexes, NULL, NULL, NULL) != SQLITE_OK)
		return fail(sqlite);
	sqlite->finished = true;
	return EXIT_OK;
}

struct ctl_audit_sqlite *ctl_audit_sqlite_free(struct ctl_audit_sqlite *sqlite)
{
	if (!sqlite)
		return NULL;
	sqlite3_finalize(sqlite->record);
	sqlite3_finalize(sqlite->range);
	sqlite3_close(sqlite->db);
	if (sqlite->made && !sqlite->finished)
		(void)unlink(sqlite->path);
	free(sqlite->path);
	free(sqlite);
	return NULL;
}

uint64_t ctl_audit_sqlite_count(const struct ctl_audit_sqlite *sqlite)
{
	return sqlite->count;
}
