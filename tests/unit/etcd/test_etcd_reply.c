/* SPDX-License-Identifier: Apache-2.0 */
/* What etcd answers, as it was recorded of 3.4.23, and what is no answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/etcd/reply.h"

#define HEADER                                                                                     \
	"\"header\":{\"cluster_id\":\"14841639068965178418\",\"member_id\":"                       \
	"\"10276657743932975437\",\"revision\":\"3\",\"raft_term\":\"2\"}"

static struct txn_answer reply(enum txn_request_kind kind, long status, const char *text)
{
	struct txn_answer answer = {.number = 9};

	etcd_reply(kind, status, text, strlen(text), &answer);
	assert_int_equal(answer.number, 9);
	return answer;
}

static void outcome_is(
	enum txn_request_kind kind, long status, const char *text, enum txn_outcome outcome)
{
	struct txn_answer answer = reply(kind, status, text);

	assert_int_equal(answer.outcome, outcome);
	if (outcome == TXN_UNKNOWN || outcome == TXN_UNAVAILABLE)
		assert_true(answer.why[0]);
	txn_answer_deinit(&answer);
}

static void a_transaction_that_held(void **state)
{
	struct txn_answer answer = reply(TXN_COMMIT, 200,
		"{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_put\":{\"header\":"
		"{\"revision\":\"3\"}}},{\"response_range\":{\"header\":{\"revision\":\"3\"},"
		"\"kvs\":[{\"key\":\"YQ==\",\"create_revision\":\"2\",\"mod_revision\":\"3\","
		"\"version\":\"2\",\"value\":\"/wA=\",\"lease\":\"77\"}],\"count\":\"1\"}},"
		"{\"response_delete_range\":{\"deleted\":\"4\"}}]}");
	const struct txn_entry *entry;

	(void)state;
	assert_int_equal(answer.outcome, TXN_OK);
	assert_true(answer.cluster_id == 14841639068965178418u);
	assert_int_equal(answer.revision, 3);
	assert_int_equal(answer.n, 3);
	assert_int_equal(answer.results[0].kind, TXN_PUT);
	assert_int_equal(answer.results[1].n, 1);
	entry = &answer.results[1].entries[0];
	assert_string_equal((char *)entry->key.data, "a");
	assert_int_equal(entry->value.len, 2);
	assert_memory_equal(entry->value.data, "\xff\x00", 2);
	assert_int_equal(entry->create_revision, 2);
	assert_int_equal(entry->mod_revision, 3);
	assert_int_equal(entry->version, 2);
	assert_int_equal(entry->lease, 77);
	assert_int_equal(answer.results[2].deleted, 4);
	txn_answer_deinit(&answer);
}

/* Nothing could be above it any more. */
static void a_revision_that_no_store_reaches(void **state)
{
	(void)state;
	outcome_is(TXN_COMMIT, 200,
		"{\"header\":{\"cluster_id\":\"1\",\"member_id\":\"1\","
		"\"revision\":\"9223372036854775807\"},\"succeeded\":true}",
		TXN_UNKNOWN);
	outcome_is(TXN_COMMIT, 200,
		"{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_range\":{\"kvs\":["
		"{\"key\":\"YQ==\",\"mod_revision\":\"9223372036854775807\"}]}}]}",
		TXN_UNKNOWN);
}

static void one_that_did_not(void **state)
{
	(void)state;
	outcome_is(TXN_COMMIT, 200, "{" HEADER "}", TXN_GUARD_FAILED);
	outcome_is(TXN_COMMIT, 200, "{" HEADER ",\"succeeded\":false}", TXN_GUARD_FAILED);
}

/* More than was asked for is no page's business. */
static void pages(void **state)
{
	struct txn_answer answer = reply(TXN_PAGE, 200,
		"{" HEADER ",\"kvs\":[{\"key\":\"L2Ev\",\"create_revision\":\"2\","
		"\"mod_revision\":\"3\",\"version\":\"1\",\"value\":\"Yg==\"}],\"more\":true,"
		"\"count\":\"7\"}");

	(void)state;
	assert_int_equal(answer.outcome, TXN_OK);
	assert_int_equal(answer.n, 1);
	assert_int_equal(answer.results[0].n, 1);
	assert_memory_equal(answer.results[0].entries[0].value.data, "b", 1);
	txn_answer_deinit(&answer);
	outcome_is(TXN_PAGE, 200, "{" HEADER "}", TXN_OK);
	outcome_is(TXN_PAGE, 200, "{" HEADER ",\"kvs\":7}", TXN_UNKNOWN);
}

static void leases(void **state)
{
	struct txn_answer answer =
		reply(TXN_LEASE_GRANT, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"10\"}");

	(void)state;
	assert_int_equal(answer.outcome, TXN_OK);
	assert_int_equal(answer.lease, 77);
	assert_int_equal(answer.ttl_s, 10);
	txn_answer_deinit(&answer);
	outcome_is(TXN_LEASE_KEEPALIVE, 200,
		"{\"result\":{" HEADER ",\"ID\":\"77\",\"TTL\":\"10\"}}\n", TXN_OK);
	outcome_is(TXN_LEASE_KEEPALIVE, 200, "{\"result\":{" HEADER ",\"ID\":\"78\"}}",
		TXN_GUARD_FAILED);
	outcome_is(TXN_LEASE_REVOKE, 200, "{" HEADER "}", TXN_OK);
}

