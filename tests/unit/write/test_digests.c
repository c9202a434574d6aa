/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk data is answered before it is hashed: what waits for its digests, what a broker that is
 * killed meanwhile leaves, and that nothing is glossed over. */
#include <string.h>
#include <unistd.h>

#include "broker/write/state.h"
#include "tests/unit/write/lab.h"
#include "vmsig/vmsig_error.h"

#define LEN (3u << 20) /* three parts */

static const struct lab_bulk ones = {.len = LEN, .fill = 1};
static const struct lab_bulk twos = {.len = LEN, .fill = 2};

static void await_told(struct lab *lab, enum lab_kind kind, uint64_t id)
{
	while (!lab_count(lab, kind, id))
		lab_turn(lab);
}

/* The newest result; NULL: there is none. */
static Vmsig__AuditRecord *result_find(struct lab *lab)
{
	Vmsig__AuditRecord *record;
	struct audit_head head;

	lab_settle(lab);
	audit_head(lab->shell->audit, &head);
	for (uint64_t id = head.id; id; id--) {
		assert_int_equal(audit_get(lab->shell->audit, id, &record), 0);
		if (record->kind == VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT)
			return record;
		vmsig__audit_record__free_unpacked(record, NULL);
	}
	return NULL;
}

static void record_free(Vmsig__AuditRecord *record)
{
	vmsig__audit_record__free_unpacked(record, NULL);
}

static void check_hash(struct lab *lab, const ProtobufCBinaryData *hash, int fill, size_t len)
{
	uint8_t *bytes = malloc(len), expected[DESK_HASH];

	assert_non_null(bytes);
	memset(bytes, fill, len);
	assert_int_equal(audit_digest(lab->shell->audit, bytes, len, expected), 0);
	free(bytes);
	assert_int_equal(hash->len, DESK_HASH);
	assert_memory_equal(hash->data, expected, DESK_HASH);
}

static void check_newest(struct lab *lab, int fill, int fill_before, size_t len)
{
	Vmsig__AuditRecord *record = result_find(lab);

	assert_non_null(record);
	check_hash(lab, &record->new_hash, fill, len);
	check_hash(lab, &record->old_hash, fill_before, len);
	assert_int_equal(record->bytes, len);
	record_free(record);
}

/* Both digests are right, however much of what was there is kept. */
static void check_digests(struct lab *lab)
{
	uint64_t release;

	lab_lease(lab);
	await_told(lab, LAB_WRITTEN, lab_send_bulk(lab, 1, &ones));
	await_told(lab, LAB_WRITTEN, lab_send_bulk(lab, 2, &twos));
	assert_int_equal(lab_release(lab), 0);
	release = lab->next_request;
	await_told(lab, LAB_RELEASED, release);
	check_newest(lab, 2, 1, LEN);
}

static void digests_are_right_when_what_was_there_is_kept(void **state)
{
	check_digests(*state);
}

static void digests_are_right_without_room_to_keep_it(void **state)
{
	struct lab *lab = *state;

	lab->config.bulk_old = 0;
	desk_shell_reload(lab->shell, &lab->config);
	check_digests(lab);
}

static unsigned rooms_taken;

static uint8_t *take_one_room(void *ctx, bool *ret_fresh)
{
	if (!rooms_taken++)
		return desk_room_take(ctx, ret_fresh);
	*ret_fresh = true;
	return NULL;
}

/* A room that could not be had is not touched either. */
static void digests_are_right_when_memory_to_keep_it_ends(void **state)
{
	const struct lab_bulk all = {.len = LAB_RAM, .fill = 1};
	struct lab *lab = *state;
	struct desk_bulk_ops ops = *lab->desk->env.ops.bulk;
	const struct desk_bulk_ops *usual = lab->desk->env.ops.bulk;

	rooms_taken = 0;
	ops.room_take = take_one_room;
	lab->desk->env.ops.bulk = &ops;
	lab->config.bulk_old = 4ull * LAB_RAM;
	desk_shell_reload(lab->shell, &lab->config);
	lab_lease(lab);
	await_told(lab, LAB_WRITTEN, lab_send_bulk(lab, 1, &all));
	assert_int_equal(rooms_taken, 2);
	assert_int_equal(lab_release(lab), 0);
	await_told(lab, LAB_RELEASED, lab->next_request);
	lab->desk->env.ops.bulk = usual;
	check_newest(lab, 1, 0, LAB_RAM);
}

/* ---- what waits ---- */

