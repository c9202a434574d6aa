/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log's chain: every edit is found, and where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "tests/unit/proto/audit_log.h"
#include "vmsig/vmsig_error.h"

/* FIPS 180-2, and what sha256sum says of 32 zero bytes and "abc". */
static void hashes_are_sha256(void **state)
{
	static const uint8_t of_abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41,
		0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
		0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
	static const uint8_t of_nothing[] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a,
		0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93,
		0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};
	static const uint8_t of_chained[] = {0x36, 0x5a, 0xa7, 0xd8, 0xf7, 0xf9, 0x40, 0x2c, 0x4b,
		0x94, 0x34, 0x50, 0x2b, 0x4c, 0xc8, 0x9d, 0xdb, 0x09, 0xfe, 0x50, 0xd7, 0xcd, 0x95,
		0xb4, 0x93, 0xb8, 0x34, 0xc6, 0x2d, 0x5a, 0x53, 0x70};
	uint8_t hash[AUDITCHAIN_HASH] = {0};

	assert_int_equal(auditchain_hash(*state, hash, "abc", 3, hash), 0);
	assert_memory_equal(hash, of_chained, sizeof(hash));
	assert_int_equal(auditchain_digest(*state, "abc", 3, hash), 0);
	assert_memory_equal(hash, of_abc, sizeof(hash));
	assert_int_equal(auditchain_digest(*state, NULL, 0, hash), 0);
	assert_memory_equal(hash, of_nothing, sizeof(hash));
}

static void row_insert(struct log *log, size_t at, const struct row *row)
{
	struct row copy = *row;

	memmove(&log->rows[at + 1], &log->rows[at], (log->n - at) * sizeof(log->rows[0]));
	log->rows[at] = copy;
	log->n++;
}

/* ---- each single edit ---- */

static void every_flipped_bit_is_found(void **state)
{
	struct log log;

	for (size_t kind = 0; kind < LOG_KINDS; kind++) {
		log_kinds[kind](&log, *state);
		for (size_t i = 0; i < log.n; i++) {
			struct row *row = &log.rows[i];

			assert_flips_found(&log, row->body, row->len, "a bit of the body", i);
			assert_flips_found(
				&log, row->hash, AUDITCHAIN_HASH, "a bit of the hash", i);
			assert_flips_found(
				&log, (uint8_t *)&row->id, sizeof(row->id), "a bit of the id", i);
		}
		assert_intact(&log);
	}
}

static void every_shortened_or_grown_body_is_found(void **state)
{
	struct log log;

	for (size_t kind = 0; kind < LOG_KINDS; kind++) {
		log_kinds[kind](&log, *state);
		for (size_t i = 0; i < log.n; i++) {
			size_t len = log.rows[i].len;

			for (size_t l = 0; l <= len + 1; l++) {
				log.rows[i].len = l;
				if (l != len)
					assert_found(&log, "another length", i);
			}
			log.rows[i].len = len;
		}
		assert_intact(&log);
	}
}

/* An attacker who also computes the hash of the record. */
static void edits_with_a_new_hash_show_at_the_next_record(void **state)
{
	struct log log;

	for (size_t i = 0; i + 1 < ROWS; i++) {
		struct row *row = &log.rows[i];

		log_whole(&log, *state);
		log.noted = 0;
		row->body[row->len - 1] ^= 1;
		assert_int_equal(auditchain_hash(log.md, i ? row[-1].hash : log.anchor, row->body,
					 row->len, row->hash),
			0);
		assert_found(&log, "an edit with a new hash", i);
		assert_blames(&log, i + 2);
	}
}

/* One who computes everything anew is found by a head that was noted from there on, and by
 * nothing else. */
