/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the broker says of its fleet, asked for by the programs of this tree (ask.h). One question
 * at a time; the answer is the handle's until the next one.
 */
#include <errno.h>
#include <stdlib.h>

#include "clients/lib/ask.h"
#include "clients/lib/client.h"

static void clear(struct lookout *lookout)
{
	if (lookout->view)
		vmsig__fleet_view__free_unpacked(lookout->view, NULL);
	*lookout = (struct lookout){0};
}

/* The message is borrowed, the answer is to be kept: packed and unpacked once more. */
int lookout_take(vmsig *v, const Vmsig__FleetView *view)
{
	size_t len = vmsig__fleet_view__get_packed_size(view);
	uint8_t *packed = malloc(len ? len : 1);

	v->lookout.request_id = 0;
	if (packed) {
		vmsig__fleet_view__pack(view, packed);
		v->lookout.view = vmsig__fleet_view__unpack(NULL, len, packed);
	}
	free(packed);
	return v->lookout.view ? 0 : -ENOMEM;
}

void lookout_fail(vmsig *v, int error, const char *text)
{
	if (!v->lookout.request_id)
		return;
	v->lookout.request_id = 0;
	v->lookout.error = client_fail(v, error, "%s", text);
}

void lookout_deinit(vmsig *v)
{
	clear(&v->lookout);
}

static int ask(vmsig *v)
{
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;
	int r;

	if (v->link.phase != PHASE_READY)
		return client_fail(v, VMSIG_ERR_DISCONNECTED, "not connected to the broker");
	body.whole = true;
	r = uplink_request(&v->link, VMSIG__CTX_REQUEST__BODY_FLEET_QUERY, &body, NULL, 0,
		&v->lookout.request_id);
	if (!r)
		v->lookout.until = client_after(client_now(), v->link.settings.request_timeout_ms);
	return r;
}

int ask_fleet(vmsig *v, const Vmsig__FleetView **ret_view, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	int r;

	clear(&v->lookout);
	r = ask(v);
	while (!r && v->lookout.request_id)
		r = delivery_queue_is_full(&v->queue)
			    ? client_fail(v, VMSIG_ERR_BUSY, "deliveries wait to be taken")
			    : uplink_step(&v->link, until);
	/* An answer that still comes finds nobody. */
	v->lookout.request_id = 0;
	if (r || !v->lookout.view)
		return client_result(r ? r : v->lookout.error);
	*ret_view = v->lookout.view;
	return 0;
}
