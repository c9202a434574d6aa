/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/file/image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

int image_new(struct image **ret_image, const struct config_endpoint *config)
{
	struct image *image = calloc(1, sizeof(*image));
	size_t bytes = config->nseg * sizeof(*config->segs);

	if (!image)
		return -ENOMEM;
	image->refs = 1;
	image->owner = config->owner;
	image->low = config->low;
	image->nseg = config->nseg;
	image->path = strdup(config->path);
	image->segs = malloc(bytes ? bytes : 1);
	if (!image->path || !image->segs) {
		image_unref(image);
		return -ENOMEM;
	}
	if (bytes)
		memcpy(image->segs, config->segs, bytes);
	*ret_image = image;
	return 0;
}

struct image *image_ref(struct image *image)
{
	image->refs++;
	return image;
}

struct image *image_unref(struct image *image)
{
	if (!image || --image->refs)
		return NULL;
	claim_drop(&image->claim);
	physmap_deinit(&image->map);
	ram_free(image->ram);
	free(image->path);
	free(image->segs);
	free(image);
	return NULL;
}

/* ---- on a job's thread ---- */

/* Only one job of an image runs at a time, so it may fill in what the loop thread reads after
 * done(). */
static int lay_out(struct image_job *job, const struct ram *ram)
{
	struct image *image = job->image;
	uint64_t size = ram_size(ram);
	int r = image->nseg ? physmap_init(&image->map, image->segs, image->nseg, size)
			    : physmap_init_low(&image->map, image->low, size);

	if (r)
		snprintf(job->why, sizeof(job->why),
			"%s has %" PRIu64 " bytes, which do not hold the configured layout; "
			"correct 'low' or 'segments'",
			image->path, size);
	return r;
}

static int run_open(struct image_job *job)
{
	struct image *image = job->image;
	struct ram *ram;
	int r = ram_open_path(&ram, image->path, image->owner, job->why, sizeof(job->why));

	if (r)
		return r;
	r = lay_out(job, ram);
	if (r)
		ram_free(ram);
	else
		image->ram = ram;
	return r;
}

static int read_gpa(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	const struct image *image = ctx;

	return ram_read_gpa(image->ram, &image->map, gpa, buf, len);
}

static struct kcr3_memory memory_of(struct image *image, int fd)
{
	return (struct kcr3_memory){.read = read_gpa, .ctx = image, .map = &image->map, .fd = fd};
}

/* Nobody knows this file's vCPUs. */
static int scan_begin(struct image_job *job)
{
	struct kcr3_memory memory;

	/* A description of its own: the search moves the offset. */
	job->fd = ram_share(job->image->ram);
	if (job->fd < 0) {
		snprintf(job->why, sizeof(job->why), "cannot search %s: %s", job->image->path,
			strerror(-job->fd));
		return job->fd;
	}
	memory = memory_of(job->image, job->fd);
	return kcr3_scan_new(&job->scan, &memory, NULL, 0, job->notes_from);
}

static void scan_end(struct image_job *job)
{
	if (job->scan)
		job->notes_next = kcr3_scan_notes_next(job->scan);
	job->scan = kcr3_scan_free(job->scan);
	if (job->fd >= 0)
		close(job->fd);
	job->fd = -1;
}

static int run_find(struct image_job *job)
{
	int r = job->scan ? 0 : scan_begin(job);

	if (!r)
		r = kcr3_scan_step(job->scan);
	if (r == VMSIG_ERR_WOULD_BLOCK)
		return r;
	if (!r)
		job->proof = *kcr3_scan_proof(job->scan);
	else if (!job->why[0])
		snprintf(job->why, sizeof(job->why), "%s",
			job->scan && *kcr3_scan_why(job->scan) ? kcr3_scan_why(job->scan)
							       : vmsig_error_text(r));
	scan_end(job);
	return r;
}

static int run_check(struct image_job *job)
{
	static const char *const changes[] = {
		[RAM_SHRUNK] = "the RAM file shrank",
		[RAM_REPLACED] = "the RAM file was replaced",
		[RAM_MISSING] = "the RAM file is gone",
	};
	enum ram_change change = ram_check(job->image->ram);
	struct kcr3_memory memory = memory_of(job->image, -1);
	const char *why = NULL;

	if (change != RAM_SAME)
		why = changes[change];
	else if (job->proof.levels && kcr3_reprove(&memory, &job->proof, NULL, 0))
		why = "the kernel that was found is not there any more";
	if (!why)
		return 0;
	snprintf(job->why, sizeof(job->why), "%s", why);
	return VMSIG_ERR_GONE;
}

static int run(struct errand *errand)
{
	static int (*const runs[])(struct image_job *) = {
		[IMAGE_OPEN] = run_open, [IMAGE_FIND] = run_find, [IMAGE_CHECK] = run_check};
	struct image_job *job = (struct image_job *)errand;

	return runs[job->kind](job);
}

/* ---- on the loop thread ---- */

static void job_free(struct errand *errand)
{
	struct image_job *job = (struct image_job *)errand;

	scan_end(job); /* of a search that was cancelled */
	image_unref(job->image);
	free(job);
}

int image_job_new(struct image_job **ret_job, enum image_job_kind kind, struct image *image,
	const struct kcr3_proof *proof)
{
	struct image_job *job = calloc(1, sizeof(*job));

	if (!job)
		return -ENOMEM;
	job->fd = -1;
	job->kind = kind;
	job->image = image_ref(image);
	job->proof = *proof;
	*ret_job = job;
	return 0;
}

void image_job_start(struct image_job *job, const struct errand_owner *owner, struct job_line *line)
{
	static const struct errand_ops ops = {.run = run, .free = job_free};

	errand_start(&job->errand, &ops, owner, line);
}
