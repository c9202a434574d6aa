/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_QEMU_SCENE_H
#define TESTS_INTEGRATION_QEMU_SCENE_H

/*
 * The adapter on a real loop, between a fake core that records what it hears and a fake QEMU.
 * The kernel's proof is the test's own: what matters is what the adapter makes of its results.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include <cmocka.h>

#include "broker/adapters/adapter.h"
#include "broker/adapters/memfiles_reg.h"
#include "broker/adapters/memwrite_reg.h"
#include "proto/guest/kcr3.h"
#include "broker/ram/claims.h"
#include "broker/policy/share.h"
#include "tests/integration/qemu/fake_qmp.h"
#include "vmsig/vmsig_memctx.h"

#define SCENE_RAM_SIZE (512l << 20)
#define PATIENCE_MS 60000

extern struct kernel {
	atomic_uint finds;         /* scans begun */
	atomic_uint not_ready;     /* scans that still find nothing */
	atomic_bool scan_for_ever; /* until it is cancelled */
	atomic_bool memory_lost, vcpu_lost;
	struct kcr3_proof proof; /* what a scan finds; changed while none runs */
} kernel;

extern struct scene {
	uv_loop_t loop;
	uv_timer_t tick; /* calls invalidate() later, as the shell does; keeps the loop turning */
	char name[8], dir[64], socket[96], ram[96], dimm[96];
	struct jobs *jobs;
	struct claims claims;
	void *map;       /* of the RAM file, as QEMU has it: what proves that it is its RAM */
	void *dimm_map;  /* of the DIMM's, while it has one */
	uint32_t nfiles; /* at the last MEMCTX */
	struct config_endpoint config;
	struct fake_qmp fake;
	struct adapter *adapter;
	struct guardian *guardian;
	struct shares *shares;
	uv_prepare_t turn; /* runs their tasks, as the broker does */
	uv_idle_t hurry;   /* keeps the loop from sleeping while tasks are ready, likewise */
	struct {
		bool watched, ended;
		unsigned long long start; /* changes: another process got the number */
		void (*on_end)(void *arg);
		void *arg;
	} process;
	vmsig_memctx_reg reg;
	vmsig_memfiles_reg files;
	vmsig_memwrite_reg writer;
	bool registered, writable, asked, stopped;
	char session[VMSIG_SESSION_MAX]; /* at the last MEMCTX */
	char found[VMSIG_SESSION_MAX];   /* at the last ram_found */
	unsigned done;
	int error;
	uint32_t epoch;
	unsigned memctx, invalidated, ram_found;
	uint32_t memctx_epoch;
	uint32_t state;
	char detail[512];
	char way[128];  /* steps of the guest's way, in their order: "comes stays ..." */
	char known[64]; /* kernel that was said last */
	bool lasts;     /* ... and that it lasts */
	unsigned overs, arrivals;
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

int scene_setup(void **state);
int scene_teardown(void **state);

void scene_adapter_start(void);
void scene_adapter_stop(void);
/* A fake QEMU and the adapter, until the kernel is proven. */
void scene_start(void);
/* A RAM file where QEMU says that it is, mapped in place of what was mapped before. */
void scene_ram_create(void);
void scene_ram_unmap(void);
/* The same of a DIMM of that many bytes, of another file or, by another name, of the RAM file's. */
void scene_dimm_create(off_t size, bool same_file);
void scene_dimm_unmap(void);
/* QEMU's process ends. */
void scene_process_end(void);
/* QEMU sends it. */
void scene_event(const char *name);

#endif
