/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One allocation of vmsigd fails while somebody has a session with it, one after another. Whoever
 * is concerned is refused or told in words, it does not die of it, and what comes next is as if
 * nothing had been.
 *
 *   test_starve [--every]     each allocation; the default is for every day
 */
#include <signal.h>
#include <string.h>

#include "tests/fault/history.h"
#include "tests/fault/session.h"
#include "tests/fault/starving.h"

#define ALLOCATIONS_MAX 1000000 /* far more than there are */
#define PATIENCE_MS 500

static unsigned step = 97;

static struct session session;
static struct starving starving;

static int setup(void **state)
{
	int r = desk_scene_setup(state);
	struct desk_scene *scene = *state;

	assert_int_equal(r, 0);
	session_init(&session, scene, "run/write.sock", PATIENCE_MS);
	starving_init(&starving, daemon_dir(scene->daemon));
	desk_scene_configure(scene, "{resume_grace: 1ms}", "leases: 16");
	starving_preload(&starving, true);
	desk_scene_restart(scene, SIGTERM);
	starving_preload(&starving, false);
	return 0;
}

static int teardown(void **state)
{
	starving_deinit(&starving);
	return desk_scene_teardown(state);
}

static void the_broker_goes_on(void **state)
{
	const struct history_word words[] = {{"w1", SESSION_ADDR}, {"w2", SESSION_ADDR}};
	struct desk_scene *scene = *state;
	unsigned refused = 0, tried = 0;
	bool failed = true;

	for (uint32_t at = 1; failed; at += step, tried++) {
		uint64_t before = session_word(scene);
		int r;

		assert_true(at < ALLOCATIONS_MAX);
		starving_fail_at(&starving, at);
		r = session_run(&session, at);
		failed = starving_has_failed(&starving, at);
		refused += r != 0;
		if (!daemon_alive(scene->daemon))
			fail_msg("it died of allocation %u:\n%s", at, daemon_log(scene->daemon));
		if (session_word(scene) != at)
			assert_true(r && session_word(scene) == before);
		session_of_another(scene, at);
	}
	print_message("%u allocations, %u sessions failed\n", tried, refused);
	assert_true(tried > 3);
	assert_true(history_check(scene, words, 2) > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(the_broker_goes_on),
	};

	if (argc > 1 && strcmp(argv[1], "--every") == 0)
		step = 1;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
