/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From accept(2) to the handshake. Every client is accepted at once: who cannot be served is
 * told so by the end of its connection, and nobody waits behind it in the kernel's queue. What
 * shakes hands has a slot of its plane's door: a uid has a quarter of them at most, all uids
 * that the policy does not name an eighth together.
 *
 * A uid of the policy that has no slot free, or has used up its rate, waits here: that is a
 * descriptor and a few words, no TLS. Of those who wait the first one that has said something
 * is served first, and a handshake whose client is silent gives its slot up for it: the oldest
 * one of the uid that has most, or of the same uid when that has its quarter. Of another uid one
 * that never said anything goes soon; a client that has many handshakes of its own to do at once
 * is slow, and no reason to end them.
 */
#include "broker/net/state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/log.h"
#include "broker/net/closer.h"
#include "vmsig/vmsig_error.h"

#define SILENT_MS 100u    /* far above what it takes to say something */
#define STALL_MS 2000u    /* of who has said something, or is of the same uid */
#define PATIENCE 2u       /* times limits.handshake_timeout: how long somebody waits */
#define LOOK_MS 5u        /* between looks at who of those that wait has spoken */
#define LOOK_PART 10u     /* times what a look took: until the next one */
#define LOOK_VISITORS 8u  /* of one uid, in a look */
#define UID_PART 4u       /* of a door's slots, for one uid */
#define STRANGERS_PART 8u /* for all uids without a policy */
#define UNPROVEN_PART 2u  /* of limits.connections and descriptors */
#define UNPROVEN_LEAST 16u
#define SLOTS_LEAST 4u /* of a part, if there are so many at all */
#define NS_PER_MS 1000000u
#define ADMIN_CONNECTIONS 16 /* beyond limits.connections: administrators always get in */

struct visitor {
	int fd;
	struct ucred cred;
	struct listener *listener;
	uint64_t leave_by_ms;
	struct visitor *prev, *next;
};

static uint64_t now_ms(const struct net *net)
{
	return uv_now(net->loop);
}

/* ---- slots ---- */

/* Who waits or shakes hands may be anybody: half of all there is, and the rest is for those who
 * have proven who they are. */
static uint32_t unproven_max(const struct net *net)
{
	uint32_t all = net->config->max_connections;

	if (net->descriptors < all)
		all = net->descriptors;
	return all / UNPROVEN_PART > UNPROVEN_LEAST ? all / UNPROVEN_PART : UNPROVEN_LEAST;
}

/* Of a door. There have to be places to wait as well, which can be given to others at once. */
static uint32_t slots_of(const struct net *net)
{
	uint32_t slots = unproven_max(net) / (NET_DOORS + 1);

	return slots < net->config->max_handshakes ? slots : net->config->max_handshakes;
}

static uint32_t part_of(uint32_t slots, uint32_t part)
{
	uint32_t least = slots < SLOTS_LEAST ? slots : SLOTS_LEAST;

	return slots / part > least ? slots / part : least;
}

void lobby_take_slot(struct conn *conn)
{
	struct door *door = &conn->net->doors[conn->plane->door];

	conn->is_stranger = !caller_is_named(&conn->net->callers, conn->cred.uid);
	door->handshakes++;
	door->strangers += conn->is_stranger;
	conn->caller->handshakes[conn->plane->door]++;
	DL_APPEND2(door->conns, conn, door_prev, door_next);
}

void lobby_give_slot(struct conn *conn)
{
	struct door *door = &conn->net->doors[conn->plane->door];

	door->handshakes--;
	door->strangers -= conn->is_stranger;
	conn->caller->handshakes[conn->plane->door]--;
	DL_DELETE2(door->conns, conn, door_prev, door_next);
}

/* The pool has nothing of it, and its client has not brought it on. */
static bool is_stalled(const struct conn *conn, bool own)
{
	uint64_t standing_ms = now_ms(conn->net) - conn->moved_ms;

	return !conn->working && !conn->task.is_ready &&
	       standing_ms >= (own || conn->has_spoken ? STALL_MS : SILENT_MS);
}

