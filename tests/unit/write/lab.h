/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_WRITE_LAB_H
#define TESTS_UNIT_WRITE_LAB_H

/*
 * A desk with everything that it stands on but sockets and adapters: a store in a directory of
 * its own, a core with one endpoint whose RAM is a memfd, one operator who may do everything.
 * The test is the loop: lab_turn() is a turn of it, time passes only by lab_pass(), and what the
 * operator is told is written down.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <uv.h>

#include "broker/desk_shell.h"
#include "broker/store/store.h"

#define LAB_RAM (4u << 20)
#define LAB_EVENTS 16384
#define LAB_MS 1000000ull

enum lab_kind {
	LAB_GRANTED,
	LAB_REFUSED,
	LAB_NOTICE,
	LAB_ENDED,
	LAB_RELEASED,
	LAB_WRITTEN,
	LAB_REJECTED
};

struct lab_event {
	enum lab_kind kind;
	uint64_t id; /* lease or request */
	int code;
	uint64_t written;
	bool replayed;
};

struct lab {
	char dir[64];
	uv_loop_t loop;
	struct shares *shares;
	struct jobs *jobs;
	struct syncer *syncer;
	struct core *core;
	struct store *store;
	struct config config;
	struct desk_shell *shell;
	struct desk *desk; /* in it */
	struct desk_operator op;
	vmsig_coherence page;
	int ram;
	uint32_t endpoint, epoch;

	uint64_t lease, token; /* the last that was granted */
	uint64_t writer;       /* whose numbers are used */
	uint64_t next_request;
	char rejected[256]; /* what was said of the last write that was */
	struct lab_event *events;
	size_t nevents;
	void (*quiesced)(void *arg, int error); /* what the adapter was asked for */
	void *quiesced_arg;
};

/* The operator's. */
extern struct grant_rule lab_rule;

/* Writes down what the operator is told: lab_operator.c. */
extern const struct desk_events lab_operator_events;

/* What the journal was asked for. */
extern struct lab_tried {
	unsigned appended, committed;
} lab_tried;

/* cmocka fixtures: *state is a struct lab with its desk open and its endpoint ready. */
int lab_setup(void **state);
int lab_teardown(void **state);
/* The parts of it, for tests that let some fail. 0 or an error. */
struct lab *lab_new(void);
int lab_open(struct lab *lab);
void lab_close(struct lab *lab);
struct lab *lab_free(struct lab *lab);
/* The broker is killed, and another one starts: only what is in the directory is left. */
void lab_kill(struct lab *lab);
/* As lab_kill(), but the marks are in use by somebody else, until what it returns is closed. */
int lab_kill_while_marks_are_used(struct lab *lab);

/* Whether the store can be written to: whether its journal takes something. */
void lab_store_works(struct lab *lab, bool works);
void lab_pass(uint64_t ns);
uint64_t lab_now(void);
void lab_turn(struct lab *lab);
/* What the store has for a thread to do, of which there has to be something, is done. */
void lab_errand(struct lab *lab);
/* What is committed can be read from the audit log. */
void lab_settle(struct lab *lab);
/* Turns until so many events were told. */
void lab_await(struct lab *lab, size_t n);

/* All of what came with a guest; 0 or an error. */
struct baggage_intake;
int lab_unpack(struct lab *lab, struct baggage_intake *intake, const void *data, size_t len);

/* Takes a lease of the whole endpoint. */
void lab_lease(struct lab *lab);
/* 0: granted or waiting. */
int lab_acquire(struct lab *lab, bool no_wait);
/* The number of its request is lab->next_request. */
int lab_release(struct lab *lab);
/* Sends a write of one word; returns its request's number. */
uint64_t lab_write(struct lab *lab, uint64_t sequence, uint64_t addr, uint64_t word);
uint64_t lab_write_quiesced(struct lab *lab, uint64_t sequence, uint64_t addr, uint64_t word);
/* Of a memfd of its own, full of one byte. */
struct lab_bulk {
	uint64_t addr;
	size_t len;
	int fill;
	bool quiesce;
};
uint64_t lab_send_bulk(struct lab *lab, uint64_t sequence, const struct lab_bulk *what);
/* Full of ones. */
uint64_t lab_write_bulk(struct lab *lab, uint64_t sequence, uint64_t addr, size_t len);
uint64_t lab_word(struct lab *lab, uint64_t addr);
/* What was told about it; fails without. */
struct lab_event lab_told(struct lab *lab, enum lab_kind kind, uint64_t id);
/* How often. */
size_t lab_count(struct lab *lab, enum lab_kind kind, uint64_t id);

#endif
