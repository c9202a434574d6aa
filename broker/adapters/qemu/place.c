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

static bool is_another(const struct place_job *job, const struct stat *st)
{
	return job->ino && (st->st_dev != job->dev || st->st_ino != job->ino);
}

static int find_socket(struct errand *errand)
{
	struct place_job *job = (struct place_job *)errand;
	struct beneath place;
	struct stat st = {0};
	int r = beneath_open(&place, job->path, job->owner, job->why, sizeof(job->why));

	if (r)
		return r;
	(void)!fstat(place.file, &st);
	if (S_ISSOCK(st.st_mode) && is_another(job, &st)) {
		snprintf(job->why, sizeof(job->why),
			"another socket lies at %s by now; its QEMU is asked who it is", job->path);
		r = VMSIG_ERR_BAD_REQUEST;
	} else if (S_ISSOCK(st.st_mode)) {
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

static void job_free(struct errand *errand)
{
	struct place_job *job = (struct place_job *)errand;

	if (job->fd >= 0)
		close(job->fd);
	free(job->path);
	free(job);
}

int place_start(struct place_job **ret_job, const struct config_endpoint *config,
	const struct errand_owner *waiter, struct job_line *line)
{
	static const struct errand_ops ops = {.run = find_socket, .free = job_free};
	struct place_job *job = calloc(1, sizeof(*job));

	if (!job || !(job->path = strdup(config->qmp))) {
		free(job);
		return -ENOMEM;
	}
	job->owner = config->owner;
	job->dev = config->qmp_dev;
	job->ino = config->qmp_ino;
	job->fd = -1;
	*ret_job = job;
	errand_start(&job->errand, &ops, waiter, line);
	return 0;
}
