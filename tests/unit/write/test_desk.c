/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The desk without a broker around it: the order of one lease's commands, and what it does while
 * nothing can be recorded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/journal/journal.h"
#include "broker/policy/share.h"
#include "broker/store/marks.h"
#include "tests/unit/write/lab.h"
#include "vmsig/vmsig_error.h"

#define ADDR 0x3000u
#define NS_PER_MS 1000000u

/* Its result would have waited for the next batch, and who writes next for it. */
static void what_was_told_is_recorded_before_the_loop_sleeps(void **state)
{
	struct lab *lab = *state;
	struct journal *journal = store_journal(lab->store);
	uint64_t told;

	lab_lease(lab);
	lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 2);
	told = journal_next_number(journal);
	assert_true(desk_delay(lab->desk, lab_now()) <= NS_PER_MS);
	assert_true(desk_rest(lab->desk, lab_now()));
	assert_true(journal_next_number(journal) > told);
	told = journal_next_number(journal);
	assert_true(desk_delay(lab->desk, lab_now()) > NS_PER_MS);
	assert_false(desk_rest(lab->desk, lab_now()));
	assert_int_equal(journal_next_number(journal), told);
}

/* A release has waited for it, and somebody else for that: no other event need come. */
static void what_waits_for_a_record_is_due_after_a_rest(void **state)
{
	struct lab *lab = *state;
	uint64_t release, lease;

	lab_lease(lab);
	lease = lab->lease;
	lab_write_bulk(lab, 1, 0, 1u << 20);
	assert_int_equal(lab_release(lab), 0);
	release = lab->next_request;
	assert_int_equal(lab_acquire(lab, false), 0);
	lab_await(lab, 2);
	/* Its digests come. */
	while (!desk_rest(lab->desk, lab_now()))
		uv_run(&lab->loop, UV_RUN_ONCE);
	assert_int_equal(lab_count(lab, LAB_RELEASED, release), 0);
	for (unsigned rounds = 0; desk_delay(lab->desk, lab_now()) == 0; rounds++) {
		assert_true(rounds < 8);
		lab_turn(lab);
	}
	assert_int_equal(lab_count(lab, LAB_RELEASED, release), 1);
	assert_true(lab->lease > lease);
}

/* What cannot be recorded is tried again later, and not each time that there is nothing to do. */
static void a_rest_does_not_hurry_a_store_that_fails(void **state)
{
	struct lab *lab = *state;
	uint64_t tried;

	lab_lease(lab);
	lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 2);
	lab_store_works(lab, false);
	assert_true(desk_rest(lab->desk, lab_now()));
	tried = desk_delay(lab->desk, lab_now());
	assert_true(tried > NS_PER_MS);
	assert_false(desk_rest(lab->desk, lab_now()));
	assert_int_equal(desk_delay(lab->desk, lab_now()), tried);
	lab_store_works(lab, true);
	lab_pass(tried);
	lab_turn(lab);
	assert_true(desk_delay(lab->desk, lab_now()) > NS_PER_MS);
}

/* ---- order ---- */

static void a_release_waits_for_stopped_vcpus(void **state)
{
	struct lab *lab = *state;
	uint64_t first, second, third, release, lease;

	lab_lease(lab);
	lease = lab->lease;
	first = lab_write_quiesced(lab, 1, ADDR, 1);
	second = lab_write(lab, 2, ADDR, 2);
	assert_int_equal(lab_release(lab), 0);
	release = lab->next_request;
	third = lab_write(lab, 3, ADDR, 3);
	for (int i = 0; i < 3; i++)
		lab_turn(lab);
	/* The adapter is still at it. */
	assert_non_null(lab->quiesced);
	assert_int_equal(lab_count(lab, LAB_ENDED, lease), 0);
	assert_int_equal(lab_count(lab, LAB_RELEASED, release), 0);
	lab->quiesced(lab->quiesced_arg, 0);
	lab_await(lab, 6);
	assert_int_equal(lab_count(lab, LAB_RELEASED, release), 1);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, first).code, 0);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, second).code, 0);
	assert_int_equal(lab_told(lab, LAB_REJECTED, third).code, VMSIG_ERR_NO_LEASE);
	assert_int_equal(lab_told(lab, LAB_ENDED, lease).code, 0);
	assert_int_equal(lab_word(lab, ADDR), 2);
}

