/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_ATLAS_H
#define BROKER_FLEET_ATLAS_H

/*
 * All guests of the fleet that some host has, with their leases, as the store has them: read in
 * pages when somebody wants to see it, and decides nothing. Pages are of different moments. Pure:
 * what is to be asked comes out as data, answers go in.
 *
 * What the store says is foreign: what makes no sense is left out, and there is a bound to it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/fleet/fleet.h"

#define ATLAS_KEYS_MAX 65536u /* that are read: of about 20,000 guests */

struct atlas;

/* As its broker has recorded it. */
struct atlas_lease {
	uint64_t id;
	char tenant[FLEET_NAME_MAX + 1];
	uint32_t uid, epoch, ttl_ms;
};

struct atlas_guest {
	char uuid[FLEET_UUID_MAX + 1];
	char host[FLEET_NAME_MAX + 1];   /* that has it */
	char name[FLEET_NAME_MAX + 1];   /* of its endpoint there; "": not known */
	char target[FLEET_NAME_MAX + 1]; /* it is offered to */
	bool offered;
	bool heard; /* its host is heard of in the store */
	uint32_t epoch;
	uint64_t token;
	struct atlas_lease *leases;
	size_t nleases;
};

/* NULL: no memory. */
struct atlas *atlas_new(const char *fleet);
/* Accepts NULL, returns NULL. */
struct atlas *atlas_free(struct atlas *atlas);

/* What is to be asked now, but for its number and time; borrowed until the answer. */
void atlas_ask(const struct atlas *atlas, struct txn_request *ret_request);

enum atlas_progress { ATLAS_GOES_ON, ATLAS_COMPLETE, ATLAS_FAILED };
enum atlas_progress atlas_take(struct atlas *atlas, const struct txn_answer *answer);

/* By their UUID. */
const struct atlas_guest *atlas_guests(const struct atlas *atlas, size_t *ret_n);
/* NULL: there is none, or nobody has it. */
const struct atlas_guest *atlas_find(const struct atlas *atlas, const char *uuid);
/* There are more than are read. */
bool atlas_more(const struct atlas *atlas);

#endif
