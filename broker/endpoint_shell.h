/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ENDPOINT_SHELL_H
#define BROKER_ENDPOINT_SHELL_H

/*
 * What the shell keeps for one configured endpoint: its row in the store, its coherence page
 * and its adapter. Starting and stopping are here, so that start-up, reload and shutdown are
 * the same steps.
 */

#include <stdbool.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "broker/adapters/adapter.h"
#include "broker/broker.h"
#include "broker/coherence.h"

struct endpoint_shell {
	struct broker *broker;
	struct config *origin; /* the configuration that `config` is in; a reference */
	const struct config_endpoint *config;
	uint32_t id;
	struct coherence *coherence;
	struct adapter *adapter;
	bool stopping;
	bool misplaced;         /* has another id in the store, and starts again with it */
	UT_hash_handle hh;      /* by id */
	UT_hash_handle hh_name; /* by name; at most one of a name runs */
};

/* Brings what runs in line with broker->config: starts what is missing, stops what is not
 * there any more or is configured otherwise, and starts that again when it has stopped.
 * While the broker closes, everything is stopped. What fails is logged. */
void endpoint_shells_reconcile(struct broker *broker);

/* Promises holders that their pages are looked after until `until_ns` of CLOCK_MONOTONIC. */
void endpoint_shells_vouch(struct broker *broker, uint64_t until_ns);
/* The store has become usable: those that have another id there start again. */
void endpoint_shells_rebind(struct broker *broker);
/* The desk has come after they did. */
void endpoint_shells_tell_desk(struct broker *broker);

struct endpoint_shell *endpoint_shell_find(struct broker *broker, uint32_t id);

#endif
