/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/file/image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

static int copy_paths(struct image *image, const struct config_endpoint *config)
{
	char *const *paths;
	size_t n = config_endpoint_files(config, &paths);

	image->paths = calloc(n + 1, sizeof(*image->paths)); /* never of 0 bytes */
	for (size_t i = 0; image->paths && i < n; i++) {
		image->paths[i] = strdup(paths[i]);
		if (!image->paths[i])
			return -ENOMEM;
		image->npaths++;
	}
	return image->paths ? 0 : -ENOMEM;
}

int image_new(struct image **ret_image, const struct config_endpoint *config, struct offer *offer)
{
	struct image *image = calloc(1, sizeof(*image));
	size_t bytes = config->nseg * sizeof(*config->segs);

	if (!image)
		return -ENOMEM;
	image->refs = 1;
	image->owner = config->owner;
	image->offer = offer ? offer_ref(offer) : NULL;
	image->low = config->low;
	image->nseg = config->nseg;
	image->segs = malloc(bytes ? bytes : 1);
	if (copy_paths(image, config) || !image->segs) {
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
	physmap_deinit(&image->map);
	ramset_free(image->ram);
	/* Behind it: the last close is not ours to do here. */
	offer_unref(image->offer);
	while (image->npaths)
		free(image->paths[--image->npaths]);
	free(image->paths);
	free(image->segs);
	free(image);
	return NULL;
}

/* ---- on a job's thread ---- */

/* Only one job of an image runs at a time, so it may fill in what the loop thread reads after
 * done(). */
static int lay_out(struct image_job *job, const struct ramset *ram)
{
	struct image *image = job->image;
	uint64_t size = ramset_size(ram);
	int r = image->nseg ? physmap_init(&image->map, image->segs, image->nseg, size)
			    : physmap_init_low(&image->map, image->low, size);

	if (r)
		snprintf(job->why, sizeof(job->why),
			"%s%s %" PRIu64 " bytes, which do not hold the %s layout; "
			"correct 'low' or 'segments'",
			image->offer ? "RAM" : image->paths[0],
			image->npaths > 1 ? " and the files behind it have" : " has", size,
			image->offer ? "provided" : "configured");
	return r;
}

static size_t nfiles(const struct image *image)
{
	return image->offer ? image->offer->nfds : image->npaths;
}

static int open_file(struct image_job *job, size_t i, struct ram **ret_file)
{
	const struct image *image = job->image;
	char name[32];

	if (!image->offer)
		return ram_open_path(
			ret_file, image->paths[i], image->owner, job->why, sizeof(job->why));
	snprintf(name, sizeof(name), "RAM file %zu", i + 1);
	return ram_open_given(ret_file, image->offer->fds[i], name, image->offer->uid, job->why,
		sizeof(job->why));
}

static int open_files(struct image_job *job, struct ramset **ret_set)
{
	struct image *image = job->image;
	struct ram *files[VMSIG_MEMFILES_MAX];
	size_t n = 0;
	int r = 0;

	while (!r && n < nfiles(image)) {
		r = open_file(job, n, &files[n]);
		n += !r;
	}
	if (!r)
		r = ramset_new(ret_set, files, n, job->why, sizeof(job->why));
	while (r && n)
		ram_free(files[--n]);
	return r;
}

static int run_open(struct image_job *job)
{
	struct ramset *set;
	int r = open_files(job, &set);

	if (r)
		return r;
	r = lay_out(job, set);
	if (r)
		ramset_free(set);
	else
		job->image->ram = set;
	return r;
}

static int read_gpa(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	const struct image *image = ctx;

	return ramset_read_gpa(image->ram, &image->map, gpa, buf, len);
}

static struct kcr3_memory memory_of(struct image *image, const struct span *files)
{
	return (struct kcr3_memory){
		.read = read_gpa, .ctx = image, .map = &image->map, .files = files};
}

/* Nobody knows this file's vCPUs. */
static int scan_begin(struct image_job *job)
{
	struct kcr3_memory memory;
	/* Descriptions of its own: the search moves the offsets. */
	int r = ramset_span(job->image->ram, &job->files);

	if (r) {
		snprintf(job->why, sizeof(job->why), "out of memory");
		return r;
	}
	memory = memory_of(job->image, &job->files);
	return kcr3_scan_new(&job->scan, &memory, NULL, 0, job->notes_from);
}

static void scan_end(struct image_job *job)
{
	if (job->scan)
		job->notes_next = kcr3_scan_notes_next(job->scan);
	job->scan = kcr3_scan_free(job->scan);
	span_close(&job->files);
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
	enum ram_change change = ramset_check(job->image->ram);
	struct kcr3_memory memory = memory_of(job->image, NULL);
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
