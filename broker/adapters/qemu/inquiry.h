/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_INQUIRY_H
#define BROKER_ADAPTERS_QEMU_INQUIRY_H

/*
 * Asks QEMU a sequence of questions over QMP and keeps the answers. One at a time; replies
 * to an inquiry that was dropped are recognised by their id and ignored.
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/adapters/qemu/link.h"
#include "broker/adapters/qemu/look.h"
#include "broker/adapters/qemu/memmap.h"
#include "broker/adapters/qemu/vcpu.h"

#define INQUIRY_ERROR_MAX 400
#define INQUIRY_STATUS_MAX 32

/* What is asked beside run state, migration and vCPUs. */
#define INQUIRY_MAP 0x1u       /* the memory map */
#define INQUIRY_SNAPSHOTS 0x2u /* and, when there are any, the clock */
#define INQUIRY_CLOCK 0x4u
#define INQUIRY_JOBS 0x8u

struct inquiry {
	bool active;
	unsigned what;
	unsigned step;
	uint64_t id;    /* of the command that is under way */
	json_t *memdev; /* between two steps */

	char status[INQUIRY_STATUS_MAX]; /* query-status: "running", "paused", ... */
	bool migrating;                  /* query-migrate: a migration, out or in, is under way */
	bool migrated;                   /* the last one is complete, */
	bool outgoing;                   /* and was one away from here */
	struct restore_look look;
	char load_job[LOOK_JOB_MAX]; /* look_jobs() */
	struct memmap map;
	uint64_t split; /* where the RAM below 4 GiB should end, 0: unknown */
	struct vcpu_roots roots;
	char error[INQUIRY_ERROR_MAX];
};

/* Each returns 0: all answers are there; VMSIG_ERR_WOULD_BLOCK: a reply is awaited; another
 * positive error with a sentence in inquiry->error; -ENOMEM. */
__attribute__((warn_unused_result)) int inquiry_start(
	struct inquiry *inquiry, struct link *link, unsigned what);
__attribute__((warn_unused_result)) int inquiry_reply(
	struct inquiry *inquiry, struct link *link, const struct qmp_message *message);
/* Drops what is under way and the answers. */
void inquiry_reset(struct inquiry *inquiry);

#endif
