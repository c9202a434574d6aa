/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RAM_CLAIMS_H
#define BROKER_RAM_CLAIMS_H

/*
 * One RAM file, one endpoint. Whatever evidence there is that a file is a QEMU's RAM, another
 * QEMU of the same uid could have it as well; and two machines that were started on one file
 * by mistake destroy each other. The first endpoint keeps the file, but one whose giver may only
 * read it and is not its owner (a holder of another endpoint, say): that one has it until somebody
 * else claims it.
 *
 * All of it belongs to the loop thread.
 */

#include <stdbool.h>
#include <stdint.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define CLAIM_NAME_MAX 64 /* names of the configuration are shorter */

struct ram;

struct claim {
	uint64_t key[2];           /* device, inode */
	char name[CLAIM_NAME_MAX]; /* the endpoint's */
	bool borrowed;             /* ram_is_borrowed() */
	struct claims *claims;     /* NULL: not taken */
	UT_hash_handle hh;
};

struct claims {
	struct claim *taken;
};

/* Takes the file for the endpoint; `claim` stays where it is until claim_drop().
 * NULL, or the name of the endpoint that has it, which tenants must not learn. The same
 * endpoint's own claim is no obstacle: it is moved. */
__attribute__((warn_unused_result)) const char *claim_take(
	struct claim *claim, struct claims *claims, const struct ram *ram, const char *name);
/* The same without taking anything, for who needs several. */
const char *claim_obstacle(
	const struct claim *claim, const struct claims *claims, const struct ram *ram);
/* Does nothing when it is not taken. */
void claim_drop(struct claim *claim);
/* False: it was not taken, was dropped, or somebody else has the file now. */
bool claim_holds(const struct claim *claim);

#endif