/* For who has its part: its own oldest silent one; else the oldest of who has most. */
static struct conn *find_stalled(
	const struct door *door, enum net_door kind, const struct caller *caller, bool own)
{
	struct conn *conn, *worst = NULL;
	uint32_t most = caller->handshakes[kind];

	for (conn = door->conns; conn; conn = conn->door_next) {
		uint32_t has = conn->caller->handshakes[kind];

		if (!is_stalled(conn, own) || (own ? conn->caller != caller : has <= most))
			continue;
		worst = conn;
		most = has;
		if (own)
			break;
	}
	return worst;
}

static bool has_part(const struct net *net, enum net_door kind, const struct caller *caller)
{
	return caller->handshakes[kind] >= part_of(slots_of(net), UID_PART);
}

static bool has_slot(const struct net *net, enum net_door kind, const struct caller *caller)
{
	return !has_part(net, kind, caller) && net->doors[kind].handshakes < slots_of(net);
}

/* Frees a slot for the uid, if there is a silent one that has to go before it. */
static bool make_slot(struct net *net, enum net_door kind, const struct caller *caller)
{
	struct conn *stalled =
		find_stalled(&net->doors[kind], kind, caller, has_part(net, kind, caller));

	if (!stalled)
		return false;
	conn_close(stalled, VMSIG_ERR_TIMEOUT,
		"the handshake stood still while others waited; connect again");
	return true;
}

/* ---- who waits ---- */

static bool is_waiting(const struct caller *caller)
{
	return caller->nvisitors > 0;
}

/* Takes it out; the descriptor is the caller's. */
static struct visitor visitor_take(
	struct net *net, struct caller *caller, enum net_door kind, struct visitor *visitor)
{
	struct visitor taken = *visitor;

	DL_DELETE(caller->visitors[kind], visitor);
	free(visitor);
	caller->nvisitors--;
	net->nvisitors--;
	if (!is_waiting(caller))
		DL_DELETE2(net->callers.waiting, caller, lobby_prev, lobby_next);
	return taken;
}

static void visitor_drop(
	struct net *net, struct caller *caller, enum net_door kind, struct visitor *visitor)
{
	struct visitor taken = visitor_take(net, caller, kind, visitor);

	rights_close(net, taken.fd, taken.cred.uid);
	caller_leave(caller);
}

/* One that has said something; or, unless it has to, any. Who has gone is dropped, and who is
 * silent is looked at again after the others. */
static struct visitor *visitor_first(
	struct net *net, struct caller *caller, enum net_door kind, bool speaking)
{
	struct visitor *visitor;

