/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_POLICY_TENANT_H
#define BROKER_POLICY_TENANT_H

/*
 * What the policy grants one tenant in one role, as the core sees it. Plain data, borrowed
 * by sessions; whoever replaces a policy re-points its sessions first.
 *
 *   tenant    what one may see
 *   selector  how endpoints are named
 *   grant     who somebody is to it, and where he may write
 *   account   who pays for what is there
 *   rate      how much in a second
 *   share     whose time of the loop it is
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/policy/selector.h"
#include "vmsig/vmsig_event.h"

struct tenant_quota {
	uint32_t connections;   /* open connections, all planes */
	uint32_t subscriptions; /* per connection; a glob counts once */
	uint32_t globs;         /* of these; each costs a match for every endpoint */
	uint32_t pending;       /* unanswered requests per connection */
};

struct tenant {
	char *name;
	char **endpoints; /* selectors */
	size_t nendpoints;
	/* Of guests of the fleet without an endpoint here: globs of the names that these have on
	 * the hosts that have them, which are those hosts' own. None: it hears of no such guest. */
	char **fleet;
	size_t nfleet;
	int min_guard; /* enum vmsig_guard; weaker endpoints are not served to this tenant */
	struct tenant_quota quota;
};

/* Whether the tenant may know of the endpoint at all. */
bool tenant_sees(const struct tenant *tenant, const struct selector_subject *endpoint);
/* Whether it may know of everything there is: of what concerns all endpoints alike. */
bool tenant_sees_all(const struct tenant *tenant);
/* Whether it may know of a guest of the fleet that has no endpoint here, and this name, or "", on
 * its host. */
bool tenant_sees_away(const struct tenant *tenant, const char *name);

#endif
