/* SPDX-License-Identifier: Apache-2.0 */
/* What an adapter tells the core and the log: once, in order, and nothing after the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "broker/adapters/publisher.h"
#include "vmsig/vmsig_error.h"

#define ENDPOINT 3
#define BURST 20

static struct {
	uv_loop_t loop;
	struct config_endpoint config;
	struct publisher publisher;
	unsigned registered, writers, events;
	int refusal;
	vmsig_event last;
	vmsig_endpoint_status status;
	vmsig_memctx pod;
} stage;

static int on_register(void *core, const vmsig_memctx_reg *reg)
{
	assert_int_equal(reg->endpoint, ENDPOINT);
	assert_int_equal(reg->source, VMSIG_SRC_MEMCTX);
	stage.registered++;
	return 0;
}

static void on_unregister(void *core, uint32_t endpoint)
{
	assert_int_equal(stage.writers, 0);
	stage.registered--;
}

static int on_register_memfiles(void *core, const struct vmsig_memfiles_reg *reg)
{
	assert_int_equal(reg->endpoint, ENDPOINT);
	assert_int_equal(stage.registered, 1);
	return 0;
}

static int on_register_memwrite(void *core, const struct vmsig_memwrite_reg *reg)
{
	assert_int_equal(reg->source, VMSIG_SRC_MEMWRITE);
	if (stage.refusal)
		return stage.refusal;
	stage.writers++;
	return 0;
}

static void on_unregister_memwrite(void *core, uint32_t endpoint)
{
	stage.writers--;
}

static int on_event(void *core, const vmsig_event *ev)
{
	assert_int_equal(stage.registered, 1);
	stage.events++;
	stage.last = *ev;
	memcpy(&stage.status, ev->inln, sizeof(stage.status));
	memcpy(&stage.pod, ev->inln, sizeof(stage.pod));
	return stage.refusal;
}

static const vmsig_emit emit = {.register_memctx = on_register,
	.unregister_memctx = on_unregister,
	.register_memfiles = on_register_memfiles,
	.register_memwrite = on_register_memwrite,
	.unregister_memwrite = on_unregister_memwrite,
	.event = on_event};

static int begin(void)
{
	static char name[] = "vm";
	static const vmsig_memctx_reg reader;
	static const vmsig_memfiles_reg files;
	static const vmsig_memwrite_reg writer;
	const struct adapter_env env = {
		.loop = &stage.loop, .emit = &emit, .endpoint = ENDPOINT, .config = &stage.config};

	stage.config.name = name;
	return publisher_register(&stage.publisher, &env, &reader, &files, &writer);
}

static int setup(void **state)
{
	memset(&stage, 0, sizeof(stage));
	return uv_loop_init(&stage.loop);
}

static int teardown(void **state)
{
	publisher_unregister(&stage.publisher);
	assert_int_equal(stage.registered + stage.writers, 0);
	return uv_loop_close(&stage.loop);
}

static void test_registers_what_may_be_written(void **state)
{
	assert_int_equal(begin(), 0);
	assert_int_equal(stage.writers, 0);
	publisher_unregister(&stage.publisher);
	stage.config.writable = true;
	assert_int_equal(begin(), 0);
	assert_int_equal(stage.writers, 1);
}

static void test_all_or_nothing(void **state)
{
	stage.config.writable = true;
	stage.refusal = VMSIG_ERR_BAD_REQUEST;
	assert_int_equal(begin(), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(stage.registered, 0);
}

static void test_says_it_once(void **state)
{
	assert_int_equal(begin(), 0);
	publisher_begin(&stage.publisher, 1);
	for (int i = 0; i < 3; i++)
		publisher_state(&stage.publisher, VMSIG_STATE_GONE, "no file");
	assert_int_equal(stage.events, 1);
	assert_true(publisher_has_told(&stage.publisher, "no file"));
	publisher_state(&stage.publisher, VMSIG_STATE_GONE, "another reason");
	assert_int_equal(stage.events, 2);
	/* Of another epoch it is news. */
	publisher_begin(&stage.publisher, 2);
	publisher_state(&stage.publisher, VMSIG_STATE_GONE, "another reason");
	assert_int_equal(stage.events, 3);
	assert_int_equal(stage.status.epoch, 2);
}

static void test_stamps_the_epoch(void **state)
{
	const vmsig_memctx pod = {.kcr3 = 0x1000, .epoch = 77};
	const vmsig_system system = {0};

	assert_int_equal(begin(), 0);
	publisher_begin(&stage.publisher, 5);
	assert_int_equal(publisher_context(&stage.publisher, &pod, NULL, 0, &system), 0);
	assert_int_equal(stage.pod.epoch, 5);
	assert_null(stage.last.payload.data);
	stage.refusal = VMSIG_ERR_STALE_EPOCH;
	assert_int_equal(
		publisher_context(&stage.publisher, &pod, NULL, 0, &system), VMSIG_ERR_STALE_EPOCH);
}

static void test_silent_after_the_end(void **state)
{
	assert_int_equal(begin(), 0);
	publisher_unregister(&stage.publisher);
	publisher_state(&stage.publisher, VMSIG_STATE_GONE, "late");
	assert_int_not_equal(publisher_invalidated(&stage.publisher, "late"), 0);
	assert_int_equal(stage.events, 0);
}

static void test_does_not_fill_the_log(void **state)
{
	unsigned lines = 0;

	assert_int_equal(begin(), 0);
	for (int i = 0; i < 1000; i++)
		lines += publisher_may_log(&stage.publisher);
	assert_int_equal(lines, BURST);
	assert_int_equal(stage.publisher.left_out, 1000 - BURST);
}

static void test_pauses_between_sessions(void **state)
{
	const vmsig_memctx pod = {.kcr3 = 0x1000};
	const vmsig_system system = {0};

	assert_int_equal(begin(), 0);
	for (uint32_t epoch = 1; epoch <= BURST; epoch++) {
		assert_int_equal(publisher_pause(&stage.publisher), 0);
		publisher_begin(&stage.publisher, epoch);
		assert_int_equal(publisher_context(&stage.publisher, &pod, NULL, 0, &system), 0);
	}
	assert_in_range(publisher_pause(&stage.publisher), 1, 1001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_registers_what_may_be_written, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_or_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_says_it_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stamps_the_epoch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silent_after_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_does_not_fill_the_log, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pauses_between_sessions, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
