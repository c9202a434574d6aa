/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "tests/unit/proto/audit_log.h"
#include "vmsig/vmsig_error.h"

/* ---- heads and cuts ---- */

static void a_cut_is_found_by_a_head_noted_behind_it(void **state)
{
	struct log log;

	for (size_t kind = 0; kind < LOG_KINDS; kind++) {
		for (size_t n = 0; n <= ROWS; n++) {
			for (size_t noted = 0; noted < ROWS; noted++) {
				log_kinds[kind](&log, *state);
				log_note(&log, noted);
				log.n = n;
				if (noted < n && (kind == 0 || n > PRUNED_AT))
					assert_intact(&log);
				else
					assert_found(&log, "a cut", n);
			}
		}
	}
}

static void an_empty_log_is_intact_unless_it_had_a_head(void **state)
{
	struct log log = {.md = *state};

	assert_intact(&log);
	log.noted = 1;
	assert_found(&log, "an emptied log", 0);
	assert_blames(&log, 1);
}

static void a_noted_head_with_another_hash_is_found(void **state)
{
	struct log log;

	log_whole(&log, *state);
	log_note(&log, 4);
	log.noted_hash[31] ^= 1;
	assert_found(&log, "another head", 4);
	assert_blames(&log, 5);
}

/* ---- retention ---- */

static void a_start_without_proof_is_found(void **state)
{
	struct log log;

	log_pruned(&log, *state);
	row_write(&log.rows[PRUNED_AT], log.rows[PRUNED_AT].id);
	log_rehash(&log, PRUNED_AT);
	log.noted = 0;
	assert_found(&log, "a start without proof", 0);
	assert_blames(&log, PRUNED);
}

/* Even when all hashes are made to fit: what the PRUNED record says must be the start. */
static void a_proof_of_another_start_is_no_proof(void **state)
{
	static const uint64_t others[] = {0, 1, PRUNED - 1, PRUNED + 1, PRUNED + 2, UINT64_MAX};
	struct log log;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		log_pruned(&log, *state);
		row_write_pruned(&log.rows[PRUNED_AT], others[i], log.anchor, AUDITCHAIN_HASH);
		log_rehash(&log, PRUNED_AT);
		log.noted = 0;
		assert_found(&log, "a proof of another start", i);
	}
	for (size_t i = 0; i < AUDITCHAIN_HASH; i++) {
		uint8_t anchor[AUDITCHAIN_HASH];

		log_pruned(&log, *state);
		memcpy(anchor, log.anchor, sizeof(anchor));
		anchor[i] ^= 0x10;
		row_write_pruned(&log.rows[PRUNED_AT], PRUNED, anchor, AUDITCHAIN_HASH);
		log_rehash(&log, PRUNED_AT);
		log.noted = 0;
		assert_found(&log, "a proof of another anchor", i);
		assert_blames(&log, log.rows[PRUNED_AT].id);
	}
}

static void every_flipped_bit_of_the_anchor_is_found(void **state)
{
	struct log log;

	log_pruned(&log, *state);
	assert_flips_found(&log, log.anchor, sizeof(log.anchor), "a bit of the anchor", 0);
	assert_flips_found(&log, (uint8_t *)&log.start, sizeof(log.start), "a bit of the start", 0);
	assert_intact(&log);
}

static void an_anchor_of_another_length_proves_nothing(void **state)
{
	uint8_t anchor[AUDITCHAIN_HASH + 1] = {0};
	struct log log;

	for (size_t len = 0; len <= sizeof(anchor); len++) {
		log_pruned(&log, *state);
		memcpy(anchor, log.anchor, AUDITCHAIN_HASH);
		row_write_pruned(&log.rows[PRUNED_AT], PRUNED, anchor, len);
		log_rehash(&log, PRUNED_AT);
		log.noted = 0;
		if (len == AUDITCHAIN_HASH) {
			assert_intact(&log);
			continue;
		}
		assert_found(&log, "an anchor of another length", len);
		assert_blames(&log, log.rows[PRUNED_AT].id);
	}
}

/* Nor can a record speak of itself or of what comes behind it: here, to stand for a head that
 * was cut off. */
static void nothing_proves_what_comes_later(void **state)
{
	uint8_t cut[AUDITCHAIN_HASH];
	struct log log;

	for (uint64_t ahead = 0; ahead < 3; ahead++) {
		log_whole(&log, *state);
		memcpy(cut, log.noted_hash, sizeof(cut));
		log.n = ROWS / 2;
		row_write_pruned(&log.rows[log.n - 1], log.n + ahead, cut, sizeof(cut));
		log_rehash(&log, log.n - 1);
		log.noted = log.n + ahead;
		assert_found(&log, "a proof of what comes later", log.n - 1);
		log.noted = 0;
		assert_found(&log, "a proof of what comes later", log.n - 1);
		assert_blames(&log, log.n);
	}
}

/* Retention goes on: only the last of several PRUNED records is about the start. */
static void earlier_proofs_do_not_disturb(void **state)
{
	struct log log;
	uint8_t earlier[AUDITCHAIN_HASH] = {1, 2, 3};

	log_pruned(&log, *state);
	row_write_pruned(&log.rows[2], PRUNED - 7, earlier, AUDITCHAIN_HASH);
	log_rehash(&log, 2);
	log.noted = 0;
	assert_intact(&log);
	/* That is as good for a head that was noted once as the record itself. */
	log.noted = PRUNED - 7;
	memcpy(log.noted_hash, earlier, sizeof(earlier));
	assert_intact(&log);
	log.noted_hash[0] ^= 1;
	assert_found(&log, "another head than was pruned", 2);
	assert_blames(&log, PRUNED - 7);
	log.noted--;
	assert_found(&log, "a head that nothing proves", 2);
	assert_blames(&log, PRUNED - 8);
}

static void a_pruned_head_is_proven_by_the_anchor(void **state)
{
	struct log log;

	log_pruned(&log, *state);
	log.noted = PRUNED;
	memcpy(log.noted_hash, log.anchor, AUDITCHAIN_HASH);
	assert_intact(&log);
	log.noted_hash[5] ^= 1;
	assert_found(&log, "another anchor than was noted", 0);
	assert_blames(&log, PRUNED);
}

/* An export of what came behind a head needs no PRUNED record. */
static void a_log_goes_on_from_a_noted_head(void **state)
{
	struct log log;

	log_whole(&log, *state);
	log_note(&log, 4);
	log.start = 5;
	memcpy(log.anchor, log.rows[4].hash, AUDITCHAIN_HASH);
	log_drop(&log, 0, 5);
	assert_intact(&log);
	log.noted = 0;
	assert_found(&log, "the rest of a log", 0);
	assert_blames(&log, 5);
}

#define WITH_MD(test) cmocka_unit_test_setup_teardown(test, log_setup, log_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_MD(a_cut_is_found_by_a_head_noted_behind_it),
		WITH_MD(an_empty_log_is_intact_unless_it_had_a_head),
		WITH_MD(a_noted_head_with_another_hash_is_found),
		WITH_MD(a_start_without_proof_is_found),
		WITH_MD(a_proof_of_another_start_is_no_proof),
		WITH_MD(every_flipped_bit_of_the_anchor_is_found),
		WITH_MD(an_anchor_of_another_length_proves_nothing),
		WITH_MD(nothing_proves_what_comes_later),
		WITH_MD(earlier_proofs_do_not_disturb),
		WITH_MD(a_pruned_head_is_proven_by_the_anchor),
		WITH_MD(a_log_goes_on_from_a_noted_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
