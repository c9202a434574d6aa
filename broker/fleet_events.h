/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_EVENTS_H
#define BROKER_FLEET_EVENTS_H

/* What the fleet's shell has done by the rest of the broker. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct baggage_intake;

struct fleet_shell_events {
	/* This host has the guest, and its epoch is above all others' of it: leases may be had. */
	void (*owned)(void *ctx, uint32_t endpoint, uint32_t epoch);
	/* It is another's now: its leases are over. */
	void (*lost)(void *ctx, uint32_t endpoint);
	/* The endpoint's epoch has to be above this one before it is owned. */
	void (*raise)(void *ctx, uint32_t endpoint, uint32_t epoch);
	/* To fleet_shell_grant(). */
	void (*granted)(void *ctx, uint64_t lease, uint64_t token);
	void (*not_granted)(void *ctx, uint64_t lease);

	/* Its migration is complete: nothing is written any more, and leases stay as they are. */
	void (*left)(void *ctx, uint32_t endpoint);
	/* What goes with it, for the host that it came to; the caller frees it. VMSIG_ERR_BUSY:
	 * something is under way yet, and is not waited for any longer with `last`. */
	int (*pack)(void *ctx, uint32_t endpoint, bool last, uint8_t **ret_data, size_t *ret_len);
	/* A step in which what came with it becomes durable here: baggage_take(). VMSIG_ERR_BUSY:
	 * there is more; VMSIG_ERR_IO: not now. */
	int (*unpack)(void *ctx, struct baggage_intake *intake, const void *data, size_t len);
	/* The host has taken it: its leases end here. */
	void (*moved)(void *ctx, uint32_t endpoint, const char *host);
	/* After moved(): a guest is awaited here again. */
	void (*awaited)(void *ctx, uint32_t endpoint);
};

#endif
