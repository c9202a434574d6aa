/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/etcd/reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "vmsig/vmsig_error.h"

#define HTTP_OK 200
#define DEPTH 16u /* etcd's own replies stay below 8 */

/* google.rpc.Code, of those that say that nothing has happened. RESOURCE_EXHAUSTED is none: of a
 * full database etcd says so after it has done what was asked for. Neither is UNAVAILABLE, which
 * is also said of a request that was proposed and took too long. */
enum grpc_code {
	GRPC_INVALID = 3,
	GRPC_NOT_FOUND = 5,
	GRPC_DENIED = 7,
	GRPC_PRECONDITION = 9,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_UNAUTHENTICATED = 16,
};

/* ---- values ---- */

/* Numbers are text; a field that is 0 is not there. */
static bool get_number(const json_t *object, const char *name, int64_t *ret_number)
{
	const json_t *value = json_object_get(object, name);
	char *end;

	*ret_number = 0;
	if (!value)
		return true;
	if (json_is_integer(value)) {
		*ret_number = json_integer_value(value);
		return true;
	}
	if (!json_is_string(value) || !json_string_length(value))
		return false;
	errno = 0;
	*ret_number = strtoll(json_string_value(value), &end, 10);
	return !errno && !*end;
}

/* Writes since the store was made: at a million a second it takes 285 years to this one. What is
 * above is no store's, and nothing that it says later could be above it. */
#define REVISION_MAX ((int64_t)1 << 53)

static bool get_revision(const json_t *object, const char *name, int64_t *ret_revision)
{
	return get_number(object, name, ret_revision) && *ret_revision >= 0 &&
	       *ret_revision <= REVISION_MAX;
}

/* Identities of clusters and members: all 64 bits. */
static bool get_identity(const json_t *object, const char *name, uint64_t *ret_number)
{
	const char *text = json_string_value(json_object_get(object, name));
	char *end;

	*ret_number = 0;
	if (!text || !*text)
		return false;
	errno = 0;
	*ret_number = strtoull(text, &end, 10);
	return !errno && !*end;
}

/* How many '=' fill the last four characters up. */
static size_t padding_of(const char *text, size_t len)
{
	size_t n = 0;

	while (n < 2 && n < len && text[len - 1 - n] == '=')
		n++;
	return n;
}

static bool get_bytes(const json_t *object, const char *name, struct txn_bytes *ret_bytes)
{
	const json_t *value = json_object_get(object, name);
	size_t len = value ? json_string_length(value) : 0;
	const char *text = value ? json_string_value(value) : "";
	int n;

	if (!text || len % 4)
		return false;
	ret_bytes->data = malloc(len / 4 * 3 + 1);
	if (!ret_bytes->data)
		return false;
	n = len ? EVP_DecodeBlock(ret_bytes->data, (const unsigned char *)text, (int)len) : 0;
	if (n < 0 || (size_t)n < padding_of(text, len)) {
		free(ret_bytes->data);
		*ret_bytes = (struct txn_bytes){0};
		return false;
	}
	ret_bytes->len = (size_t)n - padding_of(text, len);
	ret_bytes->data[ret_bytes->len] = 0;
	return true;
}

static bool get_entry(const json_t *kv, struct txn_entry *entry)
{
	return json_is_object(kv) && get_bytes(kv, "key", &entry->key) && entry->key.len &&
	       get_bytes(kv, "value", &entry->value) &&
	       get_revision(kv, "create_revision", &entry->create_revision) &&
	       get_revision(kv, "mod_revision", &entry->mod_revision) &&
	       get_number(kv, "version", &entry->version) && get_number(kv, "lease", &entry->lease);
}

struct header {
	uint64_t cluster_id, member_id;
	int64_t revision;
};

static bool get_header(const json_t *reply, struct header *ret_header)
{
	const json_t *header = json_object_get(reply, "header");

	return json_is_object(header) &&
	       get_identity(header, "cluster_id", &ret_header->cluster_id) &&
	       get_identity(header, "member_id", &ret_header->member_id) &&
	       get_revision(header, "revision", &ret_header->revision) && ret_header->cluster_id;
}

