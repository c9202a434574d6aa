/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/crew.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "broker/thread.h"
#include "broker/wakeup.h"

#define THREADS_MAX 16u
#define LOWER_PRIORITY 10 /* steps of nice(2): a tenth of the loop's share when both want it */

struct crew {
	struct wakeup wake;
	/* The last one first. The loop waits for nobody: a thread that has a lock and whose CPU
	 * others have taken lets go of it when they let it. */
	_Atomic(struct crew_task *) given, finished;
	size_t under_way; /* not done(); of the loop */
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
	unsigned nthreads, threads_max;
	pthread_t threads[THREADS_MAX];

	sem_t work; /* so many have been given and not taken; at the end one more for each thread */
	atomic_int free; /* threads that have nothing to do, less what has been given for them */
	bool ending;

	/* Of the threads alone, for some instructions. */
	pthread_mutex_t lock;
	struct crew_task *waiting; /* the first one first */
};

static void push(_Atomic(struct crew_task *) *stack, struct crew_task *task)
{
	struct crew_task *last = atomic_load(stack);

	do
		task->next = last;
	while (!atomic_compare_exchange_weak(stack, &last, task));
}

/* All of it, in the order in which it came. */
static struct crew_task *take_all(_Atomic(struct crew_task *) *stack)
{
	struct crew_task *task = atomic_exchange(stack, NULL), *first = NULL;

	while (task) {
		struct crew_task *before = task->next;

		task->next = first;
		first = task;
		task = before;
	}
	return first;
}

/* ---- a thread ---- */

/* NULL: it is the end, for which nothing is left. */
static struct crew_task *take(struct crew *crew)
{
	struct crew_task *task;

	atomic_fetch_add(&crew->free, 1);
	while (sem_wait(&crew->work) && errno == EINTR)
		;
	pthread_mutex_lock(&crew->lock);
	if (!crew->waiting)
		crew->waiting = take_all(&crew->given);
	task = crew->waiting;
	if (task)
		crew->waiting = task->next;
	pthread_mutex_unlock(&crew->lock);
	return task;
}

static void give_back(struct crew *crew, struct crew_task *task)
{
	push(&crew->finished, task);
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
	crew->ending = true;
	for (unsigned i = 0; i < crew->nthreads; i++)
		sem_post(&crew->work);
	/* The one that sent last may not have come back from it. */
	for (unsigned i = 0; i < crew->nthreads; i++)
		pthread_join(crew->threads[i], NULL);
	crew->nthreads = 0;
	wakeup_close(&crew->wake, on_closed);
}

static void on_wake(void *arg)
{
	struct crew *crew = arg;
	struct crew_task *task = take_all(&crew->finished);
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

/* One more, if none is free for what is given now. */
static int reinforce(struct crew *crew)
{
	int r;

	if (atomic_load(&crew->free) > 0 || crew->nthreads == crew->threads_max)
		return 0;
	r = thread_start(&crew->threads[crew->nthreads], NULL, 0, thread_run, crew);
	crew->nthreads += !r;
	return crew->nthreads ? 0 : r;
}

int crew_give(struct crew *crew, struct crew_task *task)
{
	int r = reinforce(crew);

	if (r)
		return r;
	atomic_fetch_sub(&crew->free, 1);
	push(&crew->given, task);
	sem_post(&crew->work);
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
	sem_init(&crew->work, 0, 0);
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
	sem_destroy(&crew->work);
	pthread_mutex_destroy(&crew->lock);
	free(crew);
	return NULL;
}
