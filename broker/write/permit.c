/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/permit.h"

#include <stdio.h>

#include "broker/write/command.h"
#include "broker/write/operator.h"
#include "broker/write/site.h"

int permit_rule(struct command *command, const struct grant_rule *rule)
{
	if (!rule) {
		snprintf(command->detail, sizeof(command->detail),
			"the policy has no 'write' rule of yours for this endpoint");
		return VMSIG_ERR_FORBIDDEN;
	}
	command->policy = command->desk->policy;
	command->keep_bytes = rule->keep_bytes;
	command->quiesce_ms = rule->quiesce_max_ms;
	command->bulk_max = rule->bulk_max;
	if (command->body->quiesce && !rule->quiesce_max_ms) {
		snprintf(command->detail, sizeof(command->detail),
			"the policy does not let you stop the guest; its rule needs 'quiesce'");
		return VMSIG_ERR_FORBIDDEN;
	}
	if (command->body->bulk && command->body->bulk->len > rule->bulk_max) {
		snprintf(command->detail, sizeof(command->detail),
			"bulk data of %llu bytes, and the policy's 'bulk' is %llu; send it in "
			"parts",
			(unsigned long long)command->body->bulk->len,
			(unsigned long long)rule->bulk_max);
		return VMSIG_ERR_QUOTA;
	}
	return 0;
}

int permit_bytes(void *arg, uint64_t now_ns, const struct lease_range *range)
{
	const struct command *command = arg;
	const Vmsig__CmdMemwrite *body = command->body;

	desk_enter(command->desk, now_ns);
	return lease_admit(command->desk->engine, command->desk->now_ns, command->tenant,
		body->lease, body->token, body->epoch, range);
}

/* What the guest had of leases has gone where it has gone. */
static int no_lease(struct command *command)
{
	const char *host = command->site->host;

	if (!host[0])
		return VMSIG_ERR_NO_LEASE;
	snprintf(command->detail, sizeof(command->detail),
		"the guest has moved to the host '%s', and its leases with it; resume the lease "
		"there",
		host);
	return VMSIG_ERR_MOVED;
}

/* Everything but the range. */
static int lease_check(struct command *command)
{
	struct lease_view lease;
	struct lease_range probe;

	if (!lease_find(command->desk->engine, command->key.lease, &lease) ||
		lease.endpoint != command->body->endpoint || !lease.nranges)
		return no_lease(command);
	probe = (struct lease_range){.start = lease.ranges[0].start, .last = lease.ranges[0].start};
	return permit_bytes(command, command->desk->now_ns, &probe);
}

/* The policy may be another one than when the command came. */
static int policy_check(struct command *command)
{
	const struct desk *desk = command->desk;

	return command->policy == desk->policy
		       ? 0
		       : permit_rule(command, operator_rule(desk, command->tenant, command->uid,
						      &command->site->subject, NULL));
}

static int endpoint_check(struct command *command)
{
	const char *why = NULL;
	int r = site_check(command->desk, command->site, &why);

	if (r && why)
		snprintf(command->detail, sizeof(command->detail), "%s", why);
	return r;
}

int permit_command(struct command *command)
{
	int r = lease_check(command);

	if (!r)
		r = policy_check(command);
	return r ? r : endpoint_check(command);
}