/* Whoever asks twice, after a reconnect say, hears of it when it is done, and no earlier. */
static void a_second_release_is_done_when_the_first_one_is(void **state)
{
	struct lab *lab = *state;
	uint64_t first, second;

	lab_lease(lab);
	lab_write_quiesced(lab, 1, ADDR, 1);
	assert_int_equal(lab_release(lab), 0);
	first = lab->next_request;
	assert_int_equal(lab_release(lab), 0);
	second = lab->next_request;
	for (int i = 0; i < 3; i++)
		lab_turn(lab);
	assert_int_equal(lab_count(lab, LAB_RELEASED, first), 0);
	assert_int_equal(lab_count(lab, LAB_RELEASED, second), 0);
	lab->quiesced(lab->quiesced_arg, 0);
	lab_await(lab, 5);
	assert_int_equal(lab_count(lab, LAB_RELEASED, first), 1);
	assert_int_equal(lab_count(lab, LAB_RELEASED, second), 1);
	assert_int_equal(lab_word(lab, ADDR), 1);
}

/* Which waits for the record of the bytes; then nobody else has to. */
static void what_bulk_data_went_to_is_free_with_the_release(void **state)
{
	struct lab *lab = *state;
	uint64_t release;

	lab_lease(lab);
	lab_write_bulk(lab, 1, 0, 1u << 20);
	assert_int_equal(lab_release(lab), 0);
	release = lab->next_request;
	while (!lab_count(lab, LAB_RELEASED, release))
		lab_turn(lab);
	assert_int_equal(lab_acquire(lab, true), 0);
}

static void what_is_asked_for_behind_a_release_comes_after_it(void **state)
{
	struct lab *lab = *state;
	uint64_t lease;

	lab_lease(lab);
	lease = lab->lease;
	lab_write(lab, 1, ADDR, 1);
	assert_int_equal(lab_release(lab), 0);
	assert_int_equal(lab_acquire(lab, true), 0);
	lab_await(lab, 5);
	assert_true(lab->lease > lease);
	assert_int_equal(lab_count(lab, LAB_ENDED, lease), 1);
	/* Alone it gives back at once. */
	assert_int_equal(lab_release(lab), 0);
	assert_int_equal(lab_acquire(lab, true), 0);
}

static void who_is_not_the_holder_releases_nothing(void **state)
{
	struct lab *lab = *state;
	uint64_t first;

	lab_lease(lab);
	first = lab_write(lab, 1, ADDR, 1);
	lab->token++;
	assert_int_equal(lab_release(lab), VMSIG_ERR_NO_LEASE);
	lab->token--;
	lab_await(lab, 2);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, first).code, 0);
	assert_int_equal(lab_count(lab, LAB_ENDED, lab->lease), 0);
}

static void many_writes_find_their_earlier_transmissions(void **state)
{
	struct lab *lab = *state;
	uint64_t again;

	lab_lease(lab);
	for (uint64_t i = 1; i <= 1000; i++)
		lab_write(lab, i, ADDR, i);
	again = lab_write(lab, 500, ADDR, 500);
	lab_await(lab, 1001);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, again).code, 0);
	assert_int_equal(account_used(&lab->op.account, DESK_WRITES), 0);
	assert_null(lab->op.own);
}

/* All that has waited behind stopped vCPUs goes on at once, but not in one round of the loop. */
static void many_writes_are_done_in_several_rounds(void **state)
{
	struct lab *lab = *state;
	const uint64_t n = 1000;
	uint64_t first;
	size_t before;

	lab_lease(lab);
	first = lab_write_quiesced(lab, 1, ADDR, 1);
	for (uint64_t i = 2; i <= n; i++)
		lab_write(lab, i, ADDR, i);
	while (!lab->quiesced || !desk_delay(lab->desk, lab_now()))
		lab_turn(lab);
	assert_int_equal(lab_count(lab, LAB_WRITTEN, first), 0);
	lab->quiesced(lab->quiesced_arg, 0);
	while (lab->nevents < 1 + n) {
		before = lab->nevents;
		assert_int_equal(desk_delay(lab->desk, lab_now()), 0);
		lab_turn(lab);
		assert_in_range(lab->nevents - before, 0, 100);
	}
	assert_int_equal(lab_word(lab, ADDR), n);
}

static void more_writes_than_there_are_marks_wait_for_some(void **state)
{
	const uint64_t n = MARKS + 1000;
	struct lab *lab = *state;

	lab_lease(lab);
	for (uint64_t i = 1; i <= n; i++)
		lab_write(lab, i, ADDR, i);
	lab_await(lab, 1 + n);
	for (uint64_t i = 1; i <= n; i++)
		assert_int_equal(lab_told(lab, LAB_WRITTEN, i).code, 0);
	assert_int_equal(lab_word(lab, ADDR), n);
}

