/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ENDPOINTS_H
#define BROKER_ENDPOINTS_H

/*
 * The endpoints that run: what the shell keeps for each configured one, that is its row in the
 * store, its coherence page and its adapter. Starting and stopping are here, so that start-up,
 * reload and shutdown are the same steps.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/config/config.h"
#include "vmsig/vmsig_coherence.h"

struct core;
struct desk;
struct endpoints;
struct fleet_shell;
struct guardian;
struct jobs;
struct offer;
struct shares;
struct store;

struct endpoints_env {
	uv_loop_t *loop;
	struct shares *shares;
	struct jobs *jobs;
	struct guardian *guardian; /* NULL: no guest is ever stopped */
	struct fleet_shell *fleet; /* NULL: this host is alone */
	struct core *core;
	struct store *store;
	/* Performs what the core has to do now. */
	void (*perform)(void *ctx);
	/* What a provider offers by that name; NULL: nothing any more. */
	struct offer *(*offer_of)(void *ctx, const char *name);
	/* After endpoints_close(): none runs any more. */
	void (*idle)(void *ctx);
	void *ctx;
};

/* None runs. -ENOMEM. */
__attribute__((warn_unused_result)) int endpoints_new(
	struct endpoints **ret_endpoints, const struct endpoints_env *env);
/* None runs any more. Accepts NULL, returns NULL. */
struct endpoints *endpoints_free(struct endpoints *endpoints);

/* Brings what runs in line with the configuration, which is borrowed until the next one: starts
 * what is missing, stops what is not there any more or is configured otherwise, and starts that
 * again when it has stopped. What fails is logged. */
void endpoints_reconcile(struct endpoints *endpoints, struct config *config);
/* The same in pieces, beside which others have their turns. `settled` (or NULL) is called from the
 * loop when all of the newest configuration is begun. */
void endpoints_adopt(
	struct endpoints *endpoints, struct config *config, void (*settled)(void *ctx));
/* Starts one that is not in the configuration: `yaml` is an element of its list `endpoints`, which
 * may() has to allow. It runs until it is removed, or the configuration names it. `error` gets a
 * sentence. VMSIG_ERR_BAD_REQUEST, _FORBIDDEN, _QUOTA, -errno. */
__attribute__((warn_unused_result)) int endpoints_add(struct endpoints *endpoints, const char *yaml,
	bool (*may)(void *who, const struct selector_subject *endpoint), void *who, char *error,
	size_t error_size);
/* Stops one that was added. VMSIG_ERR_NO_SUCH_ENDPOINT; VMSIG_ERR_BAD_REQUEST: it is of another
 * origin. */
__attribute__((warn_unused_result)) int endpoints_remove(
	struct endpoints *endpoints, const char *name);
/* Whether it runs, and has nobody to serve it. */
bool endpoints_is_gone(const struct endpoints *endpoints, const char *name);
/* As wanted_origin(). */
const char *endpoints_origin(const struct endpoints *endpoints, const char *name);
/* The guest's UUID, if its configuration has one, or NULL. */
const char *endpoints_uuid(const struct endpoints *endpoints, const char *name);
/* One that was discovered shall run as well: the first of the configuration, which is counted and
 * kept until endpoints_lose(). 0; VMSIG_ERR_BUSY: its name is that of a configured one or of
 * another discovered one; VMSIG_ERR_QUOTA: it is a new one, and limits.names are known;
 * VMSIG_ERR_NOT_READY: after endpoints_close(); -ENOMEM. */
__attribute__((warn_unused_result)) int endpoints_discover(
	struct endpoints *endpoints, struct config *config);
/* The same for one that a provider offers, which has started when it succeeds. VMSIG_ERR_BUSY: one
 * of its name runs, is wanted, or still ends. */
__attribute__((warn_unused_result)) int endpoints_provide(
	struct endpoints *endpoints, struct config *config);
/* It is not there any more. Does nothing for one that was refused. */
void endpoints_lose(struct endpoints *endpoints, const struct config *config);
/* Stops everything. */
void endpoints_close(struct endpoints *endpoints);
bool endpoints_are_idle(const struct endpoints *endpoints);
/* Says in the log which ones have not stopped. */
void endpoints_complain(const struct endpoints *endpoints);

/* The store has become usable: those that have another id there start again. */
void endpoints_rebind(struct endpoints *endpoints);
/* The broker is about to end, and the fleet has: from now on what stops leaves to the next broker
 * what it can, whoever stops it. */
void endpoints_leave(struct endpoints *endpoints);
/* The write plane that is told of them, from now on and of those that run already; NULL: there is
 * none. Borrowed. */
void endpoints_set_desk(struct endpoints *endpoints, struct desk *desk);

/* Promises holders that their pages are looked after until `until_ns` of CLOCK_MONOTONIC. */
void endpoints_vouch(struct endpoints *endpoints, uint64_t until_ns);
/* The endpoint's coherence page, while it runs; NULL: it does not. */
vmsig_coherence *endpoints_page(const struct endpoints *endpoints, uint32_t id);
/* Wakes holders that sleep on that page. */
void endpoints_wake(const struct endpoints *endpoints, uint32_t id);

#endif
