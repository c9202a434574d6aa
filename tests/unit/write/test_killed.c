/* SPDX-License-Identifier: Apache-2.0 */
/* What the desk finds after it was killed: it is told once more, and nothing happens twice. */
#include "tests/unit/write/lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/store/marks.h"
#include "vmsig/vmsig_error.h"

#define ADDR 0x3000u

static void an_outcome_that_was_told_is_told_again(void **state)
{
	struct lab *lab = *state;
	const uint64_t zero = 0;
	uint64_t id;

	lab_lease(lab);
	lab_write(lab, 1, ADDR, 1);
	/* What is wrong with it uses its number up as well. */
	lab_write(lab, 2, LAB_RAM, 1);
	lab_await(lab, 3);
	lab_kill(lab);
	assert_int_equal(pwrite(lab->ram, &zero, sizeof(zero), ADDR), sizeof(zero));
	id = lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 4);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, 0);
	assert_true(lab_told(lab, LAB_WRITTEN, id).replayed);
	assert_int_equal(lab_word(lab, ADDR), 0);
	id = lab_write(lab, 2, LAB_RAM, 1);
	lab_await(lab, 5);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, VMSIG_ERR_OUT_OF_RANGE);
	assert_true(lab_told(lab, LAB_WRITTEN, id).replayed);
}

/* So that the last one of an address is what is there. */
static void what_it_finds_is_recorded_in_the_order_of_the_bytes(void **state)
{
	struct lab *lab = *state;
	struct audit_page page;
	uint64_t last = 0;

	lab_lease(lab);
	for (uint64_t i = 1; i <= 4; i++)
		lab_write(lab, i, ADDR, i);
	lab_await(lab, 5);
	/* Marks are free again, the last ones first. */
	desk_settle(lab->desk, lab_now());
	for (uint64_t i = 5; i <= 8; i++)
		lab_write(lab, i, ADDR, i);
	lab_await(lab, 9);
	lab_kill(lab);
	lab_settle(lab);
	assert_int_equal(audit_page(store_journal(lab->store), 0, UINT64_MAX, 100, &page), 0);
	for (size_t i = 0; i < page.n; i++) {
		Vmsig__AuditRecord *record = vmsig__audit_record__unpack(
			NULL, page.rows[i].body.len, page.rows[i].body.data);

		assert_non_null(record);
		if (record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT) {
			assert_int_equal(record->sequence, ++last);
			assert_int_equal(record->outcome, 0);
			assert_string_equal(record->tenant, "alice");
		}
		vmsig__audit_record__free_unpacked(record, NULL);
	}
	audit_page_free(&page);
	assert_int_equal(last, 8);
}

static void what_was_not_begun_is_new(void **state)
{
	struct lab *lab = *state;
	uint64_t id;

	lab_lease(lab);
	lab_write_quiesced(lab, 1, ADDR, 1);
	lab_write(lab, 2, ADDR, 2);
	for (int i = 0; i < 3; i++)
		lab_turn(lab);
	assert_non_null(lab->quiesced);
	lab->quiesced = NULL;
	lab_kill(lab);
	assert_int_equal(lab_word(lab, ADDR), 0);
	/* With another body too: the number was not used. */
	id = lab_write(lab, 1, ADDR, 3);
	lab_await(lab, 2);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, 0);
	assert_false(lab_told(lab, LAB_WRITTEN, id).replayed);
	assert_int_equal(lab_word(lab, ADDR), 3);
}

/* The policy is another one when the broker comes back. */
static void a_lease_that_the_policy_took_away_does_not_survive(void **state)
{
	struct grant_range range = {.gpa = 0, .len = 0x1000};
	struct lab *lab = *state;
	struct grant_rule *rule = lab->config.tenants->rules;
	uint64_t lease, id;

	lab_lease(lab);
	lease = lab->lease;
	rule->ranges = &range;
	rule->nranges = 1;
	lab_kill(lab);
	id = lab_write(lab, 1, ADDR, 1);
	for (int i = 0; i < 3; i++)
		lab_turn(lab);
	rule->nranges = 0;
	assert_int_not_equal(lab_told(lab, LAB_REJECTED, id).code, 0);
	assert_false(desk_lease_find(lab->desk, lease, &(struct lease_view){0}));
	assert_int_equal(lab_word(lab, ADDR), 0);
}

/* The marks tell of it, once they are there: nothing is guessed before. */
static void marks_that_come_late_tell_all_the_same(void **state)
{
	struct lab *lab = *state;
	uint64_t id;
	int fd;

	lab_lease(lab);
	lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 2);
	fd = lab_kill_while_marks_are_used(lab);
	id = lab_write(lab, 1, ADDR, 1);
	lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_REJECTED, id).code, VMSIG_ERR_IO);
	close(fd);
	lab_pass(5000 * LAB_MS);
	lab_turn(lab);
	/* The turn has asked for them, and goes on without. */
	id = lab_write(lab, 1, ADDR, 1);
	lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_REJECTED, id).code, VMSIG_ERR_IO);
	lab_errand(lab);
	lab_turn(lab);
	lab_turn(lab);
	id = lab_write(lab, 1, ADDR, 1);
	lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, 0);
	assert_true(lab_told(lab, LAB_WRITTEN, id).replayed);
}

/* How many of the bytes are there, which must be the first ones. */
static size_t bulk_there(struct lab *lab, size_t len)
{
	uint8_t *ram = malloc(len);
	size_t n = 0;

	assert_non_null(ram);
	assert_int_equal(pread(lab->ram, ram, len, 0), len);
	while (n < len && ram[n])
		n++;
	for (size_t i = n; i < len; i++)
		assert_int_equal(ram[i], 0);
	free(ram);
	return n;
}

static void of_bulk_data_it_knows_the_length(void **state)
{
	const size_t len = 3u << 20;
	struct lab *lab = *state;
	struct lab_event told;
	uint64_t id;
	size_t there;

	lab_lease(lab);
	lab_write_bulk(lab, 1, 0, len);
	while (!(there = bulk_there(lab, len)))
		lab_turn(lab);
	/* A thread is at the next part. */
	assert_true(there < len);
	lab_kill(lab);
	assert_int_equal(bulk_there(lab, len), there);
	id = lab_write_bulk(lab, 1, 0, len);
	while (!lab_count(lab, LAB_WRITTEN, id))
		lab_turn(lab);
	told = lab_told(lab, LAB_WRITTEN, id);
	assert_int_equal(told.code, VMSIG_ERR_PARTIAL);
	assert_int_equal(told.written, there);
	assert_true(told.replayed);
	assert_int_equal(bulk_there(lab, len), there);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_outcome_that_was_told_is_told_again),
		TEST(what_it_finds_is_recorded_in_the_order_of_the_bytes),
		TEST(what_was_not_begun_is_new),
		TEST(a_lease_that_the_policy_took_away_does_not_survive),
		TEST(marks_that_come_late_tell_all_the_same),
		TEST(of_bulk_data_it_knows_the_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
