/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/log.h"
#include "broker/policy/share.h"
#include "broker/thread.h"

#define NS_PER_MS 1000000u
#define LOG_EVERY_MS 1000u
#define CLOCK_EVERY_NS 2000000u /* the thread's own clock, which costs a system call */
#define LOOK_MS 250
#define ASK_MS 100 /* for the loop's thread to say whom it works for, if it can */
#define ASK_SIGNAL (SIGRTMIN + 1)

struct watchdog {
	uv_loop_t *loop;
	struct shares *shares;
	struct watchdog_counters counters;
	uint64_t logged_ns, unlogged;
	uint64_t clock_ns, computed_ns; /* when the thread's own clock was read, and what it said */

	/* Of both threads: where the turn began; 0: the loop does not run yet. */
	atomic_uint_fast64_t start_ns, start_idle_ns;

	pthread_t loop_thread, thread;
	pid_t loop_tid;
	pthread_mutex_t lock;
	pthread_cond_t end;
	uint64_t end_by_ns; /* 0: nobody has asked for an end */
	bool ending;
};

/* What the loop's thread says in a signal's handler. */
static struct {
	struct shares *shares;
	sem_t said;
	char kind[16], key[SHARE_KEY_MAX + 1];
} answer;

static void say(const char *kind, const char *key)
{
	strncpy(answer.kind, kind, sizeof(answer.kind) - 1);
	strncpy(answer.key, key, sizeof(answer.key) - 1);
}

/* The share is in use by the very code that this interrupts, so it is there. */
static void on_ask(int signum)
{
	const struct share *share = shares_current(answer.shares);
	int saved = errno;

	say(share ? share_kind_name(share) : "", share ? share_key(share) : "");
	sem_post(&answer.said);
	errno = saved;
}

static uint64_t busy_ns(const struct watchdog *watchdog, uint64_t now_ns, uint64_t idle_ns)
{
	uint64_t passed = now_ns - watchdog->start_ns, idle = idle_ns - watchdog->start_idle_ns;

	return passed > idle ? passed - idle : 0;
}

/* ---- turns that end ---- */

/* What this thread has computed, and not waited for a CPU or in the kernel. */
static uint64_t computed_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Not at each turn: of a long one it tells a little too much. */
static void read_clock(struct watchdog *watchdog, uint64_t now_ns)
{
	if (now_ns - watchdog->clock_ns < CLOCK_EVERY_NS)
		return;
	watchdog->clock_ns = now_ns;
	watchdog->computed_ns = computed_ns();
}

static void log_long(struct watchdog *watchdog, uint64_t now_ns, uint64_t ns)
{
	uint64_t piece_ns = 0;
	const struct share *share = shares_take_longest(watchdog->shares, &piece_ns);

	if (now_ns - watchdog->logged_ns < (uint64_t)LOG_EVERY_MS * NS_PER_MS) {
		watchdog->unlogged++;
		return;
	}
	log_warning("a turn of the loop took long", LOG_INT("ms", ns / NS_PER_MS),
		LOG_INT("computed_ms", (computed_ns() - watchdog->computed_ns) / NS_PER_MS),
		LOG_STR("owner", share ? share_kind_name(share) : "nobody's share"),
		LOG_STR("name", share ? share_key(share) : ""),
		LOG_INT("owner_ms", piece_ns / NS_PER_MS),
		LOG_INT("others_since", watchdog->unlogged));
	watchdog->logged_ns = now_ns;
	watchdog->unlogged = 0;
}

void watchdog_turn(struct watchdog *watchdog)
{
	struct watchdog_counters *counters = &watchdog->counters;
	uint64_t now_ns = uv_hrtime(), idle_ns = uv_metrics_idle_time(watchdog->loop);
	uint64_t ns = busy_ns(watchdog, now_ns, idle_ns), unused;

	/* Before the first one the broker starts, which is no turn. */
	if (counters->turns++ == 0)
		ns = 0;
	if (ns > counters->longest_ns)
		counters->longest_ns = ns;
	if (ns >= (uint64_t)WATCHDOG_TURN_MS * NS_PER_MS) {
		counters->long_turns++;
		log_long(watchdog, now_ns, ns);
	} else {
		(void)shares_take_longest(watchdog->shares, &unused);
	}
	read_clock(watchdog, now_ns);
	watchdog->start_idle_ns = idle_ns;
	watchdog->start_ns = now_ns;
}

struct watchdog_counters watchdog_counters(const struct watchdog *watchdog)
{
	return watchdog->counters;
}

/* ---- turns that do not ---- */

