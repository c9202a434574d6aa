/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_WIRE_H
#define PROTO_WIRE_WIRE_H

/*
 * Socket half of a channel: moves ciphertext between the socket and two buffers, and
 * descriptors between the socket and two queues. Knows nothing of TLS or frames.
 *
 * Positions in tx_fds count ciphertext bytes since the beginning of the connection. A group
 * of descriptors goes out with exactly the sendmsg(2) that starts at its position; no
 * sendmsg(2) runs across one.
 *
 * Descriptors that a peer sends are files of its choice, and some of them make whoever closes
 * them wait for as long as their owner likes (a socket with SO_LINGER, a file on FUSE). So:
 * - Whatever comes from the peer is handed to `disposal`, also the socket itself, which may
 *   hold descriptors that were never received.
 * - wire->look: the wire never receives one itself. It looks first (MSG_PEEK without room for a
 *   control message: the kernel says MSG_CTRUNC, installs nothing, and drops no last reference)
 *   and leaves bytes that bring descriptors in the socket.
 * - Without it there is room for as many as a message can carry, because the kernel drops what
 *   does not fit on the receiving thread.
 *
 *   chan      frames in TLS in a socket, with descriptors
 *   wire      the socket
 *   buffer    bytes
 *   fdqueue   descriptors
 *   bio       TLS over buffers
 *   tls       its policy
 *   tls_ctx   a context of it, inside
 *   tls_peer  what a handshake found out
 *   identity  names in certificates
 *   frame     lengths
 *   envelope  messages in frames
 *   feature   what a side can do
 *   unpack    decoding within a budget
 *   pack      encoding without measuring first
 *   clean     texts that were received
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire/bio.h"
#include "proto/wire/fdqueue.h"

#define WIRE_FDS_MAX 72u          /* descriptors in one sendmsg(2) */
#define WIRE_FDS_ROOM 253u        /* what one message can carry: the kernel's SCM_MAX_FD */
#define WIRE_FILL_MAX (64u << 10) /* bytes read by one wire_fill(): the fair share */
#define WIRE_RX_MAX (128u << 10)  /* undecrypted bytes held; several TLS records fit */

/* Who closes what came from the peer; NULL: close(2) does. */
struct wire_disposal {
	void (*close)(void *ctx, int fd);
	void *ctx;
};

struct wire {
	int fd;
	bool eof;
	bool took_all; /* of what the socket had, in the last wire_fill() */
	bool look;     /* before each read, see above */
	struct wire_disposal disposal;
	struct bio_buffers buffers;
	struct fdqueue rx_fds;
	struct fdqueue tx_fds;
	size_t rx_fds_max; /* of one message; with so many waiting no bytes that bring more are read
			    */
	uint64_t tx_sent;  /* position of the first byte in buffers.tx */
	uint64_t tx_carried; /* where the bytes end that the last descriptors went with */
	const char *error;   /* static sentence about the last failure, or NULL */
};

/* Takes ownership of the connected, non-blocking socket. */
void wire_init(struct wire *wire, int fd, size_t rx_fds_max);
/* Disposes of the socket and every queued descriptor. */
void wire_deinit(struct wire *wire);
/* Disposes of the received descriptors. */
void wire_drop_received(struct wire *wire);

/* As chan_fill(), chan_give() and chan_drain(). */
__attribute__((warn_unused_result)) int wire_fill(struct wire *wire);
__attribute__((warn_unused_result)) int wire_give(
	struct wire *wire, const void *data, size_t len, const int *fds, size_t nfds);
__attribute__((warn_unused_result)) int wire_drain(struct wire *wire);

/* Whether the peer has read everything that was ever sent. */
bool wire_is_read(const struct wire *wire);

/* Position of the next byte that will be appended to buffers.tx. */
uint64_t wire_tx_end(const struct wire *wire);

#endif
