/* SPDX-License-Identifier: Apache-2.0 */
/* What a fleet's host knows again after a restart, in its file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

#include "broker/fleet_memory.h"
#include "broker/jobs.h"

#define PATIENCE_MS 30000u

static struct scene {
	uv_loop_t loop;
	uv_timer_t tick;
	struct jobs *jobs;
	char folder[32], path[64];
} scene;

static void on_tick(uv_timer_t *timer)
{
}

static int setup(void **state)
{
	(void)state;
	memset(&scene, 0, sizeof(scene));
	strcpy(scene.folder, "/tmp/vmsig-memory-XXXXXX");
	assert_non_null(mkdtemp(scene.folder));
	snprintf(scene.path, sizeof(scene.path), "%s/fleet", scene.folder);
	assert_int_equal(uv_loop_init(&scene.loop), 0);
	assert_int_equal(uv_timer_init(&scene.loop, &scene.tick), 0);
	assert_int_equal(uv_timer_start(&scene.tick, on_tick, 10, 10), 0);
	assert_int_equal(jobs_new(&scene.jobs, &scene.loop, 1), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	jobs_close(scene.jobs);
	uv_close((uv_handle_t *)&scene.tick, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	jobs_free(scene.jobs);
	assert_int_equal(uv_loop_close(&scene.loop), 0);
	unlink(scene.path);
	assert_int_equal(rmdir(scene.folder), 0);
	return 0;
}

static struct fleet_keeper *reopen(struct fleet_memory *ret_memory)
{
	struct fleet_keeper *keeper;

	memset(ret_memory, 0xff, sizeof(*ret_memory));
	assert_int_equal(fleet_memory_open(&keeper, scene.jobs, scene.folder, ret_memory), 0);
	return keeper;
}

static void wait_for_file(void)
{
	uint64_t until = uv_hrtime() + PATIENCE_MS * 1000000ull;

	while (access(scene.path, F_OK) < 0 && uv_hrtime() < until)
		uv_run(&scene.loop, UV_RUN_ONCE);
	assert_int_equal(access(scene.path, F_OK), 0);
}

static void write_file(const char *text)
{
	FILE *file = fopen(scene.path, "we");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static void all_of_it_is_known_again(void **state)
{
	const struct fleet_memory kept = {.cluster_id = UINT64_MAX,
		.revision = 12,
		.generation = 3,
		.epoch_floor = 4000000000u,
		.token_floor = INT64_MAX,
		.contact_ns = 77,
		.boot = "boot-1"};
	struct fleet_memory memory;
	struct fleet_keeper *keeper = reopen(&memory);

	(void)state;
	assert_int_equal(memory.cluster_id, 0);
	fleet_memory_keep(keeper, &kept);
	wait_for_file();
	fleet_memory_close(keeper);
	keeper = reopen(&memory);
	assert_int_equal(memory.cluster_id, kept.cluster_id);
	assert_int_equal(memory.revision, kept.revision);
	assert_int_equal(memory.generation, kept.generation);
	assert_int_equal(memory.epoch_floor, kept.epoch_floor);
	assert_int_equal(memory.token_floor, kept.token_floor);
	assert_int_equal(memory.contact_ns, kept.contact_ns);
	assert_string_equal(memory.boot, kept.boot);
	fleet_memory_close(keeper);
}

static void one_without_floors_is_read(void **state)
{
	struct fleet_memory memory;
	struct fleet_keeper *keeper;

	(void)state;
	write_file("vmsig-fleet 1\ncluster 7\nrevision 9\ngeneration 2\ncontact 5\nboot b\nend\n");
	keeper = reopen(&memory);
	assert_int_equal(memory.cluster_id, 7);
	assert_int_equal(memory.generation, 2);
	assert_int_equal(memory.epoch_floor, 0);
	assert_string_equal(memory.boot, "b");
	fleet_memory_close(keeper);
}

static void one_that_is_cut_short_is_none(void **state)
{
	struct fleet_memory memory;
	struct fleet_keeper *keeper;

	(void)state;
	write_file("vmsig-fleet 2\ncluster 7\nrevision 9\ngeneration 2\nepoch_floor 4\n");
	keeper = reopen(&memory);
	assert_int_equal(memory.cluster_id, 0);
	assert_int_equal(memory.generation, 0);
	fleet_memory_close(keeper);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_of_it_is_known_again, setup, teardown),
		cmocka_unit_test_setup_teardown(one_without_floors_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_is_cut_short_is_none, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
