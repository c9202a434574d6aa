/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_POLICY_GRANT_H
#define BROKER_POLICY_GRANT_H

/*
 * What the policy grants: who a certificate's identity is to it, from which uids, and which rule
 * lets an operator write to an endpoint. Plain data, as broker/config/ decodes it; who is not named
 * is granted nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/policy/tenant.h"
#include "proto/wire/identity.h"

struct grant_range {
	uint64_t gpa, len; /* bytes */
};

/* What an operator may do on the endpoints that the selectors match. */
struct grant_rule {
	char **endpoints; /* selectors */
	size_t nendpoints;
	struct grant_range *ranges; /* guest-physical; none: all of the endpoint */
	size_t nranges;
	uint64_t ttl_min_ns, ttl_max_ns;
	uint64_t hold_max_ns; /* of one lease, whatever is renewed */
	uint64_t wait_max_ns;
	uint32_t priority_max;
	uint32_t leases, waits;  /* of the tenant at once */
	uint32_t writes_rate;    /* commands a second, refused ones too */
	uint64_t bytes_rate;     /* bytes a second */
	uint64_t bulk_max;       /* bytes of one command's memfd; 0: none is taken */
	uint64_t quiesce_max_ms; /* how long vCPUs may be stopped; 0: never */
	bool keep_bytes;         /* the audit log has the bytes themselves */
};

struct grant_tenant {
	struct tenant tenant; /* what the core sees */
	int role;             /* enum identity_role */
	uint32_t *uids;       /* the kernel's uids that may speak for the tenant */
	size_t nuids;
	uint32_t connects;        /* a second, all planes */
	uint64_t audit_rate;      /* bytes of audit records a second; 0: not bounded */
	uint64_t queued_max;      /* bytes of a connection's writes without an outcome */
	struct grant_rule *rules; /* operators; none: may write nowhere */
	size_t nrules;
};

/* The order of entries in a policy's index. As strcmp(). */
int grant_order(int role, const char *name, const struct grant_tenant *tenant);
/* The entry for a certificate's identity, of `n` in that order, or NULL: the default denies. */
const struct grant_tenant *grant_find(
	const struct grant_tenant *const *by_identity, size_t n, const struct identity *identity);
bool grant_has_uid(const struct grant_tenant *tenant, uid_t uid);
/* The first rule of the tenant that covers the endpoint, which the tenant must also see; NULL:
 * it may not write there. */
const struct grant_rule *grant_write_rule(
	const struct grant_tenant *tenant, const struct selector_subject *endpoint);

#endif
