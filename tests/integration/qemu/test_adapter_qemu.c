/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The adapter's state machine on a real loop, between a fake core that records what it hears
 * and a fake QEMU. The kernel's proof is the test's own: what matters here is what the
 * adapter makes of its results.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/adapters/adapter.h"
#include "broker/kcr3/kcr3.h"
#include "tests/integration/qemu/fake_qmp.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memctx.h"

#define ENDPOINT 7
#define PATIENCE_MS 10000

/* ---- the proof ---- */

static atomic_uint finds;         /* scans begun */
static atomic_uint not_ready;     /* scans that still find nothing */
static atomic_bool scan_for_ever; /* until it is cancelled */
static atomic_bool memory_lost, vcpu_lost;

int kcr3_find(const struct kcr3_memory *memory, const uint64_t *vcpu_cr3, size_t nvcpu,
	const atomic_bool *cancel, struct kcr3_proof *ret_proof, char *why, size_t why_size)
{
	char byte;

	atomic_fetch_add(&finds, 1);
	if (nvcpu == 0 || memory->read(memory->ctx, 0x100000, &byte, 1) != 0 ||
		memory->read(memory->ctx, 0xa0000, &byte, 1) != VMSIG_ERR_OUT_OF_RANGE)
		abort();
	while (atomic_load(&scan_for_ever) && !atomic_load(cancel))
		usleep(1000);
	if (atomic_load(cancel) || atomic_load(&not_ready)) {
		if (atomic_load(&not_ready))
			atomic_fetch_sub(&not_ready, 1);
		snprintf(why, why_size, "nothing yet");
		return VMSIG_ERR_NOT_READY;
	}
	*ret_proof = (struct kcr3_proof){.kcr3 = 0x262e000, .levels = 5};
	return 0;
}

int kcr3_reprove(const struct kcr3_memory *memory, const struct kcr3_proof *proof,
	const uint64_t *vcpu_cr3, size_t nvcpu)
{
	bool lost = atomic_load(&memory_lost) || (nvcpu && atomic_load(&vcpu_lost));

	return lost ? VMSIG_ERR_NOT_READY : 0;
}

/* ---- the core ---- */

static struct scene {
	uv_loop_t loop;
	uv_timer_t tick; /* calls invalidate() later, as the shell does; keeps the loop turning */
	char name[8], dir[64], socket[96], ram[96];
	struct config_endpoint config;
	struct fake_qmp fake;
	struct adapter *adapter;
	vmsig_memctx_reg reg;
	bool registered, asked, stopped;
	uint32_t epoch;
	unsigned memctx, invalidated, ram_found;
	uint32_t memctx_epoch;
	uint32_t state;
	char detail[512];
} scene;

static int on_register(void *core, const struct vmsig_memctx_reg *reg)
{
	scene.reg = *reg;
	scene.registered = scene.asked = true;
	scene.epoch = 1;
	return 0;
}

static void on_unregister(void *core, uint32_t endpoint)
{
	scene.registered = false;
}

static int on_ram_found(void *core, uint32_t endpoint, const vmsig_ram_facts *facts)
{
	scene.ram_found++;
	assert_int_equal(facts->bytes, (512u << 20) - 0x20000);
	return 0;
}

static int take_memctx(const vmsig_event *ev)
{
	const vmsig_memctx *pod = (const vmsig_memctx *)(const void *)ev->inln;
	uint32_t nseg;
	int fd;

	if (pod->epoch != scene.epoch)
		return VMSIG_ERR_STALE_EPOCH;
	scene.memctx++;
	scene.memctx_epoch = pod->epoch;
	scene.state = VMSIG_STATE_READY;
	assert_true(scene.ram_found > 0);
	assert_int_equal(pod->kcr3, 0x262e000);
	assert_int_equal(pod->low, 512u << 20);
	assert_int_equal(pod->flags, VMSIG_MEMCTX_RDONLY | VMSIG_MEMCTX_LA57 | VMSIG_MEMCTX_SPARSE);
	assert_non_null(vmsig_memctx_segs(ev, &nseg));
	assert_int_equal(nseg, 2);
	fd = scene.reg.share_fd(scene.reg.ctx);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	close(fd);
	return 0;
}

static int on_event(void *core, const vmsig_event *ev)
{
	assert_true(scene.registered);
	assert_int_equal(ev->endpoint, ENDPOINT);
	if (ev->kind == VMSIG_EV_MEMCTX)
		return take_memctx(ev);
	if (ev->kind == VMSIG_EV_MEMCTX_INVALIDATED) {
		scene.invalidated++;
		scene.epoch++;
		scene.asked = true;
		return 0;
	}
	scene.state = ((const vmsig_endpoint_status *)(const void *)ev->inln)->state;
	snprintf(scene.detail, sizeof(scene.detail), "%.*s", (int)ev->payload.len,
		(const char *)ev->payload.data);
	return 0;
}

