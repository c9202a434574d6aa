/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define QUEUE_MAX 64u
#define QUEUE_LIMIT 65536u /* of the option */

/* ---- what the link asks ---- */

static void on_up(void *owner)
{
	vmsig *v = owner;

	client_subscription_all_reset(v);
	delivery_queue_add(&v->queue, VMSIG_EV_CONNECTED, "");
}

static void on_down(void *owner, int code, bool news)
{
	vmsig *v = owner;
	vmsig_delivery *delivery;

	listing_fail(v, VMSIG_ERR_DISCONNECTED, v->link.error);
	lookout_fail(v, VMSIG_ERR_DISCONNECTED, v->link.error);
	client_subscription_all_reset(v);
	if (!news)
		return;
	delivery = delivery_queue_add(&v->queue, VMSIG_EV_DISCONNECTED, "");
	delivery->error = -code;
	delivery_set_text(delivery, v->link.error);
}

static int on_message(void *owner, const struct envelope *message)
{
	return receive_message(owner, message);
}

static bool is_full(const void *owner)
{
	const vmsig *v = owner;

	return delivery_queue_is_full(&v->queue);
}

static int on_due(void *owner, int64_t now)
{
	return client_subscription_all_ask(owner, now);
}

static bool is_overdue(const void *owner, int64_t now)
{
	const vmsig *v = owner;

	return (v->listing.request_id && v->listing.until <= now) ||
	       (v->lookout.request_id && v->lookout.until <= now) ||
	       client_subscription_all_overdue(v, now);
}

static int64_t next_deadline(const void *owner)
{
	const vmsig *v = owner;
	int64_t deadline = CLIENT_NEVER;

	if (v->link.phase != PHASE_READY)
		return deadline;
	deadline = client_subscription_all_deadline(v);
	if (v->listing.request_id && v->listing.until < deadline)
		deadline = v->listing.until;
	if (v->lookout.request_id && v->lookout.until < deadline)
		deadline = v->lookout.until;
	return deadline;
}

static const struct uplink_ops ctx_ops = {
	.default_socket = VMSIG_CTX_SOCKET,
	.request = &vmsig__ctx_request__descriptor,
	.message = &vmsig__ctx_message__descriptor,
	.up = on_up,
	.down = on_down,
	.take = on_message,
	.is_full = is_full,
	.due = on_due,
	.is_overdue = is_overdue,
	.deadline = next_deadline,
};

/* ---- the handle ---- */

static int handle_init(vmsig *v, const vmsig_options *options)
{
	uint32_t limit = options->queue_max ? options->queue_max : QUEUE_MAX;
	int r = uplink_init(&v->link, &ctx_ops, v, options);

	if (r)
		return r;
	if (limit > QUEUE_LIMIT)
		return client_fail(v, VMSIG_ERR_BAD_REQUEST, "queue_max is above %u", QUEUE_LIMIT);
	return delivery_queue_init(&v->queue, limit);
}

int vmsig_open(vmsig **ret_vmsig, const vmsig_options *options, char *error, size_t error_size)
{
	vmsig *v = calloc(1, sizeof(*v));
	int r = v ? handle_init(v, options) : -ENOMEM;

	if (r) {
		r = uplink_refuse(v ? &v->link : NULL, r, error, error_size);
		vmsig_close(v);
		return r;
	}
	*ret_vmsig = v;
	return 0;
}

vmsig *vmsig_close(vmsig *v)
{
	if (!v)
		return NULL;
	uplink_deinit(&v->link);
	delivery_queue_deinit(&v->queue);
	listing_deinit(v);
	lookout_deinit(v);
	while (v->subscriptions)
		client_subscription_free(v, v->subscriptions);
	epochs_deinit(v);
	free(v);
	return NULL;
}

int vmsig_fd(const vmsig *v)
{
	return v->link.epoll;
}

short vmsig_poll_events(const vmsig *v)
{
	return v->link.armed ? POLLIN : 0;
}

int64_t vmsig_deadline(const vmsig *v)
{
	int64_t deadline = uplink_deadline(&v->link);

	return deadline == CLIENT_NEVER ? -1 : deadline;
}

int vmsig_process(vmsig *v)
{
	return uplink_process(&v->link);
}

bool vmsig_is_connected(const vmsig *v)
{
	return v->link.phase == PHASE_READY;
}

int vmsig_broker(const vmsig *v, vmsig_broker_info *ret_info)
{
	struct ucred cred;

	if (v->link.phase != PHASE_READY)
		return -VMSIG_ERR_DISCONNECTED;
	if (chan_peer_cred(v->link.chan, &cred))
		return -VMSIG_ERR_IO;
	*ret_info = (vmsig_broker_info){
		.host = v->link.broker.name,
		.software = v->link.software,
		.uid = cred.uid,
		.pid = cred.pid,
	};
	return 0;
}

const char *vmsig_last_error(const vmsig *v)
{
	return v->link.error;
}

const char *vmsig_version(void)
{
	return VMSIG_VERSION;
}

/* Indexed by the numbers of vmsig_event.h. */
static const char *const state_names[] = {"unknown", "booting", "ready", "invalid", "gone",
	"unreachable", "panicked", "unattended", "moved"};
static const char *const guard_names[] = {"none", "mode", "ro-mount", "sealed"};

static const char *name_at(const char *const *names, size_t count, uint32_t index)
{
	return index < count ? names[index] : "unknown";
}

const char *vmsig_state_name(uint32_t state)
{
	return name_at(state_names, sizeof(state_names) / sizeof(state_names[0]), state);
}

const char *vmsig_guard_name(uint32_t guard)
{
	return name_at(guard_names, sizeof(guard_names) / sizeof(guard_names[0]), guard);
}
