/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/audit_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

void log_rehash(struct log *log, size_t from)
{
	for (size_t i = from; i < log->n; i++) {
		const uint8_t *prev = i ? log->rows[i - 1].hash : log->anchor;
		struct row *row = &log->rows[i];

		assert_int_equal(auditchain_hash(log->md, prev, row->body, row->len, row->hash), 0);
	}
}

static void row_pack(struct row *row, Vmsig__AuditRecord *record)
{
	record->id = row->id;
	row->len = vmsig__audit_record__get_packed_size(record);
	assert_in_range(row->len, 1, BODY_MAX);
	vmsig__audit_record__pack(record, row->body);
}

void row_renumber(struct row *row, uint64_t id)
{
	Vmsig__AuditRecord *record = vmsig__audit_record__unpack(NULL, row->len, row->body);

	assert_non_null(record);
	row->id = id;
	row_pack(row, record);
	vmsig__audit_record__free_unpacked(record, NULL);
}

void row_write(struct row *row, uint64_t id)
{
	static char tenant[] = "acme", endpoint[] = "web1", detail[] = "the lease has expired";
	static uint8_t digest[AUDITCHAIN_HASH] = {0xd1, 0x9e, 0x57};
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.kind = 1 + id % VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT;
	record.real_ns = 1700000000000000000 + id;
	record.boot_ns = id * 1000;
	record.tenant = tenant;
	record.endpoint = endpoint;
	record.sequence = id;
	if (id % 2) {
		record.detail = detail;
		record.outcome = VMSIG_ERR_LEASE_EXPIRED;
	} else {
		record.new_hash = (ProtobufCBinaryData){.data = digest, .len = sizeof(digest)};
	}
	row->id = id;
	row_pack(row, &record);
}

void row_write_pruned(struct row *row, uint64_t pruned, const uint8_t *anchor, size_t len)
{
	uint8_t copy[2 * AUDITCHAIN_HASH];
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.kind = VMSIG__AUDIT_RECORD__KIND__PRUNED;
	record.pruned = pruned;
	memcpy(copy, anchor, len);
	record.anchor = (ProtobufCBinaryData){.data = copy, .len = len};
	row_pack(row, &record);
}

void log_note(struct log *log, size_t i)
{
	log->noted = log->rows[i].id;
	memcpy(log->noted_hash, log->rows[i].hash, AUDITCHAIN_HASH);
}

void log_drop(struct log *log, size_t at, size_t n)
{
	log->n -= n;
	memmove(&log->rows[at], &log->rows[at + n], (log->n - at) * sizeof(log->rows[0]));
}

static int log_verify(struct log *log, uint64_t *ret_id, uint8_t ret_hash[AUDITCHAIN_HASH])
{
	struct auditchain chain;
	int r;

	assert_int_equal(auditchain_init(&chain), 0);
	auditchain_start(&chain, log->start, log->anchor);
	auditchain_note(&chain, log->noted, log->noted_hash);
	for (size_t i = 0; i < log->n; i++) {
		const struct row *row = &log->rows[i];

		r = auditchain_add(&chain, row->id, row->body, row->len, row->hash);
		if (r)
			break;
	}
	r = auditchain_finish(&chain, ret_id, ret_hash);
	snprintf(log->error, sizeof(log->error), "%s", auditchain_error(&chain));
	assert_int_equal(log->error[0] != '\0', r != 0);
	log->culprit = auditchain_culprit(&chain);
	auditchain_deinit(&chain);
	return r;
}

void assert_intact(struct log *log)
{
	uint64_t id;
	uint8_t hash[AUDITCHAIN_HASH];

	if (log_verify(log, &id, hash))
		fail_msg("%s", log->error);
	assert_int_equal(id, log->n ? log->rows[log->n - 1].id : log->start);
	assert_memory_equal(
		hash, log->n ? log->rows[log->n - 1].hash : log->anchor, AUDITCHAIN_HASH);
}

void assert_found(struct log *log, const char *what, size_t i)
{
	uint64_t id = 77;
	uint8_t hash[AUDITCHAIN_HASH] = {77};

	if (log_verify(log, &id, hash) != VMSIG_ERR_BAD_REQUEST)
		fail_msg("%s at row %zu is not found", what, i);
	if (id != 77 || hash[0] != 77)
		fail_msg("%s at row %zu gives a head", what, i);
}

void assert_blames(const struct log *log, uint64_t id)
{
	char name[32];

	snprintf(name, sizeof(name), "record %" PRIu64 " ", id);
	if (log->culprit != id || strncmp(log->error, name, strlen(name)) != 0)
		fail_msg("'%s' does not name record %" PRIu64, log->error, id);
}

void log_whole(struct log *log, struct auditchain_md *md)
{
	memset(log, 0, sizeof(*log));
	log->md = md;
	log->n = ROWS;
	for (size_t i = 0; i < ROWS; i++)
		row_write(&log->rows[i], i + 1);
	log_rehash(log, 0);
	log_note(log, ROWS - 1);
	assert_intact(log);
}

void log_pruned(struct log *log, struct auditchain_md *md)
{
	struct row dropped;

	memset(log, 0, sizeof(*log));
	log->md = md;
	log->n = ROWS;
	for (log->start = 0; log->start < PRUNED; log->start++) {
		row_write(&dropped, log->start + 1);
		assert_int_equal(
			auditchain_hash(md, log->anchor, dropped.body, dropped.len, log->anchor),
			0);
	}
	for (size_t i = 0; i < ROWS; i++)
		row_write(&log->rows[i], PRUNED + i + 1);
	row_write_pruned(&log->rows[PRUNED_AT], PRUNED, log->anchor, AUDITCHAIN_HASH);
	log_rehash(log, 0);
	log_note(log, ROWS - 1);
	assert_intact(log);
}

void assert_flips_found(struct log *log, uint8_t *bytes, size_t len, const char *what, size_t i)
{
	uint64_t noted = log->noted;

	for (size_t bit = 0; bit < 8 * len; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_found(log, what, i);
		log->noted = 0;
		assert_found(log, what, i);
		log->noted = noted;
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

int log_setup(void **state)
{
	struct auditchain_md *md;
	int r = auditchain_md_new(&md);

	if (!r)
		*state = md;
	return r;
}

int log_teardown(void **state)
{
	auditchain_md_free(*state);
	return 0;
}

void (*const log_kinds[LOG_KINDS])(struct log *, struct auditchain_md *) = {log_whole, log_pruned};
