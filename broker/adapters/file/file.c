/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/adapters/adapter.h"
#include "broker/adapters/file/image.h"
#include "broker/adapters/publisher.h"
#include "vmsig/vmsig_error.h"

/*
 * Adapter `file`: guest RAM in a file, or in several, whose layout the configuration gives. The
 * kernel root is given too, or found. Nobody tells of resets, so a timer looks: a file that is
 * replaced, shrunk or missing ends the session, and so does a found kernel that is not there any
 * more.
 *
 * A guest of a provider (provider/offer.h) is the same, with files that were handed over and a
 * provider who tells of resets.
 *
 * Files are touched by jobs only (image.h). One at a time runs; one that does not come back
 * is abandoned, and until it does nothing else is tried.
 */

#define FOUR_GIB (1ull << 32)
#define HANGS "the file system of its RAM file does not answer; look at the disk"
#define TAKEN "its RAM file is another endpoint's"
#define MOMENT_STEP 997u /* ms; prime, so that it goes through all of the usual intervals */
#define REST 4           /* times as long as a search took: the threads for them are few */

struct file_adapter {
	struct adapter base; /* first: adapter.h */
	struct adapter_env env;
	struct publisher publisher;
	struct image *image; /* NULL: not open */
	vmsig_memctx pod;
	struct kcr3_proof proof; /* levels 0: the root is configured */
	bool ready;
	bool awaiting; /* the core will ask for a bootstrap; until then there is nothing to do */
	bool conflict; /* told: another endpoint has the file */
	bool orphaned; /* of a provider that is away */

	uv_timer_t timer;
	uint64_t moment; /* of the interval, ms */
	struct job_line *line;
	struct image_job *job;           /* NULL: none that anybody waits for */
	uint64_t find_began, rest_until; /* ms of the loop's clock */
	uint64_t notes_from;             /* where the next search goes on judging */

	adapter_stopped_fn stopped;
	void *stopped_arg;
};

static void end_session(struct file_adapter *file, const char *why)
{
	file->awaiting = publisher_invalidated(&file->publisher, why) == 0;
}

static void drop(struct file_adapter *file)
{
	file->ready = false;
	errand_abandon((struct errand *)file->job);
	file->job = NULL;
	file->image = image_unref(file->image);
}

/* ---- bootstrapping ---- */

static uint64_t bytes_below_4g(const struct physmap *map)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < map->nseg && map->segs[i].gpa < FOUR_GIB; i++)
		sum += map->segs[i].len < FOUR_GIB - map->segs[i].gpa ? map->segs[i].len
								      : FOUR_GIB - map->segs[i].gpa;
	return sum;
}

/* Nothing in a file says that its guest was reset, so the same files with the same kernel
 * count as the same session. */
static void publish_ram(struct file_adapter *file)
{
	const struct image *image = file->image;
	const struct ram *first = ramset_file(image->ram, 0);
	char session[VMSIG_SESSION_MAX], others[sizeof("+0123456789abcdef")] = "";

	if (ramset_count(image->ram) > 1)
		snprintf(others, sizeof(others), "+%016" PRIx64, ramset_digest(image->ram));
	snprintf(session, sizeof(session), "file:%" PRIx64 ":%" PRIx64 "%s:%" PRIx64 ":%" PRIx64,
		(uint64_t)ram_device(first), (uint64_t)ram_inode(first), others, file->pod.kcr3,
		file->proof.digest);
	/* A provider tells of resets, and may have had some to tell while no broker ran. */
	if (file->env.offer)
		snprintf(session, sizeof(session), "provider:%016" PRIx64, file->env.offer->number);
	publisher_ram(&file->publisher, image->ram, &image->map, &file->proof.system, session);
}

static void become_ready(struct file_adapter *file, uint64_t kcr3, unsigned levels)
{
	const struct config_endpoint *config = file->env.config;
	const struct image *image = file->image;

	file->pod = (vmsig_memctx){.kcr3 = kcr3,
		.low = config->nseg ? bytes_below_4g(&image->map) : config->low,
		.nseg = config->nseg ? (uint32_t)image->map.nseg : 0,
		.flags = publisher_flags(image->ram, levels)};
	file->ready = true; /* the core may ask for a descriptor inside of the call */
	publish_ram(file);
	file->awaiting = publisher_context(&file->publisher, &file->pod, image->map.segs,
				 file->pod.nseg, &file->proof.system) == VMSIG_ERR_STALE_EPOCH;
}

static void on_job_done(struct errand *errand);
static void on_job_late(struct errand *errand);

static void start_job(struct file_adapter *file, enum image_job_kind kind)
{
	const struct errand_owner owner = {.done = on_job_done, .late = on_job_late, .arg = file};
	struct image_job *job = NULL;

	if (image_job_new(&job, kind, file->image, &file->proof) || !job) {
		if (kind != IMAGE_CHECK)
			drop(file); /* the timer tries again */
		return;
	}
	job->notes_from = file->notes_from;
	file->job = job;
	image_job_start(job, &owner, file->line);
}

