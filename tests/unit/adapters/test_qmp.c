/* SPDX-License-Identifier: Apache-2.0 */
/* QMP: negotiation, pieces, and peers that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/adapters/qemu/qmp.h"
#include "vmsig/vmsig_error.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"

static struct qmp *client(size_t max_message)
{
	const struct qmp_limits limits = {.max_message = max_message, .timeout_ms = 100};
	struct qmp *qmp;

	assert_int_equal(qmp_new(&qmp, &limits, 1000), 0);
	return qmp;
}

static int next_kind(struct qmp *qmp, const char *text)
{
	struct qmp_message m;
	int r;

	assert_int_equal(qmp_feed(qmp, text, strlen(text)), 0);
	r = qmp_next(qmp, 1000, &m);
	if (r)
		return -r;
	r = (int)m.kind;
	qmp_message_clear(&m);
	return r;
}

static struct qmp *ready_client(size_t max_message)
{
	struct qmp *qmp = client(max_message);

	assert_int_equal(next_kind(qmp, GREETING), QMP_GREETING);
	assert_int_equal(next_kind(qmp, "{\"return\": {}, \"id\": 1}\n"), QMP_READY);
	return qmp;
}

static void test_negotiates(void **state)
{
	struct qmp *qmp = client(0);
	const char *out;
	uint64_t id;
	size_t len;

	assert_int_equal(qmp_command(qmp, "stop", NULL, 1000, &id), VMSIG_ERR_NOT_READY);
	assert_int_equal(next_kind(qmp, GREETING), QMP_GREETING);
	out = qmp_output(qmp, &len);
	assert_non_null(memmem(out, len, "\"qmp_capabilities\"", 18));
	assert_int_equal(out[len - 1], '\n');
	qmp_output_consumed(qmp, len);
	assert_null(qmp_output(qmp, &len));
	assert_int_equal(next_kind(qmp, "{\"return\": {}, \"id\": 1}"), QMP_READY);
	assert_int_equal(
		qmp_command(qmp, "qom-list", json_pack("{s:s}", "path", "/"), 1000, &id), 0);
	out = qmp_output(qmp, &len);
	assert_non_null(memmem(out, len, "\"arguments\":{\"path\":\"/\"}", 24));
	qmp_free(qmp);
}

/* A peer that floods pays more than we do: work grows with the bytes. With their square it would
 * not end within the test's limit. */
static void test_small_messages_cost_little(void **state)
{
	enum { MESSAGES = 500000 };
	static const char event[] = "{\"event\":\"E\"}\n";
	struct qmp *qmp = ready_client(0);
	size_t len = strlen(event);
	char *flood = malloc(MESSAGES * len);
	struct qmp_message m;

	assert_non_null(flood);
	for (size_t i = 0; i < MESSAGES; i++)
		memcpy(flood + i * len, event, len);
	assert_int_equal(qmp_feed(qmp, flood, MESSAGES * len), 0);
	for (size_t i = 0; i < MESSAGES; i++) {
		assert_int_equal(qmp_next(qmp, 1000, &m), 0);
		assert_string_equal(m.name, "E");
		qmp_message_clear(&m);
	}
	assert_int_equal(qmp_next(qmp, 1000, &m), VMSIG_ERR_WOULD_BLOCK);
	free(flood);
	qmp_free(qmp);
}

/* Every split of the stream gives the same messages. */
static void test_pieces(void **state)
{
	static const char stream[] = GREETING
		"{\"event\": \"RESET\", \"data\": {\"guest\": false, \"x\": \"}\\\"{\"}}\r\n\r\n"
		"{\n \"return\": {},\n \"id\": 1\n}\n{\"event\":\"STOP\"}";
	static const int kinds[] = {QMP_GREETING, QMP_EVENT, QMP_READY, QMP_EVENT};

	for (size_t piece = 1; piece < sizeof(stream); piece++) {
		struct qmp *qmp = client(0);
		size_t n = 0;

		for (size_t at = 0; at < sizeof(stream) - 1; at += piece) {
			size_t left = sizeof(stream) - 1 - at;
			struct qmp_message m;

			assert_int_equal(
				qmp_feed(qmp, stream + at, left < piece ? left : piece), 0);
			while (qmp_next(qmp, 1000, &m) == 0) {
				assert_true(n < 4);
				assert_int_equal(m.kind, kinds[n++]);
				qmp_message_clear(&m);
			}
		}
		assert_string_equal(qmp_reason(qmp), "");
		assert_int_equal(n, 4);
		qmp_free(qmp);
	}
}

