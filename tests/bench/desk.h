/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_DESK_H
#define TESTS_BENCH_DESK_H

/* An operator with a lease of the whole endpoint, through libvmsig; and what its bytes cost bare.
 */

#include "tests/bench/bare.h"
#include "vmsig/vmsig_write.h"

struct desk {
	vmsig_writer *writer;
	vmsig_lease *lease;
	const char *endpoint; /* borrowed */
	uint64_t word_at;     /* guest-physical, where desk_write_words() writes */
};

/* `run` is the folder of the broker's sockets. */
void desk_open(struct desk *desk, const struct bench *bench, const char *run, const char *endpoint);
void desk_close(struct desk *desk);
/* Gives the lease back, which is answered when all that was written is recorded, and takes it
 * again. */
void desk_settle(struct desk *desk);
/* Writes `n` times 8 bytes, one at a time, and times each. ns. */
void desk_write_words(struct desk *desk, unsigned n, uint64_t *times);
/* Writes `n` times 4 KiB, as many at once as the library lets. ns. */
uint64_t desk_write_pages(struct desk *desk, unsigned n);

/* Bytes of the frames that such a write of `len` bytes is made of. */
size_t desk_request_size(size_t len);
size_t desk_reply_size(size_t len);

/* The same frames as `n` writes of 8 bytes, echoed; times each. ns. */
void desk_echo_words(struct chan *line, unsigned n, uint64_t *times);
/* The frames of `n` writes of 4 KiB one way, in runs of 64 KiB, and one word back. ns. */
uint64_t desk_stream_pages(struct chan *line, unsigned n);

#endif
