/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/replay.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/write/command.h"
#include "proto/mishap.h"

#define WRITERS_MAX 1024 /* processes that have written under one lease */

/* The highest number that each writer has used under one lease, as far as it has been asked. */
struct writer {
	uint64_t id, highest;
	struct charge charge;
	UT_hash_handle hh;
};

struct tally {
	uint64_t lease;
	struct writer *writers; /* by id */
	struct account account;
	UT_hash_handle hh;
};

static const struct account_kind kind = {.owner = "lease",
	.slots = {{"processes that have written", "the bound of writers",
		"release the lease and acquire another one"}}};

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
	tally = MISHAP("tally-memory") ? NULL : calloc(1, sizeof(*tally));
	if (!tally)
		return NULL;
	tally->lease = lease;
	account_init(&tally->account, &kind, "");
	account_set_limit(&tally->account, 0, WRITERS_MAX);
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
	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, tally->writers, writer, next) {
		HASH_DEL(tally->writers, writer);
		charge_refund(&writer->charge);
		free(writer);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	account_deinit(&tally->account);
	HASH_DEL(desk->tallies, tally);
	free(tally);
}

void replays_free(struct desk *desk)
{
	while (desk->tallies)
		replay_forget(desk, desk->tallies->lease);
}

static struct writer *writer_find(const struct desk *desk, const struct ledger_key *key)
{
	struct tally *tally = tally_find(desk, key->lease);
	struct writer *writer = NULL;

	if (tally)
		HASH_FIND(hh, tally->writers, &key->writer, sizeof(key->writer), writer);
	return writer;
}

static int highest(const struct desk *desk, const struct ledger_key *key, uint64_t *ret_sequence)
{
	const struct desk_ops *ops = &desk->env.ops;
	const struct writer *writer = writer_find(desk, key);

	if (!writer)
		return ops->ledger->highest(ops->ctx, key->lease, key->writer, ret_sequence);
	*ret_sequence = writer->highest;
	return 0;
}

static int writer_pay(struct writer *writer, struct tally *tally, struct command *command)
{
	const struct account_actor actor = {
		.tenant = command->tenant, .uid = command->uid, .pid = (int32_t)command->pid};
	struct account_refusal refusal;
	int r = charge_take(&writer->charge, &tally->account, 0, 1, &actor, &refusal);

	if (r)
		account_refusal_text(&refusal, command->detail, sizeof(command->detail));
	return r;
}

static int writer_add(struct command *command, uint64_t used)
{
	struct tally *tally = tally_get(command->desk, command->key.lease);
	struct writer *writer =
		tally && !MISHAP("writer-memory") ? calloc(1, sizeof(*writer)) : NULL;
	int r = writer ? writer_pay(writer, tally, command) : -ENOMEM;

	if (r) {
		free(writer);
		return r;
	}
	writer->id = command->key.writer;
	writer->highest = used;
	HASH_ADD(hh, tally->writers, id, sizeof(writer->id), writer);
	if (writer->hh.tbl)
		return 0;
	charge_refund(&writer->charge);
	free(writer);
	return -ENOMEM;
}

/* What was used before the broker started is higher than what a crash has given back. */
int replay_note(struct command *command)
{
	const struct ledger_key *key = &command->key;
	struct writer *writer = writer_find(command->desk, key);
	uint64_t used = 0;
	int r;

	if (writer) {
		if (key->sequence > writer->highest)
			writer->highest = key->sequence;
		return 0;
	}
	r = highest(command->desk, key, &used);
	return r ? r : writer_add(command, key->sequence > used ? key->sequence : used);
}

/* ---- whose lease ---- */

static bool is_held(const struct command *command)
{
	struct lease_view lease;

	return lease_find(command->desk->engine, command->key.lease, &lease) &&
	       lease.state == LEASE_ACTIVE;
}

int replay_authorise(const struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	char tenant[LEASE_NAME_MAX + 1];
	struct lease_view lease;
	uint64_t token;
	int r;

	if (lease_find(command->desk->engine, command->key.lease, &lease))
		return strcmp(lease.tenant, command->tenant) == 0 &&
				       lease.token == command->body->token &&
				       lease.state >= LEASE_ACTIVE
			       ? 0
			       : VMSIG_ERR_NO_LEASE;
	r = ops->leases->find(ops->ctx, command->key.lease, tenant, &token);
	if (r)
		return r;
	return strcmp(tenant, command->tenant) == 0 && token == command->body->token
		       ? 0
		       : VMSIG_ERR_NO_LEASE;
}

