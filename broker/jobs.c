/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "broker/metrics/metrics.h"
#include "broker/thread.h"
#include "broker/wakeup.h"

#define LOWER_PRIORITY 10 /* steps of nice(2): a tenth of the loop's share when both want it */
#define LOOK_MS 100       /* how exactly a limit is kept */
#define AGAIN_MS 1        /* until the loop tries again to have the lock */
#define CLOSE_MS 2000     /* for the steps that run at the end */
#define NS_PER_MS 1000000u

struct worker {
	struct jobs *jobs;
	pthread_t thread;
	struct job *job; /* whose step it runs */
	uint64_t since_ms;
	bool stuck; /* it has a replacement */
	bool ended; /* to be joined */
	struct worker *prev, *next;
};

struct job_line {
	struct jobs *jobs;
	struct job *queue; /* waiting */
	struct job *running;
	size_t jobs_count; /* not done(); of the loop thread */
	bool ready;        /* in jobs->ready */
	atomic_bool stuck;
	bool orphan;                          /* job_line_free() was called */
	bool ends, withdraws;                 /* all of it, or some, once the lock is had */
	struct job_line *prev, *next;         /* ready */
	struct job_line *all_prev, *all_next; /* all */
};

/* The lock guards what lines have, what workers do and the list of ended jobs, nothing else. The
 * loop does not wait for it: a worker that has it, and whose CPU somebody else has taken, lets go
 * of it when he gets one again, which on a loaded host took a third of a second. What the loop
 * wants meanwhile is kept until it has the lock. */
struct jobs {
	uv_loop_t *loop;
	struct wakeup wake; /* something has ended */
	uv_timer_t timer;   /* looks for late steps while there are jobs */
	uv_timer_t again;   /* tries to have the lock */
	size_t count;       /* of jobs that are not done() */
	unsigned threads;   /* wanted */
	bool closed;
	bool withdraws;     /* from lines that say so */
	struct job *wanted; /* started, and in no line yet */
	struct job_line *all;
	struct worker *workers;
	unsigned able, stuck; /* workers that are not written off, and those that are */

	uv_mutex_t lock;
	uv_cond_t work; /* a line is ready, or it is the end */
	uv_cond_t rest; /* a worker has ended */
	bool stopping;
	unsigned calls;      /* let_go() wakes so many workers, */
	bool tells;          /* and the loop */
	atomic_uint telling; /* threads that are about to */
	struct job_line *ready;
	struct job *ended;
};

static uint64_t now_ms(void)
{
	return uv_hrtime() / NS_PER_MS;
}

/* Lets go of the lock, and wakes those who have to know only then: they would wait for it, and a
 * thread that the loop has taken the CPU from, whose priority is higher, may not get it back soon.
 */
static void let_go(struct jobs *jobs)
{
	unsigned calls = jobs->calls;
	bool tells = jobs->tells && !jobs->closed;

	jobs->calls = 0;
	jobs->tells = false;
	atomic_fetch_add(&jobs->telling, tells);
	uv_mutex_unlock(&jobs->lock);
	if (calls > 1)
		uv_cond_broadcast(&jobs->work);
	else if (calls)
		uv_cond_signal(&jobs->work);
	if (tells)
		wakeup_send(&jobs->wake);
	atomic_fetch_sub(&jobs->telling, tells);
}

/* ---- under the lock ---- */

static void line_settle(struct job_line *line)
{
	struct jobs *jobs = line->jobs;
	bool ready = line->queue && !line->running;

	if (ready && !line->ready) {
		DL_APPEND(jobs->ready, line);
		jobs->calls++;
	} else if (!ready && line->ready) {
		DL_DELETE(jobs->ready, line);
	}
	line->ready = ready;
}

static void job_end(struct job *job)
{
	struct jobs *jobs = job->line->jobs;

	job->waiting = false;
	DL_APPEND(jobs->ended, job);
	jobs->tells = true;
}

static void job_withdraw(struct job *job)
{
	atomic_store(&job->cancel, true);
	if (!job->waiting)
		return;
	DL_DELETE(job->line->queue, job);
	job_end(job);
	line_settle(job->line);
}

