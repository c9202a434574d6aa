/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_READ_RIG_H
#define TESTS_UNIT_READ_RIG_H

/*
 * A core with a shell that writes down the actions it takes, and an adapter that does what a
 * test tells it.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>

#include "broker/read/core.h"

#define RIG_ACTIONS 64

struct rig {
	struct core *core;
	const vmsig_emit *seam;
	uint64_t now;
	struct core_action actions[RIG_ACTIONS]; /* of the last rig_drain() */
	size_t nactions;
	uint32_t asked_epoch; /* by the last invalidate() */
	unsigned described;   /* calls of describe() */
	uint64_t kcr3;        /* what it answers */
	int share_error;      /* what share_fd() answers, 0: a number */
	int page_error;       /* likewise share_page() */
	int next_fd;
	uint32_t nfiles; /* that RAM is in; 0: it is had of the endpoint's own registration */
	vmsig_coherence page, other_page;
};

/* Group fixtures for cmocka: *state is a struct rig. */
int rig_setup(void **state);
int rig_teardown(void **state);
/* The core anew, with at most `inflight` contexts under way. */
void rig_limit(struct rig *rig, uint32_t inflight);

/* Tenants: everything; endpoints "a*"; everything, but not below ro-mount. */
extern const struct tenant rig_all, rig_a, rig_strict;

void rig_add(struct rig *rig, uint32_t id, const char *name);
void rig_register(struct rig *rig, uint32_t id);
/* Added, registered, with RAM under this guard, and drained. */
void rig_boot(struct rig *rig, uint32_t id, const char *name, enum vmsig_guard guard);
void rig_ram(struct rig *rig, uint32_t id, enum vmsig_guard guard, const char *session);
/* What the adapter says; the result is the core's. */
int rig_ready(struct rig *rig, uint32_t id, uint32_t epoch);
int rig_reset(struct rig *rig, uint32_t id);
int rig_state(struct rig *rig, uint32_t id, uint32_t state, const char *why);
/* Unregisters, drains, removes. */
void rig_remove(struct rig *rig, uint32_t id);

/* Takes and performs all actions. */
void rig_drain(struct rig *rig);
/* How many of this kind the last drain had. */
unsigned rig_count(const struct rig *rig, enum core_action_kind kind);
bool rig_notified(const struct rig *rig, const struct session *session);

struct session *rig_session(struct rig *rig, const struct tenant *tenant, uint32_t uid);
/* Expects a delivery of this kind and epoch, and returns it. */
struct core_delivery rig_expect(
	struct rig *rig, struct session *session, uint32_t kind, uint32_t epoch);
void rig_expect_nothing(struct rig *rig, struct session *session);
uint32_t rig_epoch(struct rig *rig, const char *name);

#endif
