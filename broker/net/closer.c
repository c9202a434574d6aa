/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/closer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "broker/thread.h"

#define STACK_BYTES (128u << 10)
#define PARTING_MS 500 /* for what is under way when the broker ends */
#define NUDGE SIGRTMIN /* ends interruptible waits; nothing else here uses it */

struct closer_entry {
	int fd;
	uid_t uid;
};

struct hand {
	struct closer *closer;
	pthread_t thread;
	bool busy;
	bool told; /* counted as stuck */
	uid_t uid;
	int64_t since_ms;
};

struct closer {
	void (*stuck)(void *ctx, uid_t uid, unsigned count);
	void *ctx;
	pthread_mutex_t lock;
	pthread_cond_t work;  /* for hands: something waits, or it is the end */
	pthread_cond_t watch; /* for the warden: a hand is busy, or it is the end */
	pthread_cond_t idle;  /* for closer_free(): a hand has come back */
	pthread_t warden;
	bool ending;
	bool rests; /* the warden: until somebody tells that a hand is busy */
	unsigned nhands, nbusy;
	unsigned nidle;   /* hands that wait for work */
	size_t head, len; /* of the ring */
	/* For whoever only asks: the loop does so for each connection, and must not wait for a
	 * thread that has the lock and no CPU. */
	atomic_size_t pending; /* in the ring or with a hand */
	atomic_uint nstuck;
	struct hand hands[CLOSER_THREADS];
	struct closer_entry ring[CLOSER_QUEUE];
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(cond, lock, &until);
}

/* ---- the threads that close ---- */

static unsigned stuck_count(const struct closer *closer, uid_t uid)
{
	unsigned count = 0;

	for (unsigned i = 0; i < closer->nhands; i++)
		count += closer->hands[i].told && closer->hands[i].uid == uid;
	return count;
}

/* The lock is given up for the call. */
static void tell(struct closer *closer, uid_t uid)
{
	unsigned count = stuck_count(closer, uid);

	pthread_mutex_unlock(&closer->lock);
	if (closer->stuck)
		closer->stuck(closer->ctx, uid, count);
	pthread_mutex_lock(&closer->lock);
}

/* Signals are sent without the lock: who is woken wants it. */
static void close_one(struct closer *closer, struct hand *hand)
{
	struct closer_entry entry = closer->ring[closer->head];
	bool wakes = closer->rests;

	closer->rests = false;
	closer->head = (closer->head + 1) % CLOSER_QUEUE;
	closer->len--;
	closer->nbusy++;
	hand->busy = true;
	hand->uid = entry.uid;
	hand->since_ms = now_ms();
	pthread_mutex_unlock(&closer->lock);
	if (wakes)
		pthread_cond_signal(&closer->watch);
	close(entry.fd);
	pthread_mutex_lock(&closer->lock);
	hand->busy = false;
	closer->nbusy--;
	atomic_fetch_sub(&closer->pending, 1);
	if (hand->told) {
		hand->told = false;
		atomic_fetch_sub(&closer->nstuck, 1);
		tell(closer, entry.uid);
	}
	if (closer->ending)
		pthread_cond_signal(&closer->idle);
}

static void wait_for_work(struct closer *closer)
{
	closer->nidle++;
	pthread_cond_wait(&closer->work, &closer->lock);
	closer->nidle--;
}

static void *hand_run(void *arg)
{
	struct hand *hand = arg;
	struct closer *closer = hand->closer;

	pthread_mutex_lock(&closer->lock);
	while (!closer->ending || closer->len) {
		if (closer->len)
			close_one(closer, hand);
		else
			wait_for_work(closer);
	}
	pthread_mutex_unlock(&closer->lock);
	return NULL;
}

/* ---- the thread that watches them ---- */

/* The nudge is not blocked, or it would end no wait. */
static int small_thread_start(pthread_t *ret_thread, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	int r = pthread_attr_init(&attr);

	if (r)
		return -r;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	r = thread_start(ret_thread, &attr, NUDGE, run, arg);
	pthread_attr_destroy(&attr);
	return r;
}

static int hand_start(struct closer *closer)
{
	struct hand *hand = &closer->hands[closer->nhands];
	int r;

	hand->closer = closer;
	r = small_thread_start(&hand->thread, hand_run, hand);
	closer->nhands += !r;
	return r;
}

