/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PROTO_AUDIT_LOG_H
#define TESTS_UNIT_PROTO_AUDIT_LOG_H

/*
 * An audit log in memory for tests of its verification, and what can be done to it.
 */

#include <stddef.h>
#include <stdint.h>

#include "proto/chain/auditchain.h"
#include "proto/wire/vmsig.pb-c.h"

#define BODY_MAX 256
#define ROWS 24u
#define ROWS_MAX (ROWS + 1) /* one is inserted */

struct row {
	uint64_t id;
	uint8_t body[BODY_MAX];
	size_t len;
	uint8_t hash[AUDITCHAIN_HASH];
};

struct log {
	struct auditchain_md *md;
	uint64_t start;
	uint8_t anchor[AUDITCHAIN_HASH];
	uint64_t noted; /* 0: no head was noted */
	uint8_t noted_hash[AUDITCHAIN_HASH];
	size_t n;
	struct row rows[ROWS_MAX];
	char error[AUDITCHAIN_ERROR_MAX + 1]; /* of the last verification */
	uint64_t culprit;                     /* as well */
};

#define PRUNED 40u           /* records dropped by retention */
#define PRUNED_AT (ROWS / 2) /* the row that says so */

/* Test fixtures: *state is the auditchain_md. */
int log_setup(void **state);
int log_teardown(void **state);

/* Records 1 to ROWS, intact. The newest is the noted head. */
void log_whole(struct log *log, struct auditchain_md *md);
/* Records PRUNED + 1 to PRUNED + ROWS, intact. */
void log_pruned(struct log *log, struct auditchain_md *md);
#define LOG_KINDS 2u
extern void (*const log_kinds[LOG_KINDS])(struct log *, struct auditchain_md *);

/* Computes the hashes from row `from` on. */
void log_rehash(struct log *log, size_t from);
/* Notes row i as the head that has to be found. */
void log_note(struct log *log, size_t i);

/* Takes n rows out. */
void log_drop(struct log *log, size_t at, size_t n);

/* A record of a kind and a length that depend on its id. */
void row_write(struct row *row, uint64_t id);
void row_write_pruned(struct row *row, uint64_t pruned, const uint8_t *anchor, size_t len);
void row_renumber(struct row *row, uint64_t id);

void assert_intact(struct log *log);
/* That the log is not intact is found, and no head is given out. */
void assert_found(struct log *log, const char *what, size_t i);
/* With each bit of these bytes of the log flipped; with and without somebody who noted a
 * head, as nothing was computed anew. */
void assert_flips_found(struct log *log, uint8_t *bytes, size_t len, const char *what, size_t i);
/* The sentence about the last verification names this record. */
void assert_blames(const struct log *log, uint64_t id);

#endif
