/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/history.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "proto/chain/auditchain.h"

#define LEASES_MAX 4096
#define WRITES_MAX 65536

struct held {
	uint64_t id, token;
	uint32_t epoch;
	char endpoint[64];
	Vmsig__AuditRecord *grant; /* owns the ranges */
	bool held;
};

struct written {
	uint64_t lease, writer, sequence, intent;
	char endpoint[64];
	uint64_t start, last;
	uint8_t new_hash[32];
	unsigned applied;
	uint64_t order; /* record of the result */
};

struct history {
	struct held leases[LEASES_MAX];
	size_t nleases;
	struct written *writes;
	size_t nwrites;
	unsigned applied;
};

static struct held *lease_find(struct history *history, uint64_t id)
{
	for (size_t i = history->nleases; i > 0; i--) {
		if (history->leases[i - 1].id == id)
			return &history->leases[i - 1];
	}
	return NULL;
}

static bool overlap(const Vmsig__AuditRecord *a, const Vmsig__AuditRecord *b)
{
	for (size_t i = 0; i < a->n_ranges; i++) {
		for (size_t j = 0; j < b->n_ranges; j++) {
			if (a->ranges[i]->start <= b->ranges[j]->last &&
				b->ranges[j]->start <= a->ranges[i]->last)
				return true;
		}
	}
	return false;
}

/* Takes the record. */
static void on_grant(struct history *history, Vmsig__AuditRecord *record)
{
	struct held *lease = &history->leases[history->nleases];

	assert_true(history->nleases < LEASES_MAX);
	for (size_t i = 0; i < history->nleases; i++) {
		const struct held *other = &history->leases[i];

		if (strcmp(other->endpoint, record->endpoint) != 0)
			continue;
		if (record->token <= other->token)
			fail_msg("I2: the token of lease %lu (record %lu) is not above that of %lu",
				record->lease, record->id, other->id);
		if (other->held && overlap(other->grant, record))
			fail_msg("I1: lease %lu (record %lu) was granted while %lu was held",
				record->lease, record->id, other->id);
	}
	*lease = (struct held){.id = record->lease,
		.token = record->token,
		.epoch = record->epoch,
		.grant = record,
		.held = true};
	snprintf(lease->endpoint, sizeof(lease->endpoint), "%s", record->endpoint);
	history->nleases++;
}

static void on_end(struct history *history, const Vmsig__AuditRecord *record)
{
	struct held *lease = lease_find(history, record->lease);

	/* One that was taken back before its grant was recorded has no grant. */
	if (lease)
		lease->held = false;
}

static struct written *write_by_key(struct history *history, const Vmsig__AuditRecord *record)
{
	for (size_t i = history->nwrites; i > 0; i--) {
		struct written *write = &history->writes[i - 1];

		if (write->lease == record->lease && write->writer == record->writer &&
			write->sequence == record->sequence)
			return write;
	}
	return NULL;
}

static void on_intent(struct history *history, const Vmsig__AuditRecord *record)
{
	struct held *lease = lease_find(history, record->lease);
	struct written *write = write_by_key(history, record);

	if (!lease || !lease->held)
		fail_msg("I3: record %lu intends to write under lease %lu, which is not held",
			record->id, record->lease);
	if (lease->token != record->token || lease->epoch != record->epoch)
		fail_msg("I3: record %lu has another token or epoch than lease %lu", record->id,
			record->lease);
	if (!write) {
		assert_true(history->nwrites < WRITES_MAX);
		write = &history->writes[history->nwrites++];
	}
	write->lease = record->lease;
	write->writer = record->writer;
	write->sequence = record->sequence;
	write->intent = record->id;
	write->start = record->ranges[0]->start;
	write->last = record->ranges[0]->last;
	snprintf(write->endpoint, sizeof(write->endpoint), "%s", record->endpoint);
	/* That of bulk data comes with the result. */
	if (!record->new_hash.len)
		return;
	assert_int_equal(record->new_hash.len, 32);
	memcpy(write->new_hash, record->new_hash.data, 32);
}

static void on_result(struct history *history, const Vmsig__AuditRecord *record)
{
	struct written *write = write_by_key(history, record);
	struct held *lease = lease_find(history, record->lease);

	if (!write)
		fail_msg("record %lu has the result of a write without an intent", record->id);
	if (record->outcome == VMSIG_ERR_UNKNOWN_OUTCOME || record->outcome)
		return;
	if (!lease || !lease->held)
		fail_msg("I4: record %lu applied a write after the end of lease %lu", record->id,
			record->lease);
	if (++write->applied > 1)
		fail_msg("I6: record %lu applies lease %lu, writer %lx, sequence %lu once more",
			record->id, record->lease, record->writer, record->sequence);
	write->order = record->id;
	history->applied++;
}

