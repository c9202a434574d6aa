/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/lobby.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/log.h"
#include "broker/net/admission.h"
#include "broker/net/closer.h"
#include "vmsig/vmsig_error.h"

#define PATIENCE 2u      /* times limits.handshake_timeout: how long somebody waits */
#define LOOK_MS 5u       /* between looks at who of those that wait has spoken */
#define LOOK_PART 10u    /* times what a look took: until the next one */
#define LOOK_VISITORS 8u /* of one uid, in a look */
#define UNPROVEN_PART 2u /* of limits.connections and descriptors */
#define UNPROVEN_LEAST 16u
#define NS_PER_MS 1000000u
#define ADMIN_CONNECTIONS 16 /* beyond limits.connections: administrators always get in */

struct visitor {
	int fd;
	struct ucred cred;
	const struct plane_ops *plane;
	struct conn_entry entry;
	struct charge waits; /* of the uid */
	uint64_t leave_by_ms;
	struct visitor *prev, *next;
};

static uint64_t now_ms(const struct lobby *lobby)
{
	return pulse_now_ms(lobby->conns->pulse);
}

static struct callers *callers_of(struct lobby *lobby)
{
	return &lobby->conns->callers;
}

/* ---- who waits ---- */

static bool is_waiting(const struct caller *caller)
{
	return account_used(&caller->account, CALLER_VISITORS) > 0;
}

/* Takes it out; the descriptor and the entry are the caller's. */
static struct visitor visitor_take(
	struct lobby *lobby, struct caller *caller, struct visitor *visitor)
{
	struct visitor taken = *visitor;

	DL_DELETE(caller->visitors[visitor->plane->door], visitor);
	charge_refund(&visitor->waits);
	free(visitor);
	if (!is_waiting(caller))
		DL_DELETE2(callers_of(lobby)->waiting, caller, lobby_prev, lobby_next);
	return taken;
}

static void visitor_drop(struct lobby *lobby, struct caller *caller, struct visitor *visitor)
{
	struct visitor taken = visitor_take(lobby, caller, visitor);

	rights_close(&lobby->conns->rights, taken.fd, taken.cred.uid);
	conn_entry_refund(&taken.entry);
}

/* One that has said something; or, unless it has to, any. Who has gone is dropped, and who is
 * silent is looked at again after the others. */
static struct visitor *visitor_first(
	struct lobby *lobby, struct caller *caller, enum net_door kind, bool speaking)
{
	struct visitor *visitor;

	for (unsigned i = 0; i < LOOK_VISITORS && (visitor = caller->visitors[kind]); i++) {
		char byte;
		ssize_t n = recv(visitor->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

		if (n > 0)
			return visitor;
		if (n == 0) {
			visitor_drop(lobby, caller, visitor);
			continue;
		}
		DL_DELETE(caller->visitors[kind], visitor);
		DL_APPEND(caller->visitors[kind], visitor);
	}
	return speaking ? NULL : caller->visitors[kind];
}

static void begin(struct lobby *lobby, struct caller *caller, struct visitor *visitor)
{
	const struct arrival arrival = {.fd = visitor->fd,
		.cred = visitor->cred,
		.caller = caller,
		.plane = visitor->plane,
		.door = &lobby->doors[visitor->plane->door]};

	admission_start(lobby->conns, &arrival, &visitor->entry);
}

/* Whether one was let in. */
static bool serve_first(struct lobby *lobby, struct caller *caller, enum net_door kind)
{
	struct conns *conns = lobby->conns;
	struct door *door = &lobby->doors[kind];
	bool contended = !door_has_slot(door, caller);
	struct visitor *visitor, taken;

	/* Looking costs a system call for each that waits: only when it can be of use. */
	if ((contended && !lobby->may_look) || !caller_can_shake(&conns->callers, conns->config,
						       caller, pulse_now_ns(conns->pulse)))
		return false;
	visitor = visitor_first(lobby, caller, kind, contended);
	if (!visitor || (contended && !door_make_slot(door, caller)))
		return false;
	caller_shake(&conns->callers, caller);
	taken = visitor_take(lobby, caller, visitor);
	begin(lobby, caller, &taken);
	return true;
}

/* One for each door. */
static bool serve_caller(struct lobby *lobby, struct caller *caller)
{
	bool moved = false;

	/* Its last visitor takes it off the list, and it may go. */
	for (int kind = NET_DOORS - 1; kind >= 0 && is_waiting(caller); kind--)
		moved |= serve_first(lobby, caller, (enum net_door)kind);
	return moved;
}

/* Who was let in comes after the others. Whether somebody was. */
static bool serve_round(struct lobby *lobby)
{
	struct caller *caller, *next;
	bool moved = false;

	DL_FOREACH_SAFE2 (callers_of(lobby)->waiting, caller, next, lobby_next) {
		if (!serve_caller(lobby, caller))
			continue;
		moved = true;
		if (!is_waiting(caller))
			continue;
		DL_DELETE2(callers_of(lobby)->waiting, caller, lobby_prev, lobby_next);
		DL_APPEND2(callers_of(lobby)->waiting, caller, lobby_prev, lobby_next);
	}
	return moved;
}

void lobby_serve(struct lobby *lobby)
{
	uint64_t start_ns, took_ms;

	if (!callers_of(lobby)->waiting)
		return;
	lobby->may_look = now_ms(lobby) >= lobby->look_at_ms;
	start_ns = uv_hrtime();
	while (serve_round(lobby))
		;
	took_ms = (uv_hrtime() - start_ns) / NS_PER_MS;
	if (lobby->may_look)
		lobby->look_at_ms = now_ms(lobby) + LOOK_MS + LOOK_PART * took_ms;
	if (callers_of(lobby)->waiting)
		pulse_hurry(lobby->conns->pulse);
}

/* Drops who has waited too long, or everybody. */
static void drop(struct lobby *lobby, uint64_t until_ms)
{
	struct caller *caller, *next;
	struct visitor *visitor, *after;

	DL_FOREACH_SAFE2 (callers_of(lobby)->waiting, caller, next, lobby_next) {
		for (int kind = 0; kind < NET_DOORS; kind++) {
			DL_FOREACH_SAFE (caller->visitors[kind], visitor, after) {
				if (visitor->leave_by_ms <= until_ms)
					visitor_drop(lobby, caller, visitor);
			}
		}
	}
}

static bool on_beat(struct pulse_beat *beat, uint64_t until_ms)
{
	struct lobby *lobby = (struct lobby *)((char *)beat - offsetof(struct lobby, beat));

	drop(lobby, until_ms);
	return callers_of(lobby)->waiting != NULL;
}

void lobby_close(struct lobby *lobby)
{
	drop(lobby, UINT64_MAX);
}

/* ---- room ---- */

static uint64_t unproven_of(const struct caller *caller)
{
	uint64_t count = account_used(&caller->account, CALLER_VISITORS);

	for (unsigned i = 0; i < NET_DOORS; i++)
		count += account_used(&caller->account, CALLER_HANDSHAKES + i);
	return count;
}

static struct caller *heaviest_caller(struct lobby *lobby, const struct caller *caller)
{
	struct caller *other, *heaviest = NULL;
	uint64_t most = unproven_of(caller);

