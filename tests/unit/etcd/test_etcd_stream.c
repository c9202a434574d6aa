/* SPDX-License-Identifier: Apache-2.0 */
/* A watch's lines: each change once, in order, over any cuts and connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/etcd/stream.h"

#define NUMBER 4

static void feed(struct etcd_stream *stream, const char *text)
{
	/* A byte at a time: nothing depends on how it is cut. */
	for (; *text; text++)
		assert_true(etcd_stream_feed(stream, text, 1));
}

static void feed_header(struct etcd_stream *stream, int revision, const char *rest)
{
	char text[512];

	snprintf(text, sizeof(text),
		"{\"result\":{\"header\":{\"cluster_id\":\"1\",\"member_id\":\"2\",\"revision\":\"%"
		"d\"}"
		"%s}}\n",
		revision, rest);
	feed(stream, text);
}

static void feed_change(struct etcd_stream *stream, int store, int revision)
{
	char text[256];

	snprintf(text, sizeof(text),
		",\"events\":[{\"kv\":{\"key\":\"YQ==\",\"mod_revision\":\"%d\"}}]", revision);
	feed_header(stream, store, text);
}

static enum etcd_line next(struct etcd_stream *stream, struct txn_notice *notice)
{
	const char *why;

	txn_notice_deinit(notice);
	notice->number = NUMBER;
	return etcd_stream_next(stream, notice, &why);
}

static void goes_on_behind_the_last_change(void **state)
{
	struct etcd_stream stream = {.next = 5};
	struct txn_notice notice = {0};

	(void)state;
	feed_header(&stream, 90, ",\"created\":true");
	assert_int_equal(next(&stream, &notice), ETCD_LINE_BEGUN);
	/* The store is ahead of what has still to come. */
	assert_int_equal(stream.next, 5);
	feed_change(&stream, 90, 7);
	assert_int_equal(next(&stream, &notice), ETCD_LINE_NOTICE);
	assert_int_equal(notice.number, NUMBER);
	assert_int_equal(notice.events[0].entry.mod_revision, 7);
	assert_int_equal(stream.next, 8);
	/* Progress is no change. */
	feed_header(&stream, 90, "");
	assert_int_equal(next(&stream, &notice), ETCD_LINE_NOTHING);
	assert_int_equal(stream.next, 8);
	/* And what was told is not told again. */
	feed_change(&stream, 90, 7);
	assert_int_equal(next(&stream, &notice), ETCD_LINE_NOTHING);
	txn_notice_deinit(&notice);
	etcd_stream_deinit(&stream);
}

static void from_now_on_is_behind_the_store(void **state)
{
	struct etcd_stream stream = {0};
	struct txn_notice notice = {0};

	(void)state;
	feed_header(&stream, 90, ",\"created\":true");
	assert_int_equal(next(&stream, &notice), ETCD_LINE_BEGUN);
	assert_int_equal(stream.next, 91);
	txn_notice_deinit(&notice);
	etcd_stream_deinit(&stream);
}

static void compaction_is_told(void **state)
{
	struct etcd_stream stream = {.next = 5};
	struct txn_notice notice = {0};

	(void)state;
	feed(&stream, "{\"result\":{\"header\":{\"cluster_id\":\"1\",\"member_id\":\"2\"},"
		      "\"canceled\":true,\"compact_revision\":\"60\"}}\n");
	assert_int_equal(next(&stream, &notice), ETCD_LINE_NOTICE);
	assert_int_equal(notice.kind, TXN_COMPACTED);
	assert_int_equal(notice.revision, 60);
	txn_notice_deinit(&notice);
	etcd_stream_deinit(&stream);
}

static void so_is_a_store_that_has_gone_back(void **state)
{
	struct etcd_stream stream = {.next = 500};
	struct txn_notice notice = {0};

	(void)state;
	feed_header(&stream, 90, ",\"created\":true");
	assert_int_equal(next(&stream, &notice), ETCD_LINE_NOTICE);
	assert_int_equal(notice.kind, TXN_COMPACTED);
	txn_notice_deinit(&notice);
	etcd_stream_deinit(&stream);
}

static void errors_and_nonsense_end_it(void **state)
{
	static const char *const lines[] = {"{\"error\":{\"grpc_code\":14}}\n", "nonsense\n",
		"{\"result\":{\"canceled\":true}}\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct etcd_stream stream = {0};
		struct txn_notice notice = {0};

		feed(&stream, lines[i]);
		assert_int_equal(next(&stream, &notice), ETCD_LINE_OVER);
		etcd_stream_deinit(&stream);
	}
}

static void a_line_has_a_bound(void **state)
{
	struct etcd_stream stream = {0};
	char *text = calloc(1, ETCD_REPLY_MAX);

	(void)state;
	assert_non_null(text);
	memset(text, 'x', ETCD_REPLY_MAX);
	assert_true(etcd_stream_feed(&stream, text, ETCD_REPLY_MAX));
	assert_false(etcd_stream_feed(&stream, text, 1));
	etcd_stream_deinit(&stream);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_on_behind_the_last_change),
		cmocka_unit_test(from_now_on_is_behind_the_store),
		cmocka_unit_test(compaction_is_told),
		cmocka_unit_test(so_is_a_store_that_has_gone_back),
		cmocka_unit_test(errors_and_nonsense_end_it),
		cmocka_unit_test(a_line_has_a_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