	for (unsigned i = 0; i < LOOK_VISITORS && (visitor = caller->visitors[kind]); i++) {
		char byte;
		ssize_t n = recv(visitor->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

		if (n > 0)
			return visitor;
		if (n == 0) {
			visitor_drop(net, caller, kind, visitor);
			continue;
		}
		DL_DELETE(caller->visitors[kind], visitor);
		DL_APPEND(caller->visitors[kind], visitor);
	}
	return speaking ? NULL : caller->visitors[kind];
}

static void conn_begin(struct net *net, struct caller *caller, const struct visitor *visitor)
{
	const struct arrival arrival = {.fd = visitor->fd,
		.cred = visitor->cred,
		.caller = caller,
		.plane = visitor->listener->plane,
		.tls = visitor->listener->tls,
		.handshake_by_ms = now_ms(net) + net->config->handshake_timeout_ms};

	conn_start(net, &arrival);
}

/* Whether one was let in. */
static bool serve_first(struct net *net, struct caller *caller, enum net_door kind)
{
	bool contended = !has_slot(net, kind, caller);
	struct visitor *visitor, taken;

	/* Looking costs a system call for each that waits: only when it can be of use. */
	if ((contended && !net->may_look) ||
		!caller_can_shake(&net->callers, net->config, caller, net_now_ns(net)))
		return false;
	visitor = visitor_first(net, caller, kind, contended);
	if (!visitor || (contended && !make_slot(net, kind, caller)))
		return false;
	caller_shake(&net->callers, caller);
	taken = visitor_take(net, caller, kind, visitor);
	conn_begin(net, caller, &taken);
	return true;
}

/* One for each door. */
static bool serve_caller(struct net *net, struct caller *caller)
{
	bool moved = false;

	/* Its last visitor takes it off the list, and it may go. */
	for (int kind = NET_DOORS - 1; kind >= 0 && is_waiting(caller); kind--)
		moved |= serve_first(net, caller, (enum net_door)kind);
	return moved;
}

/* Who was let in comes after the others. Whether somebody was. */
static bool serve_round(struct net *net)
{
	struct caller *caller, *next;
	bool moved = false;

	DL_FOREACH_SAFE2 (net->callers.waiting, caller, next, lobby_next) {
		if (!serve_caller(net, caller))
			continue;
		moved = true;
		if (!is_waiting(caller))
			continue;
		DL_DELETE2(net->callers.waiting, caller, lobby_prev, lobby_next);
		DL_APPEND2(net->callers.waiting, caller, lobby_prev, lobby_next);
	}
	return moved;
}

void lobby_serve(struct net *net)
{
	uint64_t start_ns, took_ms;

	if (!net->callers.waiting)
		return;
	net->may_look = now_ms(net) >= net->look_at_ms;
	start_ns = uv_hrtime();
	while (serve_round(net))
		;
	took_ms = (uv_hrtime() - start_ns) / NS_PER_MS;
	if (net->may_look)
		net->look_at_ms = now_ms(net) + LOOK_MS + LOOK_PART * took_ms;
	if (net->callers.waiting)
		net_expect(net);
}

bool lobby_tick(struct net *net)
{
	struct caller *caller, *next;
	struct visitor *visitor, *after;

	DL_FOREACH_SAFE2 (net->callers.waiting, caller, next, lobby_next) {
		for (int kind = 0; kind < NET_DOORS; kind++) {
			DL_FOREACH_SAFE (caller->visitors[kind], visitor, after) {
				if (net->closing || visitor->leave_by_ms <= now_ms(net))
					visitor_drop(net, caller, (enum net_door)kind, visitor);
			}
		}
	}
	return net->callers.waiting != NULL;
}

/* ---- room ---- */

static uint32_t unproven_of(const struct caller *caller)
{
	uint32_t count = caller->nvisitors;

	for (size_t i = 0; i < NET_DOORS; i++)
		count += caller->handshakes[i];
	return count;
}

static bool has_room(const struct net *net, enum net_door kind)
{
	uint32_t more = kind == NET_DOOR_ADMIN ? ADMIN_CONNECTIONS : 0;
	uint32_t unproven = net->nvisitors;

	for (size_t i = 0; i < NET_DOORS; i++)
		unproven += net->doors[i].handshakes;
	return net->nconns + net->nvisitors < net->config->max_connections + more &&
	       unproven < unproven_max(net) + more;
}

/* Somebody who waits goes for one of a uid that has fewer. */
static bool make_room(struct net *net, const struct caller *caller)
{
	struct caller *other, *heaviest = NULL;
	uint32_t most = unproven_of(caller);

	DL_FOREACH2 (net->callers.waiting, other, lobby_next) {
		if (unproven_of(other) <= most)
			continue;
		heaviest = other;
		most = unproven_of(other);
	}
	if (!heaviest)
		return false;
	for (int kind = 0; kind < NET_DOORS; kind++) {
		struct visitor *visitor = heaviest->visitors[kind];

		if (!visitor)
			continue;
		if (caller_may_log(&net->callers, heaviest, net_now_ns(net)))
			log_warning("a connection that waited was ended for another uid's",
				LOG_STR("plane", visitor->listener->plane->name),
				LOG_INT("uid", visitor->cred.uid),
				LOG_INT("pid", visitor->cred.pid), LOG_INT("waiting", most));
		visitor_drop(net, heaviest, (enum net_door)kind, visitor);
		return true;
	}
	return false;
}

/* ---- coming in ---- */

/* Who has no policy does not wait: it will be refused after the handshake as well. */
static bool stranger_has_slot(const struct net *net, enum net_door kind)
{
	uint32_t slots = part_of(slots_of(net), STRANGERS_PART);

	return net->doors[kind].strangers < slots;
}

static int visitor_add(struct net *net, struct caller *caller, const struct visitor *arrived)
{
	enum net_door kind = arrived->listener->plane->door;
	struct visitor *visitor = malloc(sizeof(*visitor));

	if (!visitor)
		return -ENOMEM;
	*visitor = *arrived;
	if (!is_waiting(caller))
		DL_APPEND2(net->callers.waiting, caller, lobby_prev, lobby_next);
	DL_APPEND(caller->visitors[kind], visitor);
	caller->nvisitors++;
	net->nvisitors++;
	return 0;
}

/* A slot, a place to wait, or nothing; before anything else was made for it. */
static int visitor_enter(struct net *net, const struct visitor *visitor, struct caller **ret_caller,
	const char **ret_slot, uint32_t *ret_limit)
{
	enum net_door kind = visitor->listener->plane->door;
	bool named = caller_is_named(&net->callers, visitor->cred.uid);
	int r;

	*ret_limit = net->config->max_connections;
	if (closer_stuck_of(net->closer, visitor->cred.uid)) {
		*ret_slot = "sockets of the uid that do not close";
		return VMSIG_ERR_QUOTA;
	}
	r = caller_enter(&net->callers, net->config, visitor->cred.uid, net_now_ns(net), ret_caller,
		ret_slot, ret_limit);
	if (r)
		return r;
	if (!has_room(net, kind) && !(named && make_room(net, *ret_caller))) {
		*ret_slot = "limits.connections, or the half of it and of RLIMIT_NOFILE for who "
			    "has not shaken hands";
		*ret_limit = unproven_max(net);
		r = VMSIG_ERR_QUOTA;
	} else if (named) {
		r = visitor_add(net, *ret_caller, visitor);
	} else if (stranger_has_slot(net, kind)) {
		conn_begin(net, *ret_caller, visitor);
	} else {
		*ret_slot = "limits.handshakes, the part of uids without a policy";
		*ret_limit = part_of(slots_of(net), STRANGERS_PART);
		r = VMSIG_ERR_QUOTA;
	}
	if (r)
		caller_leave(*ret_caller);
	return r;
}

void lobby_accept(struct listener *listener, int fd)
{
	struct net *net = listener->net;
	struct visitor visitor = {.fd = fd,
		.listener = listener,
		.leave_by_ms = now_ms(net) + PATIENCE * net->config->handshake_timeout_ms};
	socklen_t len = sizeof(visitor.cred);
	struct caller *caller = NULL;
	const char *slot = "";
	uint32_t limit = 0;
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &visitor.cred, &len) < 0) {
		rights_close(net, fd, visitor.cred.uid);
		return;
	}
	r = visitor_enter(net, &visitor, &caller, &slot, &limit);
	if (!r)
		return;
	rights_close(net, fd, visitor.cred.uid);
	net_expect(net);
	if (r == VMSIG_ERR_QUOTA && caller_may_log(&net->callers, caller, net_now_ns(net)))
		log_warning("connection refused: quota", LOG_STR("plane", listener->plane->name),
			LOG_INT("uid", visitor.cred.uid), LOG_INT("pid", visitor.cred.pid),
			LOG_STR("slot", slot), LOG_INT("limit", limit));
}
