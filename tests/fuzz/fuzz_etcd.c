/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes from etcd: byte 0 is the kind of the request, or of its end a watch's stream, in
 * pieces of byte 1. What was not understood is unknown, and says why.
 */
#include <stdint.h>
#include <stdlib.h>

#include "broker/etcd/reply.h"
#include "broker/etcd/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void feed_reply(enum txn_request_kind kind, long status, const char *text, size_t len)
{
	struct txn_answer answer = {.number = 1};

	etcd_reply(kind, status, text, len, &answer);
	if (answer.number != 1)
		abort();
	if ((answer.outcome == TXN_UNKNOWN || answer.outcome == TXN_UNAVAILABLE) && !answer.why[0])
		abort();
	txn_answer_deinit(&answer);
}

/* Revisions rise, and no change is told twice. */
static int64_t take_notices(struct etcd_stream *stream, int64_t last, bool *ret_over)
{
	struct txn_notice notice = {.number = 1};
	const char *why = "";
	enum etcd_line line;

	while ((line = etcd_stream_next(stream, &notice, &why)) == ETCD_LINE_NOTICE ||
		line == ETCD_LINE_BEGUN) {
		for (size_t i = 0; i < notice.n; i++) {
			if (notice.events[i].entry.mod_revision < last)
				abort();
		}
		if (notice.kind == TXN_CHANGES && notice.n)
			last = stream->next;
		txn_notice_deinit(&notice);
		notice.number = 1;
	}
	*ret_over = line == ETCD_LINE_OVER;
	txn_notice_deinit(&notice);
	return last;
}

static void feed_stream(size_t piece, const char *text, size_t len)
{
	struct etcd_stream stream = {.next = 1};
	int64_t last = 1;
	bool over = false;

	for (size_t at = 0; at < len && !over; at += piece) {
		size_t n = len - at < piece ? len - at : piece;

		if (!etcd_stream_feed(&stream, text + at, n))
			break;
		last = take_notices(&stream, last, &over);
	}
	etcd_stream_deinit(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 2;
	char name[32];

	if (size < 2)
		return 0;
	if (data[0] % 8 <= TXN_LEASE_REVOKE || data[0] % 8 == TXN_PAGE)
		feed_reply(data[0] % 8, data[1] ? 200 : 500, text, size - 2);
	else if (data[0] % 8 == TXN_WATCH)
		feed_stream(data[1] ? data[1] : 1, text, size - 2);
	else
		(void)etcd_reply_version(text, size - 2, name, sizeof(name));
	return 0;
}