static void a_log_computed_anew_is_found_by_a_noted_head(void **state)
{
	struct log log, forged;

	log_whole(&log, *state);
	for (size_t i = 0; i < ROWS; i++) {
		forged = log;
		row_write(&forged.rows[i], 2 * ROWS + i);
		row_renumber(&forged.rows[i], i + 1);
		log_rehash(&forged, i);
		for (size_t noted = 0; noted < ROWS; noted++) {
			log_note(&forged, noted);
			memcpy(forged.noted_hash, log.rows[noted].hash, AUDITCHAIN_HASH);
			if (noted < i) {
				assert_intact(&forged);
				continue;
			}
			assert_found(&forged, "a log computed anew", i);
			assert_blames(&forged, noted + 1);
		}
		forged.noted = 0;
		assert_intact(&forged);
	}
}

/* ---- records dropped, repeated, moved ---- */

static void every_dropped_run_is_found(void **state)
{
	struct log log, cut;

	for (size_t kind = 0; kind < LOG_KINDS; kind++) {
		log_kinds[kind](&log, *state);
		for (size_t at = 0; at < ROWS; at++) {
			for (size_t n = 1; at + n <= ROWS; n++) {
				cut = log;
				log_drop(&cut, at, n);
				assert_found(&cut, "a dropped run", at);
			}
		}
	}
}

static void what_is_missing_is_named(void **state)
{
	struct log log;

	log_whole(&log, *state);
	log_drop(&log, 6, 2);
	assert_found(&log, "a dropped run", 6);
	assert_blames(&log, 7);
	log_whole(&log, *state);
	log_drop(&log, ROWS - 1, 1);
	assert_found(&log, "a cut", ROWS - 1);
	assert_blames(&log, ROWS);
}

/* Ids and hashes made to fit; only a head that was noted behind it can tell. */
static void a_dropped_record_renumbered_away_is_found(void **state)
{
	struct log log, forged;

	log_whole(&log, *state);
	for (size_t at = 0; at < ROWS; at++) {
		forged = log;
		log_drop(&forged, at, 1);
		for (size_t i = at; i < forged.n; i++)
			row_renumber(&forged.rows[i], i + 1);
		log_rehash(&forged, at);
		assert_found(&forged, "a record renumbered away", at);
		forged.noted = 0;
		assert_intact(&forged);
	}
}

static void every_repeated_record_is_found(void **state)
{
	struct log log, forged;

	for (size_t kind = 0; kind < LOG_KINDS; kind++) {
		log_kinds[kind](&log, *state);
		for (size_t at = 0; at <= ROWS; at++) {
			for (size_t of = 0; of < ROWS; of++) {
				forged = log;
				row_insert(&forged, at, &log.rows[of]);
				assert_found(&forged, "a repeated record", at);
				log_rehash(&forged, at);
				forged.noted = 0;
				assert_found(&forged, "a repeated record, hashed", at);
			}
		}
	}
}

static void every_inserted_record_is_found(void **state)
{
	struct log log, forged;
	struct row row;

	for (size_t kind = 0; kind < LOG_KINDS; kind++) {
		log_kinds[kind](&log, *state);
		for (size_t at = 0; at < ROWS; at++) {
			forged = log;
			row_write(&row, 3 * ROWS);
			row_renumber(&row, log.rows[at].id);
			row_insert(&forged, at, &row);
			for (size_t i = at + 1; i < forged.n; i++)
				row_renumber(&forged.rows[i], log.start + i + 1);
			assert_found(&forged, "an inserted record", at);
			log_rehash(&forged, at);
			assert_found(&forged, "an inserted record with new hashes", at);
		}
	}
}

enum swap { SWAP_ROWS, SWAP_BODIES, SWAP_BODIES_AND_HASHES, SWAPS };

static void rows_swap(struct row *a, struct row *b, enum swap swap)
{
	struct row old_a = *a, old_b = *b;

	*a = old_b;
	*b = old_a;
	if (swap != SWAP_ROWS) {
		a->id = old_a.id;
		b->id = old_b.id;
	}
	if (swap == SWAP_BODIES) {
		memcpy(a->hash, old_a.hash, AUDITCHAIN_HASH);
		memcpy(b->hash, old_b.hash, AUDITCHAIN_HASH);
	}
}

