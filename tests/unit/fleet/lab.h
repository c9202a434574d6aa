/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FLEET_LAB_H
#define TESTS_UNIT_FLEET_LAB_H

/*
 * Two hosts with the real shell of the fleet, around a store in memory that answers when the test
 * says so, a clock that is the test's, and a broker that writes down what it is asked for. The
 * linker sends what the shell wants of etcd, of its file and of the clock through lab.c.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>

#include "broker/config/config.h"
#include "broker/fleet/deed.h"
#include "broker/fleet_seat.h"

#define LAB_MS 1000000ull
#define LAB_SECOND (1000 * LAB_MS)
#define LAB_TTL_S 10u
#define LAB_ENDPOINT 5u
#define LAB_UUID "6f1f2c1e-0000-4000-8000-0000000000aa"

/* What a host's broker was asked for, and what it says. */
struct lab_host {
	struct config config;
	struct fleet_shell shell;
	struct passage passage;
	uint32_t epoch; /* of the endpoint */
	unsigned owned, lost, left, moved, packed, unpacked;
	char went_to[64];
	const char *baggage; /* that it packs */
	int pack, unpack;    /* what packing and unpacking return */
	unsigned steps;      /* of unpacking, before it is done */
	struct baggage_intake intake;
	char got[64];
	size_t got_len;
};

extern struct lab {
	uint64_t now_ns;
	bool deaf;           /* the store answers nobody, until it does */
	bool without_memory; /* malloc() gives none */
	struct lab_host here, there;
} lab;

int lab_setup(void **state);
int lab_teardown(void **state);

/* Turns of both, until nothing is left to be said. */
void lab_run(void);
void lab_pass(uint64_t ns);
/* Its endpoint is there, of a guest that runs in it in a session of this kernel. */
void lab_add(struct lab_host *host);
void lab_serve(struct lab_host *host, const char *kernel, bool lasts);
/* The endpoint's session is over; whether its leases go on. */
bool lab_over(struct lab_host *host);
/* The host has the guest, and may write. */
bool lab_may_write(const struct lab_host *host);
/* A guest that runs here and comes there: the one has begun to leave, the other waits. */
void lab_begin(void);
void lab_step(struct lab_host *host, enum passage_step step);

/* What the store has under a leaf of the guest; NULL: nothing. */
const char *lab_value(const char *leaf, size_t *ret_len);
void lab_put(const char *leaf, const void *value, size_t len);
void lab_deed(struct deed *ret_deed);

#endif
