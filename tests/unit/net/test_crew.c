/* SPDX-License-Identifier: Apache-2.0 */
/* A crew does all that it is given, below the loop's priority, before it says that it is closed. */
#include "broker/net/crew.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define TASKS 1000u
#define THREADS 3u

struct deed {
	struct crew_task task;
	pid_t worker;
	int nice;
	unsigned done;
};

static atomic_uint running, most;

static struct deed *deed_of(struct crew_task *task)
{
	return (struct deed *)((char *)task - offsetof(struct deed, task));
}

static void work(struct crew_task *task)
{
	struct deed *deed = deed_of(task);
	unsigned now = atomic_fetch_add(&running, 1) + 1, seen = atomic_load(&most);

	while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
		;
	deed->worker = gettid();
	deed->nice = getpriority(PRIO_PROCESS, (id_t)deed->worker);
	atomic_fetch_sub(&running, 1);
}

static void done(struct crew_task *task)
{
	assert_int_not_equal(deed_of(task)->worker, 0);
	deed_of(task)->done++;
}

static void on_closed(void *arg)
{
	*(bool *)arg = true;
}

static void give(struct crew *crew, struct deed *deeds, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		deeds[i] = (struct deed){.task = {.work = work, .done = done}};
		assert_int_equal(crew_give(crew, &deeds[i].task), 0);
	}
}

static void all_is_done_before_it_is_closed(void **state)
{
	static struct deed deeds[TASKS];
	struct crew *crew;
	bool closed = false;
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(crew_new(&crew, &loop, THREADS), 0);
	give(crew, deeds, TASKS);
	crew_close(crew, on_closed, &closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(closed);
	for (unsigned i = 0; i < TASKS; i++) {
		assert_int_equal(deeds[i].done, 1);
		assert_int_not_equal(deeds[i].worker, getpid());
		assert_true(deeds[i].nice > getpriority(PRIO_PROCESS, (id_t)getpid()) ||
			    deeds[i].nice == 19);
	}
	assert_in_range(atomic_load(&most), 1, THREADS);
	crew_free(crew);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* Given by what is done. */
static struct crew *chained;
static struct deed links[TASKS];

static void go_on(struct crew_task *task)
{
	unsigned next = (unsigned)(deed_of(task) - links) + 1;

	done(task);
	if (next == TASKS)
		return;
	links[next] = (struct deed){.task = {.work = work, .done = go_on}};
	assert_int_equal(crew_give(chained, &links[next].task), 0);
}

static void what_is_done_may_give_more(void **state)
{
	bool closed = false;
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(crew_new(&chained, &loop, THREADS), 0);
	links[0] = (struct deed){.task = {.work = work, .done = go_on}};
	assert_int_equal(crew_give(chained, &links[0].task), 0);
	while (!links[TASKS - 1].done)
		uv_run(&loop, UV_RUN_ONCE);
	crew_close(chained, on_closed, &closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(closed);
	crew_free(chained);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- the lock ---- */

static pthread_t watched;
static atomic_uint locked;

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);

/* The linker sends the broker's calls through here. */
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	if (pthread_equal(pthread_self(), watched))
		atomic_fetch_add(&locked, 1);
	return __real_pthread_mutex_lock(lock);
}

/* Whom it would wait for may have no CPU for as long as others like. */
static void the_loop_takes_no_lock(void **state)
{
	watched = pthread_self();
	all_is_done_before_it_is_closed(state);
	assert_int_equal(atomic_load(&locked), 0);
}

static void one_that_has_nothing_to_do_ends(void **state)
{
	struct crew *crew;
	bool closed = false;
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(crew_new(&crew, &loop, THREADS), 0);
	crew_close(crew, on_closed, &closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(closed);
	crew_free(crew);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* Closed by the last that is done. */
static unsigned closings;

static void on_chained_closed(void *arg)
{
	closings++;
}

static void end(struct crew_task *task)
{
	done(task);
	crew_close(chained, on_chained_closed, NULL);
}

static void what_is_done_may_close_it(void **state)
{
	static struct deed last;
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(crew_new(&chained, &loop, THREADS), 0);
	last = (struct deed){.task = {.work = work, .done = end}};
	assert_int_equal(crew_give(chained, &last.task), 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(closings, 1);
	crew_free(chained);
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_is_done_before_it_is_closed),
		cmocka_unit_test(the_loop_takes_no_lock),
		cmocka_unit_test(what_is_done_may_give_more),
		cmocka_unit_test(what_is_done_may_close_it),
		cmocka_unit_test(one_that_has_nothing_to_do_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
