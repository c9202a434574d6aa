/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MEMCTXs in flight: those that holders have not acknowledged, all sessions together, because
 * each keeps descriptors in the kernel's queues. A session has one at a time. They are counted by
 * pairs of descriptors, the RAM file and the coherence page: RAM in many files takes as much room
 * as its descriptors do, or all of it.
 *
 * The bound is kept by turns: a session that may not carry a context gets in line, and when
 * there is room the first in line gets a turn, which keeps that room free for it until it
 * pulls. One that does not, because its connection is full, loses the turn after TURN_NS, so
 * that it holds nobody up. One that does not acknowledge in time is disconnected.
 */
#include "broker/read/state.h"

#define TURN_NS 20000000u /* a shell whose connection has room pulls at once */

/* What its next context takes. */
static uint64_t room_of(const struct session *session)
{
	const struct subscription *next = session->due_context;
	uint64_t limit = session->core->account.slots[CORE_INFLIGHT].limit;
	uint64_t pairs = next && next->endpoint ? (next->endpoint->files + 2) / 2 : 1;

	return pairs < limit ? pairs : limit;
}

static int take_room(struct session *session)
{
	struct core *core = session->core;
	const struct account_actor actor = {.tenant = session->tenant->name, .uid = session->uid};

	return charge_take(&session->inflight.room, &core->account, CORE_INFLIGHT, room_of(session),
		&actor, NULL);
}

static void give_turns(struct core *core)
{
	struct inflight *inflight = &core->inflight;
	struct session *session;

	while ((session = inflight->waiting) && !take_room(session)) {
		DL_DELETE2(inflight->waiting, session, inflight.line_prev, inflight.line_next);
		DL_APPEND2(inflight->turns, session, inflight.line_prev, inflight.line_next);
		session->inflight.line = LINE_TURN;
		session->inflight.turn_by_ns = core->now_ns + TURN_NS;
		action_add(core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
	}
}

/* The room of a turn stays the session's. */
static void leave_line(struct session *session)
{
	struct inflight *inflight = &session->core->inflight;

	if (session->inflight.line == LINE_WAITING)
		DL_DELETE2(inflight->waiting, session, inflight.line_prev, inflight.line_next);
	else if (session->inflight.line == LINE_TURN)
		DL_DELETE2(inflight->turns, session, inflight.line_prev, inflight.line_next);
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
		charge_refund(&place->room);
	}
	/* Nobody passes by those in line: one that needs much would wait for ever. */
	if (!core->inflight.waiting && !take_room(session))
		return true;
	place->line = LINE_WAITING;
	DL_APPEND2(core->inflight.waiting, session, inflight.line_prev, inflight.line_next);
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
	charge_refund(&session->inflight.room);
	give_turns(session->core);
}

void inflight_end(struct session *session)
{
	struct inflight *inflight = &session->core->inflight;

	if (!session->inflight.outstanding)
		return;
	session->inflight.outstanding = false;
	if (!session->inflight.overdue)
		DL_DELETE2(inflight->outstanding, session, inflight.out_prev, inflight.out_next);
	session->inflight.overdue = false;
	inflight_cancel(session);
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
	/* Without anybody behind it a turn may last. */
	while (inflight->waiting && (session = inflight->turns) &&
		session->inflight.turn_by_ns <= now_ns)
		inflight_leave_line(session);
}

uint64_t inflight_deadline(const struct core *core)
{
	const struct inflight *inflight = &core->inflight;
	uint64_t take = UINT64_MAX, turn = UINT64_MAX;

	if (inflight->outstanding)
		take = inflight->outstanding->inflight.take_by_ns;
	/* A turn that nobody is behind needs no end. */
	if (inflight->turns && inflight->waiting)
		turn = inflight->turns->inflight.turn_by_ns;
	return take < turn ? take : turn;
}
