/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_STATE_H
#define BROKER_NET_STATE_H

/*
 * The inside of net/: shared by net.c, listener.c and conn.c, and by nobody else.
 */

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "broker/net/net.h"
#include "proto/tls.h"

/* What one tenant of the policy is charged; same index as config->tenants. */
struct charge {
	uint32_t connections;
};

/* What one uid has open. Lives while there is something. */
struct uid_account {
	uid_t uid;
	uint32_t connections;
	UT_hash_handle hh;
};

struct listener {
	struct net *net;
	const struct plane_ops *plane;
	struct tls_ctx *tls;
	char *path;
	mode_t mode;
	int fd;
	int spare; /* given up for a moment to accept and drop a client when out of descriptors */
	bool paused;
	uv_poll_t poll;
	struct listener *next;
};

struct net {
	uv_loop_t *loop;
	const struct config *config;
	void *user;
	struct listener *listeners;
	struct conn *conns;
	struct conn *dirty;   /* something to do before the loop sleeps */
	struct conn *backlog; /* frames are left, which wait for the loop's next turn */
	struct charge *charges;
	struct uid_account *uids;
	uint32_t nconns, nhandshakes, nhandles;
	uv_timer_t tick; /* connections' deadlines; resumes paused listeners */
	uv_idle_t hurry; /* keeps the loop from sleeping while there is a backlog */
	uint32_t log_credit, log_suppressed;
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
};

void net_handle_closed(struct net *net);
/* Whether a record that any local user can provoke may be written now. */
bool net_may_log(struct net *net);
/* Has the loop call conn_continue() in its next turn for what is in the backlog. */
void net_hurry(struct net *net);
/* The context that new connections of the plane get; borrowed. */
struct tls_ctx *net_tls(struct net *net, const struct plane_ops *plane);
/* Charges the uid for a connection, or says how many it may have. */
__attribute__((warn_unused_result)) int net_charge_uid(
	struct net *net, uid_t uid, struct uid_account **ret_account, uint32_t *ret_limit);
void net_refund_uid(struct net *net, struct uid_account *account);

__attribute__((warn_unused_result)) int listener_open(struct listener **ret_listener,
	struct net *net, const struct config_listen *where, const struct plane_ops *plane,
	struct tls_ctx *tls, char *error, size_t error_size);
void listener_close(struct listener *listener);
/* Accepts again after a pause. */
void listener_resume(struct listener *listener);

const struct plane_ops *conn_plane(const struct conn *conn);
struct conn *conn_next(const struct conn *conn);
/* What is due at `now_ms`: handshakes that stall, queues that nobody reads, delayed wakes. */
void conn_tick(struct conn *conn, uint64_t now_ms);
/* Takes the connection from the backlog and takes more of its frames. */
void conn_continue(struct conn *conn);
/* Takes the connection from the dirty list and does what it is there for. */
void conn_turn(struct conn *conn);
/* Checks against the policy of net->config at once, and has the certificate checked before
 * anything else passes over the connection; closes when either fails. */
void conn_reload(struct conn *conn);

#endif