/* One attempt; the timer tries again. */
static void bootstrap(struct file_adapter *file)
{
	drop(file);
	memset(&file->proof, 0, sizeof(file->proof));
	if (job_line_is_stuck(file->line))
		publisher_state(&file->publisher, VMSIG_STATE_GONE, HANGS);
	else if (image_new(&file->image, file->env.config, file->env.offer) == 0)
		start_job(file, IMAGE_OPEN);
}

/* False: another endpoint has this file, and who that is, is not for tenants. */
static bool claim(struct file_adapter *file)
{
	const char *name = file->env.config->name;
	const char *other = ramset_claim(file->image->ram, file->env.claims, name);

	if (other && !file->conflict)
		publisher_log_conflict(&file->publisher, other);
	file->conflict = other;
	return !other;
}

/* Who has it now is asked for when it is opened again. */
static bool lost_claim(const struct file_adapter *file)
{
	return !ramset_is_claimed(file->image->ram);
}

static void tell_opened(struct file_adapter *file, int error, const char *why)
{
	if (file->env.offer)
		offer_tell(file->env.offer, error, why);
}

/* What the provider makes of it may be the end of the guest: it is told last. */
static void on_opened(struct file_adapter *file, const struct image_job *job)
{
	const struct config_endpoint *config = file->env.config;

	if (job->errand.result) {
		publisher_state(&file->publisher, VMSIG_STATE_GONE, job->why);
		drop(file);
		tell_opened(file, job->errand.result, job->why);
	} else if (!claim(file)) {
		publisher_state(&file->publisher, VMSIG_STATE_GONE,
			"its RAM file is served as another endpoint already, which the broker's "
			"log names; give each endpoint a file of its own");
		drop(file);
		tell_opened(
			file, VMSIG_ERR_BAD_REQUEST, "one of these RAM files is served already");
	} else if (config->kcr3_given) {
		file->proof.system.proof = VMSIG_PROOF_CONFIGURED;
		become_ready(file, config->kcr3, config->levels);
		tell_opened(file, 0, "");
	} else {
		file->find_began = uv_now(file->env.loop);
		start_job(file, IMAGE_FIND);
		tell_opened(file, 0, "");
	}
}

static void on_found(struct file_adapter *file, const struct image_job *job)
{
	uint64_t now = uv_now(file->env.loop);

	file->rest_until = now + REST * (now - file->find_began);
	file->notes_from = job->notes_next;
	if (job->errand.result || lost_claim(file)) {
		publisher_state(&file->publisher, VMSIG_STATE_BOOTING,
			job->errand.result ? job->why : TAKEN);
		drop(file);
		return;
	}
	file->proof = job->proof;
	become_ready(file, file->proof.kcr3, file->proof.levels);
}

static void on_checked(struct file_adapter *file, const struct image_job *job)
{
	if (job->errand.result)
		end_session(file, job->why);
	else if (lost_claim(file))
		end_session(file, TAKEN);
}

static void on_job_done(struct errand *errand)
{
	static void (*const ends[])(struct file_adapter *, const struct image_job *) = {
		[IMAGE_OPEN] = on_opened, [IMAGE_FIND] = on_found, [IMAGE_CHECK] = on_checked};
	const struct image_job *job = (struct image_job *)errand;
	struct file_adapter *file = errand->owner.arg;

	file->job = NULL;
	ends[job->kind](file, job);
}

/* Holders' mappings of it hang as well: what they have is void. */
static void on_job_late(struct errand *errand)
{
	struct file_adapter *file = errand->owner.arg;
	bool was_ready = file->ready;

	drop(file);
	if (was_ready)
		end_session(file, HANGS); /* and GONE, when the core asks again */
	else
		publisher_state(&file->publisher, VMSIG_STATE_GONE, HANGS);
}

static void on_timer(uv_timer_t *timer);

/* Thousands of endpoints begin in one turn of the loop: each has its own moment of the interval,
 * and keeps it when a turn was late, so that no later turn has to look at all of them. */
static void arm_timer(struct file_adapter *file)
{
	uint64_t poll_ms = file->env.config->poll_ms, now_ms = uv_now(file->env.loop);

	(void)uv_timer_start(
		&file->timer, on_timer, poll_ms - (now_ms + file->moment) % poll_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
	struct file_adapter *file = timer->data;

	arm_timer(file);
	if (file->awaiting || file->job)
		return;
	if (file->ready)
		start_job(file, IMAGE_CHECK);
	else if (uv_now(file->env.loop) >= file->rest_until)
		bootstrap(file);
}

/* ---- the seam ---- */

static void describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg)
{
	struct file_adapter *file = ctx;

	*out_pod = file->pod;
	*out_nseg = file->pod.nseg;
	*out_segs = file->pod.nseg ? file->image->map.segs : NULL;
}

/* The only file; RAM in several is had by share_files(). */
static int share_fd(void *ctx)
{
	struct file_adapter *file = ctx;

	if (!file->ready)
		return -ENOENT;
	return ramset_count(file->image->ram) == 1 ? ram_share(ramset_file(file->image->ram, 0))
						   : -EOPNOTSUPP;
}

