/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/command.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/write/docket.h"
#include "broker/write/ending.h"
#include "broker/write/operator.h"
#include "broker/write/site.h"
#include "proto/mishap.h"
#include "proto/wire/unpack.h"

/* ---- states ---- */

#define TO(state) (1u << (state))

static const unsigned moves[COMMAND_STATES] = {
	[COMMAND_NEW] = TO(COMMAND_READY) | TO(COMMAND_PARTING) | TO(COMMAND_GONE),
	[COMMAND_READY] = TO(COMMAND_WAITING) | TO(COMMAND_JOINED) | TO(COMMAND_HASHING) |
			  TO(COMMAND_COMPARING) | TO(COMMAND_PLANNING) | TO(COMMAND_INTENDED) |
			  TO(COMMAND_PARTING) | TO(COMMAND_FINISHED) | TO(COMMAND_GONE),
	[COMMAND_WAITING] = TO(COMMAND_READY) | TO(COMMAND_GONE),
	[COMMAND_JOINED] = TO(COMMAND_GONE),
	[COMMAND_HASHING] = TO(COMMAND_READY) | TO(COMMAND_GONE),
	[COMMAND_COMPARING] = TO(COMMAND_READY) | TO(COMMAND_GONE),
	[COMMAND_PLANNING] = TO(COMMAND_READY) | TO(COMMAND_GONE),
	[COMMAND_INTENDED] = TO(COMMAND_HELD) | TO(COMMAND_QUEUED) | TO(COMMAND_STOPPING) |
			     TO(COMMAND_SLICING) | TO(COMMAND_PARTING) | TO(COMMAND_CLEARED) |
			     TO(COMMAND_FINISHED) | TO(COMMAND_GONE),
	[COMMAND_HELD] = TO(COMMAND_CLEARED) | TO(COMMAND_FINISHED) | TO(COMMAND_GONE),
	[COMMAND_CLEARED] = TO(COMMAND_QUEUED) | TO(COMMAND_STOPPING) | TO(COMMAND_SLICING) |
			    TO(COMMAND_PARTING) | TO(COMMAND_FINISHED) | TO(COMMAND_GONE),
	[COMMAND_QUEUED] = TO(COMMAND_STOPPING) | TO(COMMAND_FINISHED) | TO(COMMAND_GONE),
	[COMMAND_STOPPING] = TO(COMMAND_SLICING) | TO(COMMAND_FINISHED) | TO(COMMAND_GONE),
	[COMMAND_SLICING] =
		TO(COMMAND_QUEUED) | TO(COMMAND_STOPPING) | TO(COMMAND_FINISHED) | TO(COMMAND_GONE),
	[COMMAND_PARTING] = TO(COMMAND_GONE),
	[COMMAND_FINISHED] = TO(COMMAND_DIGESTING) | TO(COMMAND_TOLD) | TO(COMMAND_GONE),
	[COMMAND_DIGESTING] = TO(COMMAND_TOLD) | TO(COMMAND_GONE),
	[COMMAND_TOLD] = TO(COMMAND_RECORDED) | TO(COMMAND_GONE),
	/* The batch could not be had: it is tried again. */
	[COMMAND_RECORDED] = TO(COMMAND_TOLD) | TO(COMMAND_GONE),
};

/* Those that wait for somebody wait with whom they wait for. */
static struct command **list_of(struct command *command)
{
	if (command->state == COMMAND_READY)
		return &command->docket->parts[DOCKET_READY].commands;
	if (command->state == COMMAND_CLEARED)
		return &command->docket->parts[DOCKET_CLEARED].commands;
	if (command->state == COMMAND_WAITING)
		return &command->lane->waiting;
	if (command->state == COMMAND_QUEUED)
		return &command->site->waiting;
	if (command->state == COMMAND_JOINED)
		return &command->first->joined;
	return &command->desk->lists[command->state];
}

/* The tenant has more that may go on, or less. */
static void note_change(struct command *command)
{
	if (command->state == COMMAND_READY)
		docket_changed(command->docket, DOCKET_READY);
	else if (command->state == COMMAND_CLEARED)
		docket_changed(command->docket, DOCKET_CLEARED);
}

static void leave_list(struct command *command, enum command_state state)
{
	struct command **list = list_of(command);

	assert(moves[command->state] & TO(state));
	DL_DELETE(*list, command);
	command->prev = command->next = NULL;
	note_change(command);
	command->state = state;
}

void command_move(struct command *command, enum command_state state)
{
	struct command **list;

	leave_list(command, state);
	if (state == COMMAND_GONE)
		return;
	list = list_of(command);
	DL_APPEND(*list, command);
	note_change(command);
}

void command_move_first(struct command *command)
{
	struct command **list;

	leave_list(command, COMMAND_READY);
	list = list_of(command);
	DL_PREPEND(*list, command);
	note_change(command);
}

/* ---- life ---- */

