/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_DISK_STATE_H
#define TESTS_SIM_DISK_STATE_H

/* The inside of the simulated disk, for its own files and for nobody else. */

#include "tests/sim/disk.h"

#define GRANTS 64
#define SLOTS 8
#define BUCKETS 4096
#define TENANT_MAX (LEASE_NAME_MAX + 1)
#define NO_ROW SIZE_MAX

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

/* Rows by what they are found by, the newest first; a row keeps its place for ever. */
struct lookup {
	size_t *heads; /* BUCKETS */
	size_t *next;  /* of each row */
	size_t size;
};

struct slot {
	enum mark_state state;
	struct ledger_key key;
	uint8_t digest[LEDGER_DIGEST];
	uint64_t done, order;
	uint32_t sum;
	uint8_t reply[MARKS_REPLY_MAX];
	size_t reply_len;
	bool has_hash;
	uint8_t hash[MARKS_HASH];
};

struct disk {
	struct disk_env env;
	bool slow;   /* batches are durable later */
	bool shared; /* tokens are given later */
	bool failed; /* a sync has, which is final until the broker starts anew */
	bool open;
	bool doomed; /* something of the open batch has failed */
	enum mode mode;
	Vmsig__AuditRecord **records;
	size_t nrecords, records_size, committed, durable;
	struct row *rows;
	size_t nrows, rows_size; /* ever used */
	struct lookup by_key;
	struct lease_row *leases;
	size_t nleases, leases_size;
	struct lookup by_id;
	uint64_t *tokens, next_id; /* last ones, by endpoint */
	struct change *changes;
	size_t nchanges, changes_size;
	struct batch *batches;
	size_t nbatches, batches_size;
	uint64_t ticket;
	struct lease_row grants[GRANTS]; /* that want a token; they are in no batch */
	size_t ngrants;
	void **arena; /* replies, until the end */
	size_t narena, arena_size;
	struct slot slots[SLOTS];
	uint64_t last_order;
	bool marks_open;
};

bool disk_is_ghost(struct disk *disk);
/* The row, as it is now, can be had back until its batch is durable. */
void change_note(struct disk *disk, bool is_row, size_t index);
/* Whether this change cannot be made, and its batch with it. */
bool disk_fails(struct disk *disk);
/* The first change of the open batch. */
size_t batch_open(const struct disk *disk);
/* A copy that lives as long as the disk. */
void *disk_keep(struct disk *disk, const void *data, size_t len);
/* Tokens for grants that wait for one, or none. */
void grants_answer(struct disk *disk);
/* What the last token of each endpoint and the last id were, by what is left. */
void rows_recount(struct disk *disk);
void rows_free(struct disk *disk);

#endif
