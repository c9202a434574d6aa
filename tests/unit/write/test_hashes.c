/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes of writes that come together: each record has those of its own bytes and of the bytes that
 * were there before, whoever changed them. */
#include <string.h>

#include "broker/write/state.h"
#include "tests/unit/write/lab.h"
#include "vmsig/vmsig_error.h"

#define ADDR 0x3000u
#define N 40u /* more than are hashed at a time, and no multiple of it */

static void check_hash(struct lab *lab, const ProtobufCBinaryData *hash, uint64_t word)
{
	uint8_t expected[DESK_HASH];

	assert_int_equal(audit_digest(lab->shell->audit, &word, sizeof(word), expected), 0);
	assert_int_equal(hash->len, DESK_HASH);
	assert_memory_equal(hash->data, expected, DESK_HASH);
}

/* One that writes `word(i)` where `before(i)` was, for each sequence number. */
static void check_records(
	struct lab *lab, uint64_t (*word)(uint64_t i), uint64_t (*before)(uint64_t i))
{
	Vmsig__AuditRecord *record;
	struct audit_head head;
	unsigned intents = 0, results = 0;

	audit_head(lab->shell->audit, &head);
	for (uint64_t id = 1; id <= head.id; id++) {
		assert_int_equal(audit_get(lab->shell->audit, id, &record), 0);
		if (record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT) {
			check_hash(lab, &record->new_hash, word(record->sequence));
			intents++;
		} else if (record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT) {
			assert_int_equal(record->outcome, 0);
			/* That of one whose mark tells is in the intent alone. */
			if (!record->detail[0])
				check_hash(lab, &record->new_hash, word(record->sequence));
			check_hash(lab, &record->old_hash, before(record->sequence));
			results++;
		}
		vmsig__audit_record__free_unpacked(record, NULL);
	}
	assert_int_equal(intents, N);
	assert_int_equal(results, N);
}

static void write_all(struct lab *lab, uint64_t step, uint64_t (*word)(uint64_t i))
{
	lab_lease(lab);
	for (uint64_t i = 1; i <= N; i++)
		lab_write(lab, i, ADDR + step * i, word(i));
	lab_await(lab, 1 + N);
	(void)!desk_rest(lab->desk, lab_now());
	lab_settle(lab);
}

static uint64_t own(uint64_t i)
{
	return i * 0x0101010101010101u;
}

static uint64_t nothing(uint64_t i)
{
	return 0;
}

static uint64_t that_of_the_one_before(uint64_t i)
{
	return own(i - 1);
}

static void each_of_many_writes_has_the_hashes_of_its_bytes(void **state)
{
	struct lab *lab = *state;

	write_all(lab, sizeof(uint64_t), own);
	check_records(lab, own, nothing);
}

static void what_an_earlier_one_of_them_has_written_was_there_before(void **state)
{
	struct lab *lab = *state;

	write_all(lab, 0, own);
	check_records(lab, own, that_of_the_one_before);
}

/* The marks have them. */
static void a_kill_after_the_answers_loses_none(void **state)
{
	struct lab *lab = *state;

	lab_lease(lab);
	for (uint64_t i = 1; i <= N; i++)
		lab_write(lab, i, ADDR, own(i));
	lab_await(lab, 1 + N);
	lab_kill(lab);
	lab_turn(lab);
	lab_settle(lab);
	check_records(lab, own, that_of_the_one_before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_of_many_writes_has_the_hashes_of_its_bytes),
		TEST(what_an_earlier_one_of_them_has_written_was_there_before),
		TEST(a_kill_after_the_answers_loses_none),
	};

	return cmocka_run_group_tests_name("hashes", tests, NULL, NULL);
}
