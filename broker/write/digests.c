/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/digests.h"

#include <stdio.h>

#include "broker/write/bulk.h"
#include "broker/write/bulk_object.h"
#include "broker/write/command.h"
#include "broker/write/outcome.h"

static const struct desk_ops *ops_of(const struct bulk *bulk)
{
	return &bulk->command->desk->env.ops;
}

/* ---- one run of bytes ---- */

/* What was there before and is not hashed yet, as far as it lies in one piece. */
static void next_old(const struct bulk *bulk, struct desk_hashing *hash)
{
	uint64_t from = bulk->old_hashed, left = bulk->done - from, into = from % DESK_ROOM;

	if (bulk->command->old) {
		hash->old = bulk->command->old + from;
	} else if (bulk->kept) {
		hash->old = bulk->rooms[from / DESK_ROOM].memory + into;
		if (left > DESK_ROOM - into)
			left = DESK_ROOM - into;
	} else {
		hash->old = bulk->payer->old;
	}
	hash->old_len = (size_t)left;
}

/* It will not be asked for again. */
static void room_give(struct bulk *bulk, struct bulk_room *room)
{
	ops_of(bulk)->bulk->room_give(ops_of(bulk)->ctx, room->memory);
	room->memory = NULL;
}

static void note_hashed(struct bulk *bulk, int error)
{
	struct desk_hashing *hash = &bulk->hash;

	bulk->hashing = false;
	if (error) {
		bulk->hash_error = error;
		return;
	}
	bulk->old_hashed += hash->old_len;
	bulk->data_hashed += hash->data_len;
	if (bulk->kept && bulk->rooms && hash->old_len && bulk->old_hashed % DESK_ROOM == 0)
		room_give(bulk, &bulk->rooms[bulk->old_hashed / DESK_ROOM - 1]);
}

static void start(struct bulk *bulk, desk_done_fn done)
{
	bulk->hashing = true;
	ops_of(bulk)->bulk->hash(ops_of(bulk)->ctx, bulk->source, &bulk->hash, done, bulk);
}

/* ---- while it is stored ---- */

static void on_part(void *arg, uint64_t now_ns, int error)
{
	struct bulk *bulk = arg;

	desk_enter(bulk->command->desk, now_ns);
	note_hashed(bulk, error);
	bulk->part_done(bulk);
}

void digests_part(struct bulk *bulk, void (*done)(struct bulk *bulk))
{
	const struct desk_reading *part = &bulk->parts[bulk->current];

	bulk->part_done = done;
	bulk->hash = (struct desk_hashing){.data = part->data, .data_len = part->len};
	next_old(bulk, &bulk->hash);
	start(bulk, on_part);
}

/* ---- after that ---- */

static void complete(struct bulk *bulk)
{
	struct command *command = bulk->command;
	int r = bulk->hash_error;

	if (!r)
		r = ops_of(bulk)->bulk->digest(
			ops_of(bulk)->ctx, bulk->source, command->data_hash, command->old_hash);
	command->data_known = !r;
	memcpy(command->new_hash, command->data_hash, DESK_HASH);
	bulk->made(bulk);
	bulk_free(command);
	outcome_digested(command);
}

static void on_rest(void *arg, uint64_t now_ns, int error);

static void go_on(struct bulk *bulk)
{
	bulk->hash = (struct desk_hashing){0};
	if (bulk->old_hashed < bulk->done)
		next_old(bulk, &bulk->hash);
	else
		bulk->hash.data_len = bulk->len - bulk->data_hashed;
	if (bulk->hash_error || (!bulk->hash.old_len && !bulk->hash.data_len))
		complete(bulk);
	else
		start(bulk, on_rest);
}

static void on_rest(void *arg, uint64_t now_ns, int error)
{
	struct bulk *bulk = arg;

	desk_enter(bulk->command->desk, now_ns);
	note_hashed(bulk, error);
	go_on(bulk);
}

void digests_make(struct bulk *bulk, void (*made)(struct bulk *bulk))
{
	bulk->made = made;
	go_on(bulk);
}
