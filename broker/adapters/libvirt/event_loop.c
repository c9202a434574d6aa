/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/libvirt/event_loop.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "broker/thread.h"

/* What comes in with the turn that is under way may be told with the next one. */
#define TURNS 2

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool runs; /* under `lock` */

/* The default writes to standard error. */
static void say_nothing(void *arg, virErrorPtr error)
{
}

static void *turn(void *arg)
{
	while (virEventRunDefaultImpl() == 0)
		continue;
	return NULL;
}

static int start(void)
{
	pthread_t thread;
	int r;

	virSetErrorFunc(NULL, say_nothing);
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
		return -ENOMEM;
	r = thread_start(&thread, NULL, 0, turn, NULL);
	if (!r)
		pthread_detach(thread);
	return r;
}

int event_loop_start(void)
{
	int r = 0;

	pthread_mutex_lock(&lock);
	if (!runs)
		r = start();
	if (!r)
		runs = true;
	pthread_mutex_unlock(&lock);
	return r;
}

static void on_turn(int timer, void *arg)
{
	virEventRemoveTimeout(timer);
	sem_post(arg);
}

void event_loop_pass(void)
{
	sem_t turned;

	sem_init(&turned, 0, 0);
	for (int i = 0; i < TURNS; i++) {
		if (virEventAddTimeout(0, on_turn, &turned, NULL) < 0)
			break;
		while (sem_wait(&turned) < 0 && errno == EINTR)
			continue;
	}
	sem_destroy(&turned);
}