static void the_answer_comes_before_the_record_and_a_release_after_it(void **state)
{
	struct lab *lab = *state;
	Vmsig__AuditRecord *record;
	uint64_t release, id;

	lab_lease(lab);
	id = lab_send_bulk(lab, 1, &ones);
	assert_int_equal(lab_release(lab), 0);
	release = lab->next_request;
	await_told(lab, LAB_WRITTEN, id);
	assert_int_equal(lab_count(lab, LAB_RELEASED, release), 0);
	assert_null(result_find(lab));
	await_told(lab, LAB_RELEASED, release);
	record = result_find(lab);
	assert_non_null(record);
	check_hash(lab, &record->new_hash, 1, LEN);
	check_hash(lab, &record->old_hash, 0, LEN);
	record_free(record);
}

static void on_revoked(struct desk_wait *wait, int error, const char *detail)
{
	assert_int_equal(error, 0);
	wait->done = NULL;
}

static void an_administrator_s_end_comes_after_the_record(void **state)
{
	static char star[] = "*", root[] = "root";
	static char *all[] = {star};
	const struct tenant tenant = {.name = root, .endpoints = all, .nendpoints = 1};
	const struct desk_admin admin = {.tenant = &tenant, .serial = "1"};
	struct desk_wait wait = {.done = on_revoked};
	struct lab *lab = *state;
	bool later;
	uint64_t id;

	lab_lease(lab);
	id = lab_send_bulk(lab, 1, &ones);
	await_told(lab, LAB_WRITTEN, id);
	assert_int_equal(desk_revoke(lab->desk, lab_now(), &admin, lab->lease, &wait, &later), 0);
	assert_true(later);
	desk_shell_turn(lab->shell);
	assert_int_equal(lab_count(lab, LAB_ENDED, lab->lease), 0);
	assert_non_null(wait.done);
	await_told(lab, LAB_ENDED, lab->lease);
	assert_null(wait.done);
	record_free(result_find(lab));
	/* Somebody else's, from then on. */
	assert_int_equal(lab_acquire(lab, true), 0);
}

/* Nobody waits for a digest to write. */
static void other_writes_go_on_meanwhile(void **state)
{
	struct lab *lab = *state;
	uint64_t id;

	lab_lease(lab);
	await_told(lab, LAB_WRITTEN, lab_send_bulk(lab, 1, &ones));
	id = lab_write(lab, 2, 0x100, 7);
	desk_shell_turn(lab->shell);
	assert_int_equal(lab_count(lab, LAB_WRITTEN, id), 1);
	assert_null(result_find(lab));
}

/* ---- once more ---- */

static void a_repeated_one_has_its_answer_with_the_digests(void **state)
{
	struct lab *lab = *state;
	uint64_t again, other;

	lab_lease(lab);
	await_told(lab, LAB_WRITTEN, lab_send_bulk(lab, 1, &ones));
	again = lab_send_bulk(lab, 1, &ones);
	other = lab_send_bulk(lab, 1, &twos);
	desk_shell_turn(lab->shell);
	assert_int_equal(lab_count(lab, LAB_WRITTEN, again), 0);
	await_told(lab, LAB_WRITTEN, again);
	assert_true(lab_told(lab, LAB_WRITTEN, again).replayed);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, again).written, LEN);
	await_told(lab, LAB_REJECTED, other);
	assert_int_equal(lab_told(lab, LAB_REJECTED, other).code, VMSIG_ERR_REPLAY_MISMATCH);
	assert_int_equal(lab_word(lab, 0), 0x0101010101010101);
}

/* ---- a crash before the digests ---- */

static void what_was_told_is_known_and_that_there_are_no_digests_is_said(void **state)
{
	struct lab *lab = *state;
	Vmsig__AuditRecord *record;

	lab_lease(lab);
	await_told(lab, LAB_WRITTEN, lab_send_bulk(lab, 1, &ones));
	lab_kill(lab);
	record = result_find(lab);
	assert_non_null(record);
	assert_int_equal(record->outcome, VMSIG_ERR_OK);
	assert_int_equal(record->bytes, LEN);
	assert_int_equal(record->new_hash.len, 0);
	assert_int_equal(record->old_hash.len, 0);
	assert_non_null(strstr(record->detail, "digests"));
	assert_non_null(strstr(record->detail, "not recorded"));
	record_free(record);
}

