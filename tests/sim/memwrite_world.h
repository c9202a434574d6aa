/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_MEMWRITE_WORLD_H
#define TESTS_SIM_MEMWRITE_WORLD_H

/*
 * What a write meets: a guest's memory behind page tables that turn, the lease engine with one
 * holder, a clock, and what happens to each of them meanwhile; and what has to be there if the
 * broker does nothing more.
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/memwrite/memwrite.h"
#include "lease/lease.h"
#include "tests/sim/sim.h"

#define PAGE 4096u
#define PAGES 32u
#define SIZE (PAGES * PAGE)
#define ROOT (1u * PAGE) /* four tables, the leaf table last */
#define LEAF (4u * PAGE)
#define OPS 4u
#define LONG (6u * PAGE) /* of a single operation that is stored in slices */
#define SLICE (2u * PAGE)
#define MS 1000000ull

enum flaw { SOUND, WALK_AGAIN, RESOLVE_AGAIN, ADMIT_ONCE, OLD_PLAN, RECORD_VIRTUAL, FLAWS };

extern struct world {
	uint64_t now;
	enum flaw flaw;
	int fd;
	struct memwrite_target *target;
	vmsig_coherence page;
	/* What is there if the broker does nothing more. */
	uint8_t expected[SIZE];

	struct lease_engine *engine;
	uint32_t epoch;
	uint64_t lease, token, deadline;
	struct lease_range leased[2];
	size_t nleased;
	bool held;

	/* The command. */
	struct memwrite_op ops[OPS];
	size_t nops;
	uint8_t data[LONG], old[LONG];
	struct memwrite_plan plan;
	struct lease_range recorded[MEMWRITE_SLICE_PIECES], admitted[1024];
	size_t nrecorded, nadmitted;
	bool storing, replaced;
	bool over;            /* the lease has ended since it was being stored: */
	uint8_t at_end[SIZE]; /* what was there then, and what the guest did since */
} world;

void must(int r, const char *what);

void world_make(uint64_t seed);
void world_free(void);

/* The guest or the host does this; it belongs to what is expected. */
void ram_write(uint64_t at, const void *data, size_t len);
/* Where the file has shrunk there is nothing. */
void ram_read(uint8_t ram[static SIZE]);

/* The lease by the model, which knows no engine. */
bool model_holds(void);
bool model_covers(const struct lease_range *range);
void lease_take(void);
/* It has ended, now or by the clock: from here on nothing may change. */
void look_at_lease(void);

/* Something happens, perhaps. */
void meanwhile(void);
/* Another file; told to the engine, or (the endpoint would be at fault) not. */
void replace(void);

#endif