static void every_swap_is_found(void **state)
{
	struct log log, forged;

	for (size_t kind = 0; kind < LOG_KINDS; kind++) {
		log_kinds[kind](&log, *state);
		for (size_t a = 0; a < ROWS; a++) {
			for (size_t b = a + 1; b < ROWS; b++) {
				for (unsigned swap = 0; swap < SWAPS; swap++) {
					forged = log;
					rows_swap(&forged.rows[a], &forged.rows[b], swap);
					assert_found(&forged, "a swap", a);
				}
			}
		}
	}
}

static void a_body_that_is_no_record_is_found(void **state)
{
	struct log log;

	log_whole(&log, *state);
	log.noted = 0;
	memset(log.rows[8].body, 0xff, log.rows[8].len);
	log_rehash(&log, 8);
	assert_found(&log, "what is no record", 8);
	assert_blames(&log, 9);
	log_whole(&log, *state);
	log.noted = 0;
	log.rows[8].len = 0;
	log_rehash(&log, 8);
	assert_found(&log, "an empty body", 8);
	assert_blames(&log, 9);
}

/* That records are gone is said without the log being broken. */
static void a_loss_that_is_told_is_known(void **state)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	uint8_t body[64], hash[AUDITCHAIN_HASH], previous[AUDITCHAIN_HASH] = {0};
	struct auditchain chain;
	size_t len;

	assert_int_equal(auditchain_init(&chain), 0);
	assert_int_equal(auditchain_lost(&chain), 0);
	record.id = 1;
	record.kind = VMSIG__AUDIT_RECORD__KIND__LOST;
	record.pruned = 9;
	len = vmsig__audit_record__pack(&record, body);
	assert_int_equal(auditchain_hash(*state, previous, body, len, hash), 0);
	assert_int_equal(auditchain_add(&chain, 1, body, len, hash), 0);
	assert_int_equal(auditchain_lost(&chain), 1);
	auditchain_deinit(&chain);
}

static void a_failure_sticks(void **state)
{
	struct auditchain chain;
	struct log log;
	uint8_t hash[AUDITCHAIN_HASH];
	uint64_t id;

	log_whole(&log, *state);
	assert_int_equal(auditchain_init(&chain), 0);
	assert_string_equal(auditchain_error(&chain), "");
	assert_int_equal(
		auditchain_add(&chain, 2, log.rows[1].body, log.rows[1].len, log.rows[1].hash),
		VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(
		auditchain_add(&chain, 1, log.rows[0].body, log.rows[0].len, log.rows[0].hash),
		VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(auditchain_finish(&chain, &id, hash), VMSIG_ERR_BAD_REQUEST);
	assert_string_not_equal(auditchain_error(&chain), "");
	auditchain_deinit(&chain);
}

#define WITH_MD(test) cmocka_unit_test_setup_teardown(test, log_setup, log_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_MD(hashes_are_sha256),
		WITH_MD(every_flipped_bit_is_found),
		WITH_MD(every_shortened_or_grown_body_is_found),
		WITH_MD(edits_with_a_new_hash_show_at_the_next_record),
		WITH_MD(a_log_computed_anew_is_found_by_a_noted_head),
		WITH_MD(every_dropped_run_is_found),
		WITH_MD(what_is_missing_is_named),
		WITH_MD(a_dropped_record_renumbered_away_is_found),
		WITH_MD(every_repeated_record_is_found),
		WITH_MD(every_inserted_record_is_found),
		WITH_MD(every_swap_is_found),
		WITH_MD(a_body_that_is_no_record_is_found),
		WITH_MD(a_loss_that_is_told_is_known),
		WITH_MD(a_failure_sticks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
