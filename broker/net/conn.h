/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_CONN_H
#define BROKER_NET_CONN_H

/*
 * One client's connection, whatever its plane: TLS handshake on the thread pool, identity,
 * frames in, frames out, limits. What the frames mean is the plane's business.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/config/config.h"
#include "proto/wire/chan.h"

#define CONN_SMALL_FRAME (16u << 10) /* bytes: of a plane whose requests hold a name or two */

struct conn;
struct listener;
struct net;

/* Each plane has a door of its own, with so many handshakes at once: who throngs at one of
 * them is in nobody's way at the others. */
enum net_door { NET_DOOR_CTX, NET_DOOR_WRITE, NET_DOOR_ADMIN, NET_DOORS };

struct dialect; /* of a plane's messages: planes/envelope.h */

struct plane_ops {
	const char *name;
	const struct dialect *dialect;
	enum net_door door;
	unsigned roles;     /* mask of enum identity_role, checked inside the handshake */
	bool takes_fds;     /* its messages may have memfds beside them */
	uint32_t frame_max; /* bytes of a client's frame; 0: as configured, which binds anyway */
	/* The peer is known. *ret_state is the plane's own. Non-zero closes. */
	int (*open)(struct conn *conn, void **ret_state);
	/* One whole frame, borrowed. Non-zero closes with that error. */
	int (*frame)(struct conn *conn, void *state, const uint8_t *data, size_t len);
	/* There is room in the send queue: does a piece of what is to be told. Non-zero closes.
	 * NULL: the plane only answers. */
	int (*writable)(struct conn *conn, void *state);
	/* The policy was replaced; conn_tenant() is the new one. NULL: nothing follows from that.
	 */
	void (*policy)(struct conn *conn, void *state);
	void (*close)(struct conn *conn, void *state);
	/* The last words before the connection is closed: an error message of this plane. The
	 * peer has proven its certificate, but may not be admitted; there is no state. */
	void (*farewell)(struct conn *conn, int error, const char *detail);
};

/* ---- for planes ---- */

/* What net_new() was given. */
void *conn_user(const struct conn *conn);
const struct plane_ops *conn_plane(const struct conn *conn);
const struct config_tenant *conn_tenant(const struct conn *conn);
uid_t conn_uid(const struct conn *conn);
pid_t conn_pid(const struct conn *conn);
/* Of the certificate, lower-case hex. */
const char *conn_serial(const struct conn *conn);

/* Whether more may be queued before the client has read some. */
bool conn_has_room(const struct conn *conn);
/* Packs and queues one protobuf-c message; it leaves with the loop's turn. Descriptors are
 * the connection's on success. VMSIG_ERR_QUOTA: the queue is full, close the connection. */
__attribute__((warn_unused_result)) int conn_send(
	struct conn *conn, const void *message, const int *fds, size_t nfds);
/* As chan_take_fds(), for planes that take descriptors. */
__attribute__((warn_unused_result)) int conn_take_fds(
	struct conn *conn, const struct chan_fd_claim *claims, size_t n, int *ret_fds);
/* Whether descriptors have come that no message has taken. */
bool conn_has_fds(const struct conn *conn);
/* Whether the client may send descriptors; without that right the kernel refuses them. */
bool conn_sends_fds(struct conn *conn);
/* Logs that it was refused, unless its client provokes too many records. */
struct account_refusal;
void conn_log_refusal(struct conn *conn, const struct account_refusal *refusal);
/* Whether a client that may have `pending` unread answers can have another one. */
bool conn_may_answer(struct conn *conn, uint32_t pending);
/* Calls the plane's writable() when it is the client's share's turn, or after `delay_ms`. */
void conn_wake(struct conn *conn, uint64_t delay_ms);
/* Closes, with a log record and a last message to the peer that say why; NULL: the error's
 * own sentence. Safe from anywhere, also twice. Frees the plane's state. */
void conn_close(struct conn *conn, int error, const char *why);

#endif
