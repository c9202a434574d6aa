/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_PAYER_H
#define BROKER_WRITE_PAYER_H

/*
 * A tenant with bulk commands: its line of work for threads, and the room for the data of the one
 * that is being stored. Counted by its commands.
 */

#include "broker/write/state.h"

#define PAYER_ROOM (1u << 20) /* bytes that a thread reads before another line has its turn */

struct payer {
	char tenant[LEASE_NAME_MAX + 1];
	struct desk *desk;
	unsigned refs;
	struct desk_line *line;
	struct command *storing;
	uint8_t *data; /* the next PAYER_ROOM bytes of `storing` */
	uint8_t *old;  /* what was there */
	UT_hash_handle hh;
};

/* -ENOMEM. */
__attribute__((warn_unused_result)) int payer_get(
	struct desk *desk, const char *tenant, struct payer **ret_payer);
/* Accepts NULL, returns NULL. */
struct payer *payer_unref(struct payer *payer);

#endif
