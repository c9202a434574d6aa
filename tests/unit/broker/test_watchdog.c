/* SPDX-License-Identifier: Apache-2.0 */
/* Turns of the loop that take too long. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/log.h"
#include "broker/policy/share.h"
#include "broker/watchdog.h"

struct world {
	uv_loop_t loop;
	uv_prepare_t turn;
	uv_timer_t timer;
	struct shares *shares;
	struct share *share;
	struct watchdog *watchdog;
	int err, pipe[2]; /* standard error meanwhile */
	bool woken;
	char log[4096];
};

static uint64_t now_ns(void *ctx)
{
	return uv_hrtime();
}

static void on_turn(uv_prepare_t *prepare)
{
	struct world *world = prepare->data;

	watchdog_turn(world->watchdog);
}

/* What has been logged by now, which is not more than the pipe holds. */
static const char *logged(struct world *world)
{
	size_t len = strlen(world->log);
	ssize_t n = read(world->pipe[0], world->log + len, sizeof(world->log) - 1 - len);

	if (n > 0)
		world->log[len + (size_t)n] = '\0';
	return world->log;
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	assert_int_equal(pipe2(world->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(uv_loop_init(&world->loop), 0);
	assert_int_equal(shares_new(&world->shares, &SHARE_LIMITS_DEFAULT, now_ns, NULL), 0);
	assert_int_equal(share_get(world->shares, SHARE_TENANT, "sloth", &world->share), 0);
	assert_int_equal(watchdog_new(&world->watchdog, &world->loop, world->shares), 0);
	uv_prepare_init(&world->loop, &world->turn);
	uv_timer_init(&world->loop, &world->timer);
	world->turn.data = world->timer.data = world;
	uv_prepare_start(&world->turn, on_turn);
	/* What comes before the first turn is the start. */
	uv_run(&world->loop, UV_RUN_NOWAIT);
	log_setup(LOG_LEVEL_INFO, false);
	world->err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	dup2(world->pipe[1], STDERR_FILENO);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	dup2(world->err, STDERR_FILENO);
	close(world->err);
	uv_close((uv_handle_t *)&world->turn, NULL);
	uv_close((uv_handle_t *)&world->timer, NULL);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	watchdog_free(world->watchdog);
	share_unref(world->share);
	shares_free(world->shares);
	uv_loop_close(&world->loop);
	close(world->pipe[0]);
	close(world->pipe[1]);
	free(world);
	return 0;
}

/* Works for the tenant until the log has the words. */
static void work_until(struct world *world, const char *words)
{
	struct share_scope scope;

	share_enter(&scope, world->shares, world->share);
	while (!strstr(logged(world), words))
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	share_leave(&scope);
}

static void on_hang(uv_timer_t *timer)
{
	work_until(timer->data, "does not end");
	uv_timer_stop(timer);
}

static void a_turn_that_hangs_is_told_with_its_owner(void **state)
{
	struct world *world = *state;

	uv_timer_start(&world->timer, on_hang, 0, 0);
	while (!strstr(logged(world), "took long"))
		uv_run(&world->loop, UV_RUN_NOWAIT);
	assert_non_null(strstr(world->log, "does not end"));
	assert_non_null(strstr(world->log, "took long"));
	assert_non_null(strstr(strstr(world->log, "took long"), "owner=\"tenant\" name=\"sloth\""));
	assert_non_null(strstr(world->log, "owner=\"tenant\" name=\"sloth\" waits_in="));
	assert_true(watchdog_counters(world->watchdog).long_turns > 0);
	assert_true(watchdog_counters(world->watchdog).longest_ns > 900000000);
}

/* What the log says of the turn that took long: at most so much was computed in it. */
static long computed_ms(struct world *world)
{
	const char *field;

	while (!strstr(logged(world), "took long") ||
		!strchr(strstr(world->log, "took long"), '\n'))
		uv_run(&world->loop, UV_RUN_NOWAIT);
	field = strstr(strstr(world->log, "took long"), " computed_ms=");
	assert_non_null(field);
	return strtol(field + strlen(" computed_ms="), NULL, 10);
}

static uint64_t thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void on_wait(uv_timer_t *timer)
{
	nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
}

static void on_compute(uv_timer_t *timer)
{
	uint64_t until = thread_ns() + 500000000;

	while (thread_ns() < until)
		;
}

static void what_was_waited_is_not_told_as_computed(void **state)
{
	struct world *world = *state;

	uv_timer_start(&world->timer, on_wait, 0, 0);
	assert_true(computed_ms(world) < 250);
}

static void what_was_computed_is_told(void **state)
{
	struct world *world = *state;

	uv_timer_start(&world->timer, on_compute, 0, 0);
	assert_true(computed_ms(world) >= 500);
}

static void on_tick(uv_timer_t *timer)
{
	struct world *world = timer->data;

	world->woken = true;
}

static void sleep_is_no_work(void **state)
{
	struct world *world = *state;

	uv_timer_start(&world->timer, on_tick, 2 * WATCHDOG_HANG_MS, 0);
	while (!world->woken)
		uv_run(&world->loop, UV_RUN_ONCE);
	assert_null(strstr(logged(world), "does not end"));
	assert_true(watchdog_counters(world->watchdog).turns > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_turn_that_hangs_is_told_with_its_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_was_waited_is_not_told_as_computed, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_computed_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(sleep_is_no_work, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
