/* SPDX-License-Identifier: Apache-2.0 */
/* Whether RAM went back in time, from looks whose times are the test's own; QEMU's answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/adapters/qemu/look.h"
#include "broker/adapters/qemu/restore.h"

#define S 1000000000ull
#define MS 1000000ull
#define DAY 1795718127000000ull /* us */

/* A QEMU: two clocks, the host's and the guest's. */
static struct {
	struct restore restore;
	uint64_t host_ns, guest_ns;
	bool running, has_clock, stuck;
	bool restorable;
	uint64_t newest_us;
} world;

static void begin(bool restorable);

static void pass(uint64_t ns)
{
	world.host_ns += ns;
	if (world.running && !world.stuck)
		world.guest_ns += ns;
}

static void stop(bool ours)
{
	world.running = false;
	restore_stopped(&world.restore, world.host_ns, ours);
}

static void go_on(bool ours)
{
	restore_resumed(&world.restore, world.host_ns, ours);
	world.running = true;
}

static struct restore_look look(void)
{
	return (struct restore_look){.running = world.running,
		.listed = true,
		.restorable = world.restorable,
		.newest_us = world.newest_us,
		.now_us = DAY + world.host_ns / 1000,
		.clock = world.has_clock,
		.value_ns = world.guest_ns,
		.asked_ns = world.host_ns - 1 * MS,
		.answered_ns = world.host_ns + 1 * MS};
}

static enum restore_verdict judge(void)
{
	struct restore_look now = look();
	const char *why = NULL;
	enum restore_verdict verdict = restore_judge(&world.restore, &now, &why);

	if (verdict == RESTORE_REPLACED)
		assert_non_null(why);
	return verdict;
}

/* One odd reading is looked at again. */
static void expect_replaced(void)
{
	enum restore_verdict verdict = judge();

	if (verdict == RESTORE_AGAIN) {
		assert_true(restore_in_doubt(&world.restore));
		pass(10 * MS);
		verdict = judge();
	}
	assert_int_equal(verdict, RESTORE_REPLACED);
}

static void expect_same(void)
{
	assert_int_equal(judge(), RESTORE_SAME);
	assert_false(restore_in_doubt(&world.restore));
}

static void begin(bool restorable)
{
	struct restore_look now;

	memset(&world, 0, sizeof(world));
	world.host_ns = 1000 * S;
	world.guest_ns = 70 * S;
	world.running = world.has_clock = true;
	world.restorable = restorable;
	world.newest_us = restorable ? DAY : 0; /* long before */
	now = look();
	restore_begin(&world.restore, &now);
}

/* The clock is only believed once it has been seen to run. */
static void begin_trusted(void)
{
	begin(true);
	pass(S);
	expect_same();
}

static void load(uint64_t age_ns)
{
	bool was_running = world.running;

	if (was_running)
		stop(false);
	world.guest_ns -= age_ns;
	pass(300 * MS);
	if (was_running)
		go_on(false);
}

static void without_snapshots_a_stop_is_a_stop(void **state)
{
	begin(false);
	world.has_clock = false;
	for (int i = 0; i < 5; i++) {
		pass(3 * S);
		stop(false);
		assert_true(restore_in_doubt(&world.restore));
		expect_same();
		pass(60 * S);
		go_on(false);
		expect_same();
	}
}

static void the_first_snapshot_is_no_restore(void **state)
{
	begin(false);
	pass(3 * S);
	stop(false);
	pass(S);
	world.restorable = true;
	world.newest_us = DAY + world.host_ns / 1000;
	go_on(false);
	expect_same();
	/* From now on there is something to load, and the clock has not been seen to run. */
	load(10 * MS);
	expect_replaced();
}

static void the_first_snapshot_can_be_loaded_at_once(void **state)
{
	begin(false);
	stop(false);
	world.restorable = true;
	world.newest_us = DAY + world.host_ns / 1000;
	go_on(false);
	load(10 * MS);
	expect_replaced();
}

static void the_clock_tells_a_stop_from_a_restore(void **state)
{
	begin_trusted();
	for (int i = 0; i < 3; i++) {
		pass(5 * S);
		stop(false);
		pass(600 * S);
		go_on(false);
		pass(20 * MS);
		expect_same();
	}
	pass(5 * S);
	load(4 * S);
	expect_replaced();
}

static void a_snapshot_of_the_future_is_one_too(void **state)
{
	begin_trusted();
	load((uint64_t) - (90 * (int64_t)S));
	expect_replaced();
}

static void a_paused_guest_leaves_no_room(void **state)
{
	begin_trusted();
	stop(false);
	expect_same();
	pass(60 * S);
	expect_same();
	load(1 * MS);
	expect_replaced();
}

/* Found while it stands still; what comes is judged by the clock that was seen to run before. */
static void a_guest_restored_while_paused_goes_on(void **state)
{
	struct restore_look now;

	begin_trusted();
	stop(false);
	expect_same();
	load(5 * S);
	expect_replaced();
	now = look();
	restore_begin(&world.restore, &now);
	pass(30 * S);
	go_on(false);
	pass(20 * MS);
	expect_same();
	pass(S);
	load(5 * S);
	expect_replaced();
}

/* No event of others: it was in the window of a quiesced write. */
static void a_restore_while_we_hold_the_guest(void **state)
{
	begin_trusted();
	pass(S);
	stop(true);
	assert_false(restore_in_doubt(&world.restore));
	pass(10 * MS);
	go_on(true);
	pass(S);
	expect_same();
	stop(true);
	world.guest_ns -= 2 * S;
	go_on(true);
	pass(S);
	expect_replaced();
}