/* jansson takes 2048 levels, each a stack frame, and of each value makes a hundred times as many
 * bytes as its text may have: without a bound a reply would stop the loop for a fifth of a second.
 * What is in strings counts too: keys and values are base64, and have none of it. */
static bool is_simple(const char *text, size_t len)
{
	unsigned depth = 0, values = 1;

	for (size_t i = 0; i < len; i++) {
		bool opens = text[i] == '{' || text[i] == '[';

		if (opens)
			depth++;
		else if (depth && (text[i] == '}' || text[i] == ']'))
			depth--;
		values += opens || text[i] == ',';
		if (depth > DEPTH || values > ETCD_VALUES_MAX)
			return false;
	}
	return true;
}

static json_t *parse(const char *text, size_t len)
{
	json_t *json = len <= ETCD_REPLY_MAX && is_simple(text, len)
			       ? json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL)
			       : NULL;

	if (json_is_object(json))
		return json;
	json_decref(json);
	return NULL;
}

/* ---- transactions ---- */

static bool get_entries(const json_t *range, struct txn_result *result)
{
	const json_t *kvs = json_object_get(range, "kvs");
	size_t n = json_array_size(kvs);

	result->kind = TXN_GET;
	if (kvs && !json_is_array(kvs))
		return false;
	result->entries = calloc(n ? n : 1, sizeof(*result->entries));
	if (!result->entries)
		return false;
	result->n = n;
	for (size_t i = 0; i < n; i++) {
		if (!get_entry(json_array_get(kvs, i), &result->entries[i]))
			return false;
	}
	return true;
}

/* What a transaction reads is asked for without a limit. */
static bool get_range(const json_t *range, struct txn_result *result)
{
	return !json_is_true(json_object_get(range, "more")) && get_entries(range, result);
}

static bool get_page(const json_t *reply, struct txn_answer *answer)
{
	answer->outcome = TXN_OK;
	answer->results = calloc(1, sizeof(*answer->results));
	answer->n = answer->results ? 1 : 0;
	return answer->results && get_entries(reply, answer->results);
}

static bool get_result(const json_t *response, struct txn_result *result)
{
	const json_t *range = json_object_get(response, "response_range");
	const json_t *deleted = json_object_get(response, "response_delete_range");

	if (range)
		return get_range(range, result);
	if (deleted) {
		result->kind = TXN_DELETE;
		return get_number(deleted, "deleted", &result->deleted);
	}
	result->kind = TXN_PUT;
	return json_object_get(response, "response_put") != NULL;
}

static bool get_commit(const json_t *reply, struct txn_answer *answer)
{
	const json_t *responses = json_object_get(reply, "responses");
	const json_t *succeeded = json_object_get(reply, "succeeded");
	size_t n = json_array_size(responses);

	if ((responses && !json_is_array(responses)) || n > TXN_PARTS_MAX ||
		(succeeded && !json_is_boolean(succeeded)))
		return false;
	answer->outcome = json_is_true(succeeded) ? TXN_OK : TXN_GUARD_FAILED;
	answer->results = calloc(n ? n : 1, sizeof(*answer->results));
	if (!answer->results)
		return false;
	answer->n = n;
	for (size_t i = 0; i < n; i++) {
		if (!get_result(json_array_get(responses, i), &answer->results[i]))
			return false;
	}
	return true;
}

/* ---- leases ---- */

static bool get_ttl(const json_t *reply, struct txn_answer *answer)
{
	int64_t ttl;

	if (!get_number(reply, "TTL", &ttl) || !get_number(reply, "ID", &answer->lease) ||
		ttl > UINT32_MAX)
		return false;
	answer->ttl_s = ttl > 0 ? (uint32_t)ttl : 0;
	answer->outcome = TXN_OK;
	return true;
}

