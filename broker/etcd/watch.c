/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/etcd/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

static int make_body(struct etcd_watch *watch)
{
	const struct txn_request request = {
		.kind = TXN_WATCH, .prefix = watch->prefix, .revision = watch->stream.next};

	free(watch->body.text);
	watch->body = (struct etcd_body){0};
	return etcd_body(&request, &watch->body);
}

int etcd_watch_new(struct etcd_watch **ret_watch, const struct txn_request *request)
{
	struct etcd_watch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	watch->number = request->number;
	watch->stream.next = request->revision;
	watch->prefix = strdup(request->prefix ? request->prefix : "");
	r = watch->prefix ? make_body(watch) : -ENOMEM;
	if (r) {
		etcd_watch_free(watch);
		return r;
	}
	*ret_watch = watch;
	return 0;
}

void etcd_watch_free(struct etcd_watch *watch)
{
	courier_cancel(&watch->parcel);
	etcd_stream_deinit(&watch->stream);
	free(watch->prefix);
	free(watch->body.text);
	free(watch);
}

/* What came is taken apart when curl has come back: whoever is told of it may send. */
static bool on_heard(struct courier_parcel *parcel, const char *data, size_t len)
{
	struct etcd_watch *watch = (struct etcd_watch *)parcel;

	if (!etcd_stream_feed(&watch->stream, data, len))
		return false;
	watch->woken(watch);
	return true;
}

int etcd_watch_go(struct etcd_watch *watch, struct courier *courier, struct etcd_member *member,
	uint64_t connect_ms)
{
	void (*done)(struct courier_parcel * parcel, enum courier_end end) = watch->parcel.done;
	int r = make_body(watch);

	if (r)
		return r;
	etcd_stream_cut(&watch->stream);
	snprintf(watch->url, sizeof(watch->url), "%s%s", member->url, watch->body.path);
	watch->parcel = (struct courier_parcel){.url = watch->url,
		.body = watch->body.text,
		.body_len = watch->body.len,
		.connect_timeout_ms = connect_ms,
		.heard = on_heard,
		.done = done};
	r = courier_send(courier, &watch->parcel);
	if (!r)
		watch->member = member;
	return r;
}

void etcd_watch_cut(struct etcd_watch *watch)
{
	watch->member = NULL;
	courier_cancel(&watch->parcel);
	etcd_stream_cut(&watch->stream);
}