static void identify(struct command *command, const struct desk_operator *op)
{
	command->uid = op->uid;
	command->pid = op->pid;
	memcpy(command->tenant, op->docket->tenant, sizeof(command->tenant));
	memcpy(command->serial, op->serial, sizeof(command->serial));
	command->docket = docket_ref(op->docket);
}

int command_new(struct command **ret_command, struct desk *desk, const struct desk_operator *op,
	Vmsig__WriteRequest *request, int bulk_fd)
{
	struct command *command = MISHAP("command-memory") ? NULL : calloc(1, sizeof(*command));

	if (!command)
		return -ENOMEM;
	identify(command, op);
	command->desk = desk;
	command->bulk_fd = bulk_fd;
	command->request = request;
	if (request) {
		command->request_id = request->request_id;
		command->body = request->memwrite;
		command->size = unpack_charge(request);
	}
	operator_pay(command, op->session);
	DL_APPEND2(desk->all, command, all_prev, all_next);
	DL_APPEND(desk->lists[COMMAND_NEW], command);
	*ret_command = command;
	return 0;
}

/* What came of it is in the ledger, or nothing did. */
static void wake_repeats(const struct command *first)
{
	struct command *command, *next;

	DL_FOREACH_SAFE (first->desk->lists[COMMAND_COMPARING], command, next) {
		if (memcmp(&command->key, &first->key, sizeof(first->key)) == 0)
			command_move(command, COMMAND_READY);
	}
}

static void leave_taken(struct command *command)
{
	if (!command->mark)
		return;
	HASH_DEL(command->desk->taken, command);
	command->mark = 0;
	wake_repeats(command);
}

struct command *command_free(struct command *command)
{
	struct desk *desk = command->desk;
	const struct desk_ops *ops = &desk->env.ops;

	assert(!command->bulk && !command->lane && !command->joined);
	command_move(command, COMMAND_GONE);
	operator_pay(command, 0);
	ending_cancel(&command->wait);
	charge_deinit(&command->number);
	charge_deinit(&command->room);
	leave_taken(command);
	DL_DELETE2(desk->all, command, all_prev, all_next);
	if (command->bulk_fd >= 0)
		ops->fd_close(ops->ctx, command->bulk_fd, command->uid);
	docket_unref(command->docket);
	memwrite_plan_deinit(&command->plan);
	free(command->memory);
	unpack_free(command->request);
	free(command);
	return NULL;
}

/* ---- its number ---- */

struct command *command_find(const struct desk *desk, const struct ledger_key *key)
{
	struct command *command = NULL;

	HASH_FIND(hh, desk->taken, key, sizeof(*key), command);
	return command;
}

int command_take(struct command *command)
{
	struct desk *desk = command->desk;
	const struct desk_ops *ops = &desk->env.ops;
	int r = desk->marks == DESK_MARKS_SETTLED ? VMSIG_ERR_BUSY : VMSIG_ERR_IO;

	if (desk->marks == DESK_MARKS_FREE)
		r = ops->marks->take(
			ops->ctx, &command->key, command_name(command), &command->mark);
	if (r) {
		snprintf(command->detail, sizeof(command->detail), "nothing was written: %s",
			r == VMSIG_ERR_BUSY ? "too many writes have no recorded result yet"
					    : "the broker cannot mark it; its log says why");
		return r;
	}
	HASH_ADD(hh, desk->taken, key, sizeof(command->key), command);
	if (command->hh.tbl)
		return 0;
	ops->marks->release(ops->ctx, command->mark);
	command->mark = 0;
	return -ENOMEM;
}

void command_give_back(struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;

	if (command->mark)
		ops->marks->release(ops->ctx, command->mark);
	leave_taken(command);
}

/* ---- hashes ---- */

uint8_t *command_scratch(struct desk *desk, size_t size)
{
	uint8_t *grown;

	if (size <= desk->scratch_size)
		return desk->scratch;
	grown = MISHAP("scratch-memory") ? NULL : realloc(desk->scratch, size);
	if (!grown)
		return NULL;
	desk->scratch = grown;
	desk->scratch_size = size;
	return grown;
}

static int digest(const struct desk *desk, const void *data, size_t len, uint8_t *ret_digest)
{
	return desk->env.ops.digest(desk->env.ops.ctx, data, len, ret_digest);
}

int command_hash_data(struct command *command)
{
	uint8_t *all, *at;

	if (command->nops == 1)
		return digest(command->desk, command->ops[0].data, command->ops[0].len,
			command->data_hash);
	all = at = command_scratch(command->desk, (size_t)command->bytes);
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < command->nops; i++) {
		memcpy(at, command->ops[i].data, command->ops[i].len);
		at += command->ops[i].len;
	}
	return digest(command->desk, all, (size_t)command->bytes, command->data_hash);
}

static uint8_t *put(uint8_t *to, const void *from, size_t len)
{
	if (len)
		memcpy(to, from, len);
	return to + len;
}

static uint8_t *put_word(uint8_t *to, uint64_t word)
{
	return put(to, &word, sizeof(word));
}

