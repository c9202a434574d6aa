/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOBS_H
#define BROKER_JOBS_H

/*
 * Work that takes long or waits for a file system, on threads of its own: handshakes, which
 * have others (net/crew), never wait behind it.
 *
 * Whose work it is, is a line (an endpoint, say). Jobs of a line run one after the other, in
 * order, so a line holds one thread at most; lines with work take turns. A job is done in
 * short steps: one that returns JOB_AGAIN goes behind the other lines. A step that does not
 * come back within its limit is late: its thread is written off and replaced, as long as not
 * more than JOBS_STUCK_MAX are, so whatever it waits for harms its own line only. The threads
 * run at a lower priority than the loop.
 *
 * Everything but job_ops.work is called, and calls, on the loop thread.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define JOBS_STUCK_MAX 32 /* threads that wait for ever; 8 MiB of address space each */

struct jobs;
struct job_line;
struct job;

enum job_step { JOB_DONE, JOB_AGAIN };

struct job_ops {
	/* One step, some milliseconds of work, on a thread of its own. May look at
	 * job_is_cancelled(); a cancelled job is not called again. */
	enum job_step (*work)(struct job *job);
	/* The step that runs has not come back within limit_ms; once per job. The job is
	 * cancelled, and what it uses stays in use until done(), which may never come. NULL:
	 * nobody is interested. */
	void (*late)(struct job *job);
	/* The job is over: job->finished tells whether work() said so, else it was cancelled. It
	 * belongs to the callee, who may free it. */
	void (*done)(struct job *job);
};

/* Part of what the caller allocates. `ops`, `arg` and `limit_ms` are the caller's to set; the
 * rest starts as zeroes. */
struct job {
	const struct job_ops *ops;
	void *arg;
	uint64_t limit_ms; /* for one step; 0: JOBS_LIMIT_MS */
	bool finished;

	/* private */
	atomic_bool cancel;
	struct job_line *line;
	struct job *prev, *next; /* waiting in the line, or ended */
	bool waiting, late;
};

#define JOBS_LIMIT_MS 10000u /* far beyond a step on a loaded machine with a slow disk */

/* `threads` run at a time, beside those that were written off; they start with the first job.
 * 0 or -errno. */
__attribute__((warn_unused_result)) int jobs_new(
	struct jobs **ret_jobs, uv_loop_t *loop, unsigned threads);
/* Cancels everything and calls done() for all but stuck jobs, inside of the call; waits a
 * bounded time for the steps that run. Nothing may be started any more. The loop must run
 * once more before jobs_free(). Accepts NULL. */
void jobs_close(struct jobs *jobs);
/* What stuck threads still use is not freed: the process is about to end. Accepts NULL,
 * returns NULL. */
struct jobs *jobs_free(struct jobs *jobs);

/* What it counts. */
struct metrics;
void jobs_stats(struct jobs *jobs, struct metrics *metrics);

/* -ENOMEM. */
__attribute__((warn_unused_result)) int job_line_new(struct job_line **ret_line, struct jobs *jobs);
/* Cancels what is left in it, whose done() comes all the same. Accepts NULL, returns NULL. */
struct job_line *job_line_free(struct job_line *line);
/* The same, but what is in it is still done: for lines of a job or two. */
void job_line_leave(struct job_line *line);
/* A step of it is late and has not come back: what is started now waits behind it. */
bool job_line_is_stuck(const struct job_line *line);

/* jobs_close() was called: nothing may be started any more. */
bool job_line_is_closed(const struct job_line *line);

/* The job must stay until done(). */
void job_start(struct job *job, struct job_line *line);
/* done() follows, from the loop: soon, unless a step hangs. */
void job_cancel(struct job *job);
bool job_is_cancelled(const struct job *job); /* from any thread */

#endif