static struct job *take(struct jobs *jobs, struct worker *worker)
{
	struct job_line *line = jobs->ready;
	struct job *job = line->queue;

	DL_DELETE(line->queue, job);
	job->waiting = false;
	line->running = job;
	line_settle(line);
	worker->job = job;
	worker->since_ms = now_ms();
	return job;
}

static void give_back(struct worker *worker, struct job *job, enum job_step step)
{
	struct job_line *line = job->line;

	worker->job = NULL;
	line->running = NULL;
	atomic_store(&line->stuck, false);
	job->finished = step == JOB_DONE;
	if (step == JOB_DONE || job_is_cancelled(job)) {
		job_end(job);
	} else {
		job->waiting = true;
		DL_PREPEND(line->queue, job);
	}
	line_settle(line);
}

static void worker_leave(struct worker *worker)
{
	struct jobs *jobs = worker->jobs;

	worker->ended = true;
	jobs->tells = true;
}

/* ---- a thread ---- */

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct jobs *jobs = worker->jobs;

	thread_be_patient(LOWER_PRIORITY);
	uv_mutex_lock(&jobs->lock);
	/* One that was stuck has been replaced. */
	while (!jobs->stopping && !worker->stuck) {
		enum job_step step;
		struct job *job;

		if (!jobs->ready) {
			uv_cond_wait(&jobs->work, &jobs->lock);
			continue;
		}
		job = take(jobs, worker);
		let_go(jobs);
		/* One that was cancelled is taken all the same when the loop could not say so. */
		step = job_is_cancelled(job) ? JOB_AGAIN : job->ops->work(job);
		uv_mutex_lock(&jobs->lock);
		give_back(worker, job, step);
		let_go(jobs);
		uv_mutex_lock(&jobs->lock);
	}
	worker_leave(worker);
	let_go(jobs);
	uv_cond_signal(&jobs->rest);
	return NULL;
}

static bool worker_start(struct jobs *jobs)
{
	struct worker *worker = calloc(1, sizeof(*worker));

	if (!worker)
		return false;
	worker->jobs = jobs;
	if (thread_start(&worker->thread, NULL, 0, worker_main, worker)) {
		free(worker);
		return false;
	}
	DL_APPEND(jobs->workers, worker);
	jobs->able++;
	return true;
}

/* The first ones, and replacements; what cannot be had now is tried at the next look. */
static void workers_start(struct jobs *jobs)
{
	while (jobs->able < jobs->threads && worker_start(jobs))
		;
}

/* Of those that have ended; called with the lock, which they have let go of or soon will. */
static void workers_reap(struct jobs *jobs)
{
	struct worker *worker, *next;

	DL_FOREACH_SAFE (jobs->workers, worker, next) {
		if (!worker->ended)
			continue;
		DL_DELETE(jobs->workers, worker);
		jobs->stuck -= worker->stuck;
		jobs->able -= !worker->stuck;
		uv_mutex_unlock(&jobs->lock);
		pthread_join(worker->thread, NULL);
		uv_mutex_lock(&jobs->lock);
		free(worker);
		next = jobs->workers;
	}
}

/* ---- the loop thread ---- */

static void line_free(struct job_line *line)
{
	DL_DELETE2(line->jobs->all, line, all_prev, all_next);
	free(line);
}

static void line_check(struct job_line *line)
{
	if (line->orphan && line->jobs_count == 0)
		line_free(line);
}

/* With the lock. */
static void line_cancel(struct job_line *line)
{
	while (line->queue)
		job_withdraw(line->queue);
	if (line->running)
		atomic_store(&line->running->cancel, true);
}

/* With the lock. */
static void line_withdraw(struct job_line *line)
{
	struct job *job, *next;

	if (line->ends)
		line_cancel(line);
	DL_FOREACH_SAFE (line->queue, job, next) {
		if (job_is_cancelled(job))
			job_withdraw(job);
	}
	line->ends = line->withdraws = false;
}

