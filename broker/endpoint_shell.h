/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ENDPOINT_SHELL_H
#define BROKER_ENDPOINT_SHELL_H

/*
 * One endpoint that runs: its row in the store, its coherence page and its adapter, and what the
 * core and the desk know of it. It is made known to them before its adapter starts, and they forget
 * it when it is freed, which is after its adapter has stopped. Which ones run is endpoints.h.
 */

#include <stdbool.h>
#include <stdint.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <uv.h>

#include "broker/config/config.h"
#include "broker/adapters/passage.h"
#include "broker/ram/claims.h"
#include "vmsig/vmsig_coherence.h"

struct adapter;
struct coherence;
struct core;
struct desk;
struct fleet_shell;
struct guardian;
struct offer;
struct jobs;
struct selftests;
struct shares;
struct store;

/* What all of them have in common. */
struct endpoint_shell_env {
	uv_loop_t *loop;
	struct shares *shares;
	struct jobs *jobs;
	struct guardian *guardian; /* NULL: no guest is ever stopped */
	struct core *core;
	struct store *store;
	struct desk *desk;         /* NULL: there is none at the moment */
	struct fleet_shell *fleet; /* NULL: this host is alone */
	struct passage passage;    /* of the fleet's guests; no functions once it was left */
	struct claims claims;      /* who has which RAM file */
	struct selftests *selftests;
	/* What a provider offers by that name; NULL: nothing any more. */
	struct offer *(*offer_of)(void *ctx, const char *name);
	void *ctx;
};

struct endpoint_shell {
	struct endpoint_shell_env *env;
	struct config *origin; /* the configuration that `config` is in; a reference */
	const struct config_endpoint *config;
	uint32_t id;
	struct coherence *coherence;
	struct adapter *adapter;
	bool stopping;
	bool misplaced;         /* has another id in the store, and starts again with it */
	void *owner;            /* the set whose indexes it is in: */
	UT_hash_handle hh;      /* by id */
	UT_hash_handle hh_name; /* by name; at most one of a name runs */
};

/* Known to the core and the desk, with a page that is good until `vouched_ns`; its adapter does not
 * run. What fails is logged. */
__attribute__((warn_unused_result)) int endpoint_shell_new(struct endpoint_shell **ret_shell,
	struct endpoint_shell_env *env, struct config *origin, const struct config_endpoint *config,
	uint64_t vouched_ns);
/* Starts its adapter. What fails is logged. */
__attribute__((warn_unused_result)) int endpoint_shell_start(struct endpoint_shell *shell);
/* Stops it, which is at most done once; `stopped` gets the shell from the loop. */
void endpoint_shell_stop(struct endpoint_shell *shell, bool leaves, void (*stopped)(void *shell));
/* Its adapter does not run. The core, the desk and holders that sleep on its page are told. */
void endpoint_shell_free(struct endpoint_shell *shell);

/* There is a desk now: tells it of the endpoint, and whether it is ready. -errno. */
__attribute__((warn_unused_result)) int endpoint_shell_tell_desk(
	const struct endpoint_shell *shell);

#endif
