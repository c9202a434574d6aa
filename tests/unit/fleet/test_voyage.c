/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's way from one host to the next, with what goes along: it is owned there with all of it
 * or not at all, whatever memory, disk, etcd, QEMU and whoever writes into etcd do meanwhile.
 */
#include "tests/unit/fleet/lab.h"

#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define KERNEL "kernel"

/* It is complete: the session at the source ends then. */
static void leave(void)
{
	lab_step(&lab.here, PASSAGE_LEFT);
	assert_true(lab_over(&lab.here));
	lab_run();
}

static void arrive(void)
{
	lab.there.passage.arrived(lab.there.passage.ctx, LAB_ENDPOINT);
	lab_serve(&lab.there, KERNEL, true);
}

static void has_moved(void)
{
	assert_true(lab_may_write(&lab.there));
	assert_string_equal(lab.there.got, "what goes along");
	assert_int_equal(lab.there.epoch, lab.here.epoch);
	lab_pass(3 * LAB_SECOND);
	assert_int_equal(lab.here.moved, 1);
	assert_string_equal(lab.here.went_to, "there");
	assert_int_equal(lab.here.lost, 0);
}

static void it_moves_with_all_that_goes_along(void **state)
{
	size_t len;

	lab_begin();
	lab.there.epoch = 1;
	leave();
	assert_string_equal(lab_value("baggage", &len), "what goes along");
	lab.there.steps = 3;
	arrive();
	/* Bit by bit, each in a turn of its own. */
	assert_int_equal(lab.there.unpacked, 1);
	assert_int_equal(lab.there.owned, 0);
	assert_false(lab_may_write(&lab.there));
	for (unsigned steps = 2; steps <= 4; steps++) {
		lab_pass(1);
		assert_int_equal(lab.there.unpacked, steps);
	}
	assert_int_equal(lab.there.owned, 1);
	has_moved();
	assert_null(lab_value("baggage", &len));
}

static void what_is_left_is_counted_from_its_arrival(void **state)
{
	lab_begin();
	leave();
	lab.there.unpack = VMSIG_ERR_IO;
	lab.there.passage.arrived(lab.there.passage.ctx, LAB_ENDPOINT);
	lab_pass(3 * LAB_SECOND);
	lab_serve(&lab.there, KERNEL, true);
	assert_int_equal(lab.there.intake.age_ns, 4 * LAB_SECOND);
	assert_int_equal(lab.there.intake.now_ns, lab.now_ns);
	assert_int_equal(lab.there.intake.epoch_max, lab.here.epoch);
	assert_int_equal(lab.there.intake.endpoint, LAB_ENDPOINT);
}

/* The guest is not owned without what came with it, for want of memory or anything else. */
static void no_memory_is_needed_for_it(void **state)
{
	lab_begin();
	leave();
	lab.there.unpack = VMSIG_ERR_IO;
	arrive();
	assert_int_equal(lab.there.unpacked, 1);
	lab.there.unpack = 0;
	lab.without_memory = true;
	fleet_shell_turn(&lab.there.shell);
	lab.now_ns += LAB_SECOND;
	fleet_shell_turn(&lab.there.shell);
	assert_string_equal(lab.there.got, "what goes along");
	lab.without_memory = false;
	lab_pass(LAB_SECOND);
	has_moved();
}

/* A disk that is full is asked less and less, and not for ever. */
static void what_cannot_be_stored_is_tried_for_a_bound(void **state)
{
	uint64_t began_ns;
	size_t len;

	lab_begin();
	leave();
	lab.there.unpack = VMSIG_ERR_IO;
	began_ns = lab.now_ns;
	arrive();
	while (lab.now_ns - began_ns < 59 * LAB_SECOND) {
		assert_false(lab_may_write(&lab.there));
		lab_pass(10 * LAB_MS);
	}
	assert_int_equal(lab.there.owned, 0);
	assert_in_range(lab.there.unpacked, 10, 60);
	assert_non_null(lab_value("baggage", &len));
	lab_pass(5 * LAB_SECOND);
	lab_pass(LAB_SECOND);
	assert_int_equal(lab.there.owned, 1);
	assert_true(lab_may_write(&lab.there));
	assert_null(lab_value("baggage", &len));
}