/* With the lock: what was wanted while it could not be had. */
static void catch_up(struct jobs *jobs)
{
	struct job_line *line;
	struct job *job;

	while ((job = jobs->wanted)) {
		DL_DELETE(jobs->wanted, job);
		job->waiting = true;
		DL_APPEND(job->line->queue, job);
		line_settle(job->line);
	}
	if (!jobs->withdraws)
		return;
	jobs->withdraws = false;
	DL_FOREACH2 (jobs->all, line, all_next) {
		if (line->ends || line->withdraws)
			line_withdraw(line);
	}
}

static void on_again(uv_timer_t *timer);

/* Whether the loop has the lock; else it tries again by itself. */
static bool enter(struct jobs *jobs)
{
	if (uv_mutex_trylock(&jobs->lock)) {
		if (!jobs->closed)
			(void)uv_timer_start(&jobs->again, on_again, AGAIN_MS, 0); /* cannot fail */
		return false;
	}
	catch_up(jobs);
	return true;
}

/* With the lock, of which it lets go. */
static void deliver(struct jobs *jobs)
{
	struct job *ended, *job, *next;

	workers_reap(jobs);
	ended = jobs->ended;
	jobs->ended = NULL;
	let_go(jobs);
	DL_FOREACH_SAFE (ended, job, next) {
		struct job_line *line = job->line;

		jobs->count--;
		job->ops->done(job);
		line->jobs_count--; /* not before: done() may give the line up */
		line_check(line);
	}
}

static void on_wake(void *arg)
{
	struct jobs *jobs = arg;

	if (!enter(jobs))
		return;
	deliver(jobs);
	if (!jobs->count && !jobs->closed)
		uv_timer_stop(&jobs->timer);
}

static void on_again(uv_timer_t *timer)
{
	on_wake(timer->data);
}

static bool is_late(const struct worker *worker, uint64_t now)
{
	const struct job *job = worker->job;
	uint64_t limit = job && job->limit_ms ? job->limit_ms : JOBS_LIMIT_MS;

	return job && !worker->stuck && now - worker->since_ms > limit;
}

/* Written off and replaced. Past the bound it keeps its place: threads are not for nothing. */
static struct job *first_late(struct jobs *jobs)
{
	struct worker *worker;
	uint64_t now = now_ms();

	DL_FOREACH (jobs->workers, worker) {
		struct job *job = worker->job;

		if (!is_late(worker, now))
			continue;
		if (jobs->stuck < JOBS_STUCK_MAX) {
			worker->stuck = true;
			jobs->stuck++;
			jobs->able--;
		}
		if (job->late)
			continue;
		job->late = true;
		atomic_store(&job->line->stuck, true);
		atomic_store(&job->cancel, true);
		return job;
	}
	return NULL;
}

static void on_timer(uv_timer_t *timer)
{
	struct jobs *jobs = timer->data;
	struct job *job;

	do {
		if (!enter(jobs))
			return;
		job = first_late(jobs);
		let_go(jobs);
		workers_start(jobs);
		/* It can end meanwhile, but is there until this thread has called done(). */
		if (job && job->ops->late)
			job->ops->late(job);
	} while (job);
}

void job_start(struct job *job, struct job_line *line)
{
	struct jobs *jobs = line->jobs;

	job->line = line;
	line->jobs_count++;
	if (jobs->count++ == 0)
		(void)uv_timer_start(&jobs->timer, on_timer, LOOK_MS, LOOK_MS); /* cannot fail */
	DL_APPEND(jobs->wanted, job);
	workers_start(jobs);
	if (enter(jobs))
		let_go(jobs);
}

void job_cancel(struct job *job)
{
	struct jobs *jobs = job->line->jobs;

	atomic_store(&job->cancel, true);
	if (enter(jobs)) {
		job_withdraw(job);
		let_go(jobs);
	} else {
		job->line->withdraws = jobs->withdraws = true;
	}
}

bool job_is_cancelled(const struct job *job)
{
	return atomic_load(&job->cancel);
}

/* ---- lines ---- */

int job_line_new(struct job_line **ret_line, struct jobs *jobs)
{
	struct job_line *line = calloc(1, sizeof(*line));

	if (!line)
		return -ENOMEM;
	line->jobs = jobs;
	DL_APPEND2(jobs->all, line, all_prev, all_next);
	*ret_line = line;
	return 0;
}

