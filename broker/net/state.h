/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_STATE_H
#define BROKER_NET_STATE_H

/*
 * The inside of net/: shared by its files, and by nobody else.
 */

#include "broker/net/caller.h"

#include <utlist.h>

#include "broker/net/net.h"
#include "broker/net/porter.h"
#include "proto/wire/tls.h"

/* What one tenant of the policy is charged; same index as config->tenants. */
struct purse {
	uint32_t connections;
	struct rate connects;
	size_t queued; /* bytes that its connections have not read */
};

/* Handshakes on one plane. */
struct door {
	uint32_t handshakes, strangers;
	struct conn *conns; /* the same, oldest first */
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
	struct shares *shares;
	const struct config *config;
	void *user;
	struct closer *closer; /* borrowed, like the porter */
	struct porter *porter; /* NULL: nobody may send descriptors */
	bool kernel_refuses;   /* descriptors: it knows SO_PASSRIGHTS */
	struct listener *listeners;
	struct conn *conns;
	struct conn *dirty; /* something to send before the loop sleeps */
	struct purse *charges;
	struct callers callers;
	struct door doors[NET_DOORS];
	uint32_t nconns, nvisitors, nhandles;
	uint32_t descriptors; /* that the process may have */
	uint64_t look_at_ms;  /* when the lobby may be looked through again */
	bool may_look;        /* it is time to do it again */
	size_t queued;        /* bytes that all connections have not read */
	bool is_overfull;     /* too many of them, or of a tenant's */
	uv_timer_t tick;      /* connections' deadlines; resumes paused listeners */
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
};

enum conn_state { CONN_HANDSHAKE, CONN_OPEN, CONN_CLOSING };

struct conn {
	struct net *net;
	const struct plane_ops *plane;
	struct chan *chan;
	enum conn_state state;
	void *plane_state;
	bool plane_open;

	struct ucred cred;
	struct identity identity;
	const struct config_tenant *tenant;
	struct purse *charge; /* NULL: not charged */
	struct caller *caller;
	bool has_spoken;  /* a part of the handshake has come */
	bool is_stranger; /* while it has a slot: the policy did not name the uid when it came */
	bool stale;       /* the certificate was verified before a reload, not after */

	uv_poll_t poll;
	int mask; /* what the poll handle watches */
	uv_work_t work;
	bool working; /* the pool has the channel: nobody else may touch it */
	bool worked;  /* it has given it back, and nobody has looked at work_result */
	int work_result;
	uint64_t work_ns; /* of the pool's CPU */

	bool sends_rights;   /* may send descriptors */
	bool fetches_rights; /* may have sent some when it was allowed to */
	bool holds_rights;   /* they may be in the socket: the loop must not close it */
	struct porter_request fetch;

	/* Whoever it is has what it wants of us done as a task of its share. */
	struct share *share;
	struct share_task task;
	bool wants_read; /* the socket has something, or a frame is here already */
	bool wants_turn; /* the plane has something to tell */
	bool is_choked;  /* it does not read, so nothing is read from it */
	bool is_dirty;
	uint32_t heard_again;                 /* while it waits for its share's turn */
	uint32_t unread;                      /* messages queued since the queue was empty last */
	size_t queued;                        /* bytes, as they are in the charge */
	uint64_t moved_ms;                    /* of a handshake: when it last went on */
	uint64_t step_ms;                     /* when the pool was given it */
	uint64_t handshake_by_ms, wake_at_ms; /* 0: none */
	uint64_t soft_since_ms;               /* over the soft limit since; 0: not */
	struct conn *prev, *next;
	struct conn *dirty_prev, *dirty_next;
	struct conn *door_prev, *door_next;
};

/* Who, for log records. The name is empty before the handshake. */
#define CONN_WHO(conn)                                                                             \
	LOG_STR("plane", (conn)->plane->name), LOG_STR("tenant", (conn)->identity.name),           \
		LOG_INT("uid", (conn)->cred.uid), LOG_INT("pid", (conn)->cred.pid)

void net_handle_closed(struct net *net);
/* Something has got a deadline: ticks until nothing has. */
void net_expect(struct net *net);
/* The context that new connections of the plane get; borrowed. */
struct tls_ctx *net_tls(struct net *net, const struct plane_ops *plane);
/* Nanoseconds on the loop's own clock, of this turn. */
uint64_t net_now_ns(const struct net *net);