static const vmsig_emit emit = {.register_memctx = on_register,
	.unregister_memctx = on_unregister,
	.ram_found = on_ram_found,
	.event = on_event};

static void on_tick(uv_timer_t *timer)
{
	if (scene.asked && scene.registered) {
		scene.asked = false;
		scene.reg.invalidate(scene.reg.ctx, scene.epoch);
	}
}

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

static void ram_create(void)
{
	int fd = open(scene.ram, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 512l << 20), 0);
	close(fd);
}

static int setup(void **state)
{
	memset(&scene, 0, sizeof(scene));
	snprintf(scene.name, sizeof(scene.name), "vm");
	snprintf(scene.dir, sizeof(scene.dir), "/tmp/vmsig-qemu-XXXXXX");
	assert_non_null(mkdtemp(scene.dir));
	snprintf(scene.socket, sizeof(scene.socket), "%s/qmp", scene.dir);
	snprintf(scene.ram, sizeof(scene.ram), "%s/ram", scene.dir);
	ram_create();
	atomic_store(&finds, 0);
	atomic_store(&not_ready, 0);
	atomic_store(&scan_for_ever, false);
	atomic_store(&memory_lost, false);
	atomic_store(&vcpu_lost, false);
	assert_int_equal(uv_loop_init(&scene.loop), 0);
	assert_int_equal(uv_timer_init(&scene.loop, &scene.tick), 0);
	assert_int_equal(uv_timer_start(&scene.tick, on_tick, 0, 2), 0);
	scene.config = (struct config_endpoint){.name = scene.name,
		.qmp = scene.socket,
		.reprove_ms = 30,
		.retry_ms = 10,
		.retry_max_ms = 40,
		.qmp_timeout_ms = 300};
	return 0;
}

static void adapter_start(void)
{
	const struct adapter_env env = {
		.loop = &scene.loop, .emit = &emit, .endpoint = ENDPOINT, .config = &scene.config};
	char error[300];

	assert_int_equal(adapter_qemu.start(&scene.adapter, &env, error, sizeof(error)), 0);
}

static void both_start(void)
{
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	adapter_start();
	wait_for(scene.memctx == 1);
}

static void on_stopped(void *arg)
{
	scene.stopped = true;
}

static int teardown(void **state)
{
	scene.adapter->ops->stop(scene.adapter, on_stopped, NULL);
	assert_false(scene.registered);
	wait_for(scene.stopped);
	fake_qmp_stop(&scene.fake);
	uv_close((uv_handle_t *)&scene.tick, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&scene.loop), 0);
	unlink(scene.ram);
	unlink(scene.socket);
	assert_int_equal(rmdir(scene.dir), 0);
	return 0;
}

static void event(const char *name)
{
	char line[128];

	snprintf(line, sizeof(line), "{\"event\": \"%s\", \"data\": {}}", name);
	fake_qmp_say(&scene.fake, line);
}

/* ---- tests ---- */

static void test_qemu_comes_late(void **state)
{
	adapter_start();
	wait_for(scene.state == VMSIG_STATE_GONE);
	assert_non_null(strstr(scene.detail, scene.socket));
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	wait_for(scene.memctx == 1);
	assert_int_equal(scene.epoch, 1);
	assert_int_equal(scene.invalidated, 0);
}

static void test_kernel_comes_late(void **state)
{
	atomic_store(&not_ready, 3);
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.long_mode = false;
	adapter_start();
	wait_for(strstr(scene.detail, "long mode"));
	assert_int_equal(atomic_load(&finds), 0);
	scene.fake.long_mode = true;
	wait_for(strstr(scene.detail, "nothing yet"));
	wait_for(scene.memctx == 1);
	assert_int_equal(atomic_load(&finds), 4);
}

static void test_reset_burst(void **state)
{
	both_start();
	for (int i = 0; i < 4; i++)
		event("RESET");
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.memctx_epoch, scene.epoch);
	assert_int_equal(scene.invalidated, 1);
}

/* A scan that is under way when the guest resets is dropped, not delivered. */
static void test_reset_during_scan(void **state)
{
	atomic_store(&scan_for_ever, true);
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	adapter_start();
	wait_for(atomic_load(&finds) == 1);
	event("RESET");
	wait_for(atomic_load(&finds) == 2);
	assert_int_equal(scene.memctx, 0);
	atomic_store(&scan_for_ever, false);
	wait_for(scene.memctx == 1);
}

