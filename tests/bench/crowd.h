/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_CROWD_H
#define TESTS_BENCH_CROWD_H

/*
 * Many subscribers in one process, on one epoll. Each asks for an endpoint's context when its
 * handshake is over, and takes every context that comes: verifies its two descriptors, closes
 * them, acknowledges it.
 */

#include "tests/bench/bare.h"
#include "vmsig/vmsig_coherence.h"

struct crowd_spec {
	const char *socket;
	const char *pki;
	/* Names; with several of a kind, what a member's number is appended to. */
	const char *identity, *endpoint;
	unsigned identities, endpoints;
	unsigned members;
	unsigned window;         /* handshakes at once */
	const struct bare *bare; /* the baselines' server is asked; NULL: a broker */
};

struct crowd;

/* Returns when each member has had its first context. */
struct crowd *crowd_open(const struct crowd_spec *spec);
struct crowd *crowd_close(struct crowd *crowd);
/* Waits until each member has had so many contexts since the beginning. */
void crowd_await(struct crowd *crowd, unsigned contexts);
/* The coherence page of the first context that came. */
const vmsig_coherence *crowd_page(const struct crowd *crowd);

/* Bytes of the frames that asking for a context and a context are. */
size_t crowd_subscribe_size(const char *endpoint);
size_t crowd_memctx_size(void);

#endif
