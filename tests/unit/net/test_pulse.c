/* SPDX-License-Identifier: Apache-2.0 */
/* Ticks while something is expected, and not longer; an end when no handle is left. */
#include "broker/net/pulse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct waiter {
	struct pulse_beat beat;
	unsigned beats, wanted;
};

static bool on_beat(struct pulse_beat *beat, uint64_t now_ms)
{
	struct waiter *waiter = (struct waiter *)beat;

	return ++waiter->beats < waiter->wanted;
}

static void on_closed(void *arg)
{
	*(bool *)arg = true;
}

static void it_beats_until_nobody_expects_more(void **state)
{
	struct waiter one = {.wanted = 3}, two = {.wanted = 1};
	struct pulse pulse;
	uv_loop_t loop;
	bool closed = false;

	assert_int_equal(uv_loop_init(&loop), 0);
	pulse_init(&pulse, &loop);
	pulse_add(&pulse, &one.beat, on_beat);
	pulse_add(&pulse, &two.beat, on_beat);
	pulse_start(&pulse);
	/* Nothing is expected: the loop has nothing to wait for. */
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(one.beats, 0);
	pulse_hurry(&pulse);
	pulse_hurry(&pulse);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(one.beats, 3);
	assert_int_equal(two.beats, 3);
	pulse_close(&pulse, on_closed, &closed);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_true(closed);
	assert_int_equal(uv_loop_close(&loop), 0);
}

static void it_ends_with_the_last_handle(void **state)
{
	struct pulse pulse;
	uv_loop_t loop;
	bool closed = false;

	assert_int_equal(uv_loop_init(&loop), 0);
	pulse_init(&pulse, &loop);
	pulse_start(&pulse);
	pulse_opened(&pulse);
	pulse_close(&pulse, on_closed, &closed);
	/* It does not begin again. */
	pulse_hurry(&pulse);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_false(closed);
	pulse_closed(&pulse);
	assert_true(closed);
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_beats_until_nobody_expects_more),
		cmocka_unit_test(it_ends_with_the_last_handle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
