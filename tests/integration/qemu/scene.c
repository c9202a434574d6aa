/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/qemu/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/adapters/passage.h"
#include "broker/adapters/qemu/guardian.h"
#include "broker/jobs.h"
#include "broker/ram/beneath.h"
#include "broker/adapters/qemu/process.h"
#include "vmsig/vmsig_error.h"

#define ENDPOINT 7

struct kernel kernel;
struct scene scene;

/* ---- the proof ---- */

struct kcr3_scan {
	struct kcr3_memory memory;
};

int kcr3_scan_new(struct kcr3_scan **ret_scan, const struct kcr3_memory *memory,
	const uint64_t *vcpu_cr3, size_t nvcpu, uint64_t notes_from)
{
	struct kcr3_scan *scan = calloc(1, sizeof(*scan));

	atomic_fetch_add(&kernel.finds, 1);
	if (!scan || nvcpu == 0 || notes_from)
		abort();
	scan->memory = *memory;
	*ret_scan = scan;
	return 0;
}

int kcr3_scan_step(struct kcr3_scan *scan)
{
	const struct kcr3_memory *memory = &scan->memory;
	char byte;

	if (memory->read(memory->ctx, 0x100000, &byte, 1) != 0 ||
		memory->read(memory->ctx, 0xa0000, &byte, 1) != VMSIG_ERR_OUT_OF_RANGE)
		abort();
	if (atomic_load(&kernel.scan_for_ever)) {
		usleep(1000);
		return VMSIG_ERR_WOULD_BLOCK;
	}
	if (!atomic_load(&kernel.not_ready))
		return 0;
	atomic_fetch_sub(&kernel.not_ready, 1);
	return VMSIG_ERR_NOT_READY;
}

const struct kcr3_proof *kcr3_scan_proof(const struct kcr3_scan *scan)
{
	return &kernel.proof;
}

const char *kcr3_scan_why(const struct kcr3_scan *scan)
{
	return "nothing yet";
}

uint64_t kcr3_scan_notes_next(const struct kcr3_scan *scan)
{
	return 0;
}

struct kcr3_scan *kcr3_scan_free(struct kcr3_scan *scan)
{
	free(scan);
	return NULL;
}

int kcr3_reprove(const struct kcr3_memory *memory, const struct kcr3_proof *proof,
	const uint64_t *vcpu_cr3, size_t nvcpu)
{
	bool lost = atomic_load(&kernel.memory_lost) || (nvcpu && atomic_load(&kernel.vcpu_lost));

	return lost ? VMSIG_ERR_NOT_READY : 0;
}

/* ---- QEMU's process, which is not the test's own ---- */

struct process {
	uv_timer_t handle;
	unsigned long long start;
	void (*on_closed)(void *arg);
	void *closed_arg;
};

int process_open(struct process **ret_process, uv_loop_t *loop, pid_t pid,
	void (*on_end)(void *arg), void *arg)
{
	struct process *process = calloc(1, sizeof(*process));

	assert_non_null(process);
	assert_int_equal(pid, getpid());
	process->start = scene.process.start;
	assert_int_equal(uv_timer_init(loop, &process->handle), 0);
	process->handle.data = process;
	scene.process.watched = true;
	scene.process.ended = false;
	scene.process.on_end = on_end;
	scene.process.arg = arg;
	*ret_process = process;
	return 0;
}

static void on_process_closed(uv_handle_t *handle)
{
	struct process *process = handle->data;
	void (*closed)(void *arg) = process->on_closed;
	void *arg = process->closed_arg;

	free(process);
	closed(arg);
}

struct process *process_close(struct process *process, void (*on_closed)(void *arg), void *arg)
{
	if (!process)
		return NULL;
	scene.process.watched = false;
	process->on_closed = on_closed;
	process->closed_arg = arg;
	uv_close((uv_handle_t *)&process->handle, on_process_closed);
	return NULL;
}

bool process_is_alive(const struct process *process)
{
	return process && !scene.process.ended && process->start == scene.process.start;
}

bool process_is(const struct process *process, pid_t pid)
{
	return process_is_alive(process);
}

int process_fd(const struct process *process)
{
	return -1;
}

unsigned long long process_start_time(pid_t pid)
{
	return scene.process.start;
}

void scene_process_end(void)
{
	scene.process.ended = true;
	if (scene.process.watched)
		scene.process.on_end(scene.process.arg);
}

/* ---- the core ---- */

static int on_register(void *core, const struct vmsig_memctx_reg *reg)
{
	scene.reg = *reg;
	scene.registered = scene.asked = true;
	scene.epoch = 1;
	return 0;
}

static int on_register_memfiles(void *core, const struct vmsig_memfiles_reg *reg)
{
	assert_true(scene.registered);
	assert_int_equal(reg->endpoint, ENDPOINT);
	scene.files = *reg;
	return 0;
}

