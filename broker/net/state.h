/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_STATE_H
#define BROKER_NET_STATE_H

/*
 * All connections and what they share, and the inside of one: for the rooms of net/ through which
 * connections come and go (conns, door, handshake, admission, lobby), and for nobody else. Planes
 * see conn.h.
 *
 * A connection is in one phase at a time: it shakes hands, is open, or closes. The phase's two
 * functions are all that a connection knows of it: what to do when it is its share's turn, and
 * what to give back when the phase is over.
 */

#include <uv.h>

#include "broker/net/caller.h"

#include <utlist.h>

#include "broker/metrics/metrics.h"
#include "broker/net/conn.h"
#include "broker/net/crew.h"
#include "broker/net/patron.h"
#include "broker/net/pulse.h"
#include "broker/net/rights.h"
#include "broker/net/tls_set.h"
#include "broker/policy/share.h"

/* What all connections together have. UNPROVEN: those that have not shaken hands. */
enum conns_slot { CONNS_ALL, CONNS_UNPROVEN, CONNS_UNREAD };

/* Since the start. */
struct conns_counts {
	uint64_t admitted[NET_DOORS], frames[NET_DOORS], sent_bytes[NET_DOORS];
	uint64_t handshakes_good, handshakes_bad;
	struct metrics_errors closed;
	struct histogram handshake;
};

struct conns {
	struct pulse *pulse;
	struct crew *crew;
	struct shares *shares;
	const struct config *config;
	void *user;             /* for planes */
	struct account account; /* by enum conns_slot; UNREAD in bytes */
	struct callers callers;
	struct patrons patrons;
	struct rights rights;
	struct tls_set tls; /* for new connections, and to verify the others anew */
	struct conn *list;
	struct conn *dirty; /* something to send before the loop sleeps */
	int64_t expires_s;  /* when the first certificate of a connection ends */
	uint64_t last_id;
	struct conns_counts counts;
	bool is_overfull; /* too much is unread, of all or of a tenant's */
	struct pulse_beat beat;
};

struct conn_phase {
	/* Does a piece of what the connection wants, as a task of its share. What is returned
	 * closes. */
	int (*run)(struct conn *conn);
	void (*leave)(struct conn *conn);
};

/* Being there at all, and not proven: passes from who waits in the lobby to the connection. */
struct conn_entry {
	struct charge of_uid, of_all, unproven;
};

/* On the way in. */
struct handshake {
	void (*established)(struct conn *conn);
	struct door *door; /* whose slot it has */
	struct charge of_door, of_strangers, of_uid;
	struct conn *door_prev, *door_next;
	bool has_spoken; /* a part of it has come */
	bool is_done;    /* well */
	bool worked;     /* the crew has come back, and nobody has looked at the result */
	int result;
	uint64_t work_ns;  /* of the crew's CPU */
	uint64_t moved_ms; /* when it last went on */
	uint64_t step_ms;  /* when the crew was given it */
	uint64_t by_ms;    /* has to be over; 0: it is */
	struct crew_task task;
};

struct conn {
	struct conns *conns;
	uint64_t id;
	uint64_t since_ns;
	const struct plane_ops *plane;
	struct chan *chan;
	const struct conn_phase *phase; /* NULL: closing */
	void *plane_state;
	bool plane_open;
	int ended_by; /* what it was closed for */

	struct ucred cred;
	struct identity identity;
	const struct grant_tenant *tenant;
	struct caller *caller; /* while `entry` is charged */
	struct conn_entry entry;
	struct charge of_tenant;
	struct charge unread, unread_of_tenant; /* bytes */
	struct account answers; /* of this connection: messages since the queue was empty last */
	struct charge unread_answers;
	struct handshake handshake;
	bool stale;        /* the certificate was verified before a reload, not after */
	int64_t expires_s; /* when it ends; CLOCK_REALTIME */

	uv_poll_t poll;
	int mask;     /* what the poll handle watches */
	bool working; /* the crew has the channel: nobody else may touch it */
	struct right right;

	/* Whoever it is has what it wants of us done as a task of its share. */
	struct share *share;
	struct share_task task;
	bool wants_read; /* the socket has something, or a frame is here already */
	bool has_frames; /* the latter, perhaps */
	bool wants_turn; /* the plane has something to tell */
	bool is_choked;  /* it does not read, so nothing is read from it */
	bool is_dirty;
	uint32_t heard_again;   /* while it waits for its share's turn */
	uint64_t wake_at_ms;    /* 0: not */
	uint64_t soft_since_ms; /* over the soft limit since; 0: not */
	struct conn *prev, *next;
	struct conn *dirty_prev, *dirty_next;
};

/* Who, for log records. The name is empty before the handshake. */
#define CONN_WHO(conn)                                                                             \
	LOG_STR("plane", (conn)->plane->name), LOG_STR("tenant", (conn)->identity.name),           \
		LOG_INT("uid", (conn)->cred.uid), LOG_INT("pid", (conn)->cred.pid)

/* ---- admission.c ---- */

void conn_entry_move(struct conn_entry *to, struct conn_entry *from);
void conn_entry_refund(struct conn_entry *entry);

/* ---- conn.c, for the phases ---- */

/* The one that asks, for accounts. */
struct account_actor conn_actor(const struct conn *conn);

/* It is new: what it has queued is on its own account and on that of all; its channel is there. */
void conn_begin_account(struct conn *conn);
void conn_begin_rights(struct conn *conn);
/* From now on it is the tenant's. */
void conn_pay(struct conn *conn, struct patron *patron);
/* Nor is it any more. */
void conn_unpay(struct conn *conn);
/* The handshake is over, and it is admitted: it has the plane from now on. */
void conn_open(struct conn *conn);
/* Whether it may send descriptors now, by its tenant's policy. -errno. */
__attribute__((warn_unused_result)) int conn_update_rights(struct conn *conn);
__attribute__((warn_unused_result)) int conn_reverify(struct conn *conn);

/* Closes because of what happened on the channel. */
void conn_fail(struct conn *conn, int error);
/* The crew has given the channel back. */
void conn_worked(struct conn *conn);
/* What a share's task runs. */
void conn_run(struct share_task *task);
/* Its certificate is verified anew before anything else passes; sends what is queued, and takes it
 * off the list of those that have something. */
void conn_send_queued(struct conn *conn);
/* What is due: handshakes that stall, queues that nobody reads, delayed wakes. Whether there is
 * more to wait for. */
bool conn_tick(struct conn *conn, uint64_t now_ms);
/* Puts it on that list. */
void conn_dirty(struct conn *conn);
/* Frames may be here: has them looked at when it is its share's turn. */
void conn_want_read(struct conn *conn);
/* Watches the socket for these libuv events; each change costs two system calls. */
__attribute__((warn_unused_result)) int conn_watch(struct conn *conn, int mask);
__attribute__((warn_unused_result)) int conn_flush(struct conn *conn);
/* As chan_fill(), or what right_fetch() makes of it: 0, VMSIG_ERR_WOULD_BLOCK, or an error that
 * closes. */
__attribute__((warn_unused_result)) int conn_fetch_rights(struct conn *conn);
/* Whether a record that this client can provoke may be written now. */
bool conn_may_log(struct conn *conn);

#endif
