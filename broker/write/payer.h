/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_PAYER_H
#define BROKER_WRITE_PAYER_H

/*
 * A tenant with bulk commands: its line of work for threads, the memory for the data of the one
 * that is being stored, and what it has kept of the bytes that were there before. Counted by its
 * commands.
 *
 * What was there before is kept until a thread has hashed it, as long as limits.bulk_old has room
 * for it; half of that may be one tenant's. A command for which there is none has each part
 * hashed before the next one is stored.
 */

#include "broker/write/state.h"

enum payer_slot { PAYER_OLD, PAYER_KEPT };

struct payer {
	char tenant[LEASE_NAME_MAX + 1];
	struct desk *desk;
	unsigned refs;
	struct desk_line *line;
	struct command *storing;
	uint8_t *data[2]; /* the next bytes of `storing`, a reading each */
	uint8_t *old;     /* what was there, when it is not kept: of one reading */
	struct account account;
	UT_hash_handle hh;
};

/* -ENOMEM. */
__attribute__((warn_unused_result)) int payer_get(
	struct desk *desk, const char *tenant, struct payer **ret_payer);
/* Accepts NULL, returns NULL. */
struct payer *payer_unref(struct payer *payer);
/* How much may be kept, of all tenants together. */
void payers_set_limit(struct desk *desk, uint64_t limit);
/* What a command pays while what was there before is kept for it. */
struct kept {
	struct charge number, own, all;
};
/* Charges so many bytes. VMSIG_ERR_QUOTA: there is no room, or too many commands have no digests
 * yet. */
__attribute__((warn_unused_result)) int payer_keep(
	struct payer *payer, struct kept *kept, uint64_t bytes);
void payer_forget(struct kept *kept);

#endif