/* ---- nothing can be recorded ---- */

/* Turns as the loop would make them for so long; how many. */
static unsigned sleep_for(struct lab *lab, uint64_t ns)
{
	unsigned turns = 0;

	while (ns) {
		uint64_t delay;

		if (turns > 1000)
			fail_msg("the loop spins");
		lab_turn(lab);
		turns++;
		delay = desk_delay(lab->desk, lab_now());
		if (delay > ns)
			delay = ns;
		lab_pass(delay);
		ns -= delay;
	}
	return turns;
}

static void a_result_and_an_end_that_are_owed_are_tried_in_turns(void **state)
{
	struct lab *lab = *state;
	uint64_t lease;
	unsigned turns;

	lab_lease(lab);
	lease = lab->lease;
	lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 2);
	/* Its result is not recorded yet. */
	lab_store_works(lab, false);
	assert_int_equal(lab_release(lab), 0);
	lab_await(lab, 3);
	assert_int_equal(lab_told(lab, LAB_RELEASED, lab->next_request).code, VMSIG_ERR_IO);
	lab_tried = (struct lab_tried){0};
	turns = sleep_for(lab, 10000 * LAB_MS);
	/* A retry takes a turn or two, four times a second. */
	assert_in_range(turns, 30, 100);
	/* It is tried each time, and nothing is published. */
	assert_in_range(lab_tried.appended, 30, 250);
	assert_int_equal(lab_tried.committed, 0);
	lab_store_works(lab, true);
	lab_tried = (struct lab_tried){0};
	sleep_for(lab, 1000 * LAB_MS);
	/* All in one transaction. */
	assert_int_equal(lab_tried.committed, 1);
	assert_int_equal(lab_told(lab, LAB_ENDED, lease).code, 0);
	/* Nothing is left to do. */
	assert_int_equal(desk_delay(lab->desk, lab_now()), UINT64_MAX);
	lab_lease(lab);
	assert_true(lab->lease > lease);
	lab_write(lab, 1, ADDR, 2);
	lab_await(lab, 6);
	assert_int_equal(lab_word(lab, ADDR), 2);
}

/* Stored ahead of it, the new one would be the one that a restart drops. */
static void an_end_that_is_owed_is_stored_with_the_next_grant(void **state)
{
	struct lab *lab = *state;
	struct lease_view lease;
	uint64_t cursor = 0, before;

	lab_lease(lab);
	before = lab->lease;
	lab_store_works(lab, false);
	assert_int_equal(lab_release(lab), 0);
	lab_await(lab, 2);
	assert_int_equal(lab_count(lab, LAB_ENDED, before), 0);
	lab_store_works(lab, true);
	assert_int_equal(lab_acquire(lab, true), 0);
	lab_await(lab, 4);
	assert_int_equal(lab_count(lab, LAB_ENDED, before), 1);
	assert_true(lab->lease > before);
	lab_kill(lab);
	assert_true(desk_lease_next(lab->desk, &cursor, &lease));
	assert_int_equal(lease.id, lab->lease);
	assert_false(desk_lease_next(lab->desk, &cursor, &lease));
}

/* What is refused meanwhile, counted and of the first kind, wakes nobody. */
static void refused_requests_do_not_keep_it_awake(void **state)
{
	struct lab *lab = *state;

	lab_lease(lab);
	lab_store_works(lab, false);
	for (int i = 0; i < 100; i++)
		assert_int_equal(lab_acquire(lab, true), VMSIG_ERR_LEASE_HELD);
	assert_in_range(sleep_for(lab, 60000 * LAB_MS), 1, 100);
	lab_store_works(lab, true);
	assert_in_range(sleep_for(lab, 60000 * LAB_MS), 1, 100);
}

static void nothing_is_written_meanwhile(void **state)
{
	struct lab *lab = *state;
	uint64_t id;

	lab_lease(lab);
	lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 2);
	lab_store_works(lab, false);
	lab_pass(2 * LAB_MS);
	lab_turn(lab);
	for (uint64_t i = 2; i < 10; i++) {
		id = lab_write(lab, i, ADDR, i);
		lab_turn(lab);
		assert_int_equal(lab_told(lab, LAB_REJECTED, id).code, VMSIG_ERR_IO);
		lab_pass(100 * LAB_MS);
	}
	assert_int_equal(lab_word(lab, ADDR), 1);
	lab_store_works(lab, true);
	lab_pass(250 * LAB_MS);
	id = lab_write(lab, 2, ADDR, 2);
	lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, 0);
	/* Only answers that are repeated know of the first one now. */
	id = lab_write(lab, 1, ADDR, 1);
	lab_turn(lab);
	assert_true(lab_told(lab, LAB_WRITTEN, id).replayed);
}

