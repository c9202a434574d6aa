/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet/txn.h"

#include <stdlib.h>
#include <string.h>

#include "proto/mishap.h"

static void bytes_deinit(struct txn_bytes *bytes)
{
	free(bytes->data);
	*bytes = (struct txn_bytes){0};
}

static bool bytes_set(struct txn_bytes *bytes, const void *data, size_t len)
{
	/* A byte more, so that empty is not missing, and a key is text. */
	bytes->data = calloc(1, len + 1);
	if (!bytes->data)
		return false;
	if (len)
		memcpy(bytes->data, data, len);
	bytes->len = len;
	return true;
}

static bool key_set(struct txn_bytes *bytes, const char *key)
{
	size_t len = strnlen(key, TXN_KEY_MAX + 1);

	return len && len <= TXN_KEY_MAX && bytes_set(bytes, key, len);
}

/* The first key behind all that begin with the prefix. No prefix ends in 0xff: it is text. */
static bool prefix_end(struct txn_bytes *bytes, const struct txn_bytes *prefix)
{
	if (prefix->data[prefix->len - 1] == 0xff || !bytes_set(bytes, prefix->data, prefix->len))
		return false;
	bytes->data[bytes->len - 1]++;
	return true;
}

/* One more zeroed element, or NULL, which dooms the transaction. */
static void *grow(struct txn *txn, void *list, size_t *n, size_t size)
{
	char *grown =
		*n < TXN_PARTS_MAX && !MISHAP("txn-memory") ? realloc(list, (*n + 1) * size) : NULL;

	if (!grown) {
		txn->doomed = true;
		return NULL;
	}
	memset(grown + *n * size, 0, size);
	++*n;
	return grown;
}

static struct txn_compare *compare_add(
	struct txn *txn, const char *key, enum txn_what what, enum txn_relation relation)
{
	struct txn_compare *list =
		grow(txn, txn->compares, &txn->ncompares, sizeof(*txn->compares));
	struct txn_compare *compare;

	if (!list)
		return NULL;
	txn->compares = list;
	compare = &list[txn->ncompares - 1];
	compare->what = what;
	compare->relation = relation;
	if (!key_set(&compare->key, key))
		txn->doomed = true;
	return compare;
}

void txn_compare_number(struct txn *txn, const char *key, enum txn_what what,
	enum txn_relation relation, int64_t number)
{
	struct txn_compare *compare = compare_add(txn, key, what, relation);

	if (compare)
		compare->number = number;
	if (what == TXN_VALUE)
		txn->doomed = true;
}

void txn_compare_value(
	struct txn *txn, const char *key, enum txn_relation relation, const void *value, size_t len)
{
	struct txn_compare *compare = compare_add(txn, key, TXN_VALUE, relation);

	if (!compare || len > TXN_VALUE_MAX || !bytes_set(&compare->value, value, len))
		txn->doomed = true;
}

static struct txn_op *op_add(
	struct txn *txn, enum txn_branch branch, enum txn_op_kind kind, const char *key)
{
	struct txn_ops *ops = &txn->branches[branch];
	struct txn_op *list = grow(txn, ops->ops, &ops->n, sizeof(*ops->ops));
	struct txn_op *op;

	if (!list)
		return NULL;
	ops->ops = list;
	op = &list[ops->n - 1];
	op->kind = kind;
	if (key_set(&op->key, key))
		return op;
	txn->doomed = true;
	return NULL;
}

void txn_put(struct txn *txn, enum txn_branch branch, const char *key, const void *value,
	size_t len, int64_t lease)
{
	struct txn_op *op = op_add(txn, branch, TXN_PUT, key);

	if (!op)
		return;
	op->lease = lease;
	if (len > TXN_VALUE_MAX || !bytes_set(&op->value, value, len))
		txn->doomed = true;
}

void txn_delete(struct txn *txn, enum txn_branch branch, const char *key)
{
	op_add(txn, branch, TXN_DELETE, key);
}

void txn_get(struct txn *txn, enum txn_branch branch, const char *key)
{
	op_add(txn, branch, TXN_GET, key);
}

static void range_add(
	struct txn *txn, enum txn_branch branch, enum txn_op_kind kind, const char *prefix)
{
	struct txn_op *op = op_add(txn, branch, kind, prefix);

	if (op && !prefix_end(&op->range_end, &op->key))
		txn->doomed = true;
}

void txn_delete_prefix(struct txn *txn, enum txn_branch branch, const char *prefix)
{
	range_add(txn, branch, TXN_DELETE, prefix);
}

void txn_get_prefix(struct txn *txn, enum txn_branch branch, const char *prefix)
{
	range_add(txn, branch, TXN_GET, prefix);
}

bool txn_is_whole(const struct txn *txn)
{
	return !txn->doomed;
}

void txn_deinit(struct txn *txn)
{
	for (size_t i = 0; i < txn->ncompares; i++) {
		bytes_deinit(&txn->compares[i].key);
		bytes_deinit(&txn->compares[i].value);
	}
	free(txn->compares);
	for (size_t b = 0; b < TXN_BRANCHES; b++) {
		struct txn_ops *ops = &txn->branches[b];

		for (size_t i = 0; i < ops->n; i++) {
			bytes_deinit(&ops->ops[i].key);
			bytes_deinit(&ops->ops[i].range_end);
			bytes_deinit(&ops->ops[i].value);
		}
		free(ops->ops);
	}
	*txn = (struct txn){0};
}

static void entry_deinit(struct txn_entry *entry)
{
	bytes_deinit(&entry->key);
	bytes_deinit(&entry->value);
}

void txn_answer_deinit(struct txn_answer *answer)
{
	for (size_t i = 0; i < answer->n; i++) {
		for (size_t j = 0; j < answer->results[i].n; j++)
			entry_deinit(&answer->results[i].entries[j]);
		free(answer->results[i].entries);
	}
	free(answer->results);
	*answer = (struct txn_answer){0};
}

void txn_notice_deinit(struct txn_notice *notice)
{
	for (size_t i = 0; i < notice->n; i++)
		entry_deinit(&notice->events[i].entry);
	free(notice->events);
	*notice = (struct txn_notice){0};
}
