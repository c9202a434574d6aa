/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_CHAN_H
#define PROTO_WIRE_CHAN_H

/*
 * Channel: frames inside TLS inside an AF_UNIX stream, descriptors beside the records.
 *
 * No event loop and no waiting inside. Two halves that share nothing but two buffers:
 *   socket side   chan_fill(), chan_drain(): recvmsg/sendmsg, never OpenSSL during the handshake
 *   crypto side   chan_handshake(), chan_recv(), chan_send(): OpenSSL over our own BIO on
 *                 those buffers, never the socket
 * so the crypto side of a handshake can run on another thread while nobody calls the socket
 * side. A channel is used by one thread at a time.
 *
 * Descriptors ride on the first byte of the sendmsg that starts the TLS record of their
 * frame. The kernel delivers them with or before those bytes, so the receiver keeps a FIFO
 * and takes from it what each authenticated message announces.
 *
 * Returns are 0, a positive enum vmsig_error, or a negative errno that ends the channel.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "proto/wire/identity.h"
#include "proto/wire/tls.h"

#define CHAN_FRAME_MAX (1u << 20) /* bytes of a frame's payload */
#define CHAN_FRAME_HEADER 4u      /* big-endian length in front of the payload */
#define CHAN_FDS_PER_FRAME 72u    /* descriptors with one frame; the kernel's own bound is 253 */
#define CHAN_FDS_OF_CLIENT                                                                         \
	16u /* that wait from a client, of whose frames none has more than one                     \
	     */

struct chan;

struct chan_limits {
	size_t frame_max;  /* largest payload accepted from the peer, <= CHAN_FRAME_MAX */
	size_t tx_max;     /* bytes of ciphertext that may be queued; chan_send() refuses beyond */
	size_t rx_fds_max; /* descriptors of one message, and that may wait in the FIFO; 0: the peer
			    * may send none. With so many waiting no more are received before some
			    * were taken */
};

struct chan_fd_claim; /* see below */

/* Takes ownership of the non-blocking, connected socket `fd` on success. */
__attribute__((warn_unused_result)) int chan_new(
	struct chan **ret_chan, struct tls_ctx *tls, int fd, const struct chan_limits *limits);
/* Closes the socket and every descriptor in both queues. Accepts NULL, returns NULL. */
struct chan *chan_free(struct chan *chan);

/* From now on the peer's descriptors, and the socket, which may hold unread ones, are given to
 * `close_fd` instead of being closed: the last close of a file may wait as long as its owner
 * likes. */
void chan_dispose(struct chan *chan, void (*close_fd)(void *ctx, int fd), void *ctx);
/* From now on chan_fill() receives no descriptors: it says VMSIG_ERR_BUSY and leaves the bytes
 * that bring some in the socket. Somebody else receives both, and chan_give() puts them in. */
void chan_look_for_fds(struct chan *chan);
/* What was received for the channel elsewhere, in order. Takes the descriptors in any case. */
__attribute__((warn_unused_result)) int chan_give(
	struct chan *chan, const void *data, size_t len, const int *fds, size_t nfds);

int chan_socket(const struct chan *chan);
/* Kernel credentials of the peer, as of connect(2). */
__attribute__((warn_unused_result)) int chan_peer_cred(
	const struct chan *chan, struct ucred *ret_cred);
/* From the verified certificate; VMSIG_ERR_UNAUTHENTICATED before the handshake is done. */
__attribute__((warn_unused_result)) int chan_peer_identity(
	const struct chan *chan, struct identity *ret_identity);

/* Verifies the peer's certificate once more, against the authorities and revocations of a
 * newer context. VMSIG_ERR_UNAUTHENTICATED, chan_error() says why; -ENOMEM. The channel goes
 * on with the context it has. */
__attribute__((warn_unused_result)) int chan_reverify(struct chan *chan, struct tls_ctx *tls);

/* When the first certificate of the peer's chain ends, in seconds of CLOCK_REALTIME; INT64_MAX
 * before the handshake is done. */
int64_t chan_peer_until(const struct chan *chan);

/* Reads what the socket has, up to a fair share per call. 0: something was read;
 * VMSIG_ERR_WOULD_BLOCK, also while enough undecrypted bytes wait for chan_recv() (poll by
 * level, not by edge); VMSIG_ERR_DISCONNECTED at end of stream (what was read before is
 * still there for chan_recv()); VMSIG_ERR_BUSY: see chan_look_for_fds(); VMSIG_ERR_PROTOCOL:
 * descriptors that were truncated, unasked for, or more than may wait while no whole frame is
 * there (all are closed). */
__attribute__((warn_unused_result)) int chan_fill(struct chan *chan);
/* Whether the last chan_fill() read all that was there: another one would only find that out. One
 * that has brought descriptors leaves what is behind them. */
