/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MEMCTXs in flight: those that holders have not acknowledged, all sessions together, because
 * each keeps descriptors in the kernel's queues. A session has one at a time. They are counted by
 * pairs of descriptors, the RAM file and the coherence page: RAM in many files takes as much room
 * as its descriptors do, or all of it.
 *
 * The bound is kept by turns: a session that may not carry a context gets in its tenant's line,
 * and when there is room the first one there gets a turn, which keeps that room free for it until
 * it pulls. One that does not, because its connection is full, loses the turn after TURN_NS, so
 * that it holds nobody up. That time begins when the core next hears what time it is: much of it
 * may have passed, unsaid, before the turn was given. One that does not acknowledge in time is
 * disconnected.
 *
 * Who does not take what it gets fills its tenant's part and no more, and tenants that wait are
 * served in turns, however many sessions each of them has in line.
 */
#include "broker/read/state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TURN_NS 20000000u /* a shell whose connection has room pulls at once */
#define TURN_NEW 0u       /* its time has not begun */
#define PART 4u           /* of the bound, at most, is one tenant's */
#define PART_LEAST 64u    /* as many sessions have one, whatever that is */

enum { IN_FLIGHT };

static const struct account_kind kind = {.owner = "tenant",
	.slots = {[IN_FLIGHT] = {"contexts that were not taken",
			  "limits.inflight_contexts, a quarter", "wait for a turn"}}};

/* ---- tenants ---- */

static uint64_t part_of(const struct core *core)
{
	uint64_t limit = core->account.slots[CORE_INFLIGHT].limit, part = limit / PART;

	part = part > PART_LEAST ? part : PART_LEAST;
	return part < limit ? part : limit;
}

int inflight_join(struct session *session)
{
	struct inflight *inflight = &session->core->inflight;
	const char *name = session->tenant->name;
	size_t len = strlen(name);
	struct inflight_tenant *tenant = NULL;

	HASH_FIND(hh, inflight->tenants, name, len, tenant);
	if (!tenant) {
		tenant = calloc(1, sizeof(*tenant) + len + 1);
		if (!tenant)
			return -ENOMEM;
		memcpy(tenant->name, name, len);
		account_init(&tenant->account, &kind, tenant->name);
		account_set_limit(&tenant->account, IN_FLIGHT, part_of(session->core));
		HASH_ADD(hh, inflight->tenants, name, len, tenant);
		if (!tenant->hh.tbl) {
			free(tenant);
			return -ENOMEM;
		}
	}
	tenant->sessions++;
	session->inflight.tenant = tenant;
	return 0;
}

void inflight_leave(struct session *session)
{
	struct inflight_tenant *tenant = session->inflight.tenant;

	inflight_leave_line(session);
	inflight_end(session);
	charge_deinit(&session->inflight.room);
	charge_deinit(&session->inflight.part);
	if (--tenant->sessions)
		return;
	assert(!tenant->waiting && !tenant->in_line);
	HASH_DELETE(hh, session->core->inflight.tenants, tenant);
	account_deinit(&tenant->account);
	free(tenant);
}

static void line_add(struct inflight *inflight, struct inflight_tenant *tenant)
{
	if (tenant->in_line || !tenant->waiting)
		return;
	tenant->in_line = true;
	DL_APPEND(inflight->line, tenant);
}

static void line_remove(struct inflight *inflight, struct inflight_tenant *tenant)
{
	if (tenant->in_line)
		DL_DELETE(inflight->line, tenant);
	tenant->in_line = false;
}

/* ---- room ---- */

/* What its next context takes. */
static uint64_t room_of(const struct session *session)
{
	const struct subscription *next = session->due_context;
	uint64_t part = part_of(session->core);
	uint64_t pairs = next && next->endpoint ? (next->endpoint->files + 2) / 2 : 1;

	return pairs < part ? pairs : part;
}

static void give_back(struct session *session)
{
	charge_refund(&session->inflight.room);
	charge_refund(&session->inflight.part);
}

static int take_room(struct session *session)
{
	struct inflight_place *place = &session->inflight;
	const struct account_actor actor = {.tenant = session->tenant->name, .uid = session->uid};
	uint64_t pairs = room_of(session);
	int r = charge_take(&place->part, &place->tenant->account, IN_FLIGHT, pairs, &actor, NULL);

	if (!r)
		r = charge_take(
			&place->room, &session->core->account, CORE_INFLIGHT, pairs, &actor, NULL);
	if (r)
		give_back(session);
	return r;
}

static void wait_in_line(struct session *session)
{
	struct inflight *inflight = &session->core->inflight;
	struct inflight_tenant *tenant = session->inflight.tenant;

	session->inflight.line = LINE_WAITING;
	inflight->waiting++;
	DL_APPEND2(tenant->waiting, session, inflight.line_prev, inflight.line_next);
	line_add(inflight, tenant);
}

static void stop_waiting(struct session *session)
{
	struct inflight *inflight = &session->core->inflight;
	struct inflight_tenant *tenant = session->inflight.tenant;

	inflight->waiting--;
	DL_DELETE2(tenant->waiting, session, inflight.line_prev, inflight.line_next);
	if (!tenant->waiting)
		line_remove(inflight, tenant);
}

