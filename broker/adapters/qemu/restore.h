/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_RESTORE_H
#define BROKER_ADAPTERS_QEMU_RESTORE_H

/*
 * Whether guest RAM went back in time under a QEMU that keeps running: loadvm, snapshot-load, a
 * revert by libvirt. Memory before and after is of the same boot, so every proof of the kernel
 * passes; QEMU tells no more than STOP and RESUME, and nothing at all when the guest was paused.
 *
 * What counts as evidence, strongest first:
 *
 * - QEMU has no snapshot with VM state: there is nothing that could have been loaded. So a plain
 *   stop and cont is harmless for most guests, whatever else is known of them.
 * - QEMU's virtual clock. It is part of what a snapshot restores, and else it runs as the host's
 *   monotonic clock does while the guest runs, and stands still while it is stopped. The HPET
 *   shows it in 64 bits. A guest's own clocks are no evidence: under TCG the TSC never goes back
 *   and Linux catches up with it within a tick; the PM timer wraps after 4.7 s. The HPET's base
 *   is the guest's to write and to switch off, so the clock counts only after it has been seen to
 *   run as it should, and a guest that stops using it loses its proof, not its safety.
 * - Otherwise a stop that was not ours counts as a restore: a wrong alarm costs leases, a missed
 *   one means writes into another time.
 *
 * What is not found: a snapshot that was loaded and deleted between two looks; one younger than
 * SLACK when it is loaded into a guest that stands still; memory that the guest's root makes look
 * continuous by writing to the HPET.
 *
 * Pure: times are passed in, nanoseconds of the host's monotonic clock.
 */

#include <stdbool.h>
#include <stdint.h>

struct restore {
	bool restorable;    /* as of the last look: QEMU has something to load, or will not say */
	uint64_t newest_us; /* snapshot; host's clock of the day */

	bool based;   /* the clock was read */
	bool trusted; /* and has run as it should */
	bool differed;
	uint64_t value_ns, asked_ns, answered_ns; /* it had the value between these two */

	/* Since the last look. */
	unsigned stops;      /* whoever made them */
	unsigned foreign;    /* of these and of resumes, not made by us */
	bool missed;         /* events may have been lost with the connection */
	uint64_t stopped_ns; /* stops that are over */
	uint64_t since_ns;   /* the present one; 0: the guest runs */
};

/* What an inquiry has found out. */
struct restore_look {
	bool running;
	bool listed;        /* the two below were asked for */
	bool restorable;    /* a snapshot with VM state exists, or it is not known that none does */
	uint64_t newest_us; /* the youngest one; host's clock of the day */
	uint64_t now_us;    /* of the same clock */
	bool clock;         /* the clock was read: it had `value_ns` between the two moments */
	uint64_t value_ns, asked_ns, answered_ns;
};

enum restore_verdict {
	RESTORE_SAME,
	RESTORE_AGAIN, /* look again at once: one odd reading is no verdict */
	RESTORE_REPLACED,
};

/* A session begins: memory is what it is now. */
void restore_begin(struct restore *restore, const struct restore_look *look);
/* STOP and RESUME events; `ours`: for a write. */
void restore_stopped(struct restore *restore, uint64_t now_ns, bool ours);
void restore_resumed(struct restore *restore, uint64_t now_ns, bool ours);
/* The connection was lost: there may have been others. */
void restore_missed(struct restore *restore);
/* The guest woke from sleep, and its firmware and kernel set the clock anew; or it is another
 * QEMU's. */
void restore_distrust(struct restore *restore);

/* Whether writes have to wait for a look. */
bool restore_in_doubt(const struct restore *restore);
/* `*ret_why` is a sentence for RESTORE_REPLACED. */
enum restore_verdict restore_judge(
	struct restore *restore, const struct restore_look *look, const char **ret_why);

#endif