static void on_unregister(void *core, uint32_t endpoint)
{
	assert_false(scene.writable);
	scene.registered = false;
}

static int on_register_memwrite(void *core, const struct vmsig_memwrite_reg *reg)
{
	assert_true(scene.registered);
	assert_int_equal(reg->endpoint, ENDPOINT);
	scene.writer = *reg;
	scene.writable = true;
	return 0;
}

static void on_unregister_memwrite(void *core, uint32_t endpoint)
{
	assert_true(scene.writable);
	scene.writable = false;
}

static int on_ram_found(void *core, uint32_t endpoint, const vmsig_ram_facts *facts)
{
	scene.ram_found++;
	snprintf(scene.found, sizeof(scene.found), "%s", facts->session);
	assert_int_equal(
		facts->bytes, (512u << 20) - 0x20000 + (facts->files > 1 ? FAKE_DIMM_SIZE : 0));
	return 0;
}

static int take_memctx(const vmsig_event *ev)
{
	const vmsig_memctx *pod = (const vmsig_memctx *)(const void *)ev->inln;
	uint64_t sizes[VMSIG_MEMFILES_MAX];
	int fds[VMSIG_MEMFILES_MAX], n;
	uint32_t nseg;

	if (pod->epoch != scene.epoch)
		return VMSIG_ERR_STALE_EPOCH;
	scene.memctx++;
	scene.memctx_epoch = pod->epoch;
	scene.state = VMSIG_STATE_READY;
	assert_true(scene.ram_found > 0);
	snprintf(scene.session, sizeof(scene.session), "%s", scene.found);
	assert_int_equal(pod->kcr3, kernel.proof.kcr3);
	assert_int_equal(pod->low, 512u << 20);
	assert_int_equal(pod->flags, VMSIG_MEMCTX_RDONLY | VMSIG_MEMCTX_LA57 | VMSIG_MEMCTX_SPARSE);
	assert_non_null(vmsig_memctx_segs(ev, &nseg));
	n = scene.files.share(scene.files.ctx, fds, sizes);
	assert_true(n == 1 || n == 2);
	scene.nfiles = (uint32_t)n;
	assert_int_equal(nseg, n + 1);
	for (int i = 0; i < n; i++) {
		assert_int_equal(fcntl(fds[i], F_GETFL) & O_ACCMODE, O_RDONLY);
		assert_int_equal(sizes[i], i ? FAKE_DIMM_SIZE : SCENE_RAM_SIZE);
		close(fds[i]);
	}
	fds[0] = scene.reg.share_fd(scene.reg.ctx);
	assert_true(n == 1 ? fds[0] >= 0 : fds[0] == -EOPNOTSUPP);
	if (n == 1)
		close(fds[0]);
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
	.register_memwrite = on_register_memwrite,
	.unregister_memwrite = on_unregister_memwrite,
	.ram_found = on_ram_found,
	.register_memfiles = on_register_memfiles,
	.event = on_event};

static uint64_t now_ns(void *ctx)
{
	return uv_hrtime();
}

static void on_hurry(uv_idle_t *hurry)
{
}

static void on_turn(uv_prepare_t *turn)
{
	if (shares_run(scene.shares))
		uv_idle_start(&scene.hurry, on_hurry);
	else
		uv_idle_stop(&scene.hurry);
}

static void on_tick(uv_timer_t *timer)
{
	if (scene.asked && scene.registered) {
		scene.asked = false;
		scene.reg.invalidate(scene.reg.ctx, scene.epoch);
	}
}

/* ---- life ---- */

void scene_ram_create(void)
{
	int fd = open(scene.ram, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SCENE_RAM_SIZE), 0);
	scene_ram_unmap();
	scene.map = mmap(NULL, SCENE_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(scene.map, MAP_FAILED);
	close(fd);
}

void scene_ram_unmap(void)
{
	if (scene.map)
		assert_int_equal(munmap(scene.map, SCENE_RAM_SIZE), 0);
	scene.map = NULL;
}

