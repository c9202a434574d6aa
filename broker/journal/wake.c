/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/journal/wake.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <uv.h>

#include "broker/wakeup.h"

#define LOOK_MS 1000u

struct wake {
	struct wakeup wakeup;
	uv_timer_t timer;
	pthread_mutex_t lock;
	bool closed; /* a thread that hung may come back after that */
	void (*called)(void *arg);
	void *arg;
};

static void on_timer(uv_timer_t *timer)
{
	struct wake *wake = timer->data;

	wake->called(wake->arg);
}

int wake_new(struct wake **ret_wake, struct uv_loop_s *loop, void (*called)(void *arg), void *arg)
{
	struct wake *wake = calloc(1, sizeof(*wake));
	int r;

	if (!wake)
		return -ENOMEM;
	r = wakeup_init(&wake->wakeup, loop, called, arg);
	if (r) {
		free(wake);
		return r;
	}
	(void)uv_timer_init(loop, &wake->timer); /* cannot fail */
	wake->timer.data = wake;
	pthread_mutex_init(&wake->lock, NULL);
	wake->called = called;
	wake->arg = arg;
	(void)uv_timer_start(&wake->timer, on_timer, LOOK_MS, LOOK_MS);
	uv_unref((uv_handle_t *)&wake->wakeup.poll);
	uv_unref((uv_handle_t *)&wake->timer);
	*ret_wake = wake;
	return 0;
}

void wake_send(struct wake *wake)
{
	if (!wake)
		return;
	pthread_mutex_lock(&wake->lock);
	if (!wake->closed)
		wakeup_send(&wake->wakeup);
	pthread_mutex_unlock(&wake->lock);
}

void wake_close(struct wake *wake)
{
	if (!wake)
		return;
	pthread_mutex_lock(&wake->lock);
	wake->closed = true;
	pthread_mutex_unlock(&wake->lock);
	wakeup_close(&wake->wakeup, NULL);
	uv_close((uv_handle_t *)&wake->timer, NULL);
}

struct wake *wake_free(struct wake *wake)
{
	if (wake)
		pthread_mutex_destroy(&wake->lock);
	free(wake);
	return NULL;
}
