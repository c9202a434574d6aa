/* SPDX-License-Identifier: Apache-2.0 */
/* Work on threads of its own: order, turns, what hangs, and the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "broker/jobs.h"
#include "broker/wakeup.h"

#define PATIENCE_MS 30000
#define LIMIT_MS 50

struct probe {
	struct job job; /* first */
	unsigned steps; /* to be done */
	unsigned done, late;
	unsigned order; /* of its end among all */
	atomic_uint began;
	int nice;
	pthread_t thread;
	sem_t *gate; /* waits here, as for a file system */
};

static struct scene {
	uv_loop_t loop;
	uv_timer_t tick;
	struct jobs *jobs;
	struct job_line *a, *b;
	unsigned ended;
	atomic_uint inside, most; /* steps of line a at once */
	sem_t gate;
	bool closed;
} scene;

static enum job_step probe_work(struct job *job)
{
	struct probe *probe = (struct probe *)job;
	unsigned inside = 0;

	probe->thread = pthread_self();
	probe->nice = getpriority(PRIO_PROCESS, 0);
	if (job->line == scene.a)
		inside = atomic_fetch_add(&scene.inside, 1) + 1;
	if (inside > atomic_load(&scene.most))
		atomic_store(&scene.most, inside);
	atomic_fetch_add(&probe->began, 1);
	if (probe->gate)
		sem_wait(probe->gate);
	if (job->line == scene.a)
		atomic_fetch_sub(&scene.inside, 1);
	return --probe->steps ? JOB_AGAIN : JOB_DONE;
}

static void probe_late(struct job *job)
{
	((struct probe *)job)->late++;
}

static void probe_done(struct job *job)
{
	struct probe *probe = (struct probe *)job;

	assert_int_equal(probe->done, 0);
	probe->done++;
	probe->order = ++scene.ended;
}

static const struct job_ops probe_ops = {
	.work = probe_work, .late = probe_late, .done = probe_done};

static void probe_start(struct probe *probe, struct job_line *line, unsigned steps, sem_t *gate)
{
	*probe = (struct probe){.job = {.ops = &probe_ops}, .steps = steps, .gate = gate};
	job_start(&probe->job, line);
}

static void on_tick(uv_timer_t *timer)
{
}