void scene_dimm_create(off_t size, bool same_file)
{
	int fd;

	if (same_file)
		assert_int_equal(link(scene.ram, scene.dimm), 0);
	fd = open(scene.dimm, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	if (!same_file)
		assert_int_equal(ftruncate(fd, size), 0);
	scene.dimm_map = mmap(NULL, FAKE_DIMM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(scene.dimm_map, MAP_FAILED);
	close(fd);
}

void scene_dimm_unmap(void)
{
	if (!scene.dimm_map)
		return;
	assert_int_equal(munmap(scene.dimm_map, FAKE_DIMM_SIZE), 0);
	scene.dimm_map = NULL;
	assert_int_equal(unlink(scene.dimm), 0);
}

int scene_setup(void **state)
{
	memset(&scene, 0, sizeof(scene));
	snprintf(scene.name, sizeof(scene.name), "vm");
	snprintf(scene.dir, sizeof(scene.dir), "/tmp/vmsig-qemu-XXXXXX");
	assert_non_null(mkdtemp(scene.dir));
	snprintf(scene.socket, sizeof(scene.socket), "%s/qmp", scene.dir);
	snprintf(scene.ram, sizeof(scene.ram), "%s/ram", scene.dir);
	snprintf(scene.dimm, sizeof(scene.dimm), "%s/dimm", scene.dir);
	scene_ram_create();
	kernel = (struct kernel){.proof = {.kcr3 = 0x262e000, .levels = 5}};
	assert_int_equal(uv_loop_init(&scene.loop), 0);
	assert_int_equal(shares_new(&scene.shares, &SHARE_LIMITS_DEFAULT, now_ns, NULL), 0);
	assert_int_equal(uv_prepare_init(&scene.loop, &scene.turn), 0);
	assert_int_equal(uv_prepare_start(&scene.turn, on_turn), 0);
	assert_int_equal(uv_idle_init(&scene.loop, &scene.hurry), 0);
	scene.process.start = 1;
	assert_int_equal(uv_timer_init(&scene.loop, &scene.tick), 0);
	assert_int_equal(uv_timer_start(&scene.tick, on_tick, 0, 2), 0);
	scene.config = (struct config_endpoint){.name = scene.name,
		.qmp = scene.socket,
		.reprove_ms = 30,
		.retry_ms = 10,
		.retry_max_ms = 40,
		.qmp_timeout_ms = 300,
		.owner = BENEATH_ANYBODY};
	assert_int_equal(jobs_new(&scene.jobs, &scene.loop, 2), 0);
	return 0;
}

static void on_step(void *ctx, uint32_t endpoint, enum passage_step step)
{
	static const char *const names[] = {[PASSAGE_STAYS] = "stays",
		[PASSAGE_COMES] = "comes",
		[PASSAGE_LEAVES] = "leaves",
		[PASSAGE_LEFT] = "left",
		[PASSAGE_ENDED] = "ended"};
	size_t len = strlen(scene.way);

	assert_int_equal(endpoint, ENDPOINT);
	snprintf(scene.way + len, sizeof(scene.way) - len, "%s ", names[step]);
}

static void on_kernel(void *ctx, uint32_t endpoint, const char *known, bool lasts)
{
	scene.lasts = lasts;
	assert_true(strlen(known) < sizeof(scene.known));
	snprintf(scene.known, sizeof(scene.known), "%s", known);
}

/* One that has left is not over. */
static void on_over(void *ctx, uint32_t endpoint)
{
	assert_null(strstr(scene.way, "left"));
	scene.overs++;
}

static void on_arrived(void *ctx, uint32_t endpoint)
{
	scene.arrivals++;
}

static const struct passage passage = {
	.step = on_step, .kernel = on_kernel, .over = on_over, .arrived = on_arrived};

void scene_adapter_start(void)
{
	const struct adapter_env env = {.loop = &scene.loop,
		.shares = scene.shares,
		.emit = &emit,
		.endpoint = ENDPOINT,
		.config = &scene.config,
		.jobs = scene.jobs,
		.claims = &scene.claims,
		.guardian = scene.guardian,
		.passage = &passage};
	char error[300];

	assert_int_equal(adapter_qemu.start(&scene.adapter, &env, error, sizeof(error)), 0);
}

void scene_start(void)
{
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, scene.ram);
	scene_adapter_start();
	wait_for(scene.memctx == 1);
}

static void on_stopped(void *arg)
{
	scene.stopped = true;
}

void scene_adapter_stop(void)
{
	scene.stopped = false;
	scene.adapter->ops->stop(scene.adapter, on_stopped, NULL);
	assert_false(scene.registered);
	assert_false(scene.writable);
	wait_for(scene.stopped);
}

int scene_teardown(void **state)
{
	scene_adapter_stop();
	scene.guardian = guardian_stop(scene.guardian);
	fake_qmp_stop(&scene.fake);
	jobs_close(scene.jobs);
	uv_close((uv_handle_t *)&scene.tick, NULL);
	uv_close((uv_handle_t *)&scene.turn, NULL);
	uv_close((uv_handle_t *)&scene.hurry, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	jobs_free(scene.jobs);
	scene_ram_unmap();
	scene_dimm_unmap();
	assert_null(scene.claims.taken);
	assert_int_equal(uv_loop_close(&scene.loop), 0);
	scene.shares = shares_free(scene.shares);
	unlink(scene.ram);
	unlink(scene.socket);
	assert_int_equal(rmdir(scene.dir), 0);
	return 0;
}

void scene_event(const char *name)
{
	char line[128];

	snprintf(line, sizeof(line), "{\"event\": \"%s\", \"data\": {}}", name);
	fake_qmp_say(&scene.fake, line);
}