static void watch_one(struct closer *closer, struct hand *hand)
{
	int64_t age = hand->busy ? now_ms() - hand->since_ms : 0;

	if (age >= CLOSER_PATIENCE_MS)
		pthread_kill(hand->thread, NUDGE);
	if (age >= CLOSER_STUCK_MS && !hand->told) {
		hand->told = true;
		atomic_fetch_add(&closer->nstuck, 1);
		tell(closer, hand->uid);
	}
}

static void *warden_run(void *arg)
{
	struct closer *closer = arg;

	pthread_mutex_lock(&closer->lock);
	while (!closer->ending || closer->nbusy) {
		if (!closer->nbusy) {
			closer->rests = true;
			pthread_cond_wait(&closer->watch, &closer->lock);
			continue;
		}
		wait_ms(&closer->watch, &closer->lock, CLOSER_PATIENCE_MS);
		for (unsigned i = 0; i < closer->nhands; i++)
			watch_one(closer, &closer->hands[i]);
		/* Nobody has come back for those who wait. */
		if (closer->len && closer->nbusy == closer->nhands &&
			closer->nhands < CLOSER_THREADS)
			(void)!hand_start(closer);
	}
	pthread_mutex_unlock(&closer->lock);
	return NULL;
}

/* ---- */

static void on_nudge(int signum)
{
}

static void init_locks(struct closer *closer)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&closer->lock, NULL);
	pthread_cond_init(&closer->work, &monotonic);
	pthread_cond_init(&closer->watch, &monotonic);
	pthread_cond_init(&closer->idle, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

int closer_new(
	struct closer **ret_closer, void (*stuck)(void *ctx, uid_t uid, unsigned count), void *ctx)
{
	/* Without SA_RESTART: that is what it is for. */
	const struct sigaction nudge = {.sa_handler = on_nudge};
	struct closer *closer = calloc(1, sizeof(*closer));
	int r;

	if (!closer)
		return -ENOMEM;
	closer->stuck = stuck;
	closer->ctx = ctx;
	init_locks(closer);
	sigaction(NUDGE, &nudge, NULL);
	pthread_mutex_lock(&closer->lock);
	r = small_thread_start(&closer->warden, warden_run, closer);
	if (r) {
		pthread_mutex_unlock(&closer->lock);
		free(closer);
		return r;
	}
	r = hand_start(closer);
	pthread_mutex_unlock(&closer->lock);
	if (r) {
		closer_free(closer);
		return r;
	}
	*ret_closer = closer;
	return 0;
}

struct closer *closer_free(struct closer *closer)
{
	int64_t until = now_ms() + PARTING_MS;
	bool over;

	if (!closer)
		return NULL;
	pthread_mutex_lock(&closer->lock);
	closer->ending = true;
	pthread_cond_broadcast(&closer->work);
	pthread_cond_signal(&closer->watch);
	while (closer->nhands && (closer->len || closer->nbusy) && now_ms() < until)
		wait_ms(&closer->idle, &closer->lock, CLOSER_PATIENCE_MS);
	over = !closer->len && !closer->nbusy;
	pthread_cond_signal(&closer->watch);
	pthread_mutex_unlock(&closer->lock);
	if (!over)
		return NULL;
	for (unsigned i = 0; i < closer->nhands; i++)
		pthread_join(closer->hands[i].thread, NULL);
	pthread_join(closer->warden, NULL);
	free(closer);
	return NULL;
}

void closer_give(struct closer *closer, int fd, uid_t uid)
{
	bool wakes = false;

	if (!closer) {
		close(fd);
		return;
	}
	pthread_mutex_lock(&closer->lock);
	/* Who is charged for what waits here stops long before (listener.c); beyond that it is
	 * better to lose a descriptor than to wait for it. */
	if (closer->len < CLOSER_QUEUE) {
		closer->ring[(closer->head + closer->len++) % CLOSER_QUEUE] =
			(struct closer_entry){.fd = fd, .uid = uid};
		atomic_fetch_add(&closer->pending, 1);
		wakes = closer->nidle;
	}
	pthread_mutex_unlock(&closer->lock);
	if (wakes)
		pthread_cond_signal(&closer->work);
}

size_t closer_pending(struct closer *closer)
{
	return closer ? atomic_load(&closer->pending) : 0;
}

unsigned closer_stuck_of(struct closer *closer, uid_t uid)
{
	unsigned count;

	if (!closer || !atomic_load(&closer->nstuck))
		return 0;
	pthread_mutex_lock(&closer->lock);
	count = stuck_count(closer, uid);
	pthread_mutex_unlock(&closer->lock);
	return count;
}
