/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session is told next: news first, then a context, if there is room for one in flight.
 * Always the newest state; descriptors are fresh for each delivery (R2).
 */
#include "broker/read/state.h"

#include <errno.h>
#include <string.h>

#include "proto/mishap.h"

static void delivery_init(struct core_delivery *delivery, const struct subscription *subscription,
	enum vmsig_event_kind kind)
{
	const struct endpoint *endpoint = subscription->endpoint;

	*delivery = (struct core_delivery){
		.kind = kind,
		.endpoint = subscription->id,
		.name = subscription->name,
		.detail = "",
		.host = "",
		.epoch = subscription->last_epoch,
		.state = VMSIG_STATE_GONE,
		.page_fd = -1,
	};
	if (!endpoint)
		return;
	delivery->name = endpoint->name;
	delivery->detail = endpoint->detail;
	delivery->host = endpoint->host;
	delivery->epoch = endpoint->epoch;
	delivery->state = endpoint->state;
	delivery->guard = guard_against(endpoint, subscription->session->uid);
}

static void deliver_news(struct subscription *subscription, struct core_delivery *delivery)
{
	struct endpoint *endpoint = subscription->endpoint;

	if (subscription_owes_invalidation(subscription)) {
		delivery_init(delivery, subscription, VMSIG_EV_MEMCTX_INVALIDATED);
		endpoint->core->invalidations++;
		/* Says that it boots, unless there is a reason to tell as well. */
		if (endpoint->state == VMSIG_STATE_BOOTING && !endpoint->detail[0])
			subscription->told_news = endpoint->news;
		subscription->told_context = endpoint->context - 1;
	} else {
		delivery_init(delivery, subscription, VMSIG_EV_ENDPOINT_STATE);
		delivery->detail = service_detail(endpoint, subscription->session);
		subscription->told_news = endpoint->news;
	}
	subscription->told_epoch = endpoint->epoch;
}

static void deliver_farewell(struct subscription *subscription, struct core_delivery *delivery)
{
	/* The name lives on in the session's scratch: the subscription does not. */
	delivery_init(delivery, subscription, VMSIG_EV_ENDPOINT_STATE);
	memcpy(subscription->session->farewell, subscription->name, sizeof(subscription->name));
	delivery->name = subscription->session->farewell;
	delivery->detail = "the endpoint is not there any more";
	subscription_free(subscription);
}

/* How many there are, or -errno. */
static int share_ram(const struct endpoint *endpoint, struct core_delivery *delivery)
{
	int fd;

	if (endpoint->memfiles.share)
		return endpoint->memfiles.share(
			endpoint->memfiles.ctx, delivery->ram_fds, delivery->ram_sizes);
	fd = MISHAP("descriptor") ? -EMFILE : endpoint->reg.share_fd(endpoint->reg.ctx);
	delivery->ram_fds[0] = fd;
	return fd < 0 ? fd : 1;
}

/* All that a MEMCTX brings. Out of descriptors, or a file is going: then the adapter finds out
 * and ends the session. */
static int share(struct endpoint *endpoint, struct core_delivery *delivery)
{
	int fd, n = share_ram(endpoint, delivery);

	if (n < 0)
		return VMSIG_ERR_BUSY;
	delivery->nfiles = (uint32_t)n;
	if (!endpoint->share_page)
		return 0;
	fd = endpoint->share_page(endpoint->page_ctx);
	if (fd < 0)
		return VMSIG_ERR_BUSY;
	delivery->page_fd = fd;
	return 0;
}

/* The registration is asked anew for each delivery; only the epoch is ours (R3). */
static int deliver_context(
	struct subscription *subscription, uint64_t now_ns, struct core_delivery *delivery)
{
	struct endpoint *endpoint = subscription->endpoint;
	int r;

	delivery_init(delivery, subscription, VMSIG_EV_MEMCTX);
	r = share(endpoint, delivery);
	if (r)
		return r;
	/* It says READY by itself; what is more than that is told after it. */
	if (endpoint->state == VMSIG_STATE_READY)
		subscription->told_news = endpoint->news;
	else
		subscription->told_news = endpoint->news - 1;
	subscription->told_context = endpoint->context;
	subscription->told_epoch = endpoint->epoch;
	endpoint->reg.describe(endpoint->reg.ctx, &delivery->pod, &delivery->segs, &delivery->nseg);
	delivery->pod.epoch = endpoint->epoch;
	delivery->pod.nseg = delivery->nseg;
	delivery->pod.flags |= VMSIG_MEMCTX_RDONLY;
	delivery->system = endpoint->system;
	inflight_begin(subscription->session, now_ns);
	endpoint->core->contexts++;
	return 0;
}

static int pull_context(struct session *session, uint64_t now_ns, struct core_delivery *delivery)
{
	struct subscription *subscription = session->due_context;
	int r;

	if (!subscription) {
		inflight_leave_line(session);
		return VMSIG_ERR_WOULD_BLOCK;
	}
	if (!inflight_may_carry(session))
		return VMSIG_ERR_WOULD_BLOCK;
	r = deliver_context(subscription, now_ns, delivery);
	if (r)
		inflight_cancel(session);
	else
		subscription_sort(subscription);
	return r;
}

int core_session_pull(struct session *session, uint64_t now_ns, struct core_delivery *ret_delivery)
{
	struct subscription *subscription;
	int r = session_catch_up(session);

	ret_delivery->nfiles = 0;
	ret_delivery->page_fd = -1;
	if (r)
		return r;
	/* Nothing is told before what it says was stored (R6). */
	if (session->core->queues[QUEUE_ENDPOINT]) {
		action_add(session->core, QUEUE_SESSION, &session->own, CORE_ACT_NOTIFY);
		return VMSIG_ERR_WOULD_BLOCK;
	}
	subscription = session->due_news;
	if (!subscription)
		return pull_context(session, now_ns, ret_delivery);
	if (!subscription->endpoint) {
		deliver_farewell(subscription, ret_delivery);
		return 0;
	}
	deliver_news(subscription, ret_delivery);
	subscription_sort(subscription);
	return 0;
}

void core_session_put_back(struct session *session, uint32_t id)
{
	struct subscription *subscription = subscription_find(session, id);

	inflight_end(session);
	if (!subscription || !subscription->endpoint)
		return;
	subscription->told_context = subscription->endpoint->context - 1;
	subscription_sort(subscription);
}