static void test_error_reply(void **state)
{
	static const char reply[] =
		"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}";
	struct qmp *qmp = ready_client(0);
	struct qmp_message m;
	uint64_t id;

	assert_int_equal(qmp_command(qmp, "stop", NULL, 1000, &id), 0);
	assert_int_equal(qmp_feed(qmp, reply, strlen(reply)), 0);
	assert_int_equal(qmp_next(qmp, 1000, &m), 0);
	assert_int_equal(m.id, id);
	assert_string_equal(m.name, "GenericError");
	assert_string_equal(m.detail, "no");
	qmp_message_clear(&m);
	qmp_free(qmp);
}

static void test_garbage(void **state)
{
	static const char *const bad[] = {
		"HTTP/1.1 200 OK\r\n",
		"[1, 2]\n",
		"{\"QMP\": 1}\n",
		"{\"QMP\": {}, }\n",
		"{]}\n",
		"{\"QMP\": \"\xff\xfe\"}\n",
		"{\"a\": 1, \"a\": 2}\n",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct qmp *qmp = client(0);

		assert_int_equal(next_kind(qmp, bad[i]), -VMSIG_ERR_PROTOCOL);
		assert_string_not_equal(qmp_reason(qmp), "");
		assert_int_equal(next_kind(qmp, GREETING), -VMSIG_ERR_PROTOCOL);
		qmp_free(qmp);
	}
}

static void test_lying_replies(void **state)
{
	static const char *const bad[] = {
		"{\"return\": {}, \"id\": 7}",
		"{\"return\": {}}",
		"{\"return\": {}, \"error\": {\"class\": \"a\", \"desc\": \"b\"}, \"id\": 2}",
		"{\"error\": 3, \"id\": 2}",
		"{\"id\": 2}",
		"{\"event\": 5}",
		"{}",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct qmp *qmp = ready_client(0);
		uint64_t id;

		assert_int_equal(qmp_command(qmp, "stop", NULL, 1000, &id), 0);
		assert_int_equal(id, 2);
		assert_int_equal(next_kind(qmp, bad[i]), -VMSIG_ERR_PROTOCOL);
		qmp_free(qmp);
	}
}

static void test_bounds(void **state)
{
	struct qmp *qmp = ready_client(1000);
	char chunk[500];

	memset(chunk, 'a', sizeof(chunk));
	assert_int_equal(next_kind(qmp, "{\"return\": \""), -VMSIG_ERR_WOULD_BLOCK);
	for (int i = 0; i < 3; i++)
		assert_int_equal(qmp_feed(qmp, chunk, sizeof(chunk)), 0);
	assert_int_equal(next_kind(qmp, "\"}"), -VMSIG_ERR_PROTOCOL);
	assert_non_null(strstr(qmp_reason(qmp), "longer than 1000"));
	qmp_free(qmp);

	qmp = ready_client(0);
	memset(chunk, '[', sizeof(chunk));
	assert_int_equal(next_kind(qmp, "{\"return\": "), -VMSIG_ERR_WOULD_BLOCK);
	assert_int_equal(qmp_feed(qmp, chunk, sizeof(chunk)), 0);
	assert_int_equal(next_kind(qmp, ""), -VMSIG_ERR_PROTOCOL);
	assert_non_null(strstr(qmp_reason(qmp), "nested"));
	qmp_free(qmp);

	qmp = ready_client(0);
	memset(chunk, ',', sizeof(chunk));
	assert_int_equal(next_kind(qmp, "{\"return\": ["), -VMSIG_ERR_WOULD_BLOCK);
	for (size_t i = 0; i <= QMP_MAX_VALUES / sizeof(chunk); i++)
		assert_int_equal(qmp_feed(qmp, chunk, sizeof(chunk)), 0);
	assert_int_equal(next_kind(qmp, ""), -VMSIG_ERR_PROTOCOL);
	assert_non_null(strstr(qmp_reason(qmp), "values"));
	qmp_free(qmp);
}

