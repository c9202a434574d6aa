/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_OPERATOR_H
#define BROKER_WRITE_OPERATOR_H

/*
 * Who is there, and which rule of the policy is theirs. A command is paid by the connection that
 * waits for its answer: its number, as a write or a release, and its bytes count there until it has
 * one.
 */

#include "broker/write/state.h"

struct command;

/* Who asks, for a refusal. */
struct account_actor operator_actor(const struct desk_operator *op);
/* NULL: its connection is gone. */
struct desk_operator *operator_find(struct desk *desk, uint64_t session);
/* The tenant's rule for an operator of that name, whatever connection it has; NULL: none. */
const struct grant_rule *operator_rule(const struct desk *desk, const char *tenant, uint32_t uid,
	const struct selector_subject *endpoint, const struct grant_tenant **ret_tenant);
/* What the policy says of the operator and the endpoint. Borrowed until the next call. */
const struct desk_ruling *operator_ruling(const struct desk *desk, struct desk_operator *op,
	uint32_t endpoint, const struct selector_subject *subject);
bool operator_covers(const struct grant_rule *rule, const struct lease_range *range);
/* Whether the policy, as it is now, lets the lease's holder have it. */
bool operator_allows(const struct desk *desk, const struct lease_view *lease,
	const struct selector_subject *endpoint);
/* From now on this session waits for the command's answer, and pays; 0: nobody does. */
void operator_pay(struct command *command, uint64_t session);
/* It takes so many bytes now. */
void operator_pay_more(struct command *command, uint64_t size);
/* Whether its connection has room for the write, which it pays for already. VMSIG_ERR_QUOTA;
 * `detail` says so. */
__attribute__((warn_unused_result)) int operator_check(
	struct command *command, struct desk_operator *op);

#endif
