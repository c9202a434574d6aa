/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/etcd/body.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "vmsig/vmsig_error.h"

#define NUMBER_SIZE 24 /* of any 64-bit number, as text */

/* ---- values ---- */

/* NULL: no memory. What jansson is given NULL for fails in turn. */
static json_t *base64(const struct txn_bytes *bytes)
{
	char *text = malloc(4 * (bytes->len / 3 + 1) + 1);
	json_t *value;

	if (!text)
		return NULL;
	EVP_EncodeBlock((unsigned char *)text, bytes->data, (int)bytes->len);
	value = json_string(text);
	free(text);
	return value;
}

static json_t *number(int64_t n)
{
	char text[NUMBER_SIZE];

	snprintf(text, sizeof(text), "%" PRId64, n);
	return json_string(text);
}

/* ---- transactions ---- */

/* `field` is the member of the union that `target` has etcd look at: without it, it compares with
 * nothing. */
static const struct {
	const char *target, *field;
} whats[] = {
	[TXN_CREATE_REVISION] = {"CREATE", "create_revision"},
	[TXN_MOD_REVISION] = {"MOD", "mod_revision"},
	[TXN_VERSION] = {"VERSION", "version"},
	[TXN_VALUE] = {"VALUE", "value"},
	[TXN_LEASE] = {"LEASE", "lease"},
};

static const char *const relations[] = {[TXN_EQUAL] = "EQUAL",
	[TXN_NOT_EQUAL] = "NOT_EQUAL",
	[TXN_GREATER] = "GREATER",
	[TXN_LESS] = "LESS"};

static json_t *compare_json(const struct txn_compare *compare)
{
	json_t *value =
		compare->what == TXN_VALUE ? base64(&compare->value) : number(compare->number);

	return json_pack("{s:o, s:s, s:s, s:o}", "key", base64(&compare->key), "target",
		whats[compare->what].target, "result", relations[compare->relation],
		whats[compare->what].field, value);
}

static json_t *put_json(const struct txn_op *op)
{
	return json_pack("{s:{s:o, s:o, s:o}}", "request_put", "key", base64(&op->key), "value",
		base64(&op->value), "lease", number(op->lease));
}

static json_t *range_json(const struct txn_op *op)
{
	const char *name = op->kind == TXN_GET ? "request_range" : "request_delete_range";

	if (!op->range_end.len)
		return json_pack("{s:{s:o}}", name, "key", base64(&op->key));
	return json_pack("{s:{s:o, s:o}}", name, "key", base64(&op->key), "range_end",
		base64(&op->range_end));
}

static json_t *op_json(const struct txn_op *op)
{
	return op->kind == TXN_PUT ? put_json(op) : range_json(op);
}

static json_t *compares_json(const struct txn *txn)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < txn->ncompares; i++) {
		if (!json_array_append_new(list, compare_json(&txn->compares[i])))
			continue;
		json_decref(list);
		return NULL;
	}
	return list;
}

static json_t *branch_json(const struct txn_ops *ops)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < ops->n; i++) {
		if (!json_array_append_new(list, op_json(&ops->ops[i])))
			continue;
		json_decref(list);
		return NULL;
	}
	return list;
}

static json_t *commit_json(const struct txn_request *request)
{
	const struct txn *txn = &request->txn;

	return json_pack("{s:o, s:o, s:o}", "compare", compares_json(txn), "success",
		branch_json(&txn->branches[TXN_THEN]), "failure",
		branch_json(&txn->branches[TXN_ELSE]));
}

/* ---- leases and watches ---- */

static json_t *grant_json(const struct txn_request *request)
{
	return json_pack("{s:o, s:o}", "TTL", number(request->ttl_s), "ID", number(request->lease));
}

static json_t *lease_json(const struct txn_request *request)
{
	return json_pack("{s:o}", "ID", number(request->lease));
}

static json_t *watch_json(const struct txn_request *request)
{
	size_t len = strlen(request->prefix);
	struct txn txn = {0};
	json_t *json = NULL;

	/* The same end of the range as a transaction's. */
	txn_get_prefix(&txn, TXN_THEN, request->prefix);
	if (len && txn_is_whole(&txn)) {
		const struct txn_op *op = &txn.branches[TXN_THEN].ops[0];

		json = json_pack("{s:{s:o, s:o, s:o}}", "create_request", "key", base64(&op->key),
			"range_end", base64(&op->range_end), "start_revision",
			number(request->revision));
	}
	txn_deinit(&txn);
	return json;
}

/* ---- pages ---- */

/* No key lies between one and the same with a NUL behind it. */
static json_t *page_json(const struct txn_request *request)
{
	const char *first = request->after ? request->after : request->prefix;
	const struct txn_bytes key = {.data = (uint8_t *)(uintptr_t)first,
		.len = strlen(first) + (request->after ? 1 : 0)};
	struct txn txn = {0};
	json_t *json = NULL;

	txn_get_prefix(&txn, TXN_THEN, request->prefix);
	if (txn_is_whole(&txn))
		json = json_pack("{s:o, s:o, s:o}", "key", base64(&key), "range_end",
			base64(&txn.branches[TXN_THEN].ops[0].range_end), "limit",
			number(request->limit));
	txn_deinit(&txn);
	return json;
}

/* ---- */

static const struct {
	const char *path;
	json_t *(*make)(const struct txn_request *request);
} kinds[] = {
	[TXN_COMMIT] = {"/v3/kv/txn", commit_json},
	[TXN_LEASE_GRANT] = {"/v3/lease/grant", grant_json},
	[TXN_LEASE_KEEPALIVE] = {"/v3/lease/keepalive", lease_json},
	[TXN_LEASE_REVOKE] = {"/v3/lease/revoke", lease_json},
	[TXN_WATCH] = {"/v3/watch", watch_json},
	[TXN_PAGE] = {"/v3/kv/range", page_json},
};

static bool is_sound(const struct txn_request *request)
{
	switch (request->kind) {
	case TXN_COMMIT:
		return txn_is_whole(&request->txn);
	case TXN_WATCH:
		return request->prefix && request->prefix[0] && request->revision >= 0;
	case TXN_PAGE:
		return request->prefix && request->prefix[0] && request->limit;
	case TXN_LEASE_GRANT:
		return request->lease > 0 && request->ttl_s;
	case TXN_LEASE_KEEPALIVE:
	case TXN_LEASE_REVOKE:
		return request->lease > 0;
	case TXN_WATCH_CANCEL:
	default:
		return false;
	}
}

int etcd_body(const struct txn_request *request, struct etcd_body *ret_body)
{
	json_t *json;

	if (!is_sound(request))
		return VMSIG_ERR_BAD_REQUEST;
	json = kinds[request->kind].make(request);
	if (!json)
		return -ENOMEM;
	ret_body->path = kinds[request->kind].path;
	ret_body->text = json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(json);
	if (!ret_body->text)
		return -ENOMEM;
	ret_body->len = strlen(ret_body->text);
	return 0;
}