static void without_a_clock_a_stop_counts_as_a_restore(void **state)
{
	begin(true);
	world.has_clock = false;
	pass(S);
	expect_same();
	/* Our own does not, or no write could be quiesced. */
	stop(true);
	go_on(true);
	expect_same();
	stop(false);
	expect_replaced();
}

static void a_clock_that_does_not_run_is_none(void **state)
{
	begin(true);
	world.stuck = true;
	for (int i = 0; i < 5; i++) {
		pass(S);
		expect_same();
	}
	stop(false);
	go_on(false);
	expect_replaced();
}

static void a_lost_connection_is_bridged_by_the_clock(void **state)
{
	begin_trusted();
	restore_missed(&world.restore);
	pass(30 * S);
	expect_same();
	/* A stop that nobody heard of looks like any other gap. */
	restore_missed(&world.restore);
	world.running = false;
	pass(2 * S);
	world.running = true;
	pass(30 * S);
	expect_replaced();
}

/* However often it is looked at. */
static void trust_takes_its_time(void **state)
{
	begin(true);
	for (int i = 0; i < 20; i++) {
		pass(30 * MS);
		expect_same();
	}
	stop(false);
	pass(S);
	go_on(false);
	expect_same();
	begin(true);
	world.stuck = true;
	for (int i = 0; i < 40; i++) {
		pass(30 * MS);
		expect_same();
	}
	stop(false);
	expect_replaced();
}

/* Within the slack of the clock; the snapshot's date tells. */
static void a_young_snapshot_is_beyond_the_clock(void **state)
{
	begin_trusted();
	stop(false);
	world.newest_us = DAY + world.host_ns / 1000;
	go_on(false);
	expect_same(); /* it was being made */
	pass(50 * MS);
	load(50 * MS);
	expect_replaced();
}

static void a_guest_that_wakes_sets_its_clock(void **state)
{
	begin_trusted();
	restore_distrust(&world.restore);
	world.guest_ns = 0;
	expect_same();
	pass(S);
	expect_same();
	load(500 * MS);
	expect_replaced();
}

/* ---- QEMU's answers ---- */

static struct restore_look snapshots(const char *text)
{
	struct restore_look got = {.now_us = DAY};
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);

	look_snapshots(&got, json);
	json_decref(json);
	return got;
}

static void snapshots_with_ram_count(void **state)
{
	struct restore_look got = snapshots("[{\"image\": {\"filename\": \"a\"}}, {}, 7]");

	assert_true(got.listed);
	assert_false(got.restorable);
	got = snapshots(
		"[{\"image\": {\"snapshots\": [{\"vm-state-size\": 0, \"date-sec\": 9}]}}]");
	assert_false(got.restorable);
	got = snapshots("[{\"image\": {\"snapshots\": ["
			"{\"vm-state-size\": 1, \"date-sec\": 7, \"date-nsec\": 5000}, "
			"{\"vm-state-size\": 1, \"date-sec\": 6}]}}]");
	assert_true(got.restorable);
	assert_int_equal(got.newest_us, 7000005);
	/* Not known is not none. */
	look_snapshots(&got, NULL);
	assert_true(got.listed && got.restorable);
	got = snapshots("{}");
	assert_true(got.restorable);
}

static void the_clock_is_read_or_is_none(void **state)
{
	static const char *const none[] = {"", "00000000fed000f0: Cannot access memory\r\n",
		"00000000fed000f0: 0x00000001\r\n", "0x1 0x2", "xp: unknown command\r\n"};
	struct restore_look got = {0};

	look_clock(&got, "00000000fed000f0: 0x0a8c72c5 0x00000003\r\n");
	assert_true(got.clock);
	assert_int_equal(got.value_ns, 0x30a8c72c5ull * 10);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		look_clock(&got, none[i]);
		assert_false(got.clock);
	}
	look_clock(&got, NULL);
	assert_false(got.clock);
}

static void jobs_that_load(void **state)
{
	char load_job[LOOK_JOB_MAX];
	json_t *list =
		json_loads("[{\"type\": \"backup\", \"id\": \"a\", \"status\": \"running\"}, "
			   "{\"type\": \"snapshot-load\", \"id\": \"b\", "
			   "\"status\": \"running\"}, 4]",
			0, NULL);

	look_jobs(load_job, list);
	assert_string_equal(load_job, "running b");
	json_array_remove(list, 1);
	look_jobs(load_job, list);
	assert_string_equal(load_job, "");
	look_jobs(load_job, NULL);
	assert_string_equal(load_job, "");
	json_decref(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_snapshots_a_stop_is_a_stop),
		cmocka_unit_test(the_first_snapshot_is_no_restore),
		cmocka_unit_test(the_first_snapshot_can_be_loaded_at_once),
		cmocka_unit_test(the_clock_tells_a_stop_from_a_restore),
		cmocka_unit_test(a_snapshot_of_the_future_is_one_too),
		cmocka_unit_test(a_paused_guest_leaves_no_room),
		cmocka_unit_test(a_guest_restored_while_paused_goes_on),
		cmocka_unit_test(a_restore_while_we_hold_the_guest),
		cmocka_unit_test(without_a_clock_a_stop_counts_as_a_restore),
		cmocka_unit_test(a_clock_that_does_not_run_is_none),
		cmocka_unit_test(a_lost_connection_is_bridged_by_the_clock),
		cmocka_unit_test(trust_takes_its_time),
		cmocka_unit_test(a_young_snapshot_is_beyond_the_clock),
		cmocka_unit_test(a_guest_that_wakes_sets_its_clock),
		cmocka_unit_test(snapshots_with_ram_count),
		cmocka_unit_test(the_clock_is_read_or_is_none),
		cmocka_unit_test(jobs_that_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
