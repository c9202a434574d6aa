/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_VOYAGE_H
#define BROKER_FLEET_VOYAGE_H

/*
 * A guest's way from this host or to it. The source says so to the fleet when a migration begins,
 * and nothing is applied from there on; when it is complete, what goes with the guest is packed, as
 * soon as nothing is under way any more, and offered to whichever host it came to. Once that is in
 * the store the source gives the guest up but for the offer, and hears who has taken it. A
 * migration that fails gives the guest back. The target makes what came with the guest durable
 * before anything is applied, in the epoch that the guest had.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/adapters/passage.h"
#include "broker/fleet/fleet.h"
#include "broker/fleet_events.h"

/* Of an endpoint; zeroed but for the first ones. */
struct fleet_voyage {
	const struct fleet_shell_events *events;
	void *ctx;
	uint32_t endpoint;
	const char *name; /* of the endpoint, for the log */

	enum passage_step step;
	bool packed;
	uint64_t patience_ns; /* until then what is under way is waited for */
	bool brought;         /* `baggage` came with the guest, and is not durable here */
	uint8_t *baggage;
	size_t baggage_len;
	char kernel[FLEET_NAME_MAX + 1];
	char host[FLEET_NAME_MAX + 1]; /* it has moved there; "": it has not */
};

/* What the adapter says. `runs`: the guest's context can be had. Without a tenure it is noted. */
void fleet_voyage_step(struct fleet_voyage *voyage, struct tenure *tenure, bool runs,
	uint64_t now_ns, enum passage_step step);
/* The endpoint's guest gets a tenure, or its context can be had: says to the fleet what becomes of
 * it. Its session was said before. */
void fleet_voyage_begin(
	const struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns);
/* Whether leases go on although the guest's session here is over. */
bool fleet_voyage_keeps(const struct fleet_voyage *voyage);

/* Whether it has to be packed. */
bool fleet_voyage_is_due(const struct fleet_voyage *voyage);
/* Packs and offers it; `had`: this host has the guest, or goes on with what it had. */
void fleet_voyage_pack(
	struct fleet_voyage *voyage, struct tenure *tenure, bool had, uint64_t now_ns);

/* The target has taken it. */
void fleet_voyage_moved(struct fleet_voyage *voyage, const char *host);

/* This came with it, borrowed. -ENOMEM. */
__attribute__((warn_unused_result)) int fleet_voyage_bring(
	struct fleet_voyage *voyage, const void *data, size_t len);
/* Whether all that came is durable here; else it is tried again. */
bool fleet_voyage_unpack(struct fleet_voyage *voyage, struct tenure *tenure, uint64_t now_ns);
/* It is not awaited any more. */
void fleet_voyage_forget(struct fleet_voyage *voyage);

#endif