/* ---- the answer ---- */

static struct replay_verdict refuse(int error)
{
	return (struct replay_verdict){.answer = REPLAY_REFUSE, .error = error};
}

/* Of how many bytes the ledger's digest may have a sum: 0 when the reply cannot be read, too. */
static uint64_t written(const struct ledger_entry *entry)
{
	Vmsig__WriteResult *result =
		vmsig__write_result__unpack(NULL, entry->reply_len, entry->reply);
	uint64_t bytes = result ? result->written : 0;

	if (result)
		vmsig__write_result__free_unpacked(result, NULL);
	return bytes;
}

/* The data as a whole, or the part of it that was stored; command.h. */
static int compare_data(const struct command *command, const struct ledger_entry *entry)
{
	uint8_t part[LEDGER_DIGEST];
	int r;

	if (memcmp(entry->digest, command->digest, LEDGER_DIGEST) == 0)
		return 0;
	r = command->sum ? command_hash_part(command->desk, command->shape, command->sum_at,
				   command->sum, part)
			 : VMSIG_ERR_REPLAY_MISMATCH;
	return r                                                 ? r
	       : memcmp(entry->digest, part, LEDGER_DIGEST) == 0 ? 0
								 : VMSIG_ERR_REPLAY_MISMATCH;
}

/* Of one that never had a digest nobody knows the data; what it tells is that it is unknown. */
static struct replay_verdict compare(
	const struct command *command, const struct ledger_entry *entry)
{
	bool bulk = command->body->bulk != NULL;
	int r;

	if (bulk && memcmp(entry->digest, command->shape, LEDGER_DIGEST) == 0)
		return (struct replay_verdict){.answer = REPLAY_ANSWER};
	if (bulk && !command->data_known)
		return (struct replay_verdict){.answer = REPLAY_READ, .sum_at = written(entry)};
	r = bulk ? compare_data(command, entry)
	    : memcmp(entry->digest, command->digest, LEDGER_DIGEST) != 0 ? VMSIG_ERR_REPLAY_MISMATCH
									 : 0;
	return r ? refuse(r) : (struct replay_verdict){.answer = REPLAY_ANSWER};
}

static struct replay_verdict look_up(const struct command *command)
{
	const struct desk_ops *ops = &command->desk->env.ops;
	struct replay_verdict verdict;
	struct ledger_entry entry;
	int r = ops->ledger->find(ops->ctx, &command->key, &entry);

	if (r == VMSIG_ERR_NO_LEASE)
		return (struct replay_verdict){.answer = REPLAY_NEW};
	if (r)
		return refuse(r);
	verdict = compare(command, &entry);
	if (verdict.answer == REPLAY_ANSWER && !entry.done)
		/* What a crash left open is settled when the marks are there. */
		verdict = refuse(command->desk->marks == DESK_MARKS_FREE ? VMSIG_ERR_INTERNAL
									 : VMSIG_ERR_IO);
	if (verdict.answer == REPLAY_ANSWER)
		verdict.entry = entry;
	else
		free(entry.reply);
	return verdict;
}

static struct replay_verdict join(const struct command *command, struct command *first)
{
	if (memcmp(command_name(first), command_name(command), LEDGER_DIGEST) != 0)
		return refuse(VMSIG_ERR_REPLAY_MISMATCH);
	return (struct replay_verdict){
		.answer = command->body->bulk ? REPLAY_LATER : REPLAY_WAIT, .first = first};
}

struct replay_verdict replay_look(const struct command *command)
{
	struct command *first = command_find(command->desk, &command->key);
	uint64_t used = UINT64_MAX;
	int r;

	if (first)
		return join(command, first);
	r = is_held(command) ? highest(command->desk, &command->key, &used) : 0;
	if (r)
		return refuse(r);
	if (command->key.sequence > used)
		return (struct replay_verdict){.answer = REPLAY_NEW};
	return look_up(command);
}
