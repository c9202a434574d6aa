/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/door.h"

#include <assert.h>

#include "vmsig/vmsig_error.h"

#define SILENT_MS 100u    /* far above what it takes to say something */
#define STALL_MS 2000u    /* of who has said something, or is of the same uid */
#define UID_PART 4u       /* of the slots, for one uid */
#define STRANGERS_PART 8u /* for all uids without a policy */
#define SLOTS_LEAST 4u    /* of a part, if there are so many at all */

static const struct account_kind account_kind = {.owner = "plane",
	.is_shared = true,
	.slots = {[DOOR_HANDSHAKES] = {"handshakes", "limits.handshakes", "try again later"},
		[DOOR_STRANGERS] = {"handshakes of uids without a policy",
			"limits.handshakes, the part of uids without a policy",
			"have the uid named by the policy"}}};

void door_init(struct door *door, enum net_door kind, const char *name)
{
	*door = (struct door){.kind = kind};
	account_init(&door->account, &account_kind, name);
}

void door_deinit(struct door *door)
{
	assert(!door->conns);
	account_deinit(&door->account);
}

static uint32_t part_of(uint32_t slots, uint32_t part)
{
	uint32_t least = slots < SLOTS_LEAST ? slots : SLOTS_LEAST;

	return slots / part > least ? slots / part : least;
}

void door_set_slots(struct door *door, uint32_t slots)
{
	door->uid_part = part_of(slots, UID_PART);
	account_set_limit(&door->account, DOOR_HANDSHAKES, slots);
	account_set_limit(&door->account, DOOR_STRANGERS, part_of(slots, STRANGERS_PART));
}

void door_enter(struct door *door, struct conn *conn)
{
	struct handshake *handshake = &conn->handshake;

	handshake->door = door;
	charge_force(&handshake->of_door, &door->account, DOOR_HANDSHAKES, 1);
	if (!caller_is_named(&conn->conns->callers, conn->cred.uid))
		charge_force(&handshake->of_strangers, &door->account, DOOR_STRANGERS, 1);
	charge_force(&handshake->of_uid, &conn->caller->account,
		CALLER_HANDSHAKES + (unsigned)door->kind, 1);
	DL_APPEND2(door->conns, conn, handshake.door_prev, handshake.door_next);
}

void door_leave(struct conn *conn)
{
	struct handshake *handshake = &conn->handshake;

	charge_refund(&handshake->of_door);
	charge_refund(&handshake->of_strangers);
	charge_refund(&handshake->of_uid);
	DL_DELETE2(handshake->door->conns, conn, handshake.door_prev, handshake.door_next);
}

static uint64_t handshakes_of(const struct door *door, const struct caller *caller)
{
	return account_used(&caller->account, CALLER_HANDSHAKES + (unsigned)door->kind);
}

static bool has_part(const struct door *door, const struct caller *caller)
{
	return handshakes_of(door, caller) >= door->uid_part;
}

bool door_has_slot(const struct door *door, const struct caller *caller)
{
	return !has_part(door, caller) && account_has_room(&door->account, DOOR_HANDSHAKES, 1);
}

/* ---- making room ---- */

/* The crew has nothing of it, and its client has not brought it on. */
static bool is_stalled(const struct conn *conn, bool own)
{
	const struct handshake *handshake = &conn->handshake;
	uint64_t standing_ms = pulse_now_ms(conn->conns->pulse) - handshake->moved_ms;

	return !conn->working && !conn->task.is_ready &&
	       standing_ms >= (own || handshake->has_spoken ? STALL_MS : SILENT_MS);
}

/* For who has its part: its own oldest silent one; else the oldest of who has most. */
static struct conn *find_stalled(const struct door *door, const struct caller *caller, bool own)
{
	uint64_t most = handshakes_of(door, caller);
	struct conn *conn, *worst = NULL;

	DL_FOREACH2 (door->conns, conn, handshake.door_next) {
		uint64_t has = handshakes_of(door, conn->caller);

		if (!is_stalled(conn, own) || (own ? conn->caller != caller : has <= most))
			continue;
		worst = conn;
		most = has;
		if (own)
			break;
	}
	return worst;
}

bool door_make_slot(struct door *door, const struct caller *caller)
{
	struct conn *stalled = find_stalled(door, caller, has_part(door, caller));

	if (!stalled)
		return false;
	conn_close(stalled, VMSIG_ERR_TIMEOUT,
		"the handshake stood still while others waited; connect again");
	return true;
}
