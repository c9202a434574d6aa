/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_BUDGET_H
#define BROKER_WRITE_BUDGET_H

/*
 * What a tenant may still do in this second under each of its rules: a lax one says nothing about
 * a strict one.
 */

#include "broker/policy/rate.h"
#include "broker/write/state.h"

struct budget_key {
	char tenant[LEASE_NAME_MAX + 1];
	uint32_t rule; /* place in the tenant's list */
};

struct budget {
	struct budget_key key;
	struct rate writes, bytes;
	UT_hash_handle hh;
};

/* Charges one command of so many bytes. VMSIG_ERR_QUOTA, *ret_wait_ms until it would do. */
__attribute__((warn_unused_result)) int budget_charge(struct desk *desk,
	const struct grant_tenant *tenant, const struct grant_rule *rule, uint64_t bytes,
	uint32_t *ret_wait_ms);
/* Of bytes that were charged and then not looked at. */
void budget_refund(struct desk *desk, const struct grant_tenant *tenant,
	const struct grant_rule *rule, uint64_t bytes);
void budgets_free(struct desk *desk);

#endif