/* Whether it kept the record. */
static bool take(struct history *history, Vmsig__AuditRecord *record)
{
	switch (record->kind) {
	case VMSIG__AUDIT_RECORD__KIND__GRANT:
		on_grant(history, record);
		return true;
	case VMSIG__AUDIT_RECORD__KIND__END:
		on_end(history, record);
		return false;
	case VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT:
		on_intent(history, record);
		return false;
	case VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT:
		on_result(history, record);
		return false;
	default:
		return false;
	}
}

static void read_log(struct desk_scene *scene, struct history *history)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__AuditQuery query = VMSIG__AUDIT_QUERY__INIT;
	uint8_t head[AUDITCHAIN_HASH];
	struct auditchain chain;
	struct write_client admin;
	uint64_t id;
	size_t n;

	assert_int_equal(auditchain_init(&chain), 0);
	write_client_open(&admin, scene->daemon, "admin.sock", &scene->admin);
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_AUDIT_QUERY;
	request.audit_query = &query;
	do {
		Vmsig__AdminMessage *message;

		write_client_send_admin(&admin, &request);
		message = write_client_receive_admin(&admin);
		assert_non_null(message);
		assert_int_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_AUDIT_ROWS);
		n = message->audit_rows->n_rows;
		for (size_t i = 0; i < n; i++) {
			const Vmsig__AuditRow *row = message->audit_rows->rows[i];
			Vmsig__AuditRecord *record =
				vmsig__audit_record__unpack(NULL, row->body.len, row->body.data);

			assert_non_null(record);
			if (auditchain_add(
				    &chain, row->id, row->body.data, row->body.len, row->hash.data))
				fail_msg("I12: %s", auditchain_error(&chain));
			query.after = row->id;
			if (!take(history, record))
				vmsig__audit_record__free_unpacked(record, NULL);
		}
		vmsig__admin_message__free_unpacked(message, NULL);
	} while (n);
	assert_int_equal(auditchain_finish(&chain, &id, head), 0);
	auditchain_deinit(&chain);
	write_client_close(&admin);
}

/* A write whose outcome is unknown may or may not be there. */
static bool may_be(const struct history *history, const struct history_word *word,
	const uint8_t hash[static 32], uint64_t after)
{
	for (size_t i = 0; i < history->nwrites; i++) {
		const struct written *write = &history->writes[i];

		if (strcmp(write->endpoint, word->endpoint) == 0 && write->start == word->addr &&
			!write->applied && write->intent > after &&
			memcmp(write->new_hash, hash, 32) == 0)
			return true;
	}
	return false;
}

static void check_word(
	struct desk_scene *scene, const struct history *history, const struct history_word *word)
{
	const struct written *last = NULL;
	uint8_t bytes[8], hash[32];

	for (size_t i = 0; i < history->nwrites; i++) {
		const struct written *write = &history->writes[i];

		if (write->applied && strcmp(write->endpoint, word->endpoint) == 0 &&
			write->start == word->addr && (!last || write->order > last->order))
			last = write;
	}
	desk_scene_read(scene, word->endpoint, word->addr, bytes, sizeof(bytes));
	assert_int_equal(EVP_Digest(bytes, sizeof(bytes), hash, NULL, EVP_sha256(), NULL), 1);
	if (last && memcmp(last->new_hash, hash, 32) != 0 &&
		!may_be(history, word, hash, last->intent))
		fail_msg("I5: the word at 0x%lx of %s is not what record %lu has written",
			word->addr, word->endpoint, last->intent);
}

unsigned history_check(struct desk_scene *scene, const struct history_word *words, size_t nwords)
{
	struct history *history = calloc(1, sizeof(*history));
	unsigned applied;

	assert_non_null(history);
	history->writes = calloc(WRITES_MAX, sizeof(*history->writes));
	assert_non_null(history->writes);
	read_log(scene, history);
	for (size_t i = 0; i < nwords; i++)
		check_word(scene, history, &words[i]);
	for (size_t i = 0; i < history->nleases; i++)
		vmsig__audit_record__free_unpacked(history->leases[i].grant, NULL);
	applied = history->applied;
	free(history->writes);
	free(history);
	return applied;
}
