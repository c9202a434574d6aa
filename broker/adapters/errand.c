/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/errand.h"

#include <errno.h>

#include "vmsig/vmsig_error.h"

static enum job_step on_work(struct job *job)
{
	struct errand *errand = (struct errand *)job;

	errand->result = errand->ops->run(errand);
	return errand->result == VMSIG_ERR_WOULD_BLOCK ? JOB_AGAIN : JOB_DONE;
}

static void on_late(struct job *job)
{
	struct errand *errand = (struct errand *)job;

	if (errand->owner.late)
		errand->owner.late(errand);
}

static void on_done(struct job *job)
{
	struct errand *errand = (struct errand *)job;

	if (!job->finished)
		errand->result = -ECANCELED;
	if (errand->owner.done)
		errand->owner.done(errand);
	errand->ops->free(errand);
}

void errand_start(struct errand *errand, const struct errand_ops *ops,
	const struct errand_owner *owner, struct job_line *line)
{
	static const struct job_ops job_ops = {.work = on_work, .late = on_late, .done = on_done};

	errand->job.ops = &job_ops;
	errand->ops = ops;
	errand->owner = *owner;
	job_start(&errand->job, line);
}

void errand_cancel(struct errand *errand)
{
	job_cancel(&errand->job);
}

void errand_abandon(struct errand *errand)
{
	if (!errand)
		return;
	errand->owner = (struct errand_owner){0};
	job_cancel(&errand->job);
}
