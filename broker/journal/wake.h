/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_WAKE_H
#define BROKER_JOURNAL_WAKE_H

/*
 * How the journal's thread calls the loop: the only file of the journal that knows libuv. It
 * also calls every second, so that a thread that hangs in the disk does not go unnoticed.
 */

struct uv_loop_s;
struct wake;

/* Calls `called` from the loop. -errno. */
__attribute__((warn_unused_result)) int wake_new(
	struct wake **ret_wake, struct uv_loop_s *loop, void (*called)(void *arg), void *arg);
/* From any thread. NULL: there is no loop. */
void wake_send(struct wake *wake);
/* What is sent from now on is ignored. The loop must run once more before wake_free(). Accepts
 * NULL. */
void wake_close(struct wake *wake);
/* No thread may send any more. Accepts NULL, returns NULL. */
struct wake *wake_free(struct wake *wake);

#endif
