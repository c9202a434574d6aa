/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/crew.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include <utlist.h>

#include "broker/thread.h"
#include "broker/wakeup.h"

#define THREADS_MAX 16u
#define LOWER_PRIORITY 10 /* steps of nice(2): a tenth of the loop's share when both want it */

struct crew {
	struct wakeup wake;
	_Atomic(struct crew_task *) finished; /* the last one first */
	size_t under_way;                     /* not done(); of the loop */
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
	unsigned nthreads, threads_max;
	pthread_t threads[THREADS_MAX];

	/* Held for some instructions only, never for a call of the kernel's. */
	pthread_mutex_t lock;
	pthread_cond_t work; /* something waits, or it is the end */
	unsigned idle;
	bool ending;
	struct crew_task *waiting;
};

/* ---- a thread ---- */

/* NULL: it is the end. */
static struct crew_task *take(struct crew *crew)
{
	struct crew_task *task;

	pthread_mutex_lock(&crew->lock);
	crew->idle++;
	while (!crew->waiting && !crew->ending)
		pthread_cond_wait(&crew->work, &crew->lock);
	crew->idle--;
	task = crew->waiting;
	if (task)
		DL_DELETE(crew->waiting, task);
	pthread_mutex_unlock(&crew->lock);
	return task;
}

static void give_back(struct crew *crew, struct crew_task *task)
{
	struct crew_task *last = atomic_load(&crew->finished);

	do
		task->next = last;
	while (!atomic_compare_exchange_weak(&crew->finished, &last, task));
	wakeup_send(&crew->wake);
}

/* A thousand clients that connect at once must not take the CPUs from the loop, which has
 * everybody else's writes. */
static void *thread_run(void *arg)
{
	struct crew *crew = arg;
	struct crew_task *task;

	thread_be_patient(LOWER_PRIORITY);
	while ((task = take(crew))) {
		task->work(task);
		give_back(crew, task);
	}
	return NULL;
}

/* ---- the loop ---- */

static void on_closed(void *arg)
{
	struct crew *crew = arg;

	crew->closed(crew->closed_arg);
}

/* Once: the last done() may be what closes it. Only the loop writes `ending`. */
static void finish(struct crew *crew)
{
	if (!crew->closing || crew->under_way || crew->ending)
		return;
	pthread_mutex_lock(&crew->lock);
	crew->ending = true;
	pthread_mutex_unlock(&crew->lock);
	pthread_cond_broadcast(&crew->work);
	/* The one that sent last may not have come back from it. */
	for (unsigned i = 0; i < crew->nthreads; i++)
		pthread_join(crew->threads[i], NULL);
	crew->nthreads = 0;
	wakeup_close(&crew->wake, on_closed);
}

/* What was done first comes first. */
static struct crew_task *take_finished(struct crew *crew)
{
	struct crew_task *task = atomic_exchange(&crew->finished, NULL), *first = NULL;

	while (task) {
		struct crew_task *before = task->next;

		task->next = first;
		first = task;
		task = before;
	}
	return first;
}

static void on_wake(void *arg)
{
	struct crew *crew = arg;
	struct crew_task *task = take_finished(crew);
	bool any = task;

	while (task) {
		struct crew_task *next = task->next;

		crew->under_way--;
		task->done(task);
		task = next;
	}
	if (any)
		finish(crew);
}

/* One more, if all are busy. */
static int reinforce(struct crew *crew, bool busy)
{
	int r;

	if (!busy || crew->nthreads == crew->threads_max)
		return 0;
	r = thread_start(&crew->threads[crew->nthreads], NULL, 0, thread_run, crew);
	crew->nthreads += !r;
	return crew->nthreads ? 0 : r;
}

int crew_give(struct crew *crew, struct crew_task *task)
{
	bool busy;
	int r;

	pthread_mutex_lock(&crew->lock);
	busy = !crew->idle || crew->waiting;
	pthread_mutex_unlock(&crew->lock);
	r = reinforce(crew, busy);
	if (r)
		return r;
	pthread_mutex_lock(&crew->lock);
	DL_APPEND(crew->waiting, task);
	pthread_mutex_unlock(&crew->lock);
	pthread_cond_signal(&crew->work);
	crew->under_way++;
	return 0;
}

/* ---- life ---- */

int crew_new(struct crew **ret_crew, uv_loop_t *loop, unsigned threads)
{
	struct crew *crew = calloc(1, sizeof(*crew));
	int r;

	if (!crew)
		return -ENOMEM;
	r = wakeup_init(&crew->wake, loop, on_wake, crew);
	if (r) {
		free(crew);
		return r;
	}
	crew->threads_max = threads < THREADS_MAX ? threads : THREADS_MAX;
	pthread_mutex_init(&crew->lock, NULL);
	pthread_cond_init(&crew->work, NULL);
	*ret_crew = crew;
	return 0;
}

void crew_close(struct crew *crew, void (*closed)(void *arg), void *arg)
{
	crew->closing = true;
	crew->closed = closed;
	crew->closed_arg = arg;
	finish(crew);
}

struct crew *crew_free(struct crew *crew)
{
	if (!crew)
		return NULL;
	pthread_cond_destroy(&crew->work);
	pthread_mutex_destroy(&crew->lock);
	free(crew);
	return NULL;
}
