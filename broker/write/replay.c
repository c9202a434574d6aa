/* SPDX-License-Identifier: Apache-2.0 */
/*
 * At most once: whether a command is new, or an earlier transmission of it is under way, has an
 * outcome, or was another command. What a crash left is in the ledger before the first command
 * comes (recover.c), so this is answered from the ledger and the commands at hand, and from
 * nothing that the guest can change.
 */
#include "broker/write/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define WRITERS_MAX 1024 /* processes that have written under one lease */

/* ---- what the command is ---- */

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
	size_t size = 12 * sizeof(uint64_t) + AUDIT_HASH;

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

static int digest_make(struct command *command)
{
	const Vmsig__CmdMemwrite *body = command->body;
	const Vmsig__WriteBulk *bulk = body->bulk;
	uint8_t *fields = desk_scratch(command->desk, fields_size(command)), *at = fields;

	if (!fields)
		return -ENOMEM;
	at = put_word(at, body->token);
	at = put_word(at, (uint64_t)body->endpoint << 32 | body->epoch);
	at = put_word(at, (uint64_t)body->want_old | (uint64_t)body->quiesce << 1);
	at = put_word(at, bulk ? bulk->addr : 0);
	at = put_word(at, bulk ? bulk->cr3 : 0);
	at = put_word(at, bulk ? bulk->len : 0);
	at = put_word(at, bulk ? 2u | bulk->virtual_address : 0);
	at = put_ops(at, command);
	at = put(at, command->data_hash, AUDIT_HASH);
	return audit_digest(command->desk->audit, fields, (size_t)(at - fields), command->digest);
}

/* ---- who has used which numbers ---- */

static struct tally *tally_find(const struct desk *desk, uint64_t lease)
{
	struct tally *tally = NULL;

	HASH_FIND(hh, desk->tallies, &lease, sizeof(lease), tally);
	return tally;
}

static struct tally *tally_get(struct desk *desk, uint64_t lease)
{
	struct tally *tally = tally_find(desk, lease);

	if (tally)
		return tally;
	tally = calloc(1, sizeof(*tally));
	if (!tally)
		return NULL;
	tally->lease = lease;
	HASH_ADD(hh, desk->tallies, lease, sizeof(tally->lease), tally);
	if (!tally->hh.tbl) {
		free(tally);
		return NULL;
	}
	return tally;
}

void replay_forget(struct desk *desk, uint64_t lease)
{
	struct tally *tally = tally_find(desk, lease);
	struct writer *writer, *next;

	if (!tally)
		return;
	LL_FOREACH_SAFE (tally->writers, writer, next)
		free(writer);
	HASH_DEL(desk->tallies, tally);
	free(tally);
}

static struct writer *writer_find(const struct tally *tally, uint64_t id)
{
	struct writer *writer;

	LL_SEARCH_SCALAR(tally->writers, writer, id, id);
	return writer;
}

/* Of a lease that is held. */
static int writer_get(const struct command *command, struct writer **ret_writer)
{
	const struct ledger_key *key = &command->key;
	struct tally *tally = tally_get(command->desk, key->lease);
	struct writer *writer = tally ? writer_find(tally, key->writer) : NULL;
	int r;

	if (writer) {
		*ret_writer = writer;
		return 0;
	}
	if (!tally)
		return -ENOMEM;
	if (tally->n >= WRITERS_MAX)
		return VMSIG_ERR_QUOTA;
	writer = calloc(1, sizeof(*writer));
	if (!writer)
		return -ENOMEM;
	writer->id = key->writer;
	r = ledger_highest(command->desk->ledger, key->lease, key->writer, &writer->highest);
	if (r) {
		free(writer);
		return r;
	}
	LL_PREPEND(tally->writers, writer);
	tally->n++;
	*ret_writer = writer;
	return 0;
}

static bool is_held(const struct command *command)
{
	struct lease_view lease;

	return lease_find(command->desk->engine, command->key.lease, &lease) &&
	       lease.state == LEASE_ACTIVE;
}

int replay_authorise(const struct command *command)
{
	struct desk *desk = command->desk;
	char tenant[LEASE_NAME_MAX + 1];
	struct lease_view lease;
	uint64_t token;
	int r;

	if (lease_find(desk->engine, command->key.lease, &lease))
		return strcmp(lease.tenant, command->tenant) == 0 &&
				       lease.token == command->body->token &&
				       lease.state >= LEASE_ACTIVE
			       ? 0
			       : VMSIG_ERR_NO_LEASE;
	r = desk->leases->ops->find(desk->leases, command->key.lease, tenant, &token);
	if (r)
		return r;
	return strcmp(tenant, command->tenant) == 0 && token == command->body->token
		       ? 0
		       : VMSIG_ERR_NO_LEASE;
}