static void what_can_be_stored_later_is(void **state)
{
	lab_begin();
	leave();
	lab.there.unpack = VMSIG_ERR_IO;
	arrive();
	lab_pass(5 * LAB_SECOND);
	lab_pass(5 * LAB_SECOND);
	lab.there.unpack = 0;
	lab_pass(2 * LAB_SECOND);
	has_moved();
}

static void damage_is_said_once_and_is_the_end_of_it(void **state)
{
	lab_begin();
	leave();
	lab.there.unpack = VMSIG_ERR_INTERNAL;
	arrive();
	assert_int_equal(lab.there.unpacked, 1);
	assert_true(lab_may_write(&lab.there));
}

/* ---- foreign input ---- */

static void more_than_there_may_be_is_not_even_read(void **state)
{
	size_t len = FLEET_BAGGAGE_MAX + 1;
	char *much = calloc(1, len);

	assert_non_null(much);
	lab_begin();
	leave();
	lab_put("baggage", much, len);
	free(much);
	arrive();
	assert_int_equal(lab.there.unpacked, 0);
	assert_true(lab_may_write(&lab.there));
	assert_null(lab_value("baggage", &len));
	/* The guest's epoch goes on all the same. */
	assert_int_equal(lab.there.epoch, lab.here.epoch);
}

/* One that nobody reserved may be another's yet. */
static void an_epoch_that_was_not_reserved_is_not_kept(void **state)
{
	char text[DEED_TEXT_MAX];
	struct deed deed;

	lab_begin();
	leave();
	lab_deed(&deed);
	deed.epoch = deed.reserved + 50;
	deed.change++;
	lab_put("mark", text, deed_write(&deed, text));
	arrive();
	lab_pass(LAB_SECOND);
	assert_true(lab_may_write(&lab.there));
	assert_true(lab.there.epoch > deed.reserved);
	assert_int_not_equal(lab.there.epoch, deed.epoch);
}

/* ---- another boot ---- */

/* Of a kernel that is at no random place the next boot looks the same. */
static void one_that_is_reset_on_its_way_is_another_one(void **state)
{
	uint32_t before;
	size_t len;

	lab_begin();
	before = lab.here.epoch;
	lab.here.passage.over(lab.here.passage.ctx, LAB_ENDPOINT);
	lab_step(&lab.here, PASSAGE_LEFT);
	/* Its leases end: they were of the boot before. */
	assert_false(lab_over(&lab.here));
	lab_run();
	assert_int_equal(lab.here.packed, 0);
	(void)lab_value("baggage", &len);
	assert_int_equal(len, 0);
	arrive();
	lab_pass(LAB_SECOND);
	assert_true(lab_may_write(&lab.there));
	assert_int_equal(lab.there.unpacked, 0);
	assert_true(lab.there.epoch > before);
}

static void one_that_was_reset_before_and_is_not_proven_too(void **state)
{
	uint32_t before;

	lab_add(&lab.here);
	lab_add(&lab.there);
	lab_serve(&lab.here, KERNEL, true);
	before = lab.here.epoch;
	lab.here.passage.over(lab.here.passage.ctx, LAB_ENDPOINT);
	assert_false(lab_over(&lab.here));
	lab_step(&lab.there, PASSAGE_COMES);
	lab_step(&lab.here, PASSAGE_LEAVES);
	lab_step(&lab.here, PASSAGE_LEFT);
	lab_run();
	arrive();
	lab_pass(LAB_SECOND);
	assert_true(lab.there.epoch > before);
	assert_int_equal(lab.there.unpacked, 0);
}

