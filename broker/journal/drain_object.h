/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_DRAIN_OBJECT_H
#define BROKER_JOURNAL_DRAIN_OBJECT_H

/* What the thread that drains the ring has, for its two parts: drain.h and, on the disk, disk.h. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "broker/journal/catalog.h"
#include "broker/journal/ring.h"

#define DRAIN_ERROR_MAX 1023u

struct auditchain_md;
struct wake;

/* What the loop wants of it. */
struct drain_orders {
	uint64_t sync;     /* all entries up to this on the disk */
	uint64_t position; /* of the ring, up to which there are entries */
	bool stop, reopen, prune;
	struct journal_cut cut;
	uint64_t cut_after; /* the entry that tells of it */
};

/* The segment that is written to; the catalog has its end. */
struct drain_segment {
	int fd; /* -1: none yet */
	uint64_t first;
	uint64_t end, size;
};

struct drain {
	struct ring *ring;
	struct catalog *catalog;
	struct auditchain_md *md;
	struct wake *wake;
	const char *dir_path;
	int dir;
	uint8_t identity[SEGMENT_IDENTITY];
	uint64_t segment_bytes, entry_max;

	/* Told to the loop. */
	_Atomic uint64_t number;   /* of the newest entry in a segment */
	_Atomic uint64_t synced;   /* and on the disk */
	_Atomic uint64_t granted;  /* position of the ring up to which the disk has room */
	_Atomic uint64_t since_ns; /* when the call that runs began, CLOCK_BOOTTIME; 0: none does */
	atomic_int failed;         /* -errno of a sync */
	atomic_bool asleep;        /* it has to be woken */

	pthread_mutex_t lock;
	pthread_cond_t work, rest;
	struct drain_orders orders;
	char trouble[DRAIN_ERROR_MAX + 1];
	bool ended, closed; /* it has ended, and there was nothing left to do */

	/* The thread's. */
	pthread_t thread;
	bool started;
	struct drain_segment segment;
	int spare; /* -1: none yet */
	uint64_t last_id;
	uint8_t last_hash[JOURNAL_HASH];
	bool dir_dirty;
	unsigned idle;
	int result; /* of the last step; not 0: the disk takes nothing */
};

/* CLOCK_BOOTTIME. */
static inline uint64_t drain_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