static void test_session_ends(void **state)
{
	static const char *const ends[] = {
		"RESET", "SHUTDOWN", "GUEST_PANICKED", "GUEST_CRASHLOADED"};

	both_start();
	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		event(ends[i]);
		wait_for(scene.invalidated == i + 1 && scene.memctx == i + 2);
	}
}

static void test_qemu_restarts(void **state)
{
	both_start();
	fake_qmp_hang_up(&scene.fake);
	wait_for(scene.state == VMSIG_STATE_GONE);
	assert_int_equal(scene.invalidated, 1);
	wait_for(scene.memctx == 2);
	assert_int_equal(scene.fake.accepted, 2);
	assert_int_equal(scene.memctx_epoch, 2);
}

static void test_qemu_falls_silent(void **state)
{
	both_start();
	scene.fake.mute = true;
	wait_for(scene.state == VMSIG_STATE_GONE);
	assert_non_null(strstr(scene.detail, "did not answer"));
	assert_int_equal(scene.invalidated, 1);
	scene.fake.mute = false;
	wait_for(scene.memctx == 2);
}

/* No event announces a kexec. */
static void test_kexec(void **state)
{
	both_start();
	atomic_store(&memory_lost, true);
	wait_for(scene.invalidated == 1);
	assert_int_equal(scene.memctx, 1);
	atomic_store(&memory_lost, false);
	wait_for(scene.memctx == 2);
	atomic_store(&vcpu_lost, true);
	wait_for(scene.invalidated == 2);
	atomic_store(&vcpu_lost, false);
	wait_for(scene.memctx == 3);
}

/* All vCPUs in firmware for a moment: not the end of a session. */
static void test_no_false_alarm(void **state)
{
	unsigned asked;

	both_start();
	for (int i = 0; i < 3; i++) {
		atomic_store(&vcpu_lost, true);
		asked = scene.fake.asked;
		wait_for(scene.fake.asked >= asked + 4);
		atomic_store(&vcpu_lost, false);
		asked = scene.fake.asked;
		wait_for(scene.fake.asked >= asked + 6);
	}
	assert_int_equal(scene.invalidated, 0);
}

static void test_resume_proves_at_once(void **state)
{
	scene.config.reprove_ms = PATIENCE_MS * 10;
	both_start();
	event("STOP");
	event("RESUME");
	wait_for(scene.fake.asked > 0);
	atomic_store(&memory_lost, true);
	event("RESUME");
	wait_for(scene.invalidated == 1);
	atomic_store(&memory_lost, false);
	wait_for(scene.memctx == 2);
}

static void test_hotplug(void **state)
{
	unsigned maps;
	char *line;

	both_start();
	maps = scene.fake.maps;
	event("ACPI_DEVICE_OST");
	wait_for(scene.fake.maps == maps + 2);
	assert_int_equal(scene.invalidated, 0);
	line = strstr(scene.fake.mtree, "AS \"memory\"");
	line = strstr(line, "0000000000100000-000000001fffffff");
	memcpy(line, "0000000000100000-000000001effffff", 33);
	event("DEVICE_DELETED");
	wait_for(scene.invalidated == 1);
	memcpy(line, "0000000000100000-000000001fffffff", 33);
}

static void test_ram_replaced(void **state)
{
	both_start();
	assert_int_equal(unlink(scene.ram), 0);
	ram_create();
	wait_for(scene.invalidated == 1);
	wait_for(scene.memctx == 2);
}

static void test_waits_for_migration(void **state)
{
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene.fake.status = "inmigrate";
	adapter_start();
	wait_for(strstr(scene.detail, "migration"));
	assert_int_equal(atomic_load(&finds), 0);
	scene.fake.status = "running";
	event("RESUME");
	wait_for(scene.memctx == 1);
	scene.fake.status = "postmigrate";
	wait_for(scene.invalidated == 1);
	wait_for(strstr(scene.detail, "migrated away"));
}

static void test_stop_during_scan(void **state)
{
	atomic_store(&scan_for_ever, true);
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	adapter_start();
	wait_for(atomic_load(&finds) == 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_qemu_comes_late),
		TEST(test_kernel_comes_late),
		TEST(test_reset_burst),
		TEST(test_reset_during_scan),
		TEST(test_session_ends),
		TEST(test_qemu_restarts),
		TEST(test_qemu_falls_silent),
		TEST(test_kexec),
		TEST(test_no_false_alarm),
		TEST(test_resume_proves_at_once),
		TEST(test_hotplug),
		TEST(test_ram_replaced),
		TEST(test_waits_for_migration),
		TEST(test_stop_during_scan),
	};

	/* As in vmsigd: a QEMU that goes while it is written to is an error, not the end. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
