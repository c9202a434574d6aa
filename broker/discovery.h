/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_DISCOVERY_H
#define BROKER_DISCOVERY_H

/*
 * Endpoints that come and go by themselves, as the configuration's `discover` says: what runs at
 * each source is compared with what was there before, and the endpoints are told the difference.
 * A source that cannot be asked loses nothing. Sources are libvirt's domains and folders of QMP
 * sockets; each is a row of functions in discovery.c.
 *
 * An endpoint has its domain's or QEMU's name, or, if that cannot be one, its UUID. A name that is
 * taken is refused, with a line in the log, until it is free: whoever comes first has it, and of
 * those that come together the one whose socket is the oldest. So is the UUID of another QEMU of
 * the same source, by which the policy may know it. A configured endpoint always has its own name.
 */

#include <uv.h>

#include "broker/config/config.h"
#include "broker/planes/steward.h"

struct discovery;
struct endpoints;
struct jobs;
struct shares;

struct discovery_env {
	uv_loop_t *loop;
	struct jobs *jobs;
	struct shares *shares;
	struct endpoints *endpoints;
};

/* Nothing is looked for yet. -ENOMEM. */
__attribute__((warn_unused_result)) int discovery_new(
	struct discovery **ret_discovery, const struct discovery_env *env);
/* Looks as the configuration says, from now on; what is as it was goes on. What fails is logged. */
void discovery_adopt(struct discovery *discovery, struct config *config);
/* What is there and not served, one after the other. */
void discovery_unserved(const struct discovery *discovery, steward_unserved_fn each, void *arg);
/* Looks no more, and has lost all. Accepts NULL. */
void discovery_close(struct discovery *discovery);
/* After discovery_close(). Accepts NULL, returns NULL. */
struct discovery *discovery_free(struct discovery *discovery);

#endif
