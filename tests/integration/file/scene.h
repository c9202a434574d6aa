/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_FILE_SCENE_H
#define TESTS_INTEGRATION_FILE_SCENE_H

/*
 * The adapter `file` on a real loop with real files, under a fake core that records what it
 * hears and asks for bootstraps a turn later, as the shell does.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/adapters/adapter.h"
#include "broker/adapters/memfiles_reg.h"
#include "broker/ram/claims.h"
#include "tests/unit/guest/image.h"
#include "vmsig/vmsig_memctx.h"

#define PATIENCE_MS 60000
#define POLL_MS 10
#define SIZE (1u << 20)
#define KCR3 0x7000ull
#define QUIET_MS (5 * POLL_MS)

extern const struct image_linux kernel, next_kernel;

struct offer;

extern struct scene {
	uv_loop_t loop;
	uv_timer_t tick;
	char name[8], dir[64], ram[96], other[96];
	char parts[3][96], *files_of[3]; /* of RAM in several files */
	struct config_endpoint config;
	struct jobs *jobs;
	struct claims claims;
	struct adapter *adapter;
	vmsig_memctx_reg reg;
	vmsig_memfiles_reg files;
	bool registered, asked, deaf, stopped;
	uint32_t epoch;
	unsigned memctx, invalidated, found;
	vmsig_memctx pod;
	vmsig_ram_facts facts;
	uint32_t state;
	char detail[512];
	size_t fds;
} scene;

/* Turns the loop until the condition holds. */
#define wait_for(condition)                                                                        \
	do {                                                                                       \
		uint64_t until = uv_hrtime() + PATIENCE_MS * 1000000ull;                           \
		while (!(condition) && uv_hrtime() < until)                                        \
			uv_run(&scene.loop, UV_RUN_ONCE);                                          \
		if (!(condition))                                                                  \
			fail_msg("%s did not come; state %u '%s'", #condition, scene.state,        \
				scene.detail);                                                     \
	} while (0)

int setup(void **state);
int teardown(void **state);
void turn_for(unsigned ms);

void ram_create(const char *path, off_t size);
/* The file is replaced, as by somebody who starts another VM. */
void ram_replace(off_t size);
/* Writes an image with these kernels over the file, in place. */
void ram_put_kernels(const struct image_linux *a, const struct image_linux *b);

void adapter_start(void);
/* The adapter `provider` with this offer instead, and the layout that is in it. */
void adapter_start_offer(struct offer *offer);
/* With a root that the configuration gives. */
void start_given(void);
/* With a kernel in the file, until it is found. */
void start_found(void);

#endif
