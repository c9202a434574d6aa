/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that wait: vmsig_process() in a loop, until what was asked for is there or time is up. */
#include "clients/lib/client.h"

#include <string.h>

static int queue_check(vmsig *v)
{
	if (!delivery_queue_is_full(&v->queue))
		return 0;
	return client_fail(v, VMSIG_ERR_BUSY, "%u deliveries wait; take some with vmsig_next()",
		v->queue.count);
}

int vmsig_wait_connected(vmsig *v, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	int r = vmsig_process(v);

	while (r == 0 && !vmsig_is_connected(v)) {
		r = -queue_check(v);
		if (r == 0)
			r = -uplink_step(&v->link, until);
	}
	return r;
}

int vmsig_wait(vmsig *v, vmsig_delivery *ret_delivery, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	int r = vmsig_next(v, ret_delivery);

	if (r == -VMSIG_ERR_WOULD_BLOCK) {
		r = uplink_send(&v->link);
		/* What was said before the connection failed comes first. */
		while (!v->queue.count && r == 0)
			r = -uplink_step(&v->link, until);
		if (v->queue.count)
			r = vmsig_next(v, ret_delivery);
	}
	return r;
}

static int await_answer(vmsig *v, const struct client_subscription *subscription, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	int r = uplink_send(&v->link);

	while (r == 0 && !subscription->granted && subscription->answer <= 0) {
		r = -queue_check(v);
		if (r == 0)
			r = -uplink_step(&v->link, until);
	}
	return r ? r : -subscription->answer;
}

int vmsig_subscribe_wait(vmsig *v, const char *pattern, int timeout_ms)
{
	struct client_subscription *subscription;
	int r = vmsig_subscribe(v, pattern);

	if (r)
		return r;
	subscription = client_subscription_find(v, pattern);
	if (subscription->granted)
		return 0;
	/* Asked for now, whatever pause it was in. */
	subscription->blocking = true;
	subscription->retry_at = 0;
	subscription->answer = -1;
	r = await_answer(v, subscription, timeout_ms);
	subscription->blocking = false;
	if (r == 0)
		return 0;
	/* An answer that is still to come finds nobody, but the broker may grant it. */
	if (subscription->request_id) {
		char error[sizeof(v->link.error)];

		memcpy(error, v->link.error, sizeof(error));
		if (vmsig_unsubscribe(v, pattern))
			client_subscription_free(v, subscription);
		memcpy(v->link.error, error, sizeof(error));
	} else {
		client_subscription_free(v, subscription);
	}
	return r;
}

/* Starts again when the connection was lost before the whole list was there. */
static int list_step(vmsig *v, int64_t until)
{
	int r;

	if (!v->listing.request_id && vmsig_is_connected(v)) {
		r = listing_start(v, true);
		if (r)
			return r;
	}
	r = queue_check(v);
	return r ? r : uplink_step(&v->link, until);
}

static bool list_is_over(const vmsig *v)
{
	return v->listing.result || (v->listing.error > 0 && !v->listing.request_id &&
					    v->listing.error != VMSIG_ERR_DISCONNECTED);
}

int vmsig_list(vmsig *v, vmsig_endpoint_list **ret_list, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	int r;

	if (v->listing.request_id)
		return client_fail(v, -VMSIG_ERR_BUSY, "a list is being fetched already");
	v->listing.error = -1;
	r = -vmsig_process(v);
	while (r == 0 && !list_is_over(v))
		r = list_step(v, until);
	/* An answer that still comes finds nobody. */
	v->listing.blocking = false;
	if (v->listing.request_id) {
		v->listing.request_id = 0;
		v->listing.list = vmsig_endpoint_list_free(v->listing.list);
	}
	if (r)
		return client_result(r);
	if (!v->listing.result)
		return -v->listing.error;
	*ret_list = v->listing.result;
	v->listing.result = NULL;
	return 0;
}
