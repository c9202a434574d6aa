/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PROVISION_H
#define BROKER_PROVISION_H

/*
 * Guests that providers offer over the admin plane, by name: each is an endpoint for as long as
 * its provider's connection lasts. After a connection that was lost it waits for
 * limits.provider_grace, in which the same tenant may come back with the same files and layout, and
 * goes on in the same epoch. What the policy does not let the tenant provide any more ends at once.
 *
 * All of what a provider says is foreign input: its words are checked here, its files by the
 * adapter's jobs.
 */

#include <uv.h>

#include "broker/config/config.h"
#include "broker/planes/steward.h"

struct closer;
struct endpoints;
struct offer;
struct provisions;

/* None is provided. -ENOMEM. */
__attribute__((warn_unused_result)) int provisions_new(struct provisions **ret_provisions,
	uv_loop_t *loop, struct endpoints *endpoints, struct closer *closer);
/* Ends all, for good. Accepts NULL. */
void provisions_close(struct provisions *provisions);
/* After provisions_close(), and when no endpoint runs any more. Accepts NULL, returns NULL. */
struct provisions *provisions_free(struct provisions *provisions);
/* The policy and limits from now on; borrowed until the next one. */
void provisions_adopt(struct provisions *provisions, const struct config *config);

/* As steward_ops has it. */
void provisions_provide(struct provisions *provisions, const struct steward_wish *wish,
	struct steward_provider *who, uint64_t request_id);
__attribute__((warn_unused_result)) int provisions_invalidate(struct provisions *provisions,
	const struct steward_provider *who, const struct steward_kernel *kernel);
__attribute__((warn_unused_result)) int provisions_end(
	struct provisions *provisions, const struct steward_provider *who, const char *name);
void provisions_leave(
	struct provisions *provisions, const struct steward_provider *who, bool may_come_back);

/* How many have ended. */
uint32_t provisions_cut(struct provisions *provisions, const char *tenant, const uid_t *uid);

/* What is served by that name, for its adapter; NULL: nothing. Borrowed. */
struct offer *provisions_offer(const struct provisions *provisions, const char *name);

#endif
