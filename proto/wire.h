/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

/*
 * Socket half of a channel: moves ciphertext between the socket and two buffers, and
 * descriptors between the socket and two queues. Knows nothing of TLS or frames.
 *
 * Positions in tx_fds count ciphertext bytes since the beginning of the connection. A group
 * of descriptors goes out with exactly the sendmsg(2) that starts at its position; no
 * sendmsg(2) runs across one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bio.h"
#include "proto/fdqueue.h"

#define WIRE_FDS_MAX 16u          /* descriptors in one recvmsg(2) or sendmsg(2) */
#define WIRE_FILL_MAX (64u << 10) /* bytes read by one wire_fill(): the fair share */
#define WIRE_RX_MAX (128u << 10)  /* undecrypted bytes held; several TLS records fit */

struct wire {
	int fd;
	bool eof;
	struct bio_buffers buffers;
	struct fdqueue rx_fds;
	struct fdqueue tx_fds;
	size_t rx_fds_max;
	uint64_t tx_sent;  /* position of the first byte in buffers.tx */
	const char *error; /* static sentence about the last failure, or NULL */
};

/* Takes ownership of the connected, non-blocking socket. */
void wire_init(struct wire *wire, int fd, size_t rx_fds_max);
/* Closes the socket and every queued descriptor. */
void wire_deinit(struct wire *wire);

/* As chan_fill() and chan_drain(). */
__attribute__((warn_unused_result)) int wire_fill(struct wire *wire);
__attribute__((warn_unused_result)) int wire_drain(struct wire *wire);

/* Position of the next byte that will be appended to buffers.tx. */
uint64_t wire_tx_end(const struct wire *wire);

#endif
