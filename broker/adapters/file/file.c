/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/adapters/adapter.h"
#include "broker/core/memwrite_reg.h"
#include "broker/kcr3/kcr3.h"
#include "broker/log.h"
#include "broker/ram/ram.h"
#include "proto/physmap.h"
#include "vmsig/vmsig_error.h"

/*
 * Adapter `file`: guest RAM in a file whose layout the configuration gives. The kernel root
 * is given too, or found. Nobody tells of resets, so a timer looks: a file that is replaced,
 * shrunk or missing ends the session, and so does a found kernel that is not there any more.
 */

#define FOUR_GIB (1ull << 32)
#define DETAIL_MAX 256
#define REST 4 /* times as long as a scan took; it occupies one of the pool's few threads */

struct file_adapter {
	struct adapter base; /* first: adapter.h */
	struct adapter_env env;
	uint32_t epoch;  /* the bootstrap is for this one */
	struct ram *ram; /* NULL: not open */
	struct physmap map;
	vmsig_memctx pod;
	struct kcr3_proof proof;
	bool ready;
	bool awaiting; /* the core will ask for a bootstrap; until then there is nothing to do */

	uv_timer_t timer;
	uv_work_t work;
	bool working;
	atomic_bool cancel;
	int scan_fd; /* its own description: the scan moves the offset */
	uint32_t scan_epoch;
	int scan_result;
	uint64_t scan_began, rest_until; /* ms of the loop's clock */
	char why[DETAIL_MAX];

	adapter_stopped_fn stopped;
	void *stopped_arg;
};

static int emit(struct file_adapter *file, vmsig_event *ev)
{
	int r;

	ev->source = VMSIG_SRC_MEMCTX;
	ev->endpoint = file->env.endpoint;
	r = file->env.emit->event(file->env.emit->core, ev);
	/* STALE_EPOCH: the core was faster; it asks for another bootstrap. */
	if (r && r != VMSIG_ERR_STALE_EPOCH)
		log_error("the core refused an event", LOG_STR("endpoint", file->env.config->name),
			LOG_STR("error", vmsig_error_name(r)));
	return r;
}

static void emit_state(
	struct file_adapter *file, enum vmsig_endpoint_state state, const char *detail)
{
	vmsig_event ev = {.kind = VMSIG_EV_ENDPOINT_STATE};
	vmsig_endpoint_status status = {.state = state};

	ev.payload.data = detail;
	ev.payload.len = strlen(detail);
	memcpy(ev.inln, &status, sizeof(status));
	(void)emit(file, &ev); /* logged; the next attempt says it again */
}

static void emit_invalidated(struct file_adapter *file, const char *why)
{
	vmsig_event ev = {.kind = VMSIG_EV_MEMCTX_INVALIDATED};

	log_info("guest session ended", LOG_STR("endpoint", file->env.config->name),
		LOG_STR("why", why));
	file->awaiting = emit(file, &ev) == 0;
}

static void drop(struct file_adapter *file)
{
	file->ready = false;
	atomic_store(&file->cancel, true);
	/* A scan that runs still reads; its end drops the rest. */
	if (file->working)
		return;
	physmap_deinit(&file->map);
	file->ram = ram_free(file->ram);
}

/* ---- bootstrapping ---- */

static int layout(struct file_adapter *file)
{
	const struct config_endpoint *config = file->env.config;
	uint64_t size = ram_size(file->ram);

	return config->nseg ? physmap_init(&file->map, config->segs, config->nseg, size)
			    : physmap_init_low(&file->map, config->low, size);
}

static uint64_t bytes_below_4g(const struct physmap *map)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < map->nseg && map->segs[i].gpa < FOUR_GIB; i++)
		sum += map->segs[i].len < FOUR_GIB - map->segs[i].gpa ? map->segs[i].len
								      : FOUR_GIB - map->segs[i].gpa;
	return sum;
}

/* Nothing in a file says that its guest was reset, so the same file with the same kernel
 * counts as the same session. */
static void facts_fill(const struct file_adapter *file, vmsig_ram_facts *facts)
{
	struct stat st;

	*facts = (vmsig_ram_facts){
		.bytes = physmap_bytes(&file->map),
		.guard = ram_guard(file->ram),
		.owner = ram_owner(file->ram),
		.system = file->proof.system,
	};
	if (fstat(ram_fd(file->ram), &st) == 0)
		snprintf(facts->session, sizeof(facts->session),
			"file:%" PRIx64 ":%" PRIx64 ":%" PRIx64 ":%" PRIx64, (uint64_t)st.st_dev,
			(uint64_t)st.st_ino, file->pod.kcr3, file->proof.digest);
}

