/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_READ_WORLD_H
#define TESTS_SIM_READ_WORLD_H

/*
 * The world of the read plane's simulation: adapters on the one side of the core,
 * subscribers on the other, and a shell between that obeys the core. All that happens
 * follows from the seed.
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/read/core.h"
#include "tests/sim/history.h"
#include "tests/sim/sim.h"

#define ENDPOINTS 4
#define SESSIONS 6
#define TENANTS 3
#define FIRST_FD 1000
#define EPOCHS 4096 /* of one endpoint in one run, more than steps can make */
#define INFLIGHT 2
#define TAKE_NS 40

/* What --break spoils. */
enum flaw {
	FLAW_NONE,
	FLAW_LATE_PERSIST,      /* epochs are stored after the bootstrap was asked for */
	FLAW_LOST_INVALIDATION, /* never told */
	FLAW_LATE_INVALIDATION, /* told after the event behind it */
	FLAW_STAMP,             /* the locator carries another epoch */
	FLAW_LEAK,              /* what one subscriber is told, another one hears */
	FLAW_LOST_NOTIFY,       /* a subscriber with something to hear is not woken */
	FLAW_SHARED_FD,         /* one descriptor for two deliveries */
	FLAW_LOST_PANIC,        /* never told: the subscriber takes the guest for a running one */
	FLAW_REPEATED_EPOCH,    /* the store forgets the last epoch */
	FLAWS,
};

struct adapter {
	uint32_t id;
	bool added, registered;
	bool bootstrapping;
	uint32_t epoch;      /* asked for by the core */
	uint64_t generation; /* of the guest; kcr3 is made of it */
	uint32_t persisted, revoked;
	char session[VMSIG_SESSION_MAX]; /* the stored fingerprint */
	uint64_t told[EPOCHS];           /* generation + 1 that was told in each epoch */
	uint32_t changes;                /* of the page, as last seen */
	vmsig_coherence page;
};

struct subscriber {
	struct session *session;
	const struct tenant *tenant;
	bool owed;         /* was notified, and has not pulled all of it */
	bool outstanding;  /* has not acknowledged a context */
	unsigned patterns; /* bits: those that it has subscribed to */
	bool has_held;
	struct core_delivery held; /* FLAW_LATE_INVALIDATION */
	struct history histories[ENDPOINTS];
};

struct world {
	uint64_t now;
	struct core *core;
	struct adapter adapters[ENDPOINTS];
	struct subscriber subscribers[SESSIONS];
	int next_fd, last_fd;
	bool faults, crashing;
};

extern struct world world;
extern enum flaw flaw;
extern unsigned long long heard[VMSIG_EV_ENDPOINT_STATE + 1]; /* by kind, all seeds */
extern const enum vmsig_guard min_guards[ENDPOINTS];
extern const char *const names[ENDPOINTS];

/* The shell: takes all actions and performs them. */
void perform_all(void);

uint64_t kcr3_of(const struct adapter *adapter);
void adapter_step(struct adapter *adapter, size_t i);
void adapter_unregister(struct adapter *adapter);
void adapter_remove(struct adapter *adapter);

/* Of the endpoint with this name; ends the program for others. */
size_t index_of(const char *name);
void subscriber_step(struct subscriber *subscriber);
void subscriber_take(struct subscriber *subscriber);
void subscriber_pull(struct subscriber *subscriber, unsigned most);
void subscriber_leave(struct subscriber *subscriber);

#endif