static void after_it_a_repeated_one_is_compared_all_the_same(void **state)
{
	struct lab *lab = *state;
	uint64_t again, other;

	lab_lease(lab);
	await_told(lab, LAB_WRITTEN, lab_send_bulk(lab, 1, &ones));
	lab_kill(lab);
	other = lab_send_bulk(lab, 1, &twos);
	await_told(lab, LAB_REJECTED, other);
	assert_int_equal(lab_told(lab, LAB_REJECTED, other).code, VMSIG_ERR_REPLAY_MISMATCH);
	again = lab_send_bulk(lab, 1, &ones);
	await_told(lab, LAB_WRITTEN, again);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, again).code, VMSIG_ERR_OK);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, again).written, LEN);
	assert_true(lab_told(lab, LAB_WRITTEN, again).replayed);
}

static void so_is_one_that_was_cut_off(void **state)
{
	struct lab *lab = *state;
	uint64_t again, other, there = 0;

	lab_lease(lab);
	lab_send_bulk(lab, 1, &ones);
	while (!lab_word(lab, 0))
		lab_turn(lab);
	while (there < LEN && lab_word(lab, there))
		there += 4096;
	assert_true(there < LEN);
	lab_kill(lab);
	other = lab_send_bulk(lab, 1, &twos);
	await_told(lab, LAB_REJECTED, other);
	assert_int_equal(lab_told(lab, LAB_REJECTED, other).code, VMSIG_ERR_REPLAY_MISMATCH);
	again = lab_send_bulk(lab, 1, &ones);
	await_told(lab, LAB_WRITTEN, again);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, again).code, VMSIG_ERR_PARTIAL);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, again).written, there);
}

/* ---- vCPUs ---- */

static void vcpus_stand_still_from_the_first_slice_to_the_last(void **state)
{
	const struct lab_bulk quiesced = {.len = LEN, .fill = 1, .quiesce = true};
	struct lab *lab = *state;
	uint64_t id;

	lab_lease(lab);
	id = lab_send_bulk(lab, 1, &quiesced);
	while (!lab->quiesced)
		lab_turn(lab);
	assert_int_equal(lab_word(lab, 0), 0);
	lab->quiesced(lab->quiesced_arg, 0);
	while (!lab_word(lab, 0)) {
		assert_non_null(lab->quiesced);
		lab_turn(lab);
	}
	/* Parts of it are still to come. */
	assert_int_equal(lab_word(lab, LEN - 8), 0);
	assert_non_null(lab->quiesced);
	await_told(lab, LAB_WRITTEN, id);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, VMSIG_ERR_OK);
	assert_null(lab->quiesced);
}

static void when_they_go_on_early_the_rest_is_not_written(void **state)
{
	const struct lab_bulk quiesced = {.len = LEN, .fill = 1, .quiesce = true};
	struct lab *lab = *state;
	uint64_t id;

	lab_lease(lab);
	id = lab_send_bulk(lab, 1, &quiesced);
	while (!lab->quiesced)
		lab_turn(lab);
	lab->quiesced(lab->quiesced_arg, 0);
	while (!lab_word(lab, 0))
		lab_turn(lab);
	/* Their bound is over. */
	lab->quiesced = NULL;
	await_told(lab, LAB_WRITTEN, id);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, VMSIG_ERR_PARTIAL);
	assert_true(lab_told(lab, LAB_WRITTEN, id).written < LEN);
}

static void vcpus_that_do_not_stop_leave_nothing_written(void **state)
{
	const struct lab_bulk quiesced = {.len = LEN, .fill = 1, .quiesce = true};
	struct lab *lab = *state;
	uint64_t id;

	lab_lease(lab);
	id = lab_send_bulk(lab, 1, &quiesced);
	while (!lab->quiesced)
		lab_turn(lab);
	lab->quiesced(lab->quiesced_arg, VMSIG_ERR_TIMEOUT);
	lab->quiesced = NULL;
	await_told(lab, LAB_WRITTEN, id);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, VMSIG_ERR_TIMEOUT);
	assert_int_equal(lab_word(lab, 0), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(digests_are_right_when_what_was_there_is_kept),
		TEST(digests_are_right_without_room_to_keep_it),
		TEST(digests_are_right_when_memory_to_keep_it_ends),
		TEST(the_answer_comes_before_the_record_and_a_release_after_it),
		TEST(an_administrator_s_end_comes_after_the_record),
		TEST(other_writes_go_on_meanwhile),
		TEST(a_repeated_one_has_its_answer_with_the_digests),
		TEST(what_was_told_is_known_and_that_there_are_no_digests_is_said),
		TEST(after_it_a_repeated_one_is_compared_all_the_same),
		TEST(so_is_one_that_was_cut_off),
		TEST(vcpus_stand_still_from_the_first_slice_to_the_last),
		TEST(when_they_go_on_early_the_rest_is_not_written),
		TEST(vcpus_that_do_not_stop_leave_nothing_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
