/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

/*
 * What one host's write plane has of durable things in a simulator: records, ledger rows and
 * leases, which change in batches, and marks, which outlive the process and not the host.
 * Crash-faithful: a batch that fails, a broker that is killed and a power cut leave exactly a
 * prefix of the batches. It belongs to no simulator: what is around it comes as struct disk_env.
 *
 *   disk_batches   the batches and the records
 *   disk_rows      leases and the ledger, which change with them
 *   disk_marks     the marks
 *   disk_state.h   the inside, for these three
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/write/desk.h"
#include "broker/write/ops.h"
#include "tests/sim/sim.h"

struct disk;

struct disk_env {
	const uint64_t *now_ns, *wall_ns;
	const bool *faults;
	const uint32_t *fault_sides; /* of the dice that say that it is full; 0: it never is */
	uint32_t sync_sides;         /* likewise that a sync fails */
	struct desk **desk;          /* that is told of late answers */
	uint32_t endpoints;          /* have ids from 1 on */
	/* Each call of the desk asks once: whether it has no effect any more. */
	bool (*is_ghost)(void *arg);
	/* Leases may end: what was changed is not durable. */
	void (*may_end)(void *arg);
	/* What was stored of this command so far is marked. */
	void (*marked)(void *arg, const struct ledger_key *key);
	void *arg;
};

/* Room for one more in an array of `*size`, of which `n` are used; new ones are zeroed. */
void disk_grow(void *array, size_t n, size_t *size, size_t each);

struct disk *disk_new(const struct disk_env *env);
/* Accepts NULL, returns NULL. */
struct disk *disk_free(struct disk *disk);

/* The desk's, of the disk as their `ctx`. */
extern const struct desk_record_ops disk_records;
extern const struct desk_lease_ops disk_leases;
extern const struct desk_ledger_ops disk_ledger;
extern const struct desk_mark_ops disk_marks;

/* Rolls how it is, answers what waits for it. */
void disk_step(struct disk *disk);
void disk_heal(struct disk *disk);
/* Tokens are given in the batch, and not later by a store that several hosts share. */
void disk_alone(struct disk *disk);
/* The next token of the endpoint is above. */
void disk_token_floor(struct disk *disk, uint32_t endpoint, uint64_t token);
/* Nothing but what was committed is left; with `power` no more than what was durable, and no mark.
 */
void disk_restart(struct disk *disk, bool power);

/* It says that nothing will be durable any more before the broker starts anew. */
bool disk_is_lost(const struct disk *disk);
/* Leases are not granted in the batches of the records. */
bool disk_is_shared(const struct disk *disk);
/* Records that are there to stay, and (committed) that a broker that is killed leaves. */
const Vmsig__AuditRecord *disk_record(const struct disk *disk, size_t index);
size_t disk_durable(const struct disk *disk);
size_t disk_committed(const struct disk *disk);
/* Whether this lease is stored and has not ended. */
bool disk_has_lease(const struct disk *disk, uint64_t id);
/* Whether a broker that is killed now leaves it. */
bool disk_leaves_lease(const struct disk *disk, uint64_t id);
/* As the end of the host does. */
void disk_forget_marks(struct disk *disk);
unsigned disk_marks_used(const struct disk *disk);

/* ---- for what goes with a guest to another host ---- */

struct disk_answer {
	struct ledger_key key;
	uint8_t digest[LEDGER_DIGEST];
	bool done;
	const uint8_t *reply; /* lives as long as the disk */
	size_t reply_len;
};

/* Answers under a lease; `*cursor` starts at 0. */
bool disk_next_answer(
	const struct disk *disk, uint64_t lease, size_t *cursor, struct disk_answer *ret_answer);
/* In the batch: a lease that another host has granted, under its token. */
int disk_put_lease(struct disk *disk, const struct lease_view *lease);
/* Whether a lease of that number was ever stored here. */
bool disk_knows_lease(const struct disk *disk, uint64_t id);

#endif
