/* SPDX-License-Identifier: Apache-2.0 */
/* What the adapter tells of its guest's way between hosts, and of who the guest is. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/integration/qemu/scene.h"

static void migration_is(const char *status)
{
	char line[128];

	scene.fake.migration = status;
	snprintf(line, sizeof(line), "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"%s\"}}",
		status);
	fake_qmp_say(&scene.fake, line);
}

static void is_known_as(const char *begin)
{
	if (strncmp(scene.known, begin, strlen(begin)) != 0)
		fail_msg("the guest is known as '%s'", scene.known);
}

/* Events alone: no look comes by itself. */
static void start_by_events(void)
{
	scene.config.reprove_ms = PATIENCE_MS * 10;
	scene_start();
	wait_for(scene.fake.events_asked);
	assert_string_equal(scene.way, "");
}

static void one_that_is_cancelled_or_fails_stays(void **state)
{
	start_by_events();
	migration_is("active");
	wait_for(strcmp(scene.way, "leaves ") == 0);
	migration_is("cancelled");
	wait_for(strcmp(scene.way, "leaves stays ") == 0);
	migration_is("setup");
	wait_for(strcmp(scene.way, "leaves stays leaves ") == 0);
	migration_is("failed");
	wait_for(strcmp(scene.way, "leaves stays leaves stays ") == 0);
	assert_int_equal(scene.invalidated, 0);
}

/* Before its session ends, and whether or not QEMU is there to be asked. */
static void one_that_has_left_is_told_by_the_event(void **state)
{
	start_by_events();
	migration_is("active");
	wait_for(strcmp(scene.way, "leaves ") == 0);
	scene.fake.is_source = true;
	scene.fake.mute = true;
	migration_is("completed");
	wait_for(strcmp(scene.way, "leaves left ") == 0);
	assert_int_equal(scene.invalidated, 0);
	fake_qmp_stop_listening(&scene.fake);
	fake_qmp_hang_up(&scene.fake);
	scene_process_end();
	wait_for(scene.invalidated == 1);
	wait_for(strstr(scene.detail, "migrated away"));
}

/* What leaves then is another boot, which may look the same, however quickly it has left. */
static void one_that_is_reset_on_its_way_is_over_before_it_has_left(void **state)
{
	start_by_events();
	migration_is("active");
	wait_for(strcmp(scene.way, "leaves ") == 0);
	assert_int_equal(scene.overs, 0);
	scene.fake.is_source = true;
	scene.fake.mute = true;
	fake_qmp_say(&scene.fake, "{\"event\": \"RESET\", \"data\": {\"guest\": true}}");
	migration_is("completed");
	wait_for(strcmp(scene.way, "leaves left ") == 0);
	assert_int_equal(scene.overs, 1);
}

static void one_that_has_left_may_be_made_to_run_on(void **state)
{
	scene_start();
	scene.fake.migration = "active";
	wait_for(strcmp(scene.way, "leaves ") == 0);
	scene.fake.migration = "completed";
	scene.fake.is_source = true;
	scene.fake.status = "postmigrate";
	wait_for(strcmp(scene.way, "leaves left ") == 0);
	wait_for(scene.invalidated == 1);
	scene.fake.status = "running";
	wait_for(strcmp(scene.way, "leaves left stays ") == 0);
}

/* What was asked before it was complete says nothing about where it is. */
static void one_that_stands_still_when_it_is_complete_has_left(void **state)
{
	scene_start();
	scene.fake.migration = "active";
	wait_for(strcmp(scene.way, "leaves ") == 0);
	scene.fake.is_source = true;
	scene.fake.status = "finish-migrate";
	scene.fake.migration = "completed";
	wait_for(strcmp(scene.way, "leaves left ") == 0);
}

static void one_whose_qemu_ends_on_its_way_is_nowhere(void **state)
{
	start_by_events();
	migration_is("active");
	wait_for(strcmp(scene.way, "leaves ") == 0);
	fake_qmp_stop_listening(&scene.fake);
	fake_qmp_hang_up(&scene.fake);
	scene_process_end();
	wait_for(strcmp(scene.way, "leaves ended ") == 0);
}

static void one_that_comes_is_told_before_it_is_served(void **state)
{
	scene.fake.status = "inmigrate";
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.status = "inmigrate";
	scene_adapter_start();
	wait_for(strcmp(scene.way, "comes ") == 0);
	assert_int_equal(scene.memctx, 0);
	scene.fake.migration = "completed";
	scene.fake.status = "running";
	wait_for(scene.memctx == 1);
	assert_string_equal(scene.way, "comes ");
	is_known_as("kernel-");
	/* By its arrival alone, of which no later broker knows. */
	assert_false(scene.lasts);
	assert_int_equal(scene.arrivals, 1);
}

/* A broker that starts later knows it from QEMU, but has seen no resets. */
static void one_that_came_before_us_is_known_by_its_boot_alone(void **state)
{
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.migration = "completed";
	scene_adapter_start();
	wait_for(scene.memctx == 1);
	assert_string_equal(scene.way, "comes ");
	is_known_as("");
	assert_string_equal(scene.known, "");
	kernel.proof.placement = 5;
	scene_event("RESET");
	wait_for(scene.memctx == 2);
	is_known_as("kernel-");
	assert_true(scene.lasts);
	assert_int_equal(scene.arrivals, 0);
	assert_int_equal(scene.overs, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_that_is_cancelled_or_fails_stays),
		TEST(one_that_has_left_is_told_by_the_event),
		TEST(one_that_is_reset_on_its_way_is_over_before_it_has_left),
		TEST(one_that_has_left_may_be_made_to_run_on),
		TEST(one_that_stands_still_when_it_is_complete_has_left),
		TEST(one_whose_qemu_ends_on_its_way_is_nowhere),
		TEST(one_that_comes_is_told_before_it_is_served),
		TEST(one_that_came_before_us_is_known_by_its_boot_alone),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