/* One that was proven again goes on in what it was proven in. */
static void one_that_is_proven_again_goes_on(void **state)
{
	lab_begin();
	lab.here.passage.over(lab.here.passage.ctx, LAB_ENDPOINT);
	assert_false(lab_over(&lab.here));
	lab.here.epoch++;
	lab_serve(&lab.here, KERNEL, true);
	leave();
	arrive();
	has_moved();
}

/* ---- endpoints that go ---- */

/* What runs a guest that has left ends at once, and a discovered endpoint with it. */
static void what_goes_along_outlives_the_endpoint(void **state)
{
	size_t len;

	lab_begin();
	lab.deaf = true;
	leave();
	fleet_shell_remove(&lab.here.shell, LAB_ENDPOINT);
	lab_pass(LAB_SECOND);
	assert_null(lab_value("baggage", &len));
	lab.deaf = false;
	lab_pass(LAB_SECOND);
	assert_non_null(lab_value("baggage", &len));
	arrive();
	has_moved();
	assert_null(lab.here.shell.seats);
}

static void it_outlives_it_also_while_something_is_under_way(void **state)
{
	lab_begin();
	lab.here.pack = VMSIG_ERR_BUSY;
	leave();
	fleet_shell_remove(&lab.here.shell, LAB_ENDPOINT);
	lab_pass(LAB_SECOND);
	lab.here.pack = 0;
	lab_pass(LAB_SECOND);
	arrive();
	has_moved();
}

/* Not for ever: then leases end, and the guest begins anew where it is. */
static void nobody_waits_for_long_for_who_takes_it(void **state)
{
	lab_begin();
	leave();
	fleet_shell_remove(&lab.here.shell, LAB_ENDPOINT);
	for (unsigned i = 0; i < 70; i++)
		lab_pass(LAB_SECOND);
	assert_null(lab.here.shell.seats);
	assert_int_equal(lab.here.lost, 1);
	assert_int_equal(lab.here.moved, 0);
}

/* The same name, or another one of the guest, is served without waiting. */
static void one_that_comes_back_takes_the_seat(void **state)
{
	lab_begin();
	lab.deaf = true;
	leave();
	fleet_shell_remove(&lab.here.shell, LAB_ENDPOINT);
	lab.deaf = false;
	lab_add(&lab.here);
	assert_int_equal(lab.here.lost, 1);
	assert_null(lab.here.shell.waiting);
	lab_serve(&lab.here, KERNEL, true);
	lab_pass(5 * LAB_SECOND);
	lab_pass(5 * LAB_SECOND);
	lab_pass(5 * LAB_SECOND);
	assert_true(lab_may_write(&lab.here));
}

/* ---- time that is promised ---- */

static bool may_promise(const struct lab_host *host)
{
	return fleet_shell_may_prolong(&host->shell, LAB_ENDPOINT, lab.now_ns);
}

static void pass_ttl(void)
{
	for (unsigned i = 0; i < 4; i++)
		lab_pass(LAB_TTL_S * LAB_SECOND / 3);
}

/* However long the way takes: the guest is still this host's. */
static void leases_are_prolonged_until_the_guest_is_offered(void **state)
{
	lab_begin();
	pass_ttl();
	assert_true(may_promise(&lab.here));
	assert_false(lab_may_write(&lab.here));
	leave();
	assert_false(may_promise(&lab.here));
}

/* Who takes the guest over counts from when this host had the right last. */
static void none_is_prolonged_without_the_right(void **state)
{
	lab_add(&lab.here);
	lab_serve(&lab.here, KERNEL, true);
	assert_true(may_promise(&lab.here));
	lab.deaf = true;
	pass_ttl();
	assert_false(may_promise(&lab.here));
	assert_int_equal(lab.here.lost, 0);
	lab.deaf = false;
	pass_ttl();
	assert_true(may_promise(&lab.here));
	lab_step(&lab.here, PASSAGE_LEAVES);
	lab_run();
	lab.deaf = true;
	pass_ttl();
	assert_false(may_promise(&lab.here));
}

