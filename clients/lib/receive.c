/* SPDX-License-Identifier: Apache-2.0 */
/* What the broker says on the read plane, message by message; anything else ends the connection. */
#include "clients/lib/client.h"

#include <errno.h>
#include <string.h>

static int name_check(vmsig *v, const char *name)
{
	if (system_name_ok(name))
		return 0;
	return client_fail(
		v, VMSIG_ERR_PROTOCOL, "the broker speaks of an endpoint without a proper name");
}

/* An answer, also a late one to a question that nobody cares about any more. */
static int on_answer(vmsig *v, uint64_t id, int error, const char *text)
{
	if (!id && error)
		return client_fail(v, error, "the broker says: %s", text);
	if (!id || id > v->link.last_id)
		return client_fail(
			v, VMSIG_ERR_PROTOCOL, "the broker answers what it was not asked");
	if (id == v->listing.request_id)
		listing_fail(v, error ? error : VMSIG_ERR_PROTOCOL, text);
	else if (id == v->lookout.request_id)
		lookout_fail(v, error ? error : VMSIG_ERR_PROTOCOL, text);
	else
		client_subscription_answer(v, id, error, text);
	return 0;
}

static int on_error(void *ctx, const struct envelope *message)
{
	vmsig *v = ctx;
	const Vmsig__Error *error = message->body;
	char text[CLIENT_TEXT_MAX + 1];
	uint32_t code = error->code;

	if (!code || code > INT16_MAX)
		code = VMSIG_ERR_INTERNAL;
	client_clean_text(
		text, sizeof(text), error->detail[0] ? error->detail : vmsig_error_text((int)code));
	return on_answer(v, message->request_id, (int)code, text);
}

static int on_done(void *ctx, const struct envelope *message)
{
	vmsig *v = ctx;
	return on_answer(v, message->request_id, 0, "");
}

static int on_list(void *ctx, const struct envelope *message)
{
	vmsig *v = ctx;
	uint64_t id = message->request_id;

	if (!id || id > v->link.last_id)
		return client_fail(
			v, VMSIG_ERR_PROTOCOL, "the broker sent a list it was not asked for");
	/* One that nobody waits for any more comes late. */
	return id == v->listing.request_id ? listing_page(v, message->body) : 0;
}

static int on_fleet_view(void *ctx, const struct envelope *message)
{
	vmsig *v = ctx;
	uint64_t id = message->request_id;

	if (!id || id > v->link.last_id)
		return client_fail(v, VMSIG_ERR_PROTOCOL, "the broker tells of a fleet unasked");
	return id == v->lookout.request_id ? lookout_take(v, message->body) : 0;
}

static void tell_invalidated(vmsig *v, uint32_t endpoint, const char *name, uint32_t epoch)
{
	const vmsig_memctx_inv inv = {.endpoint = endpoint, .epoch = epoch};
	vmsig_delivery *delivery = delivery_queue_add(&v->queue, VMSIG_EV_MEMCTX_INVALIDATED, name);

	delivery->event.endpoint = endpoint;
	memcpy(delivery->event.inln, &inv, sizeof(inv));
}

/* Order: what was said of an older epoch is taken back first. */
static int note_epoch(
	vmsig *v, uint32_t endpoint, const char *name, uint32_t epoch, bool *ret_invalidated)
{
	int r;

	*ret_invalidated = false;
	r = epochs_note(v, name, epoch, ret_invalidated);
	if (r)
		return r;
	if (*ret_invalidated)
		tell_invalidated(v, endpoint, name, epoch);
	return 0;
}

static int on_memctx(void *ctx, const struct envelope *message)
{
	vmsig *v = ctx;
	const Vmsig__Memctx *memctx = message->body;
	bool invalidated;
	int r;

	r = name_check(v, memctx->name);
	if (r)
		return r;
	r = note_epoch(v, memctx->endpoint, memctx->name, memctx->epoch, &invalidated);
	if (r)
		return r;
	r = memctx_receive(v, memctx);
	if (r == 0)
		epochs_set_context(v, memctx->name, true);
	return r;
}

static int on_invalidated(void *ctx, const struct envelope *message)
{
	vmsig *v = ctx;
	const Vmsig__MemctxInvalidated *body = message->body;
	bool told;
	int r;

	r = name_check(v, body->name);
	if (r)
		return r;
	r = note_epoch(v, body->endpoint, body->name, body->epoch, &told);
	if (r)
		return r;
	if (!told)
		tell_invalidated(v, body->endpoint, body->name, body->epoch);
	epochs_set_context(v, body->name, false);
	return 0;
}

static int on_state(void *ctx, const struct envelope *message)
{
	vmsig *v = ctx;
	const Vmsig__EndpointState *body = message->body;
	const vmsig_endpoint_status status = {
		.endpoint = body->endpoint,
		.epoch = body->epoch,
		.state = body->state,
		.guard = body->guard,
	};
	vmsig_delivery *delivery;
	bool invalidated;
	int r;

	r = name_check(v, body->name);
	/* Of an endpoint that never was in an epoch there is nothing to compare. */
	if (r == 0 && body->epoch)
		r = note_epoch(v, body->endpoint, body->name, body->epoch, &invalidated);
	if (r)
		return r;
	delivery = delivery_queue_add(&v->queue, VMSIG_EV_ENDPOINT_STATE, body->name);
	delivery->event.endpoint = body->endpoint;
	delivery->guard = body->guard;
	memcpy(delivery->event.inln, &status, sizeof(status));
	delivery_set_text(delivery, body->detail);
	if (body->state == VMSIG_STATE_GONE)
		epochs_forget(v, body->name);
	return 0;
}

/* What the broker may say. */
static const uplink_handler handlers[] = {
	[VMSIG__CTX_MESSAGE__BODY_ERROR] = on_error,
	[VMSIG__CTX_MESSAGE__BODY_DONE] = on_done,
	[VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST] = on_list,
	[VMSIG__CTX_MESSAGE__BODY_MEMCTX] = on_memctx,
	[VMSIG__CTX_MESSAGE__BODY_MEMCTX_INVALIDATED] = on_invalidated,
	[VMSIG__CTX_MESSAGE__BODY_ENDPOINT_STATE] = on_state,
	[VMSIG__CTX_MESSAGE__BODY_FLEET_VIEW] = on_fleet_view,
};

int receive_message(vmsig *v, const struct envelope *message)
{
	return uplink_dispatch(handlers, sizeof(handlers) / sizeof(handlers[0]), v, message);
}
