/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FINDINGS_H
#define BROKER_FINDINGS_H

/*
 * What one source of discovery.h has found: a new list is compared with the one before, and the
 * endpoints are told the difference. What cannot be served, because its name or UUID is another's,
 * stays in the list with the reason, and is tried again with each list. Each begins at a cost of
 * its own, so that they do one after another.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/config.h"

struct endpoints;

#define FINDINGS_UUID_MAX 37

enum findings_fault {
	FINDINGS_FINE,
	FINDINGS_NAME,     /* it is another endpoint's */
	FINDINGS_UUID,     /* it is another's of this source */
	FINDINGS_NAMELESS, /* it has none */
	FINDINGS_ROOM,     /* it is a new one, beyond limits.names */
	FINDINGS_OTHER,
};

struct finding {
	struct config *config;        /* of the endpoint alone; a reference */
	char uuid[FINDINGS_UUID_MAX]; /* that no other of the source may have; "": whichever */
	int64_t since_ns;             /* the less, the earlier it has a right to its name */
	bool nameless;

	/* private; zeroes at the start */
	bool runs;
	enum findings_fault fault, told; /* while it does not run; and what the log has of it */
};

struct findings {
	struct endpoints *endpoints;
	const char *key;     /* what a place is called in the log */
	struct finding *all; /* sorted by place */
	size_t n;

	/* private; zeroes at the start */
	struct finding **order; /* in which they begin; NULL: all have */
	bool *rivals;           /* whose UUID is another's, as in `all` */
	size_t next;            /* in `order` */
};

/* Takes over the list, which malloc() made, sorted by place: by a domain's UUID, or a socket's
 * path, device and inode. What is gone has ended; findings_go_on() begins what is new. */
void findings_take(struct findings *findings, struct finding *list, size_t n);
/* Begins with some; false: nobody waits any more. */
bool findings_go_on(struct findings *findings);
/* All are lost. */
void findings_deinit(struct findings *findings);
/* The one at that place; NULL: there is none. */
const struct finding *findings_at(
	const struct findings *findings, const struct config_endpoint *place);
/* A sentence: why it is not served, and what to do. */
const char *findings_why(const struct finding *finding);

#endif
