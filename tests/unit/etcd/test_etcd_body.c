/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The very texts that etcd is sent: a field that it does not know it drops without a word. That
 * these fields are the ones that it knows is shown against a real one (tests/integration/etcd).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/etcd/body.h"
#include "vmsig/vmsig_error.h"

static void body_is(const struct txn_request *request, const char *path, const char *text)
{
	struct etcd_body body;

	assert_int_equal(etcd_body(request, &body), 0);
	assert_string_equal(body.path, path);
	assert_string_equal(body.text, text);
	assert_int_equal(body.len, strlen(text));
	free(body.text);
}

static void each_compare_has_its_field(void **state)
{
	struct txn_request request = {.kind = TXN_COMMIT};
	struct txn *txn = &request.txn;

	(void)state;
	txn_compare_number(txn, "k", TXN_CREATE_REVISION, TXN_EQUAL, 0);
	txn_compare_number(txn, "k", TXN_MOD_REVISION, TXN_GREATER, 9007199254740993);
	txn_compare_number(txn, "k", TXN_VERSION, TXN_LESS, 3);
	txn_compare_number(txn, "k", TXN_LEASE, TXN_NOT_EQUAL, INT64_MAX);
	txn_compare_value(txn, "k", TXN_EQUAL, "\xff\x00\xfe", 3);
	txn_compare_value(txn, "k", TXN_EQUAL, "", 0);
	body_is(&request, "/v3/kv/txn",
		"{\"compare\":["
		"{\"key\":\"aw==\",\"target\":\"CREATE\",\"result\":\"EQUAL\",\"create_revision\":"
		"\"0\"},"
		"{\"key\":\"aw==\",\"target\":\"MOD\",\"result\":\"GREATER\",\"mod_revision\":"
		"\"9007199254740993\"},"
		"{\"key\":\"aw==\",\"target\":\"VERSION\",\"result\":\"LESS\",\"version\":\"3\"},"
		"{\"key\":\"aw==\",\"target\":\"LEASE\",\"result\":\"NOT_EQUAL\",\"lease\":"
		"\"9223372036854775807\"},"
		"{\"key\":\"aw==\",\"target\":\"VALUE\",\"result\":\"EQUAL\",\"value\":\"/wD+\"},"
		"{\"key\":\"aw==\",\"target\":\"VALUE\",\"result\":\"EQUAL\",\"value\":\"\"}],"
		"\"success\":[],\"failure\":[]}");
	txn_deinit(txn);
}

static void each_operation_is_in_its_branch(void **state)
{
	struct txn_request request = {.kind = TXN_COMMIT};
	struct txn *txn = &request.txn;

	(void)state;
	txn_put(txn, TXN_THEN, "k", "v", 1, 77);
	txn_put(txn, TXN_THEN, "l", "", 0, 0);
	txn_delete(txn, TXN_THEN, "m");
	txn_get(txn, TXN_ELSE, "k");
	txn_get_prefix(txn, TXN_ELSE, "/a/");
	txn_delete_prefix(txn, TXN_ELSE, "/b/");
	body_is(&request, "/v3/kv/txn",
		"{\"compare\":[],\"success\":["
		"{\"request_put\":{\"key\":\"aw==\",\"value\":\"dg==\",\"lease\":\"77\"}},"
		"{\"request_put\":{\"key\":\"bA==\",\"value\":\"\",\"lease\":\"0\"}},"
		"{\"request_delete_range\":{\"key\":\"bQ==\"}}],\"failure\":["
		"{\"request_range\":{\"key\":\"aw==\"}},"
		"{\"request_range\":{\"key\":\"L2Ev\",\"range_end\":\"L2Ew\"}},"
		"{\"request_delete_range\":{\"key\":\"L2Iv\",\"range_end\":\"L2Iw\"}}]}");
	txn_deinit(txn);
}

static void leases_and_watches(void **state)
{
	(void)state;
	body_is(&(struct txn_request){.kind = TXN_LEASE_GRANT, .lease = 5, .ttl_s = 10},
		"/v3/lease/grant", "{\"TTL\":\"10\",\"ID\":\"5\"}");
	body_is(&(struct txn_request){.kind = TXN_LEASE_KEEPALIVE, .lease = 5},
		"/v3/lease/keepalive", "{\"ID\":\"5\"}");
	body_is(&(struct txn_request){.kind = TXN_LEASE_REVOKE, .lease = 5}, "/v3/lease/revoke",
		"{\"ID\":\"5\"}");
	body_is(&(struct txn_request){.kind = TXN_WATCH, .prefix = "/a/", .revision = 7},
		"/v3/watch",
		"{\"create_request\":{\"key\":\"L2Ev\",\"range_end\":\"L2Ew\",\"start_revision\":"
		"\"7\"}}");
}

static void pages(void **state)
{
	(void)state;
	body_is(&(struct txn_request){.kind = TXN_PAGE, .prefix = "/a/", .limit = 2},
		"/v3/kv/range", "{\"key\":\"L2Ev\",\"range_end\":\"L2Ew\",\"limit\":\"2\"}");
	body_is(
		&(struct txn_request){
			.kind = TXN_PAGE, .prefix = "/a/", .after = "/a/b", .limit = 2},
		"/v3/kv/range", "{\"key\":\"L2EvYgA=\",\"range_end\":\"L2Ew\",\"limit\":\"2\"}");
}

static void what_is_not_whole_is_not_sent(void **state)
{
	static const struct txn_request bad[] = {{.kind = TXN_WATCH_CANCEL},
		{.kind = TXN_COMMIT, .txn = {.doomed = true}}, {.kind = TXN_WATCH, .prefix = ""},
		{.kind = TXN_WATCH, .prefix = "a", .revision = -1},
		{.kind = TXN_PAGE, .prefix = "a"}, {.kind = TXN_PAGE, .prefix = "", .limit = 1},
		{.kind = TXN_LEASE_GRANT, .lease = 1}, {.kind = TXN_LEASE_GRANT, .ttl_s = 1},
		{.kind = TXN_LEASE_KEEPALIVE}};
	struct etcd_body body;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(etcd_body(&bad[i], &body), VMSIG_ERR_BAD_REQUEST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_compare_has_its_field),
		cmocka_unit_test(each_operation_is_in_its_branch),
		cmocka_unit_test(leases_and_watches),
		cmocka_unit_test(pages),
		cmocka_unit_test(what_is_not_whole_is_not_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
