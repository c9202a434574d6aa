/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/adapters/qemu/backing.h"
#include "vmsig/vmsig_error.h"

/* Who proves that a file is RAM: the administrator, or QEMU's own mappings. */
static int take_evidence(struct guest *guest, const struct config_endpoint *config, int socket,
	char *error, size_t error_size)
{
	if (!config->ram && socket < 0)
		return mapper_of_pid(&guest->mapper, guest->pid, error, error_size);
	if (!config->ram)
		return mapper_of_peer(&guest->mapper, socket, error, error_size);
	guest->ram_owner = config->owner;
	guest->ram_path = strdup(config->ram);
	if (guest->ram_path)
		return 0;
	snprintf(error, error_size, "out of memory");
	return -ENOMEM;
}

int guest_new(struct guest **ret_guest, struct memmap *map, const struct config_endpoint *config,
	pid_t pid, int socket, char *error, size_t error_size)
{
	struct guest *guest = calloc(1, sizeof(*guest));
	int r;

	if (!guest) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	guest->refs = 1;
	guest->pid = pid;
	r = take_evidence(guest, config, socket, error, error_size);
	if (r) {
		guest_unref(guest);
		return r;
	}
	guest->map = *map;
	*map = (struct memmap){0};
	*ret_guest = guest;
	return 0;
}

struct guest *guest_ref(struct guest *guest)
{
	guest->refs++;
	return guest;
}

struct guest *guest_unref(struct guest *guest)
{
	if (!guest || --guest->refs)
		return NULL;
	ramset_free(guest->ram);
	mapper_unref(guest->mapper);
	free(guest->ram_path);
	physmap_deinit(&guest->physmap);
	memmap_deinit(&guest->map);
	free(guest);
	return NULL;
}

const char *guest_claim(struct guest *guest, struct claims *claims, const char *name)
{
	return ramset_claim(guest->ram, claims, name);
}

/* pgwalk_read_fn */
static int guest_read(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	const struct guest *guest = ctx;

	return ramset_read_gpa(guest->ram, &guest->physmap, gpa, buf, len);
}

/* Only one job of a guest runs at a time, so it may fill in what the loop thread reads
 * after done(). */
static int open_ram(struct guest *guest, char *error, size_t error_size)
{
	const struct backing backing = {
		.mapper = guest->mapper, .path = guest->ram_path, .owner = guest->ram_owner};

	return backing_open(&guest->ram, &guest->physmap, &backing, &guest->map, error, error_size);
}

/* ---- on a job's thread ---- */

static struct kcr3_memory memory_of(struct guest *guest, const struct span *files)
{
	return (struct kcr3_memory){
		.read = guest_read, .ctx = guest, .map = &guest->physmap, .files = files};
}

static int scan_begin(struct guest_job *job)
{
	struct guest *guest = job->guest;
	struct kcr3_memory memory;
	int r;

	if (guest->ram)
		job->change = ramset_check(guest->ram);
	if (job->change != RAM_SAME) {
		snprintf(job->error, sizeof(job->error), "guest RAM was replaced");
		return VMSIG_ERR_NOT_READY;
	}
	r = guest->ram ? 0 : open_ram(guest, job->error, sizeof(job->error));
	if (r)
		return r;
	if (job->roots.ncr3 == 0) {
		/* A search without roots would accept the last boot's kernel. */
		vcpu_say_none(&job->roots, job->error, sizeof(job->error));
		return VMSIG_ERR_NOT_READY;
	}
	/* Descriptions of its own: the search moves the offsets. */
	r = ramset_span(guest->ram, &job->files);
	if (r)
		return r;
	memory = memory_of(guest, &job->files);
	return kcr3_scan_new(
		&job->scan, &memory, job->roots.cr3, job->roots.ncr3, guest->notes_from);
}

static void scan_end(struct guest_job *job)
{
	job->scan = kcr3_scan_free(job->scan);
	span_close(&job->files);
}

static int run_find(struct guest_job *job)
{
	int r = job->scan ? 0 : scan_begin(job);

	if (!r)
		r = kcr3_scan_step(job->scan);
	if (r == VMSIG_ERR_WOULD_BLOCK)
		return r;
	if (!r)
		job->proof = *kcr3_scan_proof(job->scan);
	else if (job->scan)
		snprintf(job->error, sizeof(job->error), "%s", kcr3_scan_why(job->scan));
	if (job->scan)
		job->guest->notes_from = kcr3_scan_notes_next(job->scan);
	scan_end(job);
	return r;
}

static int run_check(struct guest_job *job)
{
	const struct kcr3_memory memory = memory_of(job->guest, NULL);

	job->change = ramset_check(job->guest->ram);
	job->memory = kcr3_reprove(&memory, &job->proof, NULL, 0);
	if (job->memory)
		return job->memory;
	return job->roots.ncr3 ? kcr3_reprove(&memory, &job->proof, job->roots.cr3, job->roots.ncr3)
			       : VMSIG_ERR_NOT_READY;
}

static int run(struct errand *errand)
{
	struct guest_job *job = (struct guest_job *)errand;

	return job->kind == GUEST_FIND ? run_find(job) : run_check(job);
}

/* ---- on the loop thread ---- */

static void job_free(struct errand *errand)
{
	struct guest_job *job = (struct guest_job *)errand;

	scan_end(job); /* of a search that was cancelled */
	guest_unref(job->guest);
	vcpu_deinit(&job->roots);
	free(job);
}

int guest_job_start(struct guest_job **ret_job, enum guest_job_kind kind, struct guest *guest,
	struct vcpu_roots *roots, const struct kcr3_proof *proof, const struct errand_owner *owner,
	struct job_line *line)
{
	static const struct errand_ops ops = {.run = run, .free = job_free};
	struct guest_job *job = calloc(1, sizeof(*job));

	if (!job) {
		vcpu_deinit(roots);
		return -ENOMEM;
	}
	job->kind = kind;
	job->guest = guest_ref(guest);
	job->roots = *roots;
	*roots = (struct vcpu_roots){0};
	if (proof)
		job->proof = *proof;
	*ret_job = job;
	errand_start(&job->errand, &ops, owner, line);
	return 0;
}