/* Everything but the data, of which the hash is there. */
static size_t fields_size(const struct command *command)
{
	size_t size = 12 * sizeof(uint64_t) + DESK_HASH;

	for (size_t i = 0; i < command->nops; i++)
		size += 4 * sizeof(uint64_t) + 2 * (size_t)command->ops[i].len;
	return size;
}

static uint8_t *put_ops(uint8_t *at, const struct command *command)
{
	for (size_t i = 0; i < command->nops; i++) {
		const struct memwrite_op *op = &command->ops[i];

		at = put_word(at, op->addr);
		at = put_word(at, op->cr3);
		at = put_word(at, op->len);
		at = put_word(at, (uint64_t)op->is_virtual | (uint64_t)(op->expect != NULL) << 1 |
					  (uint64_t)(op->mask != NULL) << 2);
		at = put(at, op->expect, op->expect ? op->len : 0);
		at = put(at, op->mask, op->mask ? op->len : 0);
	}
	return at;
}

/* The form of a digest that has the hash of its bulk data is that of all versions. */
enum form { FORM_BULK = 2, FORM_WITHOUT_DATA = 4 };

static int hash_fields(struct command *command, unsigned form, const uint8_t data_hash[DESK_HASH],
	uint8_t ret_digest[LEDGER_DIGEST])
{
	const Vmsig__CmdMemwrite *body = command->body;
	const Vmsig__WriteBulk *bulk = body->bulk;
	/* Which is the guest's that the lease is of; another host has another number for it. */
	uint32_t endpoint = command->desk->env.roams ? 0 : body->endpoint;
	uint8_t *fields = command_scratch(command->desk, fields_size(command)), *at = fields;

	if (!fields)
		return -ENOMEM;
	at = put_word(at, body->token);
	at = put_word(at, (uint64_t)endpoint << 32 | body->epoch);
	at = put_word(at, (uint64_t)body->want_old | (uint64_t)body->quiesce << 1);
	at = put_word(at, bulk ? bulk->addr : 0);
	at = put_word(at, bulk ? bulk->cr3 : 0);
	at = put_word(at, bulk ? bulk->len : 0);
	at = put_word(at, bulk ? form | bulk->virtual_address : 0);
	at = put_ops(at, command);
	at = put(at, data_hash, DESK_HASH);
	return digest(command->desk, fields, (size_t)(at - fields), ret_digest);
}

int command_hash_all(struct command *command)
{
	static const uint8_t none[DESK_HASH];
	int r = 0;

	if (command->body->bulk)
		r = hash_fields(command, FORM_BULK | FORM_WITHOUT_DATA, none, command->shape);
	if (!r && (!command->body->bulk || command->data_known))
		r = hash_fields(command, FORM_BULK, command->data_hash, command->digest);
	return r;
}

int command_hash_part(const struct desk *desk, const uint8_t shape[LEDGER_DIGEST], uint64_t bytes,
	uint32_t sum, uint8_t ret_digest[LEDGER_DIGEST])
{
	uint8_t fields[LEDGER_DIGEST + 2 * sizeof(uint64_t)];
	const uint8_t *at = put_word(put_word(put(fields, shape, LEDGER_DIGEST), bytes), sum);

	return digest(desk, fields, (size_t)(at - fields), ret_digest);
}

const uint8_t *command_name(const struct command *command)
{
	return command->body->bulk ? command->shape : command->digest;
}

int command_identify(struct command *command)
{
	return command->data_known ? command_hash_all(command)
				   : command_hash_part(command->desk, command->shape,
					     command->sum_at, command->sum, command->digest);
}

void command_merge(const struct command *command, const uint8_t *old, uint8_t *new)
{
	for (size_t i = 0; i < command->nops; i++) {
		const struct memwrite_op *op = &command->ops[i];

		for (size_t j = 0; op->mask && j < op->len; j++)
			new[j] = (uint8_t)((old[j] & ~op->mask[j]) | (op->data[j] & op->mask[j]));
		if (!op->mask)
			memcpy(new, op->data, op->len);
		old += op->len;
		new += op->len;
	}
}

static bool has_mask(const struct command *command)
{
	for (size_t i = 0; i < command->nops; i++) {
		if (command->ops[i].mask)
			return true;
	}
	return false;
}

bool command_looks(const struct command *command)
{
	for (size_t i = 0; i < command->nops; i++) {
		if (command->ops[i].expect)
			return true;
	}
	return command->keep_bytes || has_mask(command);
}

int command_hash(struct command *command, const uint8_t *old)
{
	size_t len = (size_t)command->bytes;
	uint8_t *new;
	int r = digest(command->desk, old, len, command->old_hash);

	if (r)
		return r;
	if (!has_mask(command)) {
		memcpy(command->new_hash, command->data_hash, DESK_HASH);
		return 0;
	}
	new = command_scratch(command->desk, len);
	if (!new)
		return -ENOMEM;
	command_merge(command, old, new);
	return digest(command->desk, new, len, command->new_hash);
}
