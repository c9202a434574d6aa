/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_UPKEEP_H
#define BROKER_UPKEEP_H

/*
 * The upkeep of the store beside the broker's work: checkpoints when it is time and when the
 * log is large, the inspection of a large database, retention, and the way back from a disk
 * that was full: the reserve, the database itself when the broker had to start without it, and
 * the write plane, which cannot be opened before. What takes long is done on the pool.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct broker;

struct upkeep {
	uv_timer_t timer;
	uv_work_t work; /* a checkpoint, or the inspection */
	bool working, inspecting;
	bool complete;      /* what the checkpoint has found */
	char problem[256];  /* what the inspection has found */
	uint64_t retry_ns;  /* not before that the database is tried again, which cannot be used */
	uint64_t next_ms;   /* when the next checkpoint is due */
	uint64_t resume_ms; /* none for the log's size before that */
};

/* 0 or -errno of libuv. */
__attribute__((warn_unused_result)) int upkeep_start(struct broker *broker);
/* At the end of a turn of the loop. */
void upkeep_turn(struct broker *broker);
/* After that broker_closed() is called when no work is left. */
void upkeep_close(struct broker *broker);

#endif