	DL_FOREACH2 (callers_of(lobby)->waiting, other, lobby_next) {
		if (unproven_of(other) <= most)
			continue;
		heaviest = other;
		most = unproven_of(other);
	}
	return heaviest;
}

/* Somebody who waits goes for one of a uid that has fewer. */
static bool make_room(struct lobby *lobby, const struct caller *caller)
{
	struct caller *heaviest = heaviest_caller(lobby, caller);

	for (int kind = 0; heaviest && kind < NET_DOORS; kind++) {
		struct visitor *visitor = heaviest->visitors[kind];

		if (!visitor)
			continue;
		if (caller_may_log(callers_of(lobby), heaviest, pulse_now_ns(lobby->conns->pulse)))
			log_warning("a connection that waited was ended for another uid's",
				LOG_STR("plane", visitor->plane->name),
				LOG_INT("uid", visitor->cred.uid),
				LOG_INT("pid", visitor->cred.pid),
				LOG_INT("waiting", unproven_of(heaviest)));
		visitor_drop(lobby, heaviest, visitor);
		return true;
	}
	return false;
}

/* Of all there is: for administrators there is more. */
static int take_room(struct lobby *lobby, struct visitor *visitor,
	const struct account_actor *actor, struct account_refusal *ret_refusal)
{
	struct account *all = &lobby->conns->account;
	uint32_t more = visitor->plane->door == NET_DOOR_ADMIN ? ADMIN_CONNECTIONS : 0;
	int r;

	account_set_limit(all, CONNS_ALL, lobby->conns->config->max_connections + more);
	account_set_limit(all, CONNS_UNPROVEN, lobby->unproven_max + more);
	r = charge_take(&visitor->entry.of_all, all, CONNS_ALL, 1, actor, ret_refusal);
	if (!r)
		r = charge_take(
			&visitor->entry.unproven, all, CONNS_UNPROVEN, 1, actor, ret_refusal);
	if (r)
		charge_refund(&visitor->entry.of_all);
	return r;
}

/* ---- coming in ---- */

static int visitor_add(struct lobby *lobby, struct caller *caller, const struct visitor *arrived)
{
	struct visitor *visitor = malloc(sizeof(*visitor));

	if (!visitor)
		return -ENOMEM;
	*visitor = *arrived;
	if (!is_waiting(caller))
		DL_APPEND2(callers_of(lobby)->waiting, caller, lobby_prev, lobby_next);
	DL_APPEND(caller->visitors[visitor->plane->door], visitor);
	charge_force(&visitor->waits, &caller->account, CALLER_VISITORS, 1);
	return 0;
}

/* Who has no policy does not wait: it will be refused after the handshake as well. */
static int stranger_add(struct lobby *lobby, struct caller *caller, struct visitor *visitor,
	const struct account_actor *actor, struct account_refusal *ret_refusal)
{
	struct door *door = &lobby->doors[visitor->plane->door];

	if (!account_has_room(&door->account, DOOR_STRANGERS, 1)) {
		*ret_refusal = account_refuse(&door->account, DOOR_STRANGERS, 1, actor);
		return VMSIG_ERR_QUOTA;
	}
	begin(lobby, caller, visitor);
	return 0;
}

/* Sockets of the uid that the closer cannot close. */
static int check_stuck(
	struct lobby *lobby, const struct account_actor *actor, struct account_refusal *ret_refusal)
{
	static const struct account_kind kind = {.owner = "uid",
		.slots = {{"sockets that do not close", "sockets of the uid that do not close",
			"end who keeps them from it"}}};
	unsigned stuck = closer_stuck_of(lobby->conns->rights.closer, actor->uid);

