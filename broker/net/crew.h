/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_CREW_H
#define BROKER_NET_CREW_H

/*
 * Threads that work for connections, below the loop's priority. As uv_queue_work, which is not
 * used in the broker: what it tells the loop by makes the loop wait for threads that give way to
 * it (broker/wakeup.h). Here the loop waits for none of them: what is done comes back through a
 * list without a lock. Threads start when they are first needed.
 */

#include <stdint.h>
#include <uv.h>

struct crew;

/* Part of what the caller allocates, which stays where it is until done(). */
struct crew_task {
	void (*work)(struct crew_task *task); /* on a thread */
	void (*done)(struct crew_task *task); /* from the loop; the task is the caller's again */

	/* private */
	struct crew_task *next;
};

/* Up to `threads` of them. -errno. */
__attribute__((warn_unused_result)) int crew_new(
	struct crew **ret_crew, uv_loop_t *loop, unsigned threads);
/* In the order in which they are given. -errno: there is no thread, and none could be started. */
__attribute__((warn_unused_result)) int crew_give(struct crew *crew, struct crew_task *task);
/* Nothing is given any more. `closed` is called from the loop when all that was given is done, and
 * no thread is left. */
void crew_close(struct crew *crew, void (*closed)(void *arg), void *arg);
/* After `closed`. Accepts NULL, returns NULL. */
struct crew *crew_free(struct crew *crew);

#endif