static void give_turn(struct session *session)
{
	struct core *core = session->core;
	struct inflight *inflight = &core->inflight;
	struct inflight_tenant *tenant = session->inflight.tenant;

	stop_waiting(session);
	DL_APPEND2(inflight->turns, session, inflight.line_prev, inflight.line_next);
	session->inflight.line = LINE_TURN;
	session->inflight.turn_by_ns = TURN_NEW;
	inflight->new_turns++;
	action_add(core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
	/* The next one is another tenant's. */
	line_remove(inflight, tenant);
	line_add(inflight, tenant);
}

/* A tenant that has its part is in line again when it gives back some of it. */
static void give_turns(struct core *core)
{
	struct inflight *inflight = &core->inflight;
	struct inflight_tenant *tenant;

	while ((tenant = inflight->line)) {
		struct session *session = tenant->waiting;

		if (!account_has_room(&tenant->account, IN_FLIGHT, room_of(session)))
			line_remove(inflight, tenant);
		else if (!take_room(session))
			give_turn(session);
		else
			break;
	}
}

void inflight_set_limit(struct core *core)
{
	struct inflight_tenant *tenant, *next;

	HASH_ITER (hh, core->inflight.tenants, tenant, next) {
		account_set_limit(&tenant->account, IN_FLIGHT, part_of(core));
		line_add(&core->inflight, tenant);
	}
	give_turns(core);
}

static void end_turn(struct session *session)
{
	struct inflight *inflight = &session->core->inflight;

	if (session->inflight.turn_by_ns == TURN_NEW)
		inflight->new_turns--;
	DL_DELETE2(inflight->turns, session, inflight.line_prev, inflight.line_next);
}

/* The room of a turn stays the session's. */
static void leave_line(struct session *session)
{
	if (session->inflight.line == LINE_WAITING)
		stop_waiting(session);
	else if (session->inflight.line == LINE_TURN)
		end_turn(session);
	session->inflight.line = LINE_OUT;
}

void inflight_leave_line(struct session *session)
{
	bool had_turn = session->inflight.line == LINE_TURN;

	leave_line(session);
	if (had_turn)
		inflight_cancel(session);
}

bool inflight_may_carry(struct session *session)
{
	struct core *core = session->core;
	struct inflight_place *place = &session->inflight;

	if (place->outstanding || place->line == LINE_WAITING)
		return false;
	if (place->line == LINE_TURN) {
		leave_line(session);
		if (place->room.amount >= room_of(session))
			return true;
		/* It was for another context, of fewer files. */
		give_back(session);
	}
	/* Nobody passes by those in line: one that needs much would wait for ever. */
	if (!core->inflight.line && !place->tenant->waiting && !take_room(session))
		return true;
	wait_in_line(session);
	give_turns(core);
	return false;
}

void inflight_begin(struct session *session, uint64_t now_ns)
{
	struct core *core = session->core;

	session->inflight.outstanding = true;
	session->inflight.take_by_ns = now_ns + core->take_timeout_ns;
	DL_APPEND2(core->inflight.outstanding, session, inflight.out_prev, inflight.out_next);
}

void inflight_cancel(struct session *session)
{
	give_back(session);
	line_add(&session->core->inflight, session->inflight.tenant);
	give_turns(session->core);
}

void inflight_end(struct session *session)
{
	struct inflight *inflight = &session->core->inflight;

	if (!session->inflight.outstanding)
		return;
	session->inflight.outstanding = session->inflight.unsaid = false;
	if (!session->inflight.overdue)
		DL_DELETE2(inflight->outstanding, session, inflight.out_prev, inflight.out_next);
	session->inflight.overdue = false;
	inflight_cancel(session);
}

/* The last ones in the list. */
static void begin_turns(struct inflight *inflight, uint64_t now_ns)
{
	struct session *session = inflight->turns;

	for (; inflight->new_turns; inflight->new_turns--) {
		session = session->inflight.line_prev;
		session->inflight.turn_by_ns = now_ns + TURN_NS;
	}
}

void inflight_advance(struct core *core, uint64_t now_ns)
{
	struct inflight *inflight = &core->inflight;
	struct session *session;

	while ((session = inflight->outstanding) && session->inflight.take_by_ns <= now_ns) {
		/* Said once; it stays in flight until the shell has freed the session. */
		DL_DELETE2(inflight->outstanding, session, inflight.out_prev, inflight.out_next);
		session->inflight.overdue = true;
		session->error = VMSIG_ERR_TIMEOUT;
		action_add(core, QUEUE_SESSION, &session->own, CORE_ACT_DISCONNECT);
	}
	begin_turns(inflight, now_ns);
	/* Without anybody behind it a turn may last. */
	while (inflight->waiting && (session = inflight->turns) &&
		session->inflight.turn_by_ns <= now_ns) {
		inflight_leave_line(session);
		begin_turns(inflight, now_ns);
	}
}

uint64_t inflight_deadline(const struct core *core)
{
	const struct inflight *inflight = &core->inflight;
	uint64_t take = UINT64_MAX, turn = UINT64_MAX;

	if (inflight->outstanding)
		take = inflight->outstanding->inflight.take_by_ns;
	if (inflight->new_turns)
		return core->now_ns;
	/* A turn that nobody is behind needs no end. */
	if (inflight->turns && inflight->waiting)
		turn = inflight->turns->inflight.turn_by_ns;
	return take < turn ? take : turn;
}
