/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_SITE_H
#define BROKER_WRITE_SITE_H

/* An endpoint as the write plane knows it: its name, and its writable RAM in one epoch. */

#include "broker/write/state.h"

struct site {
	uint32_t id;
	uint32_t epoch; /* of the target */
	char name[64];
	struct selector_subject subject; /* the name, and labels of its own */
	char **labels;
	struct desk_target *target; /* NULL: nothing can be written now */
	struct command *quiescing;  /* has the vCPUs stopped, or wants to */
	struct command *waiting;    /* want to after it */
	struct desk_endpoint_stats stats;
	bool doubted;  /* the policy has changed while it was away */
	bool away;     /* its guest goes to another host, and what its leases say has gone there */
	char host[64]; /* that has it now; "": this one, or it is not known */
	bool gone;     /* is not configured any more; forgotten when it is unused */
	bool used;     /* of desk_forget() */
	UT_hash_handle hh;
};

struct site *site_find(const struct desk *desk, uint32_t id);
/* Whether the endpoint takes bytes at the moment; *ret_why may get a sentence. NULL: none is
 * known. VMSIG_ERR_NOT_READY, VMSIG_ERR_BUSY. */
__attribute__((warn_unused_result)) int site_check(
	const struct desk *desk, const struct site *site, const char **ret_why);
/* The policy is another one: what is away is judged when it is back. */
void sites_doubt(struct desk *desk);
void sites_free(struct desk *desk);

#endif
