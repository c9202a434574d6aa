/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_CONN_H
#define BROKER_NET_CONN_H

/*
 * One client's connection as its plane has it, whichever that is: identity, frames in, frames
 * out, limits. What the frames mean is the plane's business. Its inside is in conns.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/config/config.h"
#include "broker/net/patron.h"
#include "broker/net/plane.h"
#include "proto/wire/chan.h"

struct account_refusal;
struct conn;

/* What net_new() was given. */
void *conn_user(const struct conn *conn);
const struct plane_ops *conn_plane(const struct conn *conn);
/* What the plane's open() has made; NULL before. */
void *conn_plane_state(const struct conn *conn);
const struct grant_tenant *conn_tenant(const struct conn *conn);
uid_t conn_uid(const struct conn *conn);
pid_t conn_pid(const struct conn *conn);
/* Inside of the plane's close(): whether its client was lost, and not sent away. */
bool conn_was_lost(const struct conn *conn);
/* Of the certificate, lower-case hex. */
const char *conn_serial(const struct conn *conn);

/* A connection as administrators see it. Texts are borrowed until the loop's next turn. */
struct conn_info {
	uint64_t id; /* of this run of the broker; never 0 */
	const char *plane;
	const char *role, *tenant, *serial; /* "" before it is admitted */
	uid_t uid;
	pid_t pid;
	uint64_t age_ms, queued_bytes;
	bool is_self; /* the one that asks */
};

/* All connections, in the order of ids; `*cursor` starts at 0. */
bool conn_next(const struct conn *asker, uint64_t *cursor, struct conn_info *ret_info);
uint32_t conn_count(const struct conn *asker);
/* Closes the connection. Whether it was there. */
bool conn_end(struct conn *asker, uint64_t id, const char *why);

/* Whether more may be queued before the client has read some. */
bool conn_has_room(const struct conn *conn);
/* Packs and queues one protobuf-c message; it leaves with the loop's turn. Descriptors are
 * the connection's on success. VMSIG_ERR_QUOTA: the queue is full, close the connection. */
__attribute__((warn_unused_result)) int conn_send(
	struct conn *conn, const void *message, const int *fds, size_t nfds);
/* As chan_is_read(). */
bool conn_is_read(const struct conn *conn);
/* As chan_take_fds(), for planes that take descriptors. */
__attribute__((warn_unused_result)) int conn_take_fds(
	struct conn *conn, const struct chan_fd_claim *claims, size_t n, int *ret_fds);
/* Whether descriptors have come that no message has taken. */
bool conn_has_fds(const struct conn *conn);
/* Whether the client may send descriptors; without that right the kernel refuses them. */
bool conn_sends_fds(struct conn *conn);
/* Logs that it was refused, unless its client provokes too many records. */
void conn_log_refusal(struct conn *conn, const struct account_refusal *refusal);
/* Its client has done something that costs more than the time it takes; one that does it again and
 * again pays with its share of the loop's time. */
void conn_act(struct conn *conn, enum patron_act act);
/* Whether the client can have another answer: no more than quota.pending messages are unread.
 * VMSIG_ERR_QUOTA: *ret_refusal says so. */
__attribute__((warn_unused_result)) int conn_may_answer(
	struct conn *conn, struct account_refusal *ret_refusal);
/* Calls the plane's writable() when it is the client's share's turn, or after `delay_ms`. */
void conn_wake(struct conn *conn, uint64_t delay_ms);
/* Closes, with a log record and a last message to the peer that say why; NULL: the error's
 * own sentence. Safe from anywhere, also twice. Frees the plane's state. */
void conn_close(struct conn *conn, int error, const char *why);

#endif
