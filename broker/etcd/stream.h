/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ETCD_STREAM_H
#define BROKER_ETCD_STREAM_H

/*
 * A watch's bytes, over any number of connections: lines come out as notices, each change once, in
 * the order of revisions. Pure.
 *
 * Where it goes on after a connection was lost follows from the last change that was told, never
 * from what etcd says of its own revision: that may be ahead of what has still to come.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/etcd/reply.h"

struct etcd_stream {
	char *buffer;
	size_t len, at; /* bytes, and how many of them are taken apart */
	bool flooded;   /* it was fed more than it holds, and has lost that */
	int64_t next;   /* the first revision that is wanted; 0: what comes from now on */
};

void etcd_stream_deinit(struct etcd_stream *stream);
/* The next bytes are a new connection's. */
void etcd_stream_cut(struct etcd_stream *stream);
/* False: it is too much at once, or there is no memory. */
__attribute__((warn_unused_result)) bool etcd_stream_feed(
	struct etcd_stream *stream, const char *data, size_t len);
/* The next notice; `notice` has its number. ETCD_LINE_NOTHING: there is none until more bytes
 * come. After TXN_COMPACTED and ETCD_LINE_OVER nothing comes from this connection. */
enum etcd_line etcd_stream_next(
	struct etcd_stream *stream, struct txn_notice *notice, const char **ret_why);

#endif
