/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_QEMU_QUIESCE_SCENE_H
#define TESTS_INTEGRATION_QEMU_QUIESCE_SCENE_H

/*
 * A guest that can be stopped: the real QMP connection and the real guardian, and a fake QEMU.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include <cmocka.h>

#include "broker/adapters/qemu/guardian.h"
#include "broker/adapters/qemu/quiesce.h"
#include "broker/policy/share.h"
#include "tests/integration/qemu/fake_qmp.h"
#include "vmsig/vmsig_error.h"

#define PATIENCE_MS 60000
#define LONG_MS 60000 /* a bound that does not come */

extern struct scene {
	uv_loop_t loop;
	char dir[64], socket[96];
	struct fake_qmp fake;
	struct link link;
	struct quiesce quiesce;
	struct guardian *guardian;
	struct shares *shares;
	struct share *share;
	uv_prepare_t turn; /* runs their tasks, as the broker does */
	bool ready, quiesce_closed;
	unsigned done;
	int error;
	uv_timer_t tick;
	unsigned ticks;
	uint64_t began;
} scene;

/* Turns the loop until the condition holds. */
#define await(condition)                                                                           \
	while (!(condition))                                                                       \
	uv_run(&scene.loop, UV_RUN_ONCE)

/* Fixtures of a test. */
int scene_setup(void **state);
int scene_teardown(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

/* Whether anything is under way. */
bool scene_is_active(void);
/* The socket file itself. */
int scene_place(const char *path);
/* A connection, ready. */
void scene_connect(void);
/* Begins to stop the guest; scene.done and scene.error tell. */
void scene_quiesce(uint64_t bound_ms);

#endif
