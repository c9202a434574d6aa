/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_BARE_H
#define TESTS_BENCH_BARE_H

/*
 * The baselines' server: TLS frames over AF_UNIX with a loop of uv_poll handles, as the broker
 * has, and nothing behind it. It runs in a child process.
 *
 * A frame that begins with a struct bare_request with a reply is answered with that many bytes
 * and descriptors; one without is dropped. With duties it also does what a guarantee of the broker
 * asks for, and nothing else: what that costs alone is a floor (rows `floor_...`).
 */

#include <stdint.h>
#include <sys/types.h>

#include "proto/wire/chan.h"
#include "tests/bench/bench.h"

#define BARE_FDS 2u /* descriptors of one reply, at most */

#define BARE_NOTE 32u /* bytes of a frame that comes before a reply */

enum bare_duty {
	/* A frame of its own before the reply; to everybody: before the first reply, as that a
	 * context is void is told before the new one is known. */
	BARE_TELL = 1,
	/* The first descriptor is a file opened for this receiver alone (R2). */
	BARE_FRESH = 2,
	/* SHA-256 of the frame, of what its bytes replace, and of what identifies it. */
	BARE_HASH = 4,
	/* The socket is looked at for descriptors before it is read, from now on. */
	BARE_LOOK = 8,
};

struct bare_request {
	uint32_t reply; /* bytes; 0: none */
	uint8_t nfds;
	uint8_t everybody; /* all other connections get it, one after another, and then we */
	uint16_t duties;   /* of enum bare_duty */
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