	if (!stuck)
		return 0;
	*ret_refusal = (struct account_refusal){.actor = *actor,
		.kind = &kind,
		.owner = "",
		.slot = &kind.slots[0],
		.amount = 1,
		.used = stuck};
	return VMSIG_ERR_QUOTA;
}

/* A slot, a place to wait, or nothing; before anything else was made for it. */
static int visitor_enter(struct lobby *lobby, struct visitor *visitor, struct caller **ret_caller,
	struct account_refusal *ret_refusal)
{
	struct conns *conns = lobby->conns;
	const struct account_actor actor = {.uid = visitor->cred.uid, .pid = visitor->cred.pid};
	bool named = caller_is_named(&conns->callers, actor.uid);
	int r = check_stuck(lobby, &actor, ret_refusal);

	if (r)
		return r;
	r = caller_enter(&conns->callers, conns->config, &actor, pulse_now_ns(conns->pulse),
		&visitor->entry.of_uid, ret_caller, ret_refusal);
	if (r)
		return r;
	r = take_room(lobby, visitor, &actor, ret_refusal);
	if (r && named && make_room(lobby, *ret_caller))
		r = take_room(lobby, visitor, &actor, ret_refusal);
	if (!r && named)
		r = visitor_add(lobby, *ret_caller, visitor);
	else if (!r)
		r = stranger_add(lobby, *ret_caller, visitor, &actor, ret_refusal);
	if (r)
		conn_entry_refund(&visitor->entry);
	return r;
}

void lobby_accept(struct lobby *lobby, const struct plane_ops *plane, int fd)
{
	struct conns *conns = lobby->conns;
	struct visitor visitor = {.fd = fd,
		.plane = plane,
		.leave_by_ms = now_ms(lobby) + PATIENCE * conns->config->handshake_timeout_ms};
	socklen_t len = sizeof(visitor.cred);
	struct caller *caller = NULL;
	struct account_refusal refusal;
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &visitor.cred, &len) < 0) {
		rights_close(&conns->rights, fd, visitor.cred.uid);
		return;
	}
	r = visitor_enter(lobby, &visitor, &caller, &refusal);
	if (!r)
		return;
	rights_close(&conns->rights, fd, visitor.cred.uid);
	pulse_hurry(conns->pulse);
	if (r == VMSIG_ERR_QUOTA &&
		caller_may_log(&conns->callers, caller, pulse_now_ns(conns->pulse)))
		log_warning("connection refused: quota", LOG_STR("plane", plane->name),
			LOG_INT("uid", visitor.cred.uid), LOG_INT("pid", visitor.cred.pid),
			ACCOUNT_REFUSAL_FIELDS(&refusal));
}

/* ---- life ---- */

static uint32_t count_descriptors(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > UINT32_MAX
		       ? UINT32_MAX
		       : (uint32_t)limit.rlim_cur;
}

void lobby_init(struct lobby *lobby, struct conns *conns)
{
	static const char *const names[] = {
		[NET_DOOR_CTX] = "ctx", [NET_DOOR_WRITE] = "write", [NET_DOOR_ADMIN] = "admin"};

	*lobby = (struct lobby){.conns = conns, .descriptors = count_descriptors()};
	for (int kind = 0; kind < NET_DOORS; kind++)
		door_init(&lobby->doors[kind], (enum net_door)kind, names[kind]);
	lobby_set_policy(lobby);
	pulse_add(conns->pulse, &lobby->beat, on_beat);
}

void lobby_deinit(struct lobby *lobby)
{
	for (int kind = 0; kind < NET_DOORS; kind++)
		door_deinit(&lobby->doors[kind]);
}

void lobby_set_policy(struct lobby *lobby)
{
	const struct config *config = lobby->conns->config;
	uint32_t all = config->max_connections, slots;

	if (lobby->descriptors < all)
		all = lobby->descriptors;
	/* Who waits or shakes hands may be anybody: half of all there is, and the rest is for
	 * those who have proven who they are. */
	lobby->unproven_max =
		all / UNPROVEN_PART > UNPROVEN_LEAST ? all / UNPROVEN_PART : UNPROVEN_LEAST;
	/* There have to be places to wait as well, which can be given to others at once. */
	slots = lobby->unproven_max / (NET_DOORS + 1);
	if (slots > config->max_handshakes)
		slots = config->max_handshakes;
	for (int kind = 0; kind < NET_DOORS; kind++)
		door_set_slots(&lobby->doors[kind], slots);
}
