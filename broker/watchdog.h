/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WATCHDOG_H
#define BROKER_WATCHDOG_H

/*
 * Finds what holds the loop: a turn that works for more than WATCHDOG_TURN_MS is logged with
 * whoever's piece of work took longest in it and how much of it the thread has computed (a little
 * more at most), which is less where it waited for a CPU; and one that has not ended after
 * WATCHDOG_HANG_MS while it hangs, from a thread of the watchdog's own, with whoever is being
 * worked for and where in the kernel the loop waits. It also sees to it that the process ends when
 * it shall: what hangs then, a file system say, is left to the kernel. One instance a process.
 */

#include <stdint.h>
#include <uv.h>

#define WATCHDOG_TURN_MS 20u
#define WATCHDOG_HANG_MS 1000u

struct shares;
struct watchdog;

struct watchdog_counters {
	uint64_t turns;
	uint64_t long_turns; /* above WATCHDOG_TURN_MS */
	uint64_t longest_ns;
};

/* On the loop's thread, before the loop runs. -ENOMEM, -errno. */
__attribute__((warn_unused_result)) int watchdog_new(
	struct watchdog **ret_watchdog, uv_loop_t *loop, struct shares *shares);
/* From now on the process has `ms` until watchdog_free(); then it ends with status 1, wherever it
 * waits, and the log says where. The first call counts. */
void watchdog_end_within(struct watchdog *watchdog, uint32_t ms);
/* Before `shares` and the loop are freed. Accepts NULL, returns NULL. */
struct watchdog *watchdog_free(struct watchdog *watchdog);

/* The turn's work is done: what follows is sleep. */
void watchdog_turn(struct watchdog *watchdog);
/* Of the loop's thread. */
struct watchdog_counters watchdog_counters(const struct watchdog *watchdog);

#endif