static void errors_that_say_that_nothing_happened(void **state)
{
	(void)state;
	outcome_is(TXN_LEASE_GRANT, 412, "{\"error\":\"lease already exists\",\"code\":9}",
		TXN_GUARD_FAILED);
	outcome_is(TXN_LEASE_REVOKE, 404, "{\"error\":\"x\",\"code\":5}", TXN_GUARD_FAILED);
	outcome_is(TXN_COMMIT, 404, "{\"error\":\"lease not found\",\"code\":5}", TXN_GUARD_FAILED);
	outcome_is(TXN_COMMIT, 400, "{\"error\":\"duplicate key\",\"code\":3}", TXN_UNAVAILABLE);
	outcome_is(TXN_COMMIT, 403, "{\"error\":\"denied\",\"code\":7}", TXN_UNAVAILABLE);
}

static void errors_that_do_not(void **state)
{
	(void)state;
	/* A full database says so after the put was done. */
	outcome_is(TXN_COMMIT, 429, "{\"error\":\"database space\",\"code\":8}", TXN_UNKNOWN);
	outcome_is(TXN_COMMIT, 503, "{\"error\":\"request timed out\",\"code\":14}", TXN_UNKNOWN);
	outcome_is(TXN_COMMIT, 412, "{\"error\":\"x\",\"code\":9}", TXN_UNKNOWN);
	outcome_is(TXN_COMMIT, 502, "<html>a proxy's page</html>", TXN_UNKNOWN);
	outcome_is(TXN_LEASE_KEEPALIVE, 200,
		"{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"no leader\"}}",
		TXN_UNKNOWN);
}

static void what_is_no_answer(void **state)
{
	static const char *const texts[] = {"", "{", "[]", "{}", "7", "{\"header\":{}}",
		"{" HEADER ",\"succeeded\":\"true\"}", "{" HEADER ",\"responses\":{}}",
		"{" HEADER ",\"responses\":[{}]}",
		"{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":\"!!!!\"}]}}]}",
		"{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":\"YQ\"}]}}]}",
		"{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":[{}]}}]}",
		"{" HEADER ",\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":\"YQ==\","
		"\"version\":\"1x\"}]}}]}",
		"{" HEADER ",\"responses\":[{\"response_range\":{\"more\":true}}]}",
		"{" HEADER ",\"succeeded\":true,\"succeeded\":false}",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		outcome_is(TXN_COMMIT, 200, texts[i], TXN_UNKNOWN);
	outcome_is(TXN_LEASE_GRANT, 200, "{" HEADER ",\"ID\":\"77\"}", TXN_UNKNOWN);
}

static void version_is(const char *text, unsigned version, const char *name)
{
	char found[32];

	assert_int_equal(etcd_reply_version(text, strlen(text), found, sizeof(found)), version);
	assert_string_equal(found, name);
}

/* An answer as it should be, with a field that nobody knows and that has many values. */
static void many_values_are_no_answer(void **state)
{
	static const char begin[] = "{" HEADER ",\"succeeded\":true,\"more\":[0", one[] = ",{}",
			  end[] = "]}";
	char *text = malloc(ETCD_REPLY_MAX + 1);
	size_t len = 0;

	(void)state;
	assert_non_null(text);
	outcome_is(TXN_COMMIT, 200, "{" HEADER ",\"succeeded\":true,\"more\":[0,{}]}", TXN_OK);
	memcpy(text, begin, sizeof(begin));
	len = sizeof(begin) - 1;
	while (len + sizeof(one) + sizeof(end) < ETCD_REPLY_MAX) {
		memcpy(text + len, one, sizeof(one));
		len += sizeof(one) - 1;
	}
	memcpy(text + len, end, sizeof(end));
	outcome_is(TXN_COMMIT, 200, text, TXN_UNKNOWN);
	free(text);
}

static void versions(void **state)
{
	(void)state;
	version_is("{\"etcdserver\":\"3.4.23\"}", 0x0304, "3.4.23");
	version_is("{\"etcdserver\":\"4.0-x\"}", 0x0400, "4.0-x");
	version_is("{\"etcdserver\":\"300.1\"}", 0, "300.1");
	version_is("{}", 0, "unknown");
	version_is("<", 0, "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_transaction_that_held),
		cmocka_unit_test(one_that_did_not),
		cmocka_unit_test(a_revision_that_no_store_reaches),
		cmocka_unit_test(leases),
		cmocka_unit_test(pages),
		cmocka_unit_test(errors_that_say_that_nothing_happened),
		cmocka_unit_test(errors_that_do_not),
		cmocka_unit_test(what_is_no_answer),
		cmocka_unit_test(many_values_are_no_answer),
		cmocka_unit_test(versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