/* The name of the kernel's function in which the loop's thread sleeps; "0": it runs. */
static void where(const struct watchdog *watchdog, char text[static 64])
{
	char path[64];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", (int)watchdog->loop_tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, 63);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
}

static void ask(const struct watchdog *watchdog)
{
	struct timespec until;

	say("unknown", "");
	while (sem_trywait(&answer.said) == 0)
		;
	pthread_kill(watchdog->loop_thread, ASK_SIGNAL);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ASK_MS * NS_PER_MS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (sem_clockwait(&answer.said, CLOCK_MONOTONIC, &until) < 0 && errno == EINTR)
		;
}

static void log_hang(const struct watchdog *watchdog, uint64_t ns)
{
	char kernel[64];

	where(watchdog, kernel);
	ask(watchdog);
	log_error("a turn of the loop does not end", LOG_INT("ms", ns / NS_PER_MS),
		LOG_STR("owner", answer.kind[0] ? answer.kind : "nobody's share"),
		LOG_STR("name", answer.key), LOG_STR("waits_in", kernel));
}

static void look(const struct watchdog *watchdog, uint64_t *told_ns)
{
	uint64_t start_ns = watchdog->start_ns;
	uint64_t idle_ns = uv_metrics_idle_time(watchdog->loop);
	uint64_t ns = busy_ns(watchdog, uv_hrtime(), idle_ns);

	if (!start_ns || ns < (uint64_t)WATCHDOG_HANG_MS * NS_PER_MS ||
		start_ns != watchdog->start_ns || *told_ns == start_ns)
		return;
	*told_ns = start_ns;
	log_hang(watchdog, ns);
}

/* What must last is in the store already, or on its way in memory that outlives the process. */
static void end_if_late(const struct watchdog *watchdog)
{
	char kernel[64];

	if (!watchdog->end_by_ns || uv_hrtime() < watchdog->end_by_ns)
		return;
	where(watchdog, kernel);
	log_error("shutdown did not end in time", LOG_STR("waits_in", kernel));
	log_stop();
	_exit(1);
}

static void *watchdog_run(void *arg)
{
	struct watchdog *watchdog = arg;
	uint64_t told_ns = 0;

	pthread_mutex_lock(&watchdog->lock);
	while (!watchdog->ending) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_MS * NS_PER_MS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&watchdog->end, &watchdog->lock, &until);
		if (!watchdog->ending) {
			look(watchdog, &told_ns);
			end_if_late(watchdog);
		}
	}
	pthread_mutex_unlock(&watchdog->lock);
	return NULL;
}

/* ---- */

static int watching_start(struct watchdog *watchdog)
{
	struct sigaction action = {.sa_handler = on_ask, .sa_flags = SA_RESTART};
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&watchdog->lock, NULL);
	pthread_cond_init(&watchdog->end, &monotonic);
	pthread_condattr_destroy(&monotonic);
	sem_init(&answer.said, 0, 0);
	answer.shares = watchdog->shares;
	sigfillset(&action.sa_mask);
	sigaction(ASK_SIGNAL, &action, NULL);
	return thread_start(&watchdog->thread, NULL, 0, watchdog_run, watchdog);
}

int watchdog_new(struct watchdog **ret_watchdog, uv_loop_t *loop, struct shares *shares)
{
	struct watchdog *watchdog = calloc(1, sizeof(*watchdog));
	int r;

	if (!watchdog)
		return -ENOMEM;
	watchdog->loop = loop;
	watchdog->shares = shares;
	watchdog->loop_thread = pthread_self();
	watchdog->loop_tid = gettid();
	/* What the loop sleeps is not work. */
	r = uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
	if (!r)
		r = watching_start(watchdog);
	if (r) {
		free(watchdog);
		return r;
	}
	*ret_watchdog = watchdog;
	return 0;
}

void watchdog_end_within(struct watchdog *watchdog, uint32_t ms)
{
	pthread_mutex_lock(&watchdog->lock);
	if (!watchdog->end_by_ns)
		watchdog->end_by_ns = uv_hrtime() + (uint64_t)ms * NS_PER_MS;
	pthread_mutex_unlock(&watchdog->lock);
}

struct watchdog *watchdog_free(struct watchdog *watchdog)
{
	if (!watchdog)
		return NULL;
	pthread_mutex_lock(&watchdog->lock);
	watchdog->ending = true;
	pthread_cond_signal(&watchdog->end);
	pthread_mutex_unlock(&watchdog->lock);
	pthread_join(watchdog->thread, NULL);
	signal(ASK_SIGNAL, SIG_IGN);
	free(watchdog);
	return NULL;
}
