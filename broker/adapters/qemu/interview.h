/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_INTERVIEW_H
#define BROKER_ADAPTERS_QEMU_INTERVIEW_H

/*
 * Asks a QEMU at its QMP socket what it is called: its name (-name) and its UUID (-uuid), and hangs
 * up, so that the socket is free for whoever serves it. The answers are foreign: bounded, and texts
 * only.
 *
 * Where a former broker has left a connection it asks over that one, and leaves it to the endpoint
 * if it has heard nothing but answers: so no reset is missed.
 *
 * A QEMU that says nothing may serve another client, or stand still, and is waited for over the one
 * connection, as link.h has it; one that talks beside the questions for too long is hung up on.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/adapters/qemu/kept.h"
#include "broker/adapters/qemu/link.h"

#define INTERVIEW_NAME_MAX 256 /* bytes with the NUL; what is longer is no name */
#define INTERVIEW_UUID_MAX 37

struct interview {
	struct link link;
	uv_timer_t patience;
	uint64_t name_id, uuid_id; /* 0: answered */
	bool silent;
	bool over;
	unsigned handles;
	struct kept_name kept;
	bool resumed; /* the connection is that one */
	bool broken;  /* and has told of something else */

	char name[INTERVIEW_NAME_MAX]; /* "": it has none */
	char uuid[INTERVIEW_UUID_MAX]; /* in lower case; "": likewise */
	/* Once, from the loop, unless it is ended before; `why` is a sentence, NULL when it was
	 * answered. interview_end() comes next. */
	void (*done)(void *arg, struct interview *interview, const char *why);
	/* It says nothing, and is waited for. */
	void (*waits)(void *arg, struct interview *interview, const char *why);
	/* interview_end() is through; the interview is the owner's, to be freed. */
	void (*closed)(void *arg, struct interview *interview);
	void *arg;
};

struct interview_wanted {
	uv_loop_t *loop;
	struct share *share; /* who pays for what is answered; borrowed */
	const char *path;    /* for sentences; borrowed */
	uint64_t timeout_ms;
};

/* Takes over `place`, a socket by O_PATH. The callbacks and `arg` are the caller's to set before,
 * the rest starts as zeroes. -errno: nothing is under way then. */
__attribute__((warn_unused_result)) int interview_start(
	struct interview *interview, const struct interview_wanted *wanted, int place);
/* Ends it, answered or not. */
void interview_end(struct interview *interview);

#endif
