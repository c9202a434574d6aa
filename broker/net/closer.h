/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_CLOSER_H
#define BROKER_NET_CLOSER_H

/*
 * Closes descriptors that others have had a say in, on threads of its own: the last close of a
 * file waits as long as its owner likes (data of a socket with SO_LINGER that nobody takes, a
 * FLUSH that a FUSE server does not answer), and that of a memfd as long as freeing its pages
 * takes (7 ms for 64 MiB). Sockets count too, for the descriptors that may be in them unread.
 *
 * - closer_give() never waits. When all threads wait, another one is started within
 *   CLOSER_PATIENCE_MS, up to CLOSER_THREADS; behind them up to CLOSER_QUEUE descriptors wait.
 * - A wait that signals can end is ended after CLOSER_PATIENCE_MS: a socket then lingers no
 *   more. What is left is uninterruptible, and is told with its uid.
 * - A process that exits closes what is left itself. The kernel lets no socket linger then, but
 *   waits for FLUSH. So files of unknown kind must never get into the broker's table of
 *   descriptors: see porter.h.
 *
 * What of a uid is stuck is a number here and no charge to an account (policy/account.h): it is
 * counted on these threads, under their lock, while accounts are the loop's alone; and when the
 * broker ends it is what it is, while an account has to be empty by then. The lobby asks for it
 * before it lets the uid in, and makes the refusal of it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CLOSER_THREADS 16u
#define CLOSER_QUEUE 16384u
#define CLOSER_PATIENCE_MS 50u
#define CLOSER_STUCK_MS 1000u /* when it is told */

struct closer;

/* `stuck` (may be NULL) is called on a thread of the closer when the number of the uid's
 * descriptors whose close has not ended within CLOSER_STUCK_MS changes. */
__attribute__((warn_unused_result)) int closer_new(
	struct closer **ret_closer, void (*stuck)(void *ctx, uid_t uid, unsigned count), void *ctx);
/* Waits for what can be closed at once, and leaves the rest, with its threads and memory, to the
 * end of the process. Accepts NULL, returns NULL. */
struct closer *closer_free(struct closer *closer);

/* Takes the descriptor, which came from a client of this uid, whatever happens. Without a closer
 * it is closed here and now. Thread-safe. */
void closer_give(struct closer *closer, int fd, uid_t uid);
/* Descriptors that are not closed yet. Thread-safe. */
size_t closer_pending(struct closer *closer);
/* Those of the uid that are stuck. Thread-safe. */
unsigned closer_stuck_of(struct closer *closer, uid_t uid);

#endif
