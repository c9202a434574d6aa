/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_BILL_H
#define BROKER_WRITE_BILL_H

/*
 * What a tenant's doing costs the disk. Every record of the audit log and every row of the
 * ledger is charged to the tenant that brought it about; one that owes is refused before
 * anything more of it is stored, so that nobody's noise drives out what others did faster than
 * quota.audit allows. What is stored all the same, because it has to be (results, ends), is a
 * debt of no more than the commands that were under way.
 *
 * The loop's time that the batch takes is theirs too, in proportion: whoever floods the log pays
 * with the tenant's share.
 */

#include "broker/policy/rate.h"
#include "broker/policy/share.h"
#include "broker/write/state.h"

struct bill {
	char tenant[LEASE_NAME_MAX + 1];
	struct share *share;
	uint64_t rate; /* bytes of records a second */
	struct rate audit, requests;
	uint64_t behind;   /* bytes since the disk fell behind; 0 while it has not */
	uint64_t batch;    /* bytes in the open batch */
	struct bill *next; /* desk->billed */
	unsigned refusals; /* of desk->refusals */
	UT_hash_handle hh;
};

/* Charges one request other than a write. VMSIG_ERR_QUOTA, -ENOMEM; `detail` says why. */
__attribute__((warn_unused_result)) int bill_request(
	struct desk *desk, const struct grant_tenant *tenant, char *detail, size_t size);
/* Whether more of the tenant's doing may be recorded. VMSIG_ERR_QUOTA: it owes; VMSIG_ERR_BUSY:
 * the disk does not keep up; VMSIG_ERR_IO: it is full or the state damaged; -ENOMEM. `detail`
 * says so. */
__attribute__((warn_unused_result)) int bill_check(
	struct desk *desk, const struct grant_tenant *tenant, char *detail, size_t size);
/* What was stored on its account. NULL: on nobody's. */
void bill_charge(struct desk *desk, const char *tenant, uint64_t bytes);
/* The batch was ended, which took so long. */
void bills_split(struct desk *desk, uint64_t ns);
/* How many kinds of refusals of the tenant are being counted, after the change. */
unsigned bill_count_refusals(struct desk *desk, const char *tenant, int change);
void bills_free(struct desk *desk);

#endif