static void become_ready(struct file_adapter *file, uint64_t kcr3, unsigned levels)
{
	vmsig_event ev = {.kind = VMSIG_EV_MEMCTX};
	vmsig_ram_facts facts;
	vmsig_memctx pod;

	file->pod = (vmsig_memctx){.kcr3 = kcr3, .low = bytes_below_4g(&file->map)};
	file->pod.nseg = file->env.config->nseg ? (uint32_t)file->map.nseg : 0;
	file->pod.flags = VMSIG_MEMCTX_RDONLY | (levels == 5 ? VMSIG_MEMCTX_LA57 : 0) |
			  (ram_is_sparse(file->ram) ? VMSIG_MEMCTX_SPARSE : 0);
	if (!file->env.config->nseg)
		file->pod.low = file->env.config->low;
	file->ready = true;
	facts_fill(file, &facts);
	if (file->env.emit->ram_found(file->env.emit->core, file->env.endpoint, &facts))
		log_error("the core refused the RAM", LOG_STR("endpoint", file->env.config->name));
	pod = file->pod;
	pod.epoch = file->epoch;
	memcpy(ev.inln, &pod, sizeof(pod));
	file->awaiting = emit(file, &ev) == VMSIG_ERR_STALE_EPOCH;
	if (file->awaiting)
		return;
	log_info(file->env.config->kcr3_given ? "kernel root taken from the configuration"
					      : "kernel proven",
		LOG_STR("endpoint", file->env.config->name), LOG_INT("epoch", file->epoch),
		LOG_HEX("kcr3", kcr3), LOG_INT("levels", levels),
		LOG_STR("os", vmsig_os_name(file->proof.system.os)),
		LOG_STR("proof", vmsig_proof_name(file->proof.system.proof)),
		LOG_STR("release", file->proof.system.release));
}

static int read_gpa(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	const struct file_adapter *file = ctx;

	return ram_read_gpa(file->ram, &file->map, gpa, buf, len);
}

static struct kcr3_memory memory_of(struct file_adapter *file)
{
	return (struct kcr3_memory){
		.read = read_gpa, .ctx = file, .map = &file->map, .fd = file->scan_fd};
}

static void on_scan(uv_work_t *work)
{
	struct file_adapter *file = work->data;
	struct kcr3_memory memory = memory_of(file);

	/* Nobody knows this file's vCPUs. */
	file->scan_result = kcr3_find(
		&memory, NULL, 0, &file->cancel, &file->proof, file->why, sizeof(file->why));
}

static void bootstrap(struct file_adapter *file);
static void stop_finish(struct file_adapter *file);

static void on_scanned(uv_work_t *work, int status)
{
	struct file_adapter *file = work->data;

	file->working = false;
	file->rest_until =
		uv_now(file->env.loop) + REST * (uv_now(file->env.loop) - file->scan_began);
	if (status < 0)
		file->scan_result = status;
	close(file->scan_fd);
	file->scan_fd = -1;
	if (file->stopped) {
		stop_finish(file);
	} else if (file->scan_epoch != file->epoch || atomic_load(&file->cancel)) {
		drop(file);
		bootstrap(file);
	} else if (file->scan_result == 0) {
		become_ready(file, file->proof.kcr3, file->proof.levels);
	} else {
		emit_state(file, VMSIG_STATE_BOOTING,
			file->why[0] ? file->why : vmsig_error_text(file->scan_result));
		drop(file);
	}
}

static void scan(struct file_adapter *file)
{
	file->scan_fd = ram_share(file->ram);
	file->scan_epoch = file->epoch;
	file->scan_began = uv_now(file->env.loop);
	file->why[0] = '\0';
	atomic_store(&file->cancel, false);
	file->work.data = file;
	if (file->scan_fd < 0 || uv_queue_work(file->env.loop, &file->work, on_scan, on_scanned)) {
		emit_state(file, VMSIG_STATE_BOOTING, "cannot scan now; will try again");
		if (file->scan_fd >= 0)
			close(file->scan_fd);
		drop(file);
		return;
	}
	file->working = true;
}

/* One attempt; the timer tries again. */
static void bootstrap(struct file_adapter *file)
{
	const struct config_endpoint *config = file->env.config;
	char why[DETAIL_MAX];

	if (file->working)
		return;
	drop(file);
	if (ram_open_path(&file->ram, config->path, why, sizeof(why))) {
		emit_state(file, VMSIG_STATE_GONE, why);
		return;
	}
	if (layout(file)) {
		snprintf(why, sizeof(why),
			"%s has %" PRIu64
			" bytes, which do not hold the configured layout; correct "
			"'low' or 'segments'",
			config->path, ram_size(file->ram));
		emit_state(file, VMSIG_STATE_GONE, why);
		drop(file);
		return;
	}
	memset(&file->proof, 0, sizeof(file->proof));
	if (config->kcr3_given) {
		file->proof.system.proof = VMSIG_PROOF_CONFIGURED;
		become_ready(file, config->kcr3, config->levels);
	} else {
		scan(file);
	}
}

