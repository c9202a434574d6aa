/* SPDX-License-Identifier: Apache-2.0 */
/* RAM that comes and goes while the guest runs: a DIMM in a file of its own, true ones and lies. */
#include "tests/integration/qemu/scene.h"

#include <string.h>
#include <unistd.h>

#define MIB (1l << 20)

static void plug(off_t size, bool same_file)
{
	scene_dimm_create(size, same_file);
	fake_qmp_plug(&scene.fake, scene.dimm, (uint64_t)(uintptr_t)scene.dimm_map);
}

static void unplug(void)
{
	fake_qmp_plug(&scene.fake, NULL, 0);
	scene_dimm_unmap();
}

static void a_dimm_is_plugged_and_unplugged(void **state)
{
	char session[VMSIG_SESSION_MAX];

	kernel.proof.placement = 1; /* sessions can be told apart */
	scene_start();
	assert_int_equal(scene.nfiles, 1);
	memcpy(session, scene.session, sizeof(session));
	plug(FAKE_DIMM_SIZE, false);
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.nfiles, 2);
	assert_int_equal(scene.invalidated, 1);
	assert_int_equal(scene.memctx_epoch, scene.epoch);
	assert_true(session[0]);
	assert_string_not_equal(session, scene.session);
	unplug();
	wait_for(scene.memctx == 3);
	assert_int_equal(scene.nfiles, 1);
	assert_int_equal(scene.invalidated, 2);
	assert_string_equal(session, scene.session);
}

static void a_dimm_may_be_there_from_the_start(void **state)
{
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene_dimm_create(FAKE_DIMM_SIZE, false);
	scene_adapter_start();
	wait_for(scene.fake.connected);
	/* Told by its size alone. */
	fake_qmp_plug(&scene.fake, scene.dimm, 0);
	wait_for(scene.nfiles == 2);
	/* Its file is replaced, by one that QEMU maps in its place. */
	scene_dimm_unmap();
	scene_dimm_create(FAKE_DIMM_SIZE, false);
	wait_for(scene.invalidated >= 1 && scene.state == VMSIG_STATE_READY);
	assert_int_equal(scene.nfiles, 2);
}

/* Of a map with a lie in it nothing is served, and who is asked says why; then the truth is. */
static void refused(const char *words)
{
	wait_for(scene.state == VMSIG_STATE_BOOTING && strstr(scene.detail, words));
	assert_int_equal(scene.memctx, 1);
	assert_int_equal(scene.invalidated, 1);
	unplug();
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.nfiles, 1);
}

static void a_file_that_is_too_short_is_refused(void **state)
{
	scene_start();
	plug(64 * MIB, false);
	refused("the file of backend dimmem has 67108864 bytes");
}

static void the_same_file_twice_is_refused(void **state)
{
	scene_start();
	scene.fake.hva = (uint64_t)(uintptr_t)scene.map;
	plug(0, true);
	refused("the same file");
}

/* Nothing is mapped where it says. */
static void a_file_that_is_not_mapped_is_refused(void **state)
{
	scene_start();
	scene_dimm_create(FAKE_DIMM_SIZE, false);
	fake_qmp_plug(&scene.fake, scene.dimm, 0x1000);
	wait_for(scene.state == VMSIG_STATE_BOOTING && scene.invalidated == 1);
	assert_int_equal(scene.memctx, 1);
	unplug();
	wait_for(scene.memctx == 2);
}

/* The administrator has named one file, and only knows that one. */
static void a_named_file_is_one(void **state)
{
	scene.config.ram = scene.ram;
	scene_start();
	plug(FAKE_DIMM_SIZE, false);
	refused("guest RAM is in 2 files, and 'ram' of the configuration names one");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_dimm_is_plugged_and_unplugged),
		TEST(a_dimm_may_be_there_from_the_start),
		TEST(a_file_that_is_too_short_is_refused),
		TEST(the_same_file_twice_is_refused),
		TEST(a_file_that_is_not_mapped_is_refused),
		TEST(a_named_file_is_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