#define wait_for(condition)                                                                        \
	do {                                                                                       \
		uint64_t until = uv_hrtime() + PATIENCE_MS * 1000000ull;                           \
		while (!(condition) && uv_hrtime() < until)                                        \
			uv_run(&scene.loop, UV_RUN_ONCE);                                          \
		if (!(condition))                                                                  \
			fail_msg("%s did not come", #condition);                                   \
	} while (0)

static int setup(void **state)
{
	memset(&scene, 0, sizeof(scene));
	assert_int_equal(uv_loop_init(&scene.loop), 0);
	assert_int_equal(uv_timer_init(&scene.loop, &scene.tick), 0);
	assert_int_equal(uv_timer_start(&scene.tick, on_tick, 10, 10), 0);
	assert_int_equal(jobs_new(&scene.jobs, &scene.loop, 2), 0);
	assert_int_equal(job_line_new(&scene.a, scene.jobs), 0);
	assert_int_equal(job_line_new(&scene.b, scene.jobs), 0);
	assert_int_equal(sem_init(&scene.gate, 0, 0), 0);
	return 0;
}

static int teardown(void **state)
{
	job_line_free(scene.a);
	job_line_free(scene.b);
	jobs_close(scene.jobs);
	uv_close((uv_handle_t *)&scene.tick, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	jobs_free(scene.jobs);
	assert_int_equal(uv_loop_close(&scene.loop), 0);
	sem_destroy(&scene.gate);
	return 0;
}

/* ---- the lock ---- */

static _Thread_local bool has_lock;

/* A worker that has the lock and no CPU. */
static struct {
	pthread_t loop;
	atomic_bool wanted, is_there, waited_for;
	sem_t gate;
} holder;

void __real_wakeup_send(struct wakeup *wakeup);
void __wrap_wakeup_send(struct wakeup *wakeup);
void __real_uv_mutex_lock(uv_mutex_t *lock);
void __wrap_uv_mutex_lock(uv_mutex_t *lock);
int __real_uv_mutex_trylock(uv_mutex_t *lock);
int __wrap_uv_mutex_trylock(uv_mutex_t *lock);
void __real_uv_mutex_unlock(uv_mutex_t *lock);
void __wrap_uv_mutex_unlock(uv_mutex_t *lock);

/* The linker sends the jobs' calls through these. */
void __wrap_wakeup_send(struct wakeup *wakeup)
{
	assert_false(has_lock);
	__real_wakeup_send(wakeup);
}

void __wrap_uv_mutex_lock(uv_mutex_t *lock)
{
	if (atomic_load(&holder.is_there) && pthread_equal(pthread_self(), holder.loop)) {
		atomic_store(&holder.waited_for, true);
		sem_post(&holder.gate);
	}
	__real_uv_mutex_lock(lock);
	has_lock = true;
}

int __wrap_uv_mutex_trylock(uv_mutex_t *lock)
{
	int r = __real_uv_mutex_trylock(lock);

	has_lock = !r;
	return r;
}

void __wrap_uv_mutex_unlock(uv_mutex_t *lock)
{
	if (!pthread_equal(pthread_self(), holder.loop) && atomic_exchange(&holder.wanted, false)) {
		atomic_store(&holder.is_there, true);
		sem_wait(&holder.gate);
		atomic_store(&holder.is_there, false);
	}
	has_lock = false;
	__real_uv_mutex_unlock(lock);
}

static void nobody_is_woken_with_the_lock(void **state)
{
	struct probe probes[4];

	for (unsigned i = 0; i < 4; i++)
		probe_start(&probes[i], scene.a, 2, NULL);
	job_cancel(&probes[3].job);
	wait_for(scene.ended == 4);
}

static void the_loop_waits_for_no_thread_that_has_the_lock(void **state)
{
	struct probe first, second, cancelled, dropped;
	struct job_line *line;

	holder.loop = pthread_self();
	atomic_store(&holder.waited_for, false);
	assert_int_equal(sem_init(&holder.gate, 0, 0), 0);
	atomic_store(&holder.wanted, true);
	probe_start(&first, scene.a, 1, NULL);
	wait_for(atomic_load(&holder.is_there));
	probe_start(&second, scene.b, 1, NULL);
	probe_start(&cancelled, scene.b, 1, NULL);
	job_cancel(&cancelled.job);
	assert_int_equal(job_line_new(&line, scene.jobs), 0);
	probe_start(&dropped, line, 1, NULL);
	assert_false(job_line_is_stuck(line));
	job_line_free(line);
	/* Looks for late steps, too. */
	for (unsigned i = 0; i < 30; i++)
		uv_run(&scene.loop, UV_RUN_ONCE);
	assert_int_equal(scene.ended, 0);
	assert_false(atomic_load(&holder.waited_for));
	sem_post(&holder.gate);
	wait_for(scene.ended == 4);
	assert_int_equal(first.steps + second.steps, 0);
	assert_int_equal(cancelled.steps, 1);
	assert_int_equal(dropped.steps, 1);
	assert_false(cancelled.job.finished || dropped.job.finished);
	sem_destroy(&holder.gate);
}

static void a_job_runs_elsewhere_and_ends_here(void **state)
{
	struct probe probe;

	probe_start(&probe, scene.a, 1, NULL);
	assert_int_equal(probe.done, 0);
	wait_for(probe.done);
	assert_true(probe.job.finished);
	assert_false(pthread_equal(probe.thread, pthread_self()));
	assert_true(probe.nice > getpriority(PRIO_PROCESS, 0) || probe.nice == 19);
}

static void a_line_runs_one_job_at_a_time_in_order(void **state)
{
	struct probe probes[8];

	for (unsigned i = 0; i < 8; i++)
		probe_start(&probes[i], scene.a, 1 + i % 3, NULL);
	wait_for(scene.ended == 8);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(probes[i].order, i + 1);
	assert_int_equal(atomic_load(&scene.most), 1);
}

static void a_long_job_gives_way_to_other_lines(void **state)
{
	struct job_line *lines[3];
	struct probe longs[3], brief;

	/* More of them than threads: they go on until the brief one has had its turn. */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(job_line_new(&lines[i], scene.jobs), 0);
		probe_start(&longs[i], lines[i], 1u << 30, NULL);
	}
	wait_for(atomic_load(&longs[0].began) > 2 && atomic_load(&longs[1].began) > 2 &&
		 atomic_load(&longs[2].began) > 2);
	probe_start(&brief, scene.b, 1, NULL);
	wait_for(brief.done);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(longs[i].done, 0);
		job_cancel(&longs[i].job);
	}
	wait_for(longs[0].done && longs[1].done && longs[2].done);
	for (unsigned i = 0; i < 3; i++) {
		assert_false(longs[i].job.finished);
		job_line_free(lines[i]);
	}
}

