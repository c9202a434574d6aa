/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_JOURNAL_LAB_H
#define TESTS_UNIT_JOURNAL_LAB_H

/*
 * A journal in a directory of its own, with entries whose contents follow from their numbers, so
 * that what is found later can be checked. For cmocka tests: what goes wrong fails the test.
 *
 * Every third entry is a STATE entry, the others are AUDIT entries. The directories are on a
 * tmpfs, where a sync costs nothing.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/journal/journal.h"

#define LAB_SEGMENT (64u << 10)
#define LAB_RING (64u << 10)
#define LAB_LEN_MAX 300u
#define LAB_MANY 2000u /* entries: several segments */

struct lab {
	char dir[64]; /* has state/ and run/ */
	char state[80], run[80];
	struct journal *journal;
	char error[512]; /* of the last open */
	struct journal_options options;
	/* What the loop was told. */
	unsigned drained, synced, troubles;
	uint64_t synced_number;
	int synced_result;
	char trouble[1024]; /* "": none */
};

/* cmocka fixtures: *state is a lab. */
int lab_setup(void **state);
int lab_teardown(void **state);
void lab_init(struct lab *lab);
/* Closes the journal if it is open, removes everything. */
void lab_deinit(struct lab *lab);

/* journal_open() with the lab's options. */
int lab_try(struct lab *lab);
void lab_open(struct lab *lab);
void lab_start(struct lab *lab);
/* As a broker that ends in order. */
void lab_close(struct lab *lab);
/* As one that is killed; not after lab_start(). */
void lab_leave(struct lab *lab);
/* As after the host has booted: the ring belongs to another boot. */
void lab_boot(struct lab *lab);

/* Puts `n` entries into the open batch, and commits them one by one. */
void lab_append(struct lab *lab, unsigned n);
/* Each by itself, and waits where there is no room. */
void lab_append_all(struct lab *lab, unsigned n);
/* Like it, but false when the journal takes no more. */
bool lab_append_one(struct lab *lab);
/* The loop turns until all that is committed is in the segments, or on the disk. */
void lab_await_drained(struct lab *lab);
void lab_await_synced(struct lab *lab);

size_t lab_len(uint64_t number);
enum journal_type lab_type(uint64_t number);
void lab_keys(uint64_t number, struct journal_keys *ret_keys);
void lab_fill(uint64_t number, uint8_t *body);

/* Replays all entries, which must be those from `first` to what is returned. */
uint64_t lab_replay(struct lab *lab, uint64_t first);
/* For journal_replay(), of which only the result counts. */
int lab_ignore(void *arg, const struct journal_entry *entry);
/* Verifies the chain over all records that are left. Everything must be in segments. */
void lab_verify(struct lab *lab);

/* Path of the segment that begins with entry `first`. */
const char *lab_segment(const struct lab *lab, uint64_t first);

#endif