bool chan_took_all(const struct chan *chan);
/* Writes what is queued. 0: all is written; VMSIG_ERR_WOULD_BLOCK: wait for POLLOUT;
 * VMSIG_ERR_BUSY: the kernel has too many descriptors in flight (ETOOMANYREFS), call again
 * later; VMSIG_ERR_DISCONNECTED. */
__attribute__((warn_unused_result)) int chan_drain(struct chan *chan);
/* Whether chan_drain() has something to write. */
bool chan_has_output(const struct chan *chan);
/* Whether the peer has read everything that was ever sent, descriptors among it: the kernel knows.
 * False also where it does not. */
bool chan_is_read(const struct chan *chan);
/* Bytes of ciphertext queued and not yet written, or that are going to be; what a send queue's
 * limit looks at. */
size_t chan_output_bytes(const struct chan *chan);

/* Advances the handshake over what chan_fill() brought; drain afterwards, whatever it
 * returned (alerts). 0: established; VMSIG_ERR_WOULD_BLOCK: wants more from the peer;
 * VMSIG_ERR_UNAUTHENTICATED: failed, chan_error() says why; VMSIG_ERR_DISCONNECTED: the
 * stream ended first. */
__attribute__((warn_unused_result)) int chan_handshake(struct chan *chan);
bool chan_established(const struct chan *chan);

/* The next whole frame's payload; borrowed until the next call on the channel.
 * VMSIG_ERR_WOULD_BLOCK, VMSIG_ERR_DISCONNECTED (close_notify or end of stream),
 * VMSIG_ERR_PROTOCOL (frame too long, bad record), VMSIG_ERR_UNAUTHENTICATED: before the
 * handshake; and on a client whose certificate the server refused, because in TLS 1.3 the
 * client's side of the handshake is over before the server has looked at it. May queue
 * output (an alert). */
__attribute__((warn_unused_result)) int chan_recv(
	struct chan *chan, const uint8_t **ret_data, size_t *ret_len);

/* The same, but a record of TLS (16 KiB) at most is decrypted in the call: VMSIG_ERR_BUSY says
 * that there is no whole frame yet and that it is to be called again. */
__attribute__((warn_unused_result)) int chan_recv_piece(
	struct chan *chan, const uint8_t **ret_data, size_t *ret_len);

/* Queues one frame; small ones share a record of TLS with what is sent before the next
 * chan_drain(). On success the channel owns the descriptors and closes them when they were sent or
 * dropped; on failure the caller keeps them. VMSIG_ERR_QUOTA: tx_max would be exceeded,
 * VMSIG_ERR_BAD_REQUEST: longer than CHAN_FRAME_MAX or more than CHAN_FDS_PER_FRAME descriptors,
 * VMSIG_ERR_UNAUTHENTICATED: before the handshake, VMSIG_ERR_DISCONNECTED: after chan_shutdown();
 * nothing was queued. */
__attribute__((warn_unused_result)) int chan_send(
	struct chan *chan, const void *data, size_t len, const int *fds, size_t nfds);

/* Queues close_notify. Best effort. */
void chan_shutdown(struct chan *chan);

/* What an authenticated message says of a descriptor beside it. */
struct chan_fd_claim {
	uint64_t dev;
	uint64_t ino;
	uint64_t size;   /* st_size in bytes */
	uint32_t access; /* O_RDONLY, O_WRONLY or O_RDWR */
	bool regular;    /* a regular file, and nothing else will do */
};

/* Describes `fd` for the message that will carry it. */
__attribute__((warn_unused_result)) int chan_fd_describe(int fd, struct chan_fd_claim *ret_claim);
/* The same of one that the caller has opened with this access mode: the kernel is not asked for it,
 * but the receiver asks. */
__attribute__((warn_unused_result)) int chan_fd_describe_opened(
	int fd, uint32_t access, struct chan_fd_claim *ret_claim);

/* Takes the next descriptors from the FIFO and verifies each against its claim with fstat(2)
 * and fcntl(2). fstat(2) of a foreign file may wait: whoever must not wait lets only memfds in
 * (chan_look_for_fds()). All or nothing: on VMSIG_ERR_PROTOCOL (too few, or a mismatch) every
 * descriptor of the FIFO is closed and the channel should be too. The caller owns ret_fds. */
__attribute__((warn_unused_result)) int chan_take_fds(
	struct chan *chan, const struct chan_fd_claim *claims, size_t n, int *ret_fds);
/* Descriptors that wait in the FIFO; not 0 after a message that announced fewer is a lie. */
size_t chan_pending_fds(const struct chan *chan);

/* A sentence about the last failure, for logs; "" when there is none. Never has secrets. */
const char *chan_error(const struct chan *chan);

#endif