static void a_waiting_job_is_cancelled_without_running(void **state)
{
	struct probe first, second;

	probe_start(&first, scene.a, 1, &scene.gate);
	probe_start(&second, scene.a, 1, NULL);
	job_cancel(&second.job);
	wait_for(second.done);
	assert_int_equal(atomic_load(&second.began), 0);
	assert_false(second.job.finished);
	assert_int_equal(first.done, 0);
	sem_post(&scene.gate);
	wait_for(first.done);
	assert_true(first.job.finished);
}

static void stuck_jobs_cost_their_lines_only(void **state)
{
	struct job_line *lines[4];
	struct probe stuck[4], behind, others[4];

	/* Twice as many as there are threads. */
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(job_line_new(&lines[i], scene.jobs), 0);
		probe_start(&stuck[i], lines[i], 2, &scene.gate);
		stuck[i].job.limit_ms = LIMIT_MS;
	}
	probe_start(&behind, lines[0], 1, NULL);
	wait_for(stuck[0].late && stuck[1].late && stuck[2].late && stuck[3].late);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(job_line_is_stuck(lines[i]));
		assert_true(job_is_cancelled(&stuck[i].job));
		probe_start(&others[i], i % 2 ? scene.a : scene.b, 3, NULL);
	}
	wait_for(others[0].done && others[1].done && others[2].done && others[3].done);
	assert_int_equal(behind.done, 0);

	for (unsigned i = 0; i < 4; i++)
		sem_post(&scene.gate);
	wait_for(stuck[0].done && stuck[1].done && stuck[2].done && stuck[3].done && behind.done);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(stuck[i].late, 1);
		assert_false(stuck[i].job.finished); /* cancelled before its second step */
		assert_false(job_line_is_stuck(lines[i]));
		job_line_free(lines[i]);
	}
	assert_true(behind.job.finished);
}

static void a_line_that_is_given_up_ends_its_jobs(void **state)
{
	struct job_line *line;
	struct probe running, waiting;

	assert_int_equal(job_line_new(&line, scene.jobs), 0);
	probe_start(&running, line, 1, &scene.gate);
	wait_for(atomic_load(&running.began));
	probe_start(&waiting, line, 1, NULL);
	job_line_free(line);
	wait_for(waiting.done);
	assert_int_equal(running.done, 0);
	sem_post(&scene.gate);
	wait_for(running.done);
}

static void the_end_does_not_wait_for_what_hangs(void **state)
{
	static struct probe stuck, waiting, cancelled;
	static sem_t gate; /* outlives the test: the thread still waits there */

	assert_int_equal(sem_init(&gate, 0, 0), 0);
	probe_start(&stuck, scene.a, 1, &gate);
	stuck.job.limit_ms = LIMIT_MS;
	wait_for(stuck.late);
	probe_start(&waiting, scene.a, 1, NULL);
	probe_start(&cancelled, scene.b, 1u << 30, NULL);
	jobs_close(scene.jobs);
	assert_int_equal(waiting.done, 1);
	assert_int_equal(cancelled.done, 1);
	assert_int_equal(stuck.done, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nobody_is_woken_with_the_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_loop_waits_for_no_thread_that_has_the_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_job_runs_elsewhere_and_ends_here, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_line_runs_one_job_at_a_time_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_long_job_gives_way_to_other_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_waiting_job_is_cancelled_without_running, setup, teardown),
		cmocka_unit_test_setup_teardown(stuck_jobs_cost_their_lines_only, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_line_that_is_given_up_ends_its_jobs, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_end_does_not_wait_for_what_hangs, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