/* What stands in the way of the note of their place is found again and again, and then it is not.
 */
static void without_marks_nothing_is_written(void **state)
{
	struct lab *lab = *state;
	char path[96];
	uint64_t id;

	lab_close(lab);
	snprintf(path, sizeof(path), "%s/marks.where", lab->dir);
	(void)unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(lab_open(lab), 0);
	lab_lease(lab);
	id = lab_write(lab, 1, ADDR, 1);
	lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_REJECTED, id).code, VMSIG_ERR_IO);
	assert_int_equal(lab_word(lab, ADDR), 0);
	assert_int_equal(rmdir(path), 0);
	lab_pass(5000 * LAB_MS);
	lab_turn(lab);
	lab_errand(lab);
	id = lab_write(lab, 1, ADDR, 1);
	lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, 0);
	assert_int_equal(lab_word(lab, ADDR), 1);
}

static bool closed;

static void on_closed(void *arg)
{
	closed = true;
}

/* The marks tell the next broker what could not be recorded. */
static void it_ends_though_nothing_can_be_recorded(void **state)
{
	struct lab *lab = *state;
	uint64_t id;

	lab_lease(lab);
	lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 2);
	lab_store_works(lab, false);
	closed = false;
	desk_shell_close(lab->shell, on_closed, NULL);
	for (int i = 0; i < 4; i++)
		lab_turn(lab);
	assert_true(closed);
	lab_kill(lab);
	id = lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 3);
	assert_true(lab_told(lab, LAB_WRITTEN, id).replayed);
}

/* ---- one owner of the transaction ---- */

/* A refused request leaves its record in a transaction that is open until the turn ends. */
static void an_endpoint_is_stored_beside_a_refused_request(void **state)
{
	struct lab *lab = *state;
	struct store_endpoint row;

	lab_lease(lab);
	assert_int_equal(lab_acquire(lab, true), VMSIG_ERR_LEASE_HELD);
	assert_true(store_is_open(lab->store));
	assert_int_equal(store_endpoint(lab->store, "w2", &row), 0);
	/* So is an epoch, whatever becomes of what is open. */
	assert_int_equal(lab_acquire(lab, true), VMSIG_ERR_LEASE_HELD);
	assert_int_equal(store_persist_epoch(lab->store, row.id, 7), 0);
	assert_int_equal(lab_acquire(lab, true), VMSIG_ERR_LEASE_HELD);
	assert_int_equal(store_persist_session(lab->store, row.id, 7, "session"), 0);
	assert_int_equal(lab_acquire(lab, true), VMSIG_ERR_LEASE_HELD);
	store_rollback(lab->store);
	assert_int_equal(store_endpoint(lab->store, "w2", &row), 0);
	assert_int_equal(row.epoch, 7);
	assert_string_equal(row.session, "session");
}

/* ---- in turns ---- */

/* The bulk data turns out to lead nowhere in the very turn in which the last write comes: the one
 * that has waited behind it is the older one all the same. */
static void what_waited_for_a_refused_one_keeps_its_place(void **state)
{
	struct lab *lab = *state;
	uint64_t bulk, last;

	lab_lease(lab);
	bulk = lab_write_bulk(lab, 1, LAB_RAM, 4096);
	lab_turn(lab);
	lab_write(lab, 2, ADDR, 2);
	desk_shell_turn(lab->shell);
	/* Until it has been looked up. */
	while (desk_delay(lab->desk, lab_now())) {
		uv_run(&lab->loop, UV_RUN_NOWAIT);
		(void)shares_run(lab->shares);
	}
	last = lab_write(lab, 3, ADDR, 3);
	lab_await(lab, 4);
	assert_int_not_equal(lab_told(lab, LAB_WRITTEN, bulk).code, 0);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, last).code, 0);
	assert_int_equal(lab_word(lab, ADDR), 3);
}