/* ---- names ---- */

/* A kernel that is at no random place, of a guest that came: known by its arrival alone. */
static void a_session_has_one_name_as_long_as_its_epoch(void **state)
{
	char name[FLEET_NAME_MAX + 1];
	struct deed deed;
	uint32_t epoch;

	lab_begin();
	leave();
	lab.there.passage.arrived(lab.there.passage.ctx, LAB_ENDPOINT);
	lab_serve(&lab.there, KERNEL, false);
	has_moved();
	lab_deed(&deed);
	strcpy(name, deed.session);
	epoch = lab.there.epoch;
	/* A later process has not seen it arrive. */
	fleet_shell_remove(&lab.there.shell, LAB_ENDPOINT);
	lab_run();
	lab_add(&lab.there);
	lab_step(&lab.there, PASSAGE_COMES);
	lab.there.passage.kernel(lab.there.passage.ctx, LAB_ENDPOINT, "", false);
	(void)fleet_shell_ready(&lab.there.shell, LAB_ENDPOINT, epoch, "kept:1:2:3");
	assert_string_equal(seat_find(&lab.there.shell, LAB_ENDPOINT)->session, name);
	/* The next boot is another one. */
	(void)lab_over(&lab.there);
	(void)fleet_shell_ready(&lab.there.shell, LAB_ENDPOINT, epoch + 1, "");
	assert_string_not_equal(seat_find(&lab.there.shell, LAB_ENDPOINT)->session, name);
	assert_string_not_equal(seat_find(&lab.there.shell, LAB_ENDPOINT)->session, "");
}

/* Before it leaves it goes by what other hosts know it by. */
static void one_that_came_can_go_on(void **state)
{
	lab_begin();
	leave();
	lab.there.passage.arrived(lab.there.passage.ctx, LAB_ENDPOINT);
	lab_serve(&lab.there, KERNEL, false);
	has_moved();
	/* Back: that host has told its sensors that the epoch is over. */
	lab_step(&lab.here, PASSAGE_STAYS);
	lab_step(&lab.here, PASSAGE_COMES);
	lab_step(&lab.there, PASSAGE_LEAVES);
	lab_step(&lab.there, PASSAGE_LEFT);
	assert_true(lab_over(&lab.there));
	lab_run();
	lab.here.passage.arrived(lab.here.passage.ctx, LAB_ENDPOINT);
	lab.here.got[0] = '\0';
	lab_serve(&lab.here, KERNEL, false);
	assert_true(lab_may_write(&lab.here));
	assert_string_equal(lab.here.got, "what goes along");
	assert_int_equal(lab.here.epoch, lab.there.epoch);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_moves_with_all_that_goes_along),
		TEST(what_is_left_is_counted_from_its_arrival),
		TEST(no_memory_is_needed_for_it),
		TEST(what_cannot_be_stored_is_tried_for_a_bound),
		TEST(what_can_be_stored_later_is),
		TEST(damage_is_said_once_and_is_the_end_of_it),
		TEST(more_than_there_may_be_is_not_even_read),
		TEST(an_epoch_that_was_not_reserved_is_not_kept),
		TEST(one_that_is_reset_on_its_way_is_another_one),
		TEST(one_that_was_reset_before_and_is_not_proven_too),
		TEST(one_that_is_proven_again_goes_on),
		TEST(what_goes_along_outlives_the_endpoint),
		TEST(it_outlives_it_also_while_something_is_under_way),
		TEST(nobody_waits_for_long_for_who_takes_it),
		TEST(one_that_comes_back_takes_the_seat),
		TEST(leases_are_prolonged_until_the_guest_is_offered),
		TEST(none_is_prolonged_without_the_right),
		TEST(a_session_has_one_name_as_long_as_its_epoch),
		TEST(one_that_came_can_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
