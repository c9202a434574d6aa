/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/store/answers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WRITER_LEAST 4 /* slots of a new writer */
#define OVERHEAD 32    /* bytes of an answer beside it: the allocator's, and the slot */
#define CLEARED 4096u  /* answers that are freed in one go; some hundred microseconds */

/* Its answers in the order of their slots. */
struct answer_writer {
	struct idtree_node node;
	struct answer_lease *lease;
	struct ledger_answer **slots;
	uint32_t n, capacity;
	uint32_t open; /* without a reply */
};

struct answer_lease {
	struct idtree_node node;
	struct idtree writers;
	uint64_t bytes;            /* its part of all */
	struct answer_lease *next; /* of those that are gone */
};

static struct answer_writer *writer_of(struct idtree_node *node)
{
	return (struct answer_writer *)(void *)node;
}

static struct answer_lease *lease_of(struct idtree_node *node)
{
	return (struct answer_lease *)(void *)node;
}

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

static struct answer_lease *lease_find(const struct answers *answers, uint64_t lease)
{
	return lease_of(idtree_find(&answers->leases, lease));
}

static struct answer_writer *writer_find(
	const struct answers *answers, uint64_t lease, uint64_t writer)
{
	const struct answer_lease *found = lease_find(answers, lease);

	return found ? writer_of(idtree_find(&found->writers, writer)) : NULL;
}

/* What it takes, or gives back. */
static void pay(struct answers *answers, struct answer_lease *lease, int64_t bytes)
{
	answers->bytes += (uint64_t)bytes;
	lease->bytes += (uint64_t)bytes;
}

static struct answer_lease *lease_get(struct answers *answers, uint64_t lease)
{
	struct answer_lease *found = lease_find(answers, lease);

	if (found)
		return found;
	found = calloc(1, sizeof(*found));
	if (!found)
		return NULL;
	found->node.id = lease;
	idtree_insert(&answers->leases, &found->node);
	return found;
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
	writer->node.id = key->writer;
	writer->lease = lease;
	idtree_insert(&lease->writers, &writer->node);
	pay(answers, lease, (int64_t)sizeof(*writer));
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
		pay(answers, writer->lease, -(int64_t)cost_of(*ret_old));
	} else {
		if (writer_grow(writer))
			return -ENOMEM;
		memmove(writer->slots + at + 1, writer->slots + at,
			(writer->n - at) * sizeof(struct ledger_answer *));
		writer->n++;
	}
	writer->slots[at] = answer;
	writer->open += !answer->done;
	pay(answers, writer->lease, (int64_t)cost_of(answer));
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
	pay(answers, writer->lease, -(int64_t)cost_of(answer));
	return answer;
}

/* ---- leases ---- */

struct answer_lease *answers_detach(struct answers *answers, uint64_t lease)
{
	struct answer_lease *found = lease_find(answers, lease);

	if (!found)
		return NULL;
	idtree_remove(&answers->leases, &found->node);
	answers->bytes -= found->bytes;
	return found;
}

void answers_attach(struct answers *answers, struct answer_lease *lease)
{
	/* What came in its place was taken back, and has left its empty hull. */
	answers_free(answers_detach(answers, lease->node.id));
	idtree_insert(&answers->leases, &lease->node);
	answers->bytes += lease->bytes;
}

void answers_free(struct answer_lease *lease)
{
	struct idtree_node *node;

	if (!lease)
		return;
	while ((node = idtree_pop(&lease->writers)))
		writer_free(writer_of(node));
	free(lease);
}

void answers_bury(struct answers *answers, struct answer_lease *lease)
{
	lease->next = answers->gone;
	answers->gone = lease;
}

/* The last answers of a writer, and it when it has no more. */
static unsigned writer_clear_some(
	struct answer_lease *lease, struct answer_writer *writer, unsigned most)
{
	unsigned n = 0;

	for (; writer->n && n < most; n++)
		free(writer->slots[--writer->n]);
	if (!writer->n)
		writer_free(writer_of(idtree_pop(&lease->writers)));
	return n;
}

