/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_QUIESCE_H
#define BROKER_ADAPTERS_QEMU_QUIESCE_H

/*
 * Stops a guest's vCPUs for a moment, and never leaves them stopped:
 *
 *   IDLE -> ASKING (query-status) -> STOPPING (stop) -> STILL -> RESUMING (cont) -> IDLE
 *
 * A guest that does not run is STILL without a stop, and is not continued. The bound ends
 * whatever it meets. The guardian (guardian.h) knows of every stop that is not made up for: a
 * broker that dies, and a connection that is lost, leave it to him.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/adapters/qemu/link.h"

struct guardian;

enum quiesce_state {
	QUIESCE_IDLE,
	QUIESCE_ASKING,
	QUIESCE_STOPPING,
	QUIESCE_STILL,
	QUIESCE_RESUMING,
	QUIESCE_REFUSED, /* done() is still to be called with `error` */
};

struct quiesce {
	struct link *link;
	struct guardian *guardian;
	const char *name;      /* what the guest is called for the guardian, */
	int (*arm)(void *arg); /* and how he is told that it is going to be stopped; */
	void *arm_arg;         /* NULL: by the link's socket */
	enum quiesce_state state;
	bool stopped;              /* by us: cont is owed */
	bool stop_due, resume_due; /* the events of our own commands, which come before their
				    * replies, if there is anything to stop or to continue */
	bool closing;
	uint64_t id;      /* of the command that the state waits for, but cont; 0: none */
	uint64_t cont_id; /* of the cont that is on its way, whatever the state; 0: none */
	int error;
	void (*done)(void *arg, int error);
	void *done_arg;
	uv_timer_t timer;
	bool timer_open;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* `closed` is called after quiesce_close(), from the loop. The connection stays open until
 * then. */
void quiesce_init(struct quiesce *quiesce, struct link *link, struct guardian *guardian,
	void (*closed)(void *arg), void *closed_arg);
/* The guest has no socket that the guardian could use: arm() tells him what there is instead, about
 * a guest of that name. Both outlive `quiesce`. */
void quiesce_arm_by(
	struct quiesce *quiesce, const char *name, int (*arm)(void *arg), void *arm_arg);
/* done() is called if somebody waits. Takes as long as QEMU needs for the cont that is owed, or
 * leaves it to the guardian. */
void quiesce_close(struct quiesce *quiesce);
bool quiesce_is_open(const struct quiesce *quiesce);

/* As vmsig_memwrite_reg.quiesce, .is_quiesced, .resume. */
void quiesce_start(
	struct quiesce *quiesce, uint64_t bound_ms, void (*done)(void *arg, int error), void *arg);
bool quiesce_is_still(const struct quiesce *quiesce);
void quiesce_end(struct quiesce *quiesce);

/* QEMU stops the guest for a reason of its own, after which it is not for us to continue it: a
 * write that waits gets its stop, and nothing is owed for it. */
void quiesce_leave_stopped(struct quiesce *quiesce);

/* Whether the STOP or RESUME event at hand is of our own making; each of ours is so once. What
 * others do meanwhile is theirs. */
__attribute__((warn_unused_result)) bool quiesce_owns_stop(struct quiesce *quiesce);
__attribute__((warn_unused_result)) bool quiesce_owns_resume(struct quiesce *quiesce);

/* Whether the reply was ours. */
bool quiesce_reply(struct quiesce *quiesce, const struct qmp_message *message);
void quiesce_link_down(struct quiesce *quiesce);
void quiesce_link_ready(struct quiesce *quiesce);

#endif
