/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_ERRAND_H
#define BROKER_ADAPTERS_ERRAND_H

/*
 * A job that an adapter has sent out, and may lose interest in: it is freed at its end, whoever
 * still waits for it, because one that hangs outlives its adapter. Everything but
 * errand_ops.run is called, and calls, on the loop thread.
 */

#include "broker/jobs.h"

struct errand;

struct errand_ops {
	/* A step, on a job's thread. VMSIG_ERR_WOULD_BLOCK: there is another one; what else it
	 * returns becomes errand->result. */
	int (*run)(struct errand *errand);
	/* With all that it has; the last call. */
	void (*free)(struct errand *errand);
};

/* Who waits for it; neither is called after errand_abandon(). */
struct errand_owner {
	void (*done)(struct errand *errand); /* borrows it */
	/* The file system that it waits for does not answer. What is left is to abandon it. */
	void (*late)(struct errand *errand);
	void *arg;
};

/* Part of what the adapter allocates, at its start. */
struct errand {
	struct job job; /* first */
	const struct errand_ops *ops;
	struct errand_owner owner;
	int result; /* 0, positive enum vmsig_error, -errno; -ECANCELED: it was cancelled */
};

/* From here on it frees itself. */
void errand_start(struct errand *errand, const struct errand_ops *ops,
	const struct errand_owner *owner, struct job_line *line);
/* What it finds is not wanted any more; done() is called all the same. */
void errand_cancel(struct errand *errand);
/* Nobody waits for it any more. Accepts NULL. */
void errand_abandon(struct errand *errand);

#endif