static int share_files(void *ctx, int ret_fds[static VMSIG_MEMFILES_MAX],
	uint64_t ret_sizes[static VMSIG_MEMFILES_MAX])
{
	struct file_adapter *file = ctx;

	return file->ready ? ramset_share(file->image->ram, ret_fds, ret_sizes) : -ENOENT;
}

static void invalidate(void *ctx, uint32_t epoch)
{
	struct file_adapter *file = ctx;

	publisher_begin(&file->publisher, epoch);
	file->awaiting = false;
	bootstrap(file);
}

static int share_writable(void *ctx)
{
	struct file_adapter *file = ctx;

	if (!file->ready)
		return -ENOENT;
	return ramset_count(file->image->ram) == 1
		       ? ram_open_writable(ramset_file(file->image->ram, 0))
		       : -EOPNOTSUPP;
}

static int share_files_writable(void *ctx, int ret_fds[static VMSIG_MEMFILES_MAX],
	uint64_t ret_sizes[static VMSIG_MEMFILES_MAX])
{
	struct file_adapter *file = ctx;

	return file->ready ? ramset_share_writable(file->image->ram, ret_fds, ret_sizes) : -ENOENT;
}

/* Nothing that moves guests knows of a file; a provider does, but not while it is away. */
static int may_write(void *ctx, const char **ret_why)
{
	const struct file_adapter *file = ctx;

	if (!file->orphaned)
		return 0;
	*ret_why = "its provider is away; wait for it to come back";
	return VMSIG_ERR_BUSY;
}

/* ---- what a provider says ---- */

static void on_invalidate(void *ctx, const char *why)
{
	struct file_adapter *file = ctx;

	if (!file->awaiting)
		end_session(file, why);
}

static void on_away(void *ctx)
{
	struct file_adapter *file = ctx;

	file->orphaned = true;
	if (file->ready)
		publisher_state(&file->publisher, VMSIG_STATE_UNREACHABLE,
			"its provider is away, and may come back");
}

static void on_back(void *ctx)
{
	struct file_adapter *file = ctx;

	file->orphaned = false;
	if (file->ready && !file->awaiting)
		file->awaiting =
			publisher_context(&file->publisher, &file->pod, file->image->map.segs,
				file->pod.nseg, &file->proof.system) == VMSIG_ERR_STALE_EPOCH;
}

static const struct offer_guest guest = {
	.invalidate = on_invalidate, .away = on_away, .back = on_back};

static int register_all(struct file_adapter *file)
{
	const vmsig_memctx_reg reader = {
		.ctx = file,
		.describe = describe,
		.share_fd = share_fd,
		.invalidate = invalidate,
	};
	const vmsig_memwrite_reg writer = {
		.ctx = file,
		.share_writable = share_writable,
		.may_write = may_write,
	};

	const vmsig_memfiles_reg files = {
		.ctx = file,
		.share = share_files,
		.share_writable = share_files_writable,
	};

	return publisher_register(&file->publisher, &file->env, &reader, &files, &writer);
}

static int file_start(
	struct adapter **ret_adapter, const struct adapter_env *env, char *error, size_t error_size)
{
	static uint64_t moments;
	struct file_adapter *file = calloc(1, sizeof(*file));
	int r = file ? job_line_new(&file->line, env->jobs) : -ENOMEM;

	if (r) {
		snprintf(error, error_size, "out of memory");
		free(file);
		return r;
	}
	file->base.ops = env->offer ? &adapter_provider : &adapter_file;
	file->env = *env;
	file->awaiting = true;
	r = register_all(file);
	if (r) {
		snprintf(error, error_size, "endpoint '%s' cannot be registered: %s",
			env->config->name, vmsig_error_name(r));
		job_line_free(file->line);
		free(file);
		return r;
	}
	(void)uv_timer_init(env->loop, &file->timer); /* cannot fail */
	file->timer.data = file;
	file->moment = moments += MOMENT_STEP;
	arm_timer(file);
	if (env->offer) {
		offer_ref(env->offer);
		env->offer->guest = &guest;
		env->offer->guest_ctx = file;
	}
	*ret_adapter = &file->base;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct file_adapter *file = handle->data;
	adapter_stopped_fn stopped = file->stopped;
	void *arg = file->stopped_arg;

	free(file);
	stopped(arg);
}

/* A job that runs is not waited for: it may hang. */
static void file_stop(struct adapter *adapter, adapter_stopped_fn stopped, void *arg)
{
	struct file_adapter *file = (struct file_adapter *)adapter;

	file->stopped = stopped;
	file->stopped_arg = arg;
	publisher_unregister(&file->publisher);
	drop(file);
	if (file->env.offer) {
		file->env.offer->guest = NULL;
		file->env.offer = offer_unref(file->env.offer);
	}
	file->line = job_line_free(file->line);
	uv_close((uv_handle_t *)&file->timer, on_closed);
}

const struct adapter_ops adapter_file = {
	.name = "file",
	.start = file_start,
	.stop = file_stop,
};

const struct adapter_ops adapter_provider = {
	.name = "provider",
	.start = file_start,
	.stop = file_stop,
};