bool answers_clear_some(struct answers *answers)
{
	struct answer_lease *lease;

	/* What has no answers costs something as well. */
	for (unsigned n = 0; n < CLEARED && (lease = answers->gone); n++) {
		if (lease->writers.root) {
			n += writer_clear_some(lease, writer_of(lease->writers.root), CLEARED - n);
			continue;
		}
		answers->gone = lease->next;
		free(lease);
	}
	return answers->gone;
}

void answers_deinit(struct answers *answers)
{
	struct idtree_node *node;

	while (answers_clear_some(answers))
		;
	while ((node = idtree_pop(&answers->leases)))
		answers_free(lease_of(node));
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

/* The one with the lowest number above `above` that has no reply, or NULL. */
static const struct ledger_answer *writer_next_open(
	const struct answer_writer *writer, uint64_t above)
{
	const struct ledger_answer *lowest = NULL;

	for (uint32_t i = 0; writer->open && i < writer->n; i++) {
		const struct ledger_answer *answer = writer->slots[i];

		if (!answer->done && answer->sequence > above &&
			(!lowest || answer->sequence < lowest->sequence))
			lowest = answer;
	}
	return lowest;
}

/* From the key's writer on: of others of that lease all numbers count. */
static const struct ledger_answer *lease_next_open(
	const struct answer_lease *lease, struct ledger_key *key)
{
	struct idtree_node *node = idtree_find(&lease->writers, key->writer);
	const struct ledger_answer *answer =
		node ? writer_next_open(writer_of(node), key->sequence) : NULL;

	while (!answer && (node = idtree_after(&lease->writers, key->writer))) {
		key->writer = node->id;
		answer = writer_next_open(writer_of(node), 0);
	}
	return answer;
}

/* The lowest lease of all is above a cursor of zeros: no lease has the number 0. */
bool answers_next_open(const struct answers *answers, struct ledger_key *cursor,
	const struct ledger_answer **ret_answer)
{
	const struct answer_lease *lease = lease_find(answers, cursor->lease);
	struct ledger_key key = *cursor;
	const struct ledger_answer *answer = lease ? lease_next_open(lease, &key) : NULL;
	struct idtree_node *node;

	while (!answer && (node = idtree_after(&answers->leases, key.lease))) {
		key = (struct ledger_key){.lease = node->id};
		answer = lease_next_open(lease_of(node), &key);
	}
	if (!answer)
		return false;
	key.sequence = answer->sequence;
	*cursor = key;
	*ret_answer = answer;
	return true;
}

static int each_of_writer(uint64_t lease, const struct answer_writer *writer,
	int (*each)(void *arg, const struct ledger_key *key, const struct ledger_answer *answer),
	void *arg)
{
	int r = 0;

	for (uint32_t i = 0; !r && i < writer->n; i++) {
		const struct ledger_key key = {.lease = lease,
			.writer = writer->node.id,
			.sequence = writer->slots[i]->sequence};

		r = each(arg, &key, writer->slots[i]);
	}
	return r;
}

static int each_of_lease(const struct answer_lease *lease,
	int (*each)(void *arg, const struct ledger_key *key, const struct ledger_answer *answer),
	void *arg)
{
	struct idtree_node *node = idtree_first(&lease->writers);
	int r = 0;

	for (; node && !r; node = idtree_after(&lease->writers, node->id))
		r = each_of_writer(lease->node.id, writer_of(node), each, arg);
	return r;
}

int answers_each_of(const struct answers *answers, uint64_t lease,
	int (*each)(void *arg, const struct ledger_key *key, const struct ledger_answer *answer),
	void *arg)
{
	const struct answer_lease *found = lease_find(answers, lease);

	return found ? each_of_lease(found, each, arg) : 0;
}

int answers_each(const struct answers *answers,
	int (*each)(void *arg, const struct ledger_key *key, const struct ledger_answer *answer),
	void *arg)
{
	struct idtree_node *node = idtree_first(&answers->leases);
	int r = 0;

	for (; node && !r; node = idtree_after(&answers->leases, node->id))
		r = each_of_lease(lease_of(node), each, arg);
	return r;
}
