/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_PUBLISHER_H
#define BROKER_ADAPTERS_PUBLISHER_H

/*
 * The side of an adapter that faces the core and the log: registration, the context, states, RAM
 * that was found. Embedded in an adapter. Between publisher_unregister() and the adapter's end
 * nothing is emitted any more, whatever is called.
 *
 * What a guest or its QEMU decides must not fill the log: lines are limited, and those left out
 * are counted and told. Nor may it use up epochs and everybody's time by sessions that end as soon
 * as they have begun: an adapter asks for the pause before it looks for a kernel.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "broker/adapters/adapter.h"
#include "broker/adapters/memfiles_reg.h"
#include "broker/adapters/memwrite_reg.h"
#include "broker/policy/rate.h"
#include "vmsig/vmsig_event.h"
#include "vmsig/vmsig_memctx.h"

#define PUBLISHER_REASON_MAX 400 /* bytes of a reason with its NUL; longer ones are cut */

struct physmap;
struct ramset;

struct publisher {
	const vmsig_emit *emit;
	uv_loop_t *loop;
	uint32_t endpoint;
	const char *name; /* the configuration's */
	bool registered, writable;
	uint32_t epoch; /* what is published is of this one */
	uint32_t state; /* told last in it; VMSIG_STATE_UNKNOWN: none */
	char reason[PUBLISHER_REASON_MAX];
	struct rate lines; /* of the log */
	uint64_t left_out;
	struct rate sessions;
};

/* Registers the read path, where the RAM files are had, and the write path where the configuration
 * allows writes. Of all, `endpoint` and `source` are filled in. Positive enum vmsig_error. */
__attribute__((warn_unused_result)) int publisher_register(struct publisher *publisher,
	const struct adapter_env *env, const vmsig_memctx_reg *reader,
	const vmsig_memfiles_reg *files, const vmsig_memwrite_reg *writer);
void publisher_unregister(struct publisher *publisher);

/* The core asks for the context of this epoch: nothing was told of it yet. */
void publisher_begin(struct publisher *publisher, uint32_t epoch);

/* VMSIG_EV_ENDPOINT_STATE; the same state with the same reason is told once. */
void publisher_state(
	struct publisher *publisher, enum vmsig_endpoint_state state, const char *reason);
/* Whether that is what was told last. */
bool publisher_has_told(const struct publisher *publisher, const char *reason);
/* VMSIG_EV_MEMCTX_INVALIDATED. */
__attribute__((warn_unused_result)) int publisher_invalidated(
	struct publisher *publisher, const char *reason);
/* The guest's RAM is open; `session` is its fingerprint, "" when nothing tells it from others. */
void publisher_ram(struct publisher *publisher, const struct ramset *ram, const struct physmap *map,
	const vmsig_system *system, const char *session);
/* VMSIG_EV_MEMCTX of the present epoch. VMSIG_ERR_STALE_EPOCH: the core has asked for a newer one,
 * and says so later. */
__attribute__((warn_unused_result)) int publisher_context(struct publisher *publisher,
	const vmsig_memctx *pod, const vmsig_memseg *segs, uint32_t nseg,
	const vmsig_system *system);
/* vmsig_memctx.flags for RAM with a kernel whose tables have so many levels. */
uint32_t publisher_flags(const struct ramset *ram, unsigned levels);

/* Milliseconds until a session may begin; 0: now. */
__attribute__((warn_unused_result)) uint64_t publisher_pause(struct publisher *publisher);

/* Whether there is room for another line of the log. */
__attribute__((warn_unused_result)) bool publisher_may_log(struct publisher *publisher);
/* Another endpoint, `first`, has the RAM file. Who that is, is for the log and not for tenants. */
void publisher_log_conflict(struct publisher *publisher, const char *first);

#endif