static bool get_grant(const json_t *reply, struct txn_answer *answer)
{
	return get_ttl(reply, answer) && answer->ttl_s && answer->lease;
}

/* It is a stream of which one message was asked for. One of a lease that is not there comes without
 * a TTL, and is no error. */
static bool get_keepalive(const json_t *reply, struct txn_answer *answer)
{
	if (!get_ttl(reply, answer))
		return false;
	if (!answer->ttl_s)
		answer->outcome = TXN_GUARD_FAILED;
	return true;
}

static bool get_revoke(const json_t *reply, struct txn_answer *answer)
{
	answer->outcome = TXN_OK;
	return true;
}

static bool (*const getters[])(const json_t *reply, struct txn_answer *answer) = {
	[TXN_COMMIT] = get_commit,
	[TXN_LEASE_GRANT] = get_grant,
	[TXN_LEASE_KEEPALIVE] = get_keepalive,
	[TXN_LEASE_REVOKE] = get_revoke,
	[TXN_PAGE] = get_page,
};

/* ---- errors ---- */

static const json_t *first_string(const json_t *object, const char *const names[static 3])
{
	for (size_t i = 0; i < 3; i++) {
		const json_t *value = json_object_get(object, names[i]);

		if (json_is_string(value))
			return value;
	}
	return NULL;
}

/* {"error": "TEXT", "code": N}, or of a stream {"error": {"grpc_code": N, "message": "TEXT"}}. */
static int get_error(const json_t *reply, const char **ret_text)
{
	static const char *const texts[] = {"message", "error", "details"};
	const json_t *inner = json_object_get(reply, "error");
	const json_t *object = json_is_object(inner) ? inner : reply;
	const json_t *text = first_string(object, texts);
	int64_t code = 0;

	*ret_text = text ? json_string_value(text) : "etcd has not said why";
	if (!get_number(object, json_is_object(inner) ? "grpc_code" : "code", &code) || !code)
		(void)get_number(object, "code", &code);
	return code >= 0 && code < 100 ? (int)code : 0;
}

static bool is_without_lease(enum txn_request_kind kind, int code)
{
	return code == GRPC_NOT_FOUND || (code == GRPC_PRECONDITION && kind == TXN_LEASE_GRANT);
}

static enum txn_outcome outcome_of(enum txn_request_kind kind, int code)
{
	switch (code) {
	case GRPC_NOT_FOUND:
	case GRPC_PRECONDITION:
		return is_without_lease(kind, code) ? TXN_GUARD_FAILED : TXN_UNKNOWN;
	case GRPC_INVALID:
	case GRPC_DENIED:
	case GRPC_UNIMPLEMENTED:
	case GRPC_UNAUTHENTICATED:
		return TXN_UNAVAILABLE;
	default:
		return TXN_UNKNOWN;
	}
}

static void refused(
	enum txn_request_kind kind, const json_t *reply, long status, struct txn_answer *answer)
{
	const char *text;
	int code = get_error(reply, &text);

	answer->outcome = outcome_of(kind, code);
	snprintf(answer->why, sizeof(answer->why), "etcd says: %.110s (HTTP %ld, code %d)", text,
		status, code);
}

/* ---- */

static void not_understood(struct txn_answer *answer)
{
	uint64_t asked = answer->number;

	txn_answer_deinit(answer);
	answer->number = asked;
	answer->outcome = TXN_UNKNOWN;
	snprintf(answer->why, sizeof(answer->why), "etcd's answer was not understood");
}

/* A stream has each message in "result". */
static const json_t *result_of(const json_t *reply)
{
	const json_t *result = json_object_get(reply, "result");

	return json_is_object(result) ? result : reply;
}

static void understand(enum txn_request_kind kind, const json_t *reply, struct txn_answer *answer)
{
	struct header header;

	if (!get_header(reply, &header) || !getters[kind](reply, answer)) {
		not_understood(answer);
		return;
	}
	answer->cluster_id = header.cluster_id;
	answer->member_id = header.member_id;
	answer->revision = header.revision;
}

