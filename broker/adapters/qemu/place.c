/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP socket by descriptor; see place.h. */
#include "broker/adapters/qemu/place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ram/beneath.h"
#include "vmsig/vmsig_error.h"

static int find_socket(struct place_job *job)
{
	struct beneath place;
	struct stat st;
	int r = beneath_open(&place, job->path, job->owner, job->why, sizeof(job->why));

	if (r)
		return r;
	if (fstat(place.file, &st) == 0 && S_ISSOCK(st.st_mode)) {
		job->fd = place.file;
		place.file = -1;
	} else {
		snprintf(job->why, sizeof(job->why),
			"%s is no socket; start QEMU with -qmp unix:%s,server=on,wait=off",
			job->path, job->path);
		r = VMSIG_ERR_BAD_REQUEST;
	}
	beneath_close(&place);
	return r;
}

static enum job_step on_work(struct job *base)
{
	struct place_job *job = (struct place_job *)base;

	job->result = find_socket(job);
	return JOB_DONE;
}

static void on_late(struct job *base)
{
	struct place_job *job = (struct place_job *)base;

	if (job->late)
		job->late(job);
}

static void on_done(struct job *base)
{
	struct place_job *job = (struct place_job *)base;

	if (!base->finished)
		job->result = -ECANCELED;
	if (job->done)
		job->done(job);
	else
		place_free(job);
}

int place_new(struct place_job **ret_job, const char *path, uid_t owner)
{
	static const struct job_ops ops = {.work = on_work, .late = on_late, .done = on_done};
	struct place_job *job = calloc(1, sizeof(*job));

	if (!job || !(job->path = strdup(path))) {
		free(job);
		return -ENOMEM;
	}
	job->job.ops = &ops;
	job->owner = owner;
	job->fd = -1;
	*ret_job = job;
	return 0;
}

struct place_job *place_abandon(struct place_job *job)
{
	if (!job)
		return NULL;
	job->done = NULL;
	job->late = NULL;
	job_cancel(&job->job);
	return NULL;
}

struct place_job *place_free(struct place_job *job)
{
	if (!job)
		return NULL;
	if (job->fd >= 0)
		close(job->fd);
	free(job->path);
	free(job);
	return NULL;
}