static const char *what_changed(struct file_adapter *file)
{
	static const char *const changes[] = {
		[RAM_SHRUNK] = "the RAM file shrank",
		[RAM_REPLACED] = "the RAM file was replaced",
		[RAM_MISSING] = "the RAM file is gone",
	};
	enum ram_change change = ram_check(file->ram);
	struct kcr3_memory memory = memory_of(file);

	if (change != RAM_SAME)
		return changes[change];
	if (!file->env.config->kcr3_given && kcr3_reprove(&memory, &file->proof, NULL, 0))
		return "the kernel that was found is not there any more";
	return NULL;
}

static void on_timer(uv_timer_t *timer)
{
	struct file_adapter *file = timer->data;
	const char *why;

	if (file->awaiting)
		return;
	if (!file->ready) {
		if (uv_now(file->env.loop) >= file->rest_until)
			bootstrap(file);
		return;
	}
	why = what_changed(file);
	if (why)
		emit_invalidated(file, why);
}

/* ---- the seam ---- */

static void describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg)
{
	struct file_adapter *file = ctx;

	*out_pod = file->pod;
	*out_nseg = file->pod.nseg;
	*out_segs = file->pod.nseg ? file->map.segs : NULL;
}

static int share_fd(void *ctx)
{
	struct file_adapter *file = ctx;

	return file->ready ? ram_share(file->ram) : -ENOENT;
}

static void invalidate(void *ctx, uint32_t epoch)
{
	struct file_adapter *file = ctx;

	file->epoch = epoch;
	file->awaiting = false;
	drop(file);
	bootstrap(file);
}

static int share_writable(void *ctx)
{
	struct file_adapter *file = ctx;

	return file->ready ? ram_open_writable(file->ram) : -ENOENT;
}

/* Nothing that moves guests knows of a file. */
static int may_write(void *ctx, const char **ret_why)
{
	return 0;
}

static int register_all(struct file_adapter *file)
{
	const struct adapter_env *env = &file->env;
	const vmsig_memctx_reg reg = {
		.endpoint = env->endpoint,
		.source = VMSIG_SRC_MEMCTX,
		.ctx = file,
		.describe = describe,
		.share_fd = share_fd,
		.invalidate = invalidate,
	};
	const vmsig_memwrite_reg writer = {
		.endpoint = env->endpoint,
		.source = VMSIG_SRC_MEMWRITE,
		.ctx = file,
		.share_writable = share_writable,
		.may_write = may_write,
	};
	int r = env->emit->register_memctx(env->emit->core, &reg);

	if (!r && env->config->writable)
		r = env->emit->register_memwrite(env->emit->core, &writer);
	return r;
}

static void unregister_all(struct file_adapter *file)
{
	if (file->env.config->writable)
		file->env.emit->unregister_memwrite(file->env.emit->core, file->env.endpoint);
	file->env.emit->unregister_memctx(file->env.emit->core, file->env.endpoint);
}

static void file_free(struct file_adapter *file)
{
	drop(file);
	free(file);
}

static void on_start_failed(uv_handle_t *handle)
{
	file_free(handle->data);
}

static int file_start(
	struct adapter **ret_adapter, const struct adapter_env *env, char *error, size_t error_size)
{
	struct file_adapter *file = calloc(1, sizeof(*file));
	int r;

	if (!file) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	file->base.ops = &adapter_file;
	file->env = *env;
	file->scan_fd = -1;
	file->awaiting = true;
	r = uv_timer_init(env->loop, &file->timer);
	if (r) {
		free(file);
		return r;
	}
	file->timer.data = file;
	r = register_all(file);
	if (!r)
		r = uv_timer_start(
			&file->timer, on_timer, env->config->poll_ms, env->config->poll_ms);
	if (r) {
		snprintf(error, error_size, "cannot register the endpoint");
		uv_close((uv_handle_t *)&file->timer, on_start_failed);
		return r;
	}
	*ret_adapter = &file->base;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct file_adapter *file = handle->data;
	adapter_stopped_fn stopped = file->stopped;
	void *arg = file->stopped_arg;

	file_free(file);
	stopped(arg);
}

static void stop_finish(struct file_adapter *file)
{
	if (!file->working && !uv_is_closing((uv_handle_t *)&file->timer))
		uv_close((uv_handle_t *)&file->timer, on_closed);
}

static void file_stop(struct adapter *adapter, adapter_stopped_fn stopped, void *arg)
{
	struct file_adapter *file = (struct file_adapter *)adapter;

	file->stopped = stopped;
	file->stopped_arg = arg;
	unregister_all(file);
	atomic_store(&file->cancel, true);
	uv_timer_stop(&file->timer);
	stop_finish(file);
}

const struct adapter_ops adapter_file = {
	.name = "file",
	.start = file_start,
	.stop = file_stop,
};
