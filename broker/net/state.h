/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_STATE_H
#define BROKER_NET_STATE_H

/*
 * The inside of net/: shared by net.c, listener.c and conn.c, and by nobody else.
 */

#include <utlist.h>

#include "broker/net/net.h"
#include "proto/tls.h"

/* What one tenant of the policy is charged; same index as config->tenants. */
struct charge {
	uint32_t connections;
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
	struct conn *dirty; /* something to do before the loop sleeps */
	struct charge *charges;
	uint32_t nconns, nhandshakes, nhandles;
	uv_timer_t tick; /* connections' deadlines; resumes paused listeners */
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
};

void net_handle_closed(struct net *net);

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
/* Takes the connection from the dirty list and does what it is there for. */
void conn_turn(struct conn *conn);
/* Checks identity against net->config and `tls` again; closes when it fails. */
void conn_reload(struct conn *conn, struct tls_ctx *tls);

#endif
