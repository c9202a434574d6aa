/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_WRITE_DISK_H
#define TESTS_SIM_WRITE_DISK_H

/*
 * The inside of the simulated disk: shared by write_disk.c and write_rows.c, and by nobody else.
 */

#include "tests/sim/write_world.h"

#define RECORDS 32768
#define ROWS 4096
#define LEASE_ROWS 2048
#define CHANGES 16384
#define BATCHES 4096
#define GRANTS 64
#define TENANT_MAX (LEASE_NAME_MAX + 1)

enum mode { FAST, FULL, MODES };

struct row {
	bool used, done;
	struct ledger_key key;
	uint8_t digest[LEDGER_DIGEST];
	uint64_t intent;
	const uint8_t *reply; /* in the arena */
	size_t reply_len;
};

struct lease_row {
	bool used, ended;
	struct lease_view view;
	char tenant[TENANT_MAX];
	struct lease_range ranges[4];
};

/* What a row was before a change. */
struct change {
	bool is_row;
	size_t index;
	struct row row;
	struct lease_row lease;
};

struct batch {
	size_t nchanges, nrecords;
	uint64_t ticket; /* 0: nobody waits for it */
};

struct disk {
	bool slow;   /* batches are durable later */
	bool shared; /* tokens are given later */
	bool failed; /* a sync has, which is final until the broker starts anew */
	bool open;
	bool doomed; /* something of the open batch has failed */
	enum mode mode;
	Vmsig__AuditRecord *records[RECORDS];
	size_t nrecords, committed, durable;
	struct row rows[ROWS];
	size_t nrows; /* ever used */
	struct lease_row leases[LEASE_ROWS];
	size_t nleases;
	uint64_t tokens[SITES], next_id;
	struct change *changes;
	size_t nchanges;
	struct batch batches[BATCHES];
	size_t nbatches;
	uint64_t ticket;
	struct lease_row grants[GRANTS]; /* that want a token; they are in no batch */
	size_t ngrants;
	void **arena; /* replies, until the end */
	size_t narena, arena_size;
};

extern struct disk disk;

/* The row, as it is now, can be had back until its batch is durable. */
void change_note(bool is_row, size_t index);
/* Whether this change cannot be made, and its batch with it. */
bool disk_fails(void);
/* The first change of the open batch. */
size_t batch_open(void);
/* A copy that lives as long as the seed. */
void *disk_keep(const void *data, size_t len);
/* Tokens for grants that wait for one, or none. */
void grants_answer(void);
/* What the last token of each endpoint and the last id were, by what is left. */
void rows_recount(void);

#endif