static void ask_for(struct lab *lab, const struct lease_range *wanted, size_t n)
{
	Vmsig__LeaseAcquire request = VMSIG__LEASE_ACQUIRE__INIT;
	Vmsig__Range ranges[LEASE_RANGES_MAX], *pointers[LEASE_RANGES_MAX];
	char name[] = "w1";
	uint64_t lease;
	bool waits;

	for (size_t i = 0; i < n; i++) {
		vmsig__range__init(&ranges[i]);
		ranges[i].start = wanted[i].start;
		ranges[i].last = wanted[i].last;
		pointers[i] = &ranges[i];
	}
	request.endpoint = name;
	request.ranges = pointers;
	request.n_ranges = n;
	request.ttl_ms = 3600000;
	assert_int_equal(desk_acquire(lab->desk, lab_now(), &lab->op, &request, &lease, &waits), 0);
}

/* Each wants something of both holders and nothing of another one that waits. When one holder
 * goes, the engine has more to compare than it does in one go: the turn ends all the same. */
static void a_long_queue_does_not_hold_the_turn(void **state)
{
	const struct lease_range low = {0, LAB_RAM / 2 - 1}, high = {LAB_RAM / 2, LAB_RAM - 1};
	struct lease_range scattered[LEASE_RANGES_MAX];
	struct lab *lab = *state;
	unsigned turns = 0;

	ask_for(lab, &high, 1);
	ask_for(lab, &low, 1);
	lab_await(lab, 2);
	for (uint64_t i = 0; i < 40; i++) {
		for (uint64_t k = 0; k < LEASE_RANGES_MAX; k++)
			scattered[k].start = scattered[k].last =
				k * (LAB_RAM / LEASE_RANGES_MAX) + i;
		ask_for(lab, scattered, LEASE_RANGES_MAX);
	}
	assert_int_equal(lab_release(lab), 0);
	for (; desk_delay(lab->desk, lab_now()) == 0; turns++)
		lab_turn(lab);
	assert_true(turns > 1);
	/* The release and the end. */
	assert_int_equal(lab->nevents, 4);
}

/* Its name is in what the end of its leases has to say; one that comes back stays. */
static void a_removed_endpoint_is_forgotten_after_its_leases(void **state)
{
	const struct selector_subject w1 = selector_named("w1");
	struct lab *lab = *state;

	lab_lease(lab);
	desk_endpoint_remove(lab->desk, lab->endpoint);
	desk_forget(lab->desk);
	assert_string_equal(desk_endpoint_name(lab->desk, lab->endpoint), "w1");
	desk_endpoint_over(lab->desk, lab_now(), lab->endpoint);
	desk_forget(lab->desk);
	assert_non_null(desk_endpoint_name(lab->desk, lab->endpoint));
	lab_await(lab, 2);
	assert_int_equal(lab->events[1].kind, LAB_ENDED);
	desk_forget(lab->desk);
	assert_null(desk_endpoint_name(lab->desk, lab->endpoint));
	assert_int_equal(desk_endpoint_add(lab->desk, lab->endpoint, &w1), 0);
	desk_endpoint_remove(lab->desk, lab->endpoint);
	assert_int_equal(desk_endpoint_add(lab->desk, lab->endpoint, &w1), 0);
	desk_forget(lab->desk);
	assert_non_null(desk_endpoint_name(lab->desk, lab->endpoint));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_told_is_recorded_before_the_loop_sleeps),
		TEST(what_waits_for_a_record_is_due_after_a_rest),
		TEST(a_rest_does_not_hurry_a_store_that_fails),
		TEST(a_release_waits_for_stopped_vcpus),
		TEST(a_second_release_is_done_when_the_first_one_is),
		TEST(what_bulk_data_went_to_is_free_with_the_release),
		TEST(what_is_asked_for_behind_a_release_comes_after_it),
		TEST(who_is_not_the_holder_releases_nothing),
		TEST(many_writes_find_their_earlier_transmissions),
		TEST(many_writes_are_done_in_several_rounds),
		TEST(more_writes_than_there_are_marks_wait_for_some),
		TEST(a_result_and_an_end_that_are_owed_are_tried_in_turns),
		TEST(an_end_that_is_owed_is_stored_with_the_next_grant),
		TEST(refused_requests_do_not_keep_it_awake),
		TEST(nothing_is_written_meanwhile),
		TEST(without_marks_nothing_is_written),
		TEST(it_ends_though_nothing_can_be_recorded),
		TEST(an_endpoint_is_stored_beside_a_refused_request),
		TEST(what_waited_for_a_refused_one_keeps_its_place),
		TEST(a_long_queue_does_not_hold_the_turn),
		TEST(a_removed_endpoint_is_forgotten_after_its_leases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
