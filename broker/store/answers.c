/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/answers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#define WRITER_LEAST 4 /* slots of a new writer */
#define OVERHEAD 32    /* bytes of an answer beside it: the allocator's, and the slot */

struct writer_key {
	uint64_t lease, writer;
};

/* Its answers in the order of their slots. */
struct answer_writer {
	struct writer_key key;
	struct ledger_answer **slots;
	uint32_t n, capacity;
	uint32_t open;              /* without a reply */
	struct answer_writer *next; /* of the lease */
	UT_hash_handle hh;
};

struct answer_lease {
	uint64_t lease;
	struct answer_writer *writers;
	UT_hash_handle hh;
};

static uint64_t slot_of(uint64_t sequence)
{
	return sequence % LEDGER_WINDOW;
}

struct ledger_answer *answer_new(uint64_t sequence, const uint8_t digest[LEDGER_DIGEST],
	uint64_t intent, bool done, const void *reply, size_t len)
{
	struct ledger_answer *answer = malloc(sizeof(*answer) + len);

	if (!answer)
		return NULL;
	answer->sequence = sequence;
	answer->intent = intent;
	memcpy(answer->digest, digest, LEDGER_DIGEST);
	answer->done = done;
	answer->len = (uint32_t)len;
	if (len)
		memcpy(answer->reply, reply, len);
	return answer;
}

/* ---- writers ---- */

static struct answer_writer *writer_find(
	const struct answers *answers, uint64_t lease, uint64_t writer)
{
	const struct writer_key key = {.lease = lease, .writer = writer};
	struct answer_writer *found = NULL;

	/* The hash reads the key's bytes, which the analyser loses sight of. */
	/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
	HASH_FIND(hh, answers->writers, &key, sizeof(key), found);
	return found;
}

static struct answer_lease *lease_find(const struct answers *answers, uint64_t lease)
{
	struct answer_lease *found = NULL;

	HASH_FIND(hh, answers->leases, &lease, sizeof(lease), found);
	return found;
}

static struct answer_lease *lease_get(struct answers *answers, uint64_t lease)
{
	struct answer_lease *found = lease_find(answers, lease);

	if (found)
		return found;
	found = calloc(1, sizeof(*found));
	if (!found)
		return NULL;
	found->lease = lease;
	HASH_ADD(hh, answers->leases, lease, sizeof(found->lease), found);
	if (found->hh.tbl)
		return found;
	free(found);
	return NULL;
}

static struct answer_writer *writer_get(struct answers *answers, const struct ledger_key *key)
{
	struct answer_writer *writer = writer_find(answers, key->lease, key->writer);
	struct answer_lease *lease;

	if (writer)
		return writer;
	lease = lease_get(answers, key->lease);
	writer = lease ? calloc(1, sizeof(*writer)) : NULL;
	if (!writer)
		return NULL;
	writer->key = (struct writer_key){.lease = key->lease, .writer = key->writer};
	HASH_ADD(hh, answers->writers, key, sizeof(writer->key), writer);
	if (!writer->hh.tbl) {
		free(writer);
		return NULL;
	}
	LL_PREPEND(lease->writers, writer);
	answers->bytes += sizeof(*writer);
	return writer;
}

static void writer_free(struct answer_writer *writer)
{
	for (uint32_t i = 0; i < writer->n; i++)
		free(writer->slots[i]);
	free(writer->slots);
	free(writer);
}

/* ---- slots ---- */

