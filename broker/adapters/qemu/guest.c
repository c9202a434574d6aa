/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/adapters/qemu/backing.h"
#include "vmsig/vmsig_error.h"

/* Who proves that a file is RAM: the administrator, or QEMU's own mappings. */
static int take_evidence(struct guest *guest, const struct config_endpoint *config, int socket,
	char *error, size_t error_size)
{
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
	claim_drop(&guest->claim);
	ram_free(guest->ram);
	mapper_unref(guest->mapper);
	free(guest->ram_path);
	physmap_deinit(&guest->physmap);
	memmap_deinit(&guest->map);
	free(guest);
	return NULL;
}

const char *guest_claim(struct guest *guest, struct claims *claims, const char *name)
{
	return claim_take(&guest->claim, claims, guest->ram, name);
}

/* pgwalk_read_fn */
static int guest_read(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	const struct guest *guest = ctx;

	return ram_read_gpa(guest->ram, &guest->physmap, gpa, buf, len);
}

/* Only one job of a guest runs at a time, so it may fill in what the loop thread reads
 * after done(). */
static int open_ram(struct guest *guest, char *error, size_t error_size)
{
	const struct backing backing = {
		.mapper = guest->mapper, .path = guest->ram_path, .owner = guest->ram_owner};
	struct ram *ram;
	int r = backing_open(&ram, &backing, &guest->map, error, error_size);

	if (r)
		return r;
	r = physmap_init(&guest->physmap, guest->map.segs, guest->map.nseg, ram_size(ram));
	if (r) {
		snprintf(error, error_size, "QEMU's memory map does not fit into the file of %s",
			guest->map.main->id);
		ram_free(ram);
		return r;
	}
	guest->ram = ram;
	return 0;
}

static void run_find(struct guest_job *job)
{
	struct kcr3_memory memory = {
		.read = guest_read, .ctx = job->guest, .map = &job->guest->physmap, .fd = -1};

	if (job->guest->ram)
		job->change = ram_check(job->guest->ram);
	else
		job->result = open_ram(job->guest, job->error, sizeof(job->error));
	if (job->change != RAM_SAME) {
		snprintf(job->error, sizeof(job->error), "guest RAM was replaced");
		job->result = VMSIG_ERR_NOT_READY;
	}
	if (job->result)
		return;
	if (job->roots.ncr3 == 0) {
		/* kcr3_find() without roots would accept the last boot's kernel. */
		vcpu_say_none(&job->roots, job->error, sizeof(job->error));
		job->result = VMSIG_ERR_NOT_READY;
		return;
	}
	memory.fd = ram_share(job->guest->ram);
	job->result = kcr3_find(&memory, job->roots.cr3, job->roots.ncr3, &job->cancel, &job->proof,
		job->error, sizeof(job->error));
	if (memory.fd >= 0)
		close(memory.fd);
}

static void run_check(struct guest_job *job)
{
	const struct kcr3_memory memory = {
		.read = guest_read, .ctx = job->guest, .map = &job->guest->physmap, .fd = -1};

	job->change = ram_check(job->guest->ram);
	job->memory = kcr3_reprove(&memory, &job->proof, NULL, 0);
	job->result = job->memory;
	if (!job->result && job->roots.ncr3 == 0)
		job->result = VMSIG_ERR_NOT_READY;
	if (!job->result)
		job->result = kcr3_reprove(&memory, &job->proof, job->roots.cr3, job->roots.ncr3);
}

static void on_work(uv_work_t *work)
{
	struct guest_job *job = work->data;

	if (job->kind == GUEST_FIND)
		run_find(job);
	else
		run_check(job);
}

static void on_after_work(uv_work_t *work, int status)
{
	struct guest_job *job = work->data;

	if (status && !job->result)
		job->result = status;
	job->done(job);
}

int guest_job_start(struct guest_job **ret_job, uv_loop_t *loop, enum guest_job_kind kind,
	struct guest *guest, struct vcpu_roots *roots, const struct kcr3_proof *proof,
	void (*done)(struct guest_job *job), void *arg)
{
	struct guest_job *job = calloc(1, sizeof(*job));
	int r;

	if (!job) {
		vcpu_deinit(roots);
		return -ENOMEM;
	}
	job->work.data = job;
	job->kind = kind;
	job->guest = guest_ref(guest);
	job->roots = *roots;
	*roots = (struct vcpu_roots){0};
	if (proof)
		job->proof = *proof;
	job->done = done;
	job->arg = arg;
	r = uv_queue_work(loop, &job->work, on_work, on_after_work);
	if (r) {
		guest_job_free(job);
		return r;
	}
	*ret_job = job;
	return 0;
}

void guest_job_cancel(struct guest_job *job)
{
	atomic_store(&job->cancel, true);
	/* EBUSY: it runs already and the flag ends it. */
	(void)uv_cancel((uv_req_t *)&job->work);
}

struct guest_job *guest_job_free(struct guest_job *job)
{
	if (!job)
		return NULL;
	guest_unref(job->guest);
	vcpu_deinit(&job->roots);
	free(job);
	return NULL;
}
