/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_UPKEEP_H
#define BROKER_UPKEEP_H

/*
 * The upkeep of the store beside the broker's work: its errands (watermarks, snapshots, the
 * inspection of a large one, the way back from a directory that could not be used), each a job;
 * retention; and the write plane, which cannot be opened before the store can. Who looks at the
 * log hears what is wrong with the disk.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/jobs.h"
#include "broker/store/store.h"

struct broker;

struct upkeep {
	uv_timer_t timer;
	struct job_line *line;
	struct job job;
	struct store_watcher watcher;
	bool working;
	uint64_t prune_ms; /* when old records are looked for next */
	bool (*open_desk)(struct broker *broker, bool loudly);
};

/* After the store, and the jobs. 0 or -errno. */
__attribute__((warn_unused_result)) int upkeep_start(
	struct broker *broker, bool (*open_desk)(struct broker *broker, bool loudly));
/* At the end of a turn of the loop. */
void upkeep_turn(struct broker *broker);
/* Nothing is begun any more. */
void upkeep_close(struct broker *broker);
/* After jobs_close(). */
void upkeep_end(struct broker *broker);

#endif