__attribute__((warn_unused_result)) int listener_open(struct listener **ret_listener,
	struct net *net, const struct config_listen *where, const struct plane_ops *plane,
	struct tls_ctx *tls, char *error, size_t error_size);
void listener_close(struct listener *listener);
/* Accepts again after a pause. Whether it is still paused. */
bool listener_resume(struct listener *listener);

/* ---- conn.c ---- */
struct conn *conn_next(const struct conn *conn);
/* What is due at `now_ms`: handshakes that stall, queues that nobody reads, delayed wakes.
 * Whether there is more to wait for. */
bool conn_tick(struct conn *conn, uint64_t now_ms);
/* Takes the connection from the dirty list and sends what is queued. */
void conn_send_queued(struct conn *conn);
/* Does a piece of what the connection wants, as a task of its share. */
void conn_run(struct share_task *task);
/* Checks against the policy of net->config at once, and has the certificate checked before
 * anything else passes over the connection; closes when either fails. */
void conn_reload(struct conn *conn);

/* Closes because of what happened on the channel. */
void conn_fail(struct conn *conn, int error);
/* The last step of closing, when the pool has not got the channel. */
void conn_finish(struct conn *conn);
/* Has conn_send_queued() called before the loop sleeps. */
void conn_dirty(struct conn *conn);
/* Frames may be here: has them looked at when it is its share's turn. */
void conn_want_read(struct conn *conn);
/* Watches the socket for these libuv events; each change costs two system calls. */
__attribute__((warn_unused_result)) int conn_watch(struct conn *conn, int mask);
__attribute__((warn_unused_result)) int conn_flush(struct conn *conn);
__attribute__((warn_unused_result)) int conn_reverify(struct conn *conn);

/* Whether a record that this client can provoke may be written now. */
bool conn_may_log(struct conn *conn);

/* ---- lobby.c ---- */
/* Takes over an accepted, non-blocking socket, in any case. */
void lobby_accept(struct listener *listener, int fd);
/* Once per turn of the loop: lets in whom there is room for. */
void lobby_serve(struct net *net);
/* Drops who has waited too long; while closing, everybody. Whether somebody waits. */
bool lobby_tick(struct net *net);
/* A handshake begins, and ends. */
void lobby_take_slot(struct conn *conn);
void lobby_give_slot(struct conn *conn);

/* ---- queued.c ---- */
/* What the connection has queued may have changed. */
void queued_note(struct conn *conn);
/* It is charged to a tenant from now on; it goes. */
void queued_enter(struct conn *conn);
void queued_leave(struct conn *conn);
/* Closes the heaviest connections while all together, or those of a tenant, hold too much. */
void queued_shed(struct net *net);
/* ---- rights.c ---- */
/* Has the kernel refuse descriptors to who connects here, if it can. */
void rights_listen(struct net *net, int fd);
/* Closes an accepted socket that has no connection, or a listening one. */
void rights_close(struct net *net, int fd, uid_t uid);
/* The connection is new and has its channel. */
void rights_begin(struct conn *conn);
/* It is admitted, or the policy has changed. -errno. */
__attribute__((warn_unused_result)) int rights_update(struct conn *conn);
/* chan_fill() has said VMSIG_ERR_BUSY and all whole frames are taken: has the porter receive
 * what comes next, or ends a connection that may not send it. */
__attribute__((warn_unused_result)) int rights_fetch(struct conn *conn);
/* The porter has the socket's reading side: nothing may be read before it answers. */
bool rights_fetching(const struct conn *conn);
void rights_end(struct conn *conn);

/* ---- admission.c ---- */
struct arrival {
	int fd;
	struct ucred cred;
	struct caller *caller; /* charged for the connection */
	const struct plane_ops *plane;
	struct tls_ctx *tls;
	uint64_t handshake_by_ms;
};

/* Starts the handshake. Takes the descriptor and the caller's charge over, in any case. */
void conn_start(struct net *net, const struct arrival *arrival);
/* Something came from a peer whose handshake is under way. */
__attribute__((warn_unused_result)) int admission_step(struct conn *conn);
/* The pool has come back with a part of the handshake. */
__attribute__((warn_unused_result)) int admission_worked(struct conn *conn);
/* The handshake is over, well or badly. */
void admission_over(struct conn *conn);

#endif
