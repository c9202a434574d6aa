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
 *
 * What is left of a lease no clock of two hosts tells alike, so it goes along as a span, and the
 * time of the hand-over is taken off: the target counts it on its own clock from when the guest
 * began to run there, which was not before it had stopped at the source, and adds a second, for the
 * two may learn of that in either order. A broker that starts later counts from its start: nobody
 * knows of the time before, in which nobody could write. Until the source hears that the guest was
 * taken it ends none of these leases, so that nobody is told of an end that was none.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/adapters/passage.h"
#include "broker/fleet/fleet.h"
#include "broker/fleet_events.h"
#include "broker/store/baggage.h"

/* Of an endpoint; zeroed but for the first ones. */
struct fleet_voyage {
	const struct fleet_shell_events *events;
	void *ctx;
	uint32_t endpoint;
	const char *name; /* of the endpoint, for the log */

	enum passage_step step;
	bool packed;
	uint64_t patience_ns; /* until then what is under way is waited for */
	bool over;            /* what was served is over, and nothing was proven since */
	uint64_t arrived_ns;  /* it runs here since then, as far as is known */
	bool brought; /* the tenure's baggage came with the guest, and is not durable here */
	struct baggage_intake intake; /* how far that has got */
	uint64_t tries_ns;            /* since then it is tried again; 0: it has not failed */
	uint64_t pause_ns, retry_ns;  /* between tries; the next one */
	char kernel[FLEET_NAME_MAX + 1];
	bool lasts;                    /* a later process knows it by that too */
	char host[FLEET_NAME_MAX + 1]; /* it has moved there; "": it has not */
};

/* What the adapter says. `runs`: the guest's context can be had. Without a tenure it is noted. */
void fleet_voyage_step(struct fleet_voyage *voyage, struct tenure *tenure, bool runs,
	uint64_t now_ns, enum passage_step step);
/* The endpoint's guest gets a tenure, or its context can be had: says to the fleet what becomes of
 * it. Its session was said before. */
void fleet_voyage_begin(
	const struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns);
/* It has arrived. */
void fleet_voyage_arrived(struct fleet_voyage *voyage, uint64_t now_ns);
/* What was served is not there any more, though it has not left; or something is served (again). */
void fleet_voyage_over(struct fleet_voyage *voyage, struct tenure *tenure, uint64_t now_ns);
void fleet_voyage_proven(struct fleet_voyage *voyage);
/* Whether leases go on although the guest's session here is over. */
bool fleet_voyage_keeps(const struct fleet_voyage *voyage);

/* Whether it has to be packed. */
bool fleet_voyage_is_due(const struct fleet_voyage *voyage);
/* Packs and offers it; `had`: this host has the guest, or goes on with what it had. */
void fleet_voyage_pack(
	struct fleet_voyage *voyage, struct tenure *tenure, bool had, uint64_t now_ns);

/* The target has taken it. */
void fleet_voyage_moved(struct fleet_voyage *voyage, const char *host);

/* What came of leases has no token and no epoch above these. */
struct fleet_bounds {
	uint64_t token;
	uint32_t epoch;
};

/* Something came with it, which its tenure keeps: nothing here can fail for want of memory. */
void fleet_voyage_bring(struct fleet_voyage *voyage);
/* Makes some of what came durable here. Whether all of it is, or nothing can be done about it any
 * more; else it goes on at voyage->retry_ns. */
bool fleet_voyage_unpack(struct fleet_voyage *voyage, struct tenure *tenure,
	const struct fleet_bounds *bounds, uint64_t now_ns);
/* It is not awaited any more. */
void fleet_voyage_forget(struct fleet_voyage *voyage);

#endif