static void test_timeouts(void **state)
{
	struct qmp *qmp = client(0);
	uint64_t id;

	assert_int_equal(qmp_deadline(qmp), 1100);
	assert_int_equal(qmp_advance(qmp, 1099), 0);
	assert_int_equal(qmp_advance(qmp, 1100), VMSIG_ERR_TIMEOUT);
	assert_non_null(strstr(qmp_reason(qmp), "one client"));
	/* Once; and its turn may come. */
	assert_int_equal(qmp_deadline(qmp), UINT64_MAX);
	assert_int_equal(qmp_advance(qmp, 9000), 0);
	assert_int_equal(next_kind(qmp, "{\"QMP\": {}}"), QMP_GREETING);
	assert_string_equal(qmp_reason(qmp), "");
	qmp_free(qmp);

	qmp = ready_client(0);
	assert_int_equal(qmp_deadline(qmp), UINT64_MAX);
	assert_int_equal(qmp_command(qmp, "stop", NULL, 2000, &id), 0);
	assert_int_equal(qmp_command(qmp, "cont", NULL, 2050, &id), 0);
	assert_int_equal(qmp_deadline(qmp), 2100);
	assert_int_equal(qmp_advance(qmp, 2100), VMSIG_ERR_TIMEOUT);
	assert_non_null(strstr(qmp_reason(qmp), "stop"));
	assert_true(qmp_is_silent(qmp));
	/* Whatever it says next, it is there, and what it owes has the full time again. */
	assert_int_equal(next_kind(qmp, "{\"event\": \"STOP\"}"), QMP_EVENT);
	assert_false(qmp_is_silent(qmp));
	assert_int_equal(next_kind(qmp, "{\"return\": {}, \"id\": 2}"), QMP_REPLY);
	assert_int_equal(next_kind(qmp, "{\"return\": {}, \"id\": 3}"), QMP_REPLY);
	assert_int_equal(qmp_deadline(qmp), UINT64_MAX);
	qmp_free(qmp);
}

static uint64_t stamp(const char *text)
{
	struct qmp *qmp = ready_client(0);
	struct qmp_message message;
	uint64_t stamp_us;

	assert_int_equal(qmp_feed(qmp, text, strlen(text)), 0);
	assert_int_equal(qmp_next(qmp, 0, &message), 0);
	stamp_us = message.stamp_us;
	qmp_message_clear(&message);
	qmp_free(qmp);
	return stamp_us;
}

static void test_stamps(void **state)
{
	assert_int_equal(stamp("{\"event\": \"X\", \"timestamp\": {\"seconds\": 1795718127, "
			       "\"microseconds\": 318042}}"),
		1795718127318042);
	assert_int_equal(stamp("{\"event\": \"X\"}"), 0);
	assert_int_equal(stamp("{\"event\": \"X\", \"timestamp\": {\"seconds\": -1, "
			       "\"microseconds\": -1}}"),
		0);
	assert_int_equal(stamp("{\"event\": \"X\", \"timestamp\": {\"seconds\": 99999999999999, "
			       "\"microseconds\": 0}}"),
		0);
	assert_int_equal(stamp("{\"event\": \"X\", \"timestamp\": [1]}"), 0);
}

static void test_pending_bound(void **state)
{
	struct qmp *qmp = ready_client(0);
	uint64_t id;

	for (int i = 0; i < QMP_MAX_PENDING; i++)
		assert_int_equal(qmp_command(qmp, "stop", NULL, 2000, &id), 0);
	assert_int_equal(qmp_command(qmp, "stop", json_object(), 2000, &id), VMSIG_ERR_BUSY);
	qmp_free(qmp);
}

static void test_large_numbers(void **state)
{
	struct qmp *qmp = ready_client(0);

	assert_int_equal(
		next_kind(qmp, "{\"event\": \"X\", \"data\": {\"n\": 18446744073709551615}}"),
		QMP_EVENT);
	qmp_free(qmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_negotiates),
		cmocka_unit_test(test_small_messages_cost_little),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_error_reply),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_lying_replies),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_stamps),
		cmocka_unit_test(test_pending_bound),
		cmocka_unit_test(test_large_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