struct job_line *job_line_free(struct job_line *line)
{
	if (!line)
		return NULL;
	if (enter(line->jobs)) {
		line_cancel(line);
		let_go(line->jobs);
	} else {
		line->ends = line->jobs->withdraws = true;
	}
	line->orphan = true;
	line_check(line);
	return NULL;
}

void job_line_leave(struct job_line *line)
{
	line->orphan = true;
	line_check(line);
}

bool job_line_is_stuck(const struct job_line *line)
{
	return atomic_load(&line->stuck);
}

bool job_line_is_closed(const struct job_line *line)
{
	return line->jobs->closed;
}

/* ---- life ---- */

static int handles_init(struct jobs *jobs)
{
	int r = wakeup_init(&jobs->wake, jobs->loop, on_wake, jobs);

	if (r)
		return r;
	(void)uv_timer_init(jobs->loop, &jobs->timer); /* cannot fail */
	(void)uv_timer_init(jobs->loop, &jobs->again);
	jobs->timer.data = jobs->again.data = jobs;
	return 0;
}

int jobs_new(struct jobs **ret_jobs, uv_loop_t *loop, unsigned threads)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));
	int r = jobs ? uv_mutex_init(&jobs->lock) : -ENOMEM;

	if (r) {
		free(jobs);
		return r;
	}
	jobs->loop = loop;
	jobs->threads = threads;
	if (uv_cond_init(&jobs->work) || uv_cond_init(&jobs->rest))
		abort(); /* libuv aborts itself wherever these fail */
	r = handles_init(jobs);
	if (r) {
		jobs_free(jobs);
		return r;
	}
	*ret_jobs = jobs;
	return 0;
}

/* Workers that run or rest, beside those that are known to hang. */
static bool workers_left(const struct jobs *jobs)
{
	const struct worker *worker;

	DL_FOREACH (jobs->workers, worker) {
		if (!worker->ended && !worker->stuck)
			return true;
	}
	return false;
}

static void workers_stop(struct jobs *jobs)
{
	uint64_t until = uv_hrtime() + CLOSE_MS * (uint64_t)NS_PER_MS;
	struct job_line *line;

	uv_mutex_lock(&jobs->lock);
	catch_up(jobs);
	jobs->stopping = true;
	DL_FOREACH2 (jobs->all, line, all_next)
		line_cancel(line);
	uv_cond_broadcast(&jobs->work);
	while (workers_left(jobs)) {
		uint64_t now = uv_hrtime();

		if (now >= until || uv_cond_timedwait(&jobs->rest, &jobs->lock, until - now))
			break;
	}
	jobs->closed = true;
	uv_mutex_unlock(&jobs->lock);
	/* Nobody sends to the handle any more: who was about to needs a CPU, and nothing else. */
	while (atomic_load(&jobs->telling))
		nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS / 10}, NULL);
}

void jobs_close(struct jobs *jobs)
{
	if (!jobs || jobs->closed)
		return;
	workers_stop(jobs);
	uv_mutex_lock(&jobs->lock);
	deliver(jobs);
	wakeup_close(&jobs->wake, NULL);
	uv_close((uv_handle_t *)&jobs->timer, NULL);
	uv_close((uv_handle_t *)&jobs->again, NULL);
}

struct jobs *jobs_free(struct jobs *jobs)
{
	bool used;

	if (!jobs)
		return NULL;
	uv_mutex_lock(&jobs->lock);
	workers_reap(jobs);
	used = jobs->workers != NULL;
	uv_mutex_unlock(&jobs->lock);
	if (used)
		return NULL;
	uv_cond_destroy(&jobs->rest);
	uv_cond_destroy(&jobs->work);
	uv_mutex_destroy(&jobs->lock);
	free(jobs);
	return NULL;
}

void jobs_stats(struct jobs *jobs, struct metrics *metrics)
{
	metrics_add(metrics, METRICS_POOL, "unfinished", jobs->count);
	metrics_add(metrics, METRICS_POOL, "stuck", jobs->stuck);
}