void etcd_reply(enum txn_request_kind kind, long status, const char *text, size_t len,
	struct txn_answer *answer)
{
	json_t *reply = parse(text, len);

	if (kind > TXN_PAGE || !getters[kind] || !reply) {
		json_decref(reply);
		not_understood(answer);
		return;
	}
	if (status != HTTP_OK || json_object_get(reply, "error"))
		refused(kind, reply, status, answer);
	else
		understand(kind, result_of(reply), answer);
	json_decref(reply);
}

/* ---- watches ---- */

static bool get_event(const json_t *json, struct txn_event *event)
{
	const char *type = json_string_value(json_object_get(json, "type"));

	event->deleted = type && strcmp(type, "DELETE") == 0;
	return (!type || event->deleted || strcmp(type, "PUT") == 0) &&
	       get_entry(json_object_get(json, "kv"), &event->entry);
}

static bool get_events(const json_t *result, struct txn_notice *notice)
{
	const json_t *events = json_object_get(result, "events");
	size_t n = json_array_size(events);

	if (events && !json_is_array(events))
		return false;
	notice->events = calloc(n ? n : 1, sizeof(*notice->events));
	if (!notice->events)
		return false;
	notice->n = n;
	for (size_t i = 0; i < n; i++) {
		if (!get_event(json_array_get(events, i), &notice->events[i]))
			return false;
	}
	return true;
}

/* One that is cancelled because the store has forgotten what it asked for says from where on it
 * remembers. */
static enum etcd_line get_end(const json_t *result, struct txn_notice *notice, const char **ret_why)
{
	int64_t compacted;

	*ret_why = "etcd has ended the watch";
	if (!get_revision(result, "compact_revision", &compacted) || compacted <= 0)
		return ETCD_LINE_OVER;
	notice->kind = TXN_COMPACTED;
	notice->revision = compacted;
	return ETCD_LINE_NOTICE;
}

static enum etcd_line read_line(const json_t *line, struct txn_notice *notice, const char **ret_why)
{
	const json_t *result = json_object_get(line, "result");
	struct header header;

	*ret_why = json_object_get(line, "error") ? "etcd has refused or ended the watch"
						  : "etcd's answer was not understood";
	if (!json_is_object(result) || !get_header(result, &header))
		return ETCD_LINE_OVER;
	notice->cluster_id = header.cluster_id;
	notice->revision = header.revision;
	if (json_is_true(json_object_get(result, "canceled")))
		return get_end(result, notice, ret_why);
	if (json_is_true(json_object_get(result, "created")))
		return ETCD_LINE_BEGUN;
	if (json_is_true(json_object_get(result, "fragment")) || !get_events(result, notice))
		return ETCD_LINE_OVER;
	return notice->n ? ETCD_LINE_NOTICE : ETCD_LINE_NOTHING;
}

enum etcd_line etcd_reply_line(
	const char *text, size_t len, struct txn_notice *notice, const char **ret_why)
{
	json_t *line = parse(text, len);
	uint64_t watch = notice->number;
	enum etcd_line kind;

	kind = read_line(line, notice, ret_why);
	json_decref(line);
	if (kind == ETCD_LINE_NOTICE || kind == ETCD_LINE_BEGUN)
		return kind;
	txn_notice_deinit(notice);
	notice->number = watch;
	return kind;
}

/* ---- versions ---- */

unsigned etcd_reply_version(const char *text, size_t len, char *ret_name, size_t name_size)
{
	json_t *reply = parse(text, len);
	const char *name = json_string_value(json_object_get(reply, "etcdserver"));
	unsigned major = 0, minor = 0;
	char *end;

	snprintf(ret_name, name_size, "%.31s", name ? name : "unknown");
	if (name) {
		major = (unsigned)strtoul(name, &end, 10);
		minor = *end == '.' ? (unsigned)strtoul(end + 1, NULL, 10) : 0;
	}
	json_decref(reply);
	return major > 0xff || minor > 0xff ? 0 : major << 8 | minor;
}