/* ---- answers ---- */

/* They were too many to be kept, or a crash took them. */
static char old_missing[] = "applied before; the bytes that were there then are not kept";

static void tell_stored(struct command *command, const struct ledger_entry *entry)
{
	struct desk_operator *op = desk_operator_find(command->desk, command->session);
	Vmsig__WriteResult *result =
		vmsig__write_result__unpack(NULL, entry->reply_len, entry->reply);
	Vmsig__WriteResult answer;

	if (!result) {
		command_reject(command, VMSIG_ERR_UNKNOWN_OUTCOME,
			"the stored outcome is damaged; the audit log has the record");
		return;
	}
	result->replayed = true;
	answer = *result;
	if (command->body->want_old && !result->outcome && !result->old.len)
		answer.detail = old_missing;
	if (op)
		command->desk->env.events->written(op->client, command->request_id, &answer);
	vmsig__write_result__free_unpacked(result, NULL);
	command_free(command);
}

/* ---- numbers that are in use ---- */

static struct command *taken_find(const struct desk *desk, const struct ledger_key *key)
{
	struct command *command = NULL;

	HASH_FIND(hh, desk->taken, key, sizeof(*key), command);
	return command;
}

static int mark_take(struct command *command)
{
	struct desk *desk = command->desk;
	int r;

	if (!desk->marks && desk_now() >= desk->marks_retry_ns) {
		recover_open_marks(desk);
		/* What they tell of was settled without them. */
		recover_done(desk);
	}
	r = desk->marks ? marks_take(desk->marks, &command->key, command->digest, &command->mark)
			: VMSIG_ERR_IO;
	if (r)
		snprintf(command->detail, sizeof(command->detail), "nothing was written: %s",
			r == VMSIG_ERR_BUSY ? "too many writes have no recorded result yet"
					    : "the broker cannot mark it; its log says why");
	return r;
}

int replay_take(struct command *command)
{
	struct desk *desk = command->desk;
	int r = mark_take(command);

	if (r)
		return r;
	HASH_ADD(hh, desk->taken, key, sizeof(command->key), command);
	command->taken = command->hh.tbl != NULL;
	return command->taken ? 0 : -ENOMEM;
}

void replay_leave(struct command *command)
{
	if (command->taken)
		HASH_DEL(command->desk->taken, command);
	command->taken = false;
}

void replay_done(struct command *command)
{
	if (command->mark)
		marks_release(command->desk->marks, command->mark);
	command->mark = 0;
	replay_leave(command);
}

/* The first transmission is still under way: it answers whom the second one came from. */
static bool join_underway(struct command *command, int *ret_error)
{
	struct command *other = taken_find(command->desk, &command->key);

	if (!other)
		return false;
	*ret_error = memcmp(other->digest, command->digest, LEDGER_DIGEST)
			     ? VMSIG_ERR_REPLAY_MISMATCH
			     : 0;
	if (*ret_error)
		return true;
	/* The charge goes with the answer. */
	command_charge(other, command->session);
	other->request_id = command->request_id;
	command_free(command);
	if (other->told)
		command_tell(other);
	return true;
}

/* ---- */

static int look_up(struct command *command, bool *ret_new)
{
	struct ledger_entry entry;
	int r = 0;

	if (join_underway(command, &r))
		return r;
	r = ledger_find(command->desk->ledger, &command->key, &entry);
	if (r == VMSIG_ERR_NO_LEASE) {
		*ret_new = true;
		return 0;
	}
	if (r)
		return r;
	if (memcmp(entry.digest, command->digest, LEDGER_DIGEST) != 0)
		r = VMSIG_ERR_REPLAY_MISMATCH;
	else if (entry.done)
		tell_stored(command, &entry);
	else
		/* What a crash left open was settled at the start: this cannot be. */
		r = VMSIG_ERR_INTERNAL;
	free(entry.reply);
	return r;
}

int replay_check(struct command *command, bool *ret_new)
{
	struct writer *writer = NULL;
	int r = replay_authorise(command);

	*ret_new = false;
	if (!r)
		r = digest_make(command);
	if (!r && is_held(command))
		r = writer_get(command, &writer);
	if (r)
		return r;
	if (writer && command->key.sequence > writer->highest) {
		writer->highest = command->key.sequence;
		*ret_new = true;
		return 0;
	}
	return look_up(command, ret_new);
}