/* Where it is, or would be. */
static uint32_t place_of(const struct answer_writer *writer, uint64_t sequence)
{
	uint32_t low = 0, high = writer->n;
	uint64_t slot = slot_of(sequence);

	/* Most come in order. */
	if (high && slot_of(writer->slots[high - 1]->sequence) < slot)
		return high;
	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (slot_of(writer->slots[middle]->sequence) < slot)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_there(const struct answer_writer *writer, uint32_t at, uint64_t sequence)
{
	return at < writer->n && slot_of(writer->slots[at]->sequence) == slot_of(sequence);
}

static uint64_t cost_of(const struct ledger_answer *answer)
{
	return sizeof(*answer) + answer->len + OVERHEAD;
}

static int writer_grow(struct answer_writer *writer)
{
	uint32_t capacity = writer->capacity ? writer->capacity * 2 : WRITER_LEAST;
	struct ledger_answer **grown;

	if (writer->n < writer->capacity)
		return 0;
	grown = realloc(writer->slots, capacity * sizeof(struct ledger_answer *));
	if (!grown)
		return -ENOMEM;
	writer->slots = grown;
	writer->capacity = capacity;
	return 0;
}

struct ledger_answer *answers_slot(const struct answers *answers, const struct ledger_key *key)
{
	const struct answer_writer *writer = writer_find(answers, key->lease, key->writer);
	uint32_t at;

	if (!writer)
		return NULL;
	at = place_of(writer, key->sequence);
	return is_there(writer, at, key->sequence) ? writer->slots[at] : NULL;
}

int answers_put(struct answers *answers, const struct ledger_key *key, struct ledger_answer *answer,
	struct ledger_answer **ret_old)
{
	struct answer_writer *writer = writer_get(answers, key);
	uint32_t at;

	*ret_old = NULL;
	if (!writer)
		return -ENOMEM;
	at = place_of(writer, key->sequence);
	if (is_there(writer, at, key->sequence)) {
		*ret_old = writer->slots[at];
		writer->open -= !(*ret_old)->done;
		answers->bytes -= cost_of(*ret_old);
	} else {
		if (writer_grow(writer))
			return -ENOMEM;
		memmove(writer->slots + at + 1, writer->slots + at,
			(writer->n - at) * sizeof(struct ledger_answer *));
		writer->n++;
	}
	writer->slots[at] = answer;
	writer->open += !answer->done;
	answers->bytes += cost_of(answer);
	return 0;
}

struct ledger_answer *answers_take(struct answers *answers, const struct ledger_key *key)
{
	struct answer_writer *writer = writer_find(answers, key->lease, key->writer);
	struct ledger_answer *answer;
	uint32_t at;

	if (!writer)
		return NULL;
	at = place_of(writer, key->sequence);
	if (!is_there(writer, at, key->sequence))
		return NULL;
	answer = writer->slots[at];
	writer->n--;
	memmove(writer->slots + at, writer->slots + at + 1,
		(writer->n - at) * sizeof(struct ledger_answer *));
	writer->open -= !answer->done;
	answers->bytes -= cost_of(answer);
	return answer;
}

/* ---- leases ---- */

static uint64_t lease_cost(const struct answer_lease *lease)
{
	const struct answer_writer *writer;
	uint64_t bytes = 0;

	LL_FOREACH (lease->writers, writer) {
		bytes += sizeof(*writer);
		for (uint32_t i = 0; i < writer->n; i++)
			bytes += cost_of(writer->slots[i]);
	}
	return bytes;
}

struct answer_lease *answers_detach(struct answers *answers, uint64_t lease)
{
	struct answer_lease *found = lease_find(answers, lease);
	struct answer_writer *writer;

	if (!found)
		return NULL;
	HASH_DEL(answers->leases, found);
	/* Each of them is in both, which the analyser does not know. */
	/* NOLINTBEGIN(clang-analyzer-core.NullDereference) */
	LL_FOREACH (found->writers, writer)
		HASH_DEL(answers->writers, writer);
	/* NOLINTEND(clang-analyzer-core.NullDereference) */
	answers->bytes -= lease_cost(found);
	return found;
}

/* What finds no memory is forgotten: its lease is over for long. */
void answers_attach(struct answers *answers, struct answer_lease *lease)
{
	struct answer_writer *writer, *next;

	/* What came in its place was taken back, and has left its empty hull. */
	answers_free(answers_detach(answers, lease->lease));
	HASH_ADD(hh, answers->leases, lease, sizeof(lease->lease), lease);
	if (!lease->hh.tbl) {
		answers_free(lease);
		return;
	}
	LL_FOREACH_SAFE (lease->writers, writer, next) {
		HASH_ADD(hh, answers->writers, key, sizeof(writer->key), writer);
		if (writer->hh.tbl)
			continue;
		LL_DELETE(lease->writers, writer);
		writer_free(writer);
	}
	answers->bytes += lease_cost(lease);
}

void answers_free(struct answer_lease *lease)
{
	struct answer_writer *writer, *next;

	if (!lease)
		return;
	LL_FOREACH_SAFE (lease->writers, writer, next)
		writer_free(writer);
	free(lease);
}

void answers_deinit(struct answers *answers)
{
	struct answer_lease *lease, *next;

	/* The elements go as a whole: they need not be taken out one by one. */
	HASH_CLEAR(hh, answers->writers);
	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, answers->leases, lease, next) {
		HASH_DEL(answers->leases, lease);
		answers_free(lease);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	*answers = (struct answers){0};
}

/* ---- looking ---- */

uint64_t answers_highest(const struct answers *answers, uint64_t lease, uint64_t writer)
{
	const struct answer_writer *found = writer_find(answers, lease, writer);
	uint64_t highest = 0;

	for (uint32_t i = 0; found && i < found->n; i++) {
		if (found->slots[i]->sequence > highest)
			highest = found->slots[i]->sequence;
	}
	return highest;
}

static int compare(const struct ledger_key *a, const struct ledger_key *b)
{
	if (a->lease != b->lease)
		return a->lease < b->lease ? -1 : 1;
	if (a->writer != b->writer)
		return a->writer < b->writer ? -1 : 1;
	return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

struct lowest {
	struct ledger_key above, key;
	const struct ledger_answer *answer;
};

static void look(struct lowest *lowest, const struct answer_writer *writer)
{
	for (uint32_t i = 0; i < writer->n; i++) {
		const struct ledger_answer *answer = writer->slots[i];
		const struct ledger_key key = {.lease = writer->key.lease,
			.writer = writer->key.writer,
			.sequence = answer->sequence};

		if (answer->done || compare(&key, &lowest->above) <= 0 ||
			(lowest->answer && compare(&key, &lowest->key) >= 0))
			continue;
		lowest->key = key;
		lowest->answer = answer;
	}
}

bool answers_next_open(const struct answers *answers, struct ledger_key *cursor,
	const struct ledger_answer **ret_answer)
{
	struct lowest lowest = {.above = *cursor};

	for (const struct answer_writer *writer = answers->writers; writer;
		writer = writer->hh.next) {
		if (writer->open)
			look(&lowest, writer);
	}
	if (!lowest.answer)
		return false;
	*cursor = lowest.key;
	*ret_answer = lowest.answer;
	return true;
}

static int each_of_writer(const struct answer_writer *writer,
	int (*each)(void *arg, const struct ledger_key *key, const struct ledger_answer *answer),
	void *arg)
{
	int r = 0;

	for (uint32_t i = 0; !r && i < writer->n; i++) {
		const struct ledger_key key = {.lease = writer->key.lease,
			.writer = writer->key.writer,
			.sequence = writer->slots[i]->sequence};

		r = each(arg, &key, writer->slots[i]);
	}
	return r;
}

int answers_each_of(const struct answers *answers, uint64_t lease,
	int (*each)(void *arg, const struct ledger_key *key, const struct ledger_answer *answer),
	void *arg)
{
	const struct answer_lease *found = lease_find(answers, lease);
	const struct answer_writer *writer = found ? found->writers : NULL;
	int r = 0;

	for (; writer && !r; writer = writer->next)
		r = each_of_writer(writer, each, arg);
	return r;
}

int answers_each(const struct answers *answers,
	int (*each)(void *arg, const struct ledger_key *key, const struct ledger_answer *answer),
	void *arg)
{
	int r = 0;

	for (const struct answer_writer *writer = answers->writers; writer && !r;
		writer = writer->hh.next)
		r = each_of_writer(writer, each, arg);
	return r;
}
