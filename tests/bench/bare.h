/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_BARE_H
#define TESTS_BENCH_BARE_H

/*
 * The baselines' server: TLS frames over AF_UNIX with a loop of uv_poll handles, as the broker
 * has, and nothing behind it. It runs in a child process.
 *
 * A frame that begins with a struct bare_request with a reply is answered with that many bytes
 * and descriptors; one without is dropped.
 */

#include <stdint.h>
#include <sys/types.h>

#include "proto/wire/chan.h"
#include "tests/bench/bench.h"

#define BARE_FDS 2u /* descriptors of one reply, at most */

struct bare_request {
	uint32_t reply; /* bytes; 0: none */
	uint16_t nfds;
	uint16_t everybody; /* all other connections get it, one after another, and then we */
};

struct bare {
	pid_t pid;
	char socket[108];
	struct chan_fd_claim claims[BARE_FDS]; /* what its descriptors are */
};

/* Starts the child and waits until it listens. */
void bare_start(struct bare *bare, const struct bench *bench);
void bare_stop(struct bare *bare);

#endif
