/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/view.h"

#include <stdio.h>
#include <string.h>

#include "clients/common/exits.h"
#include "clients/shim/shim.h"

#define NS_PER_MS 1000000

void view_close(struct view *view)
{
	view->mem = vmsig_mem_close(view->mem);
}

/* ---- deliveries ---- */

static void take_epoch(struct shim *shim, uint32_t epoch)
{
	struct view *view = &shim->view;
	uint32_t before = view->epoch;

	if (epoch <= before)
		return;
	view->epoch = epoch;
	view_close(view);
	if (before)
		output_news(&shim->output, "epoch", 0,
			"%s was reset or restored: epoch %u is over, this is %u",
			shim->options.endpoint, before, epoch);
	hold_epoch(shim, epoch);
}

static void take_context(struct shim *shim, const vmsig_delivery *delivery)
{
	struct view *view = &shim->view;
	bool is_news = view->state != VMSIG_STATE_READY && view->state != VMSIG_STATE_UNKNOWN;
	vmsig_memctx pod;
	int r;

	memcpy(&pod, delivery->event.inln, sizeof(pod));
	take_epoch(shim, pod.epoch);
	view_close(view);
	view->pod = pod;
	view->guard = delivery->guard;
	view->state = VMSIG_STATE_READY;
	view->reason[0] = '\0';
	r = vmsig_mem_from_event(
		&view->mem, &delivery->event, delivery->ram_fd, delivery->coherence_fd);
	/* A guest that ends while we look must not end us by SIGBUS. */
	if (!r)
		r = vmsig_mem_set_mode(view->mem, VMSIG_MEM_PREAD);
	if (r) {
		view_close(view);
		snprintf(view->reason, sizeof(view->reason), "its context cannot be opened: %s",
			vmsig_error_text(r));
	}
	if (is_news)
		output_news(&shim->output, "ready", r, "%s is ready in epoch %u",
			shim->options.endpoint, pod.epoch);
}

static void take_state(struct shim *shim, const vmsig_delivery *delivery)
{
	struct view *view = &shim->view;
	vmsig_endpoint_status status;
	uint32_t before = view->state;

	memcpy(&status, delivery->event.inln, sizeof(status));
	take_epoch(shim, status.epoch);
	view->state = status.state;
	view->guard = status.guard;
	snprintf(view->reason, sizeof(view->reason), "%s", vmsig_delivery_text(delivery));
	if (status.state == VMSIG_STATE_GONE && before != VMSIG_STATE_GONE)
		output_news(&shim->output, "gone", VMSIG_ERR_GONE, "%s is gone: %s",
			shim->options.endpoint,
			view->reason[0] ? view->reason : vmsig_error_text(VMSIG_ERR_GONE));
	if (status.state == VMSIG_STATE_UNREACHABLE && before != VMSIG_STATE_UNREACHABLE)
		output_news(&shim->output, "unreachable", VMSIG_ERR_NOT_READY,
			"%s is unreachable: %s", shim->options.endpoint, view->reason);
}

void view_take(struct shim *shim, vmsig_delivery *delivery)
{
	vmsig_memctx_inv inv;

	switch (delivery->event.kind) {
	case VMSIG_EV_MEMCTX:
		take_context(shim, delivery);
		break;
	case VMSIG_EV_MEMCTX_INVALIDATED:
		memcpy(&inv, delivery->event.inln, sizeof(inv));
		shim->view.state = VMSIG_STATE_INVALID;
		take_epoch(shim, inv.epoch);
		view_close(&shim->view);
		break;
	case VMSIG_EV_ENDPOINT_STATE:
		take_state(shim, delivery);
		break;
	case VMSIG_EV_SUBSCRIBED:
		if (delivery->error)
			output_news(&shim->output, "refused", delivery->error,
				"nothing more is heard of %s: %s", shim->options.endpoint,
				vmsig_delivery_text(delivery));
		break;
	default:
		break;
	}
}

/* ---- waiting ---- */

static bool is_there(const struct shim *shim)
{
	return shim->view.mem && (!shim->hold.usable || shim->view.epoch >= shim->hold.epoch);
}

int view_await(struct shim *shim)
{
	int64_t until = session_now() + (int64_t)shim->options.ready_ms * NS_PER_MS;
	const struct view *view = &shim->view;

	/* What is said already goes before what is asked now. */
	session_step(shim, -1, 0);
	while (!is_there(shim) && !session_is_stopped(&shim->session)) {
		if (session_now() >= until)
			return output_fail(&shim->output,
				view->state == VMSIG_STATE_GONE ? VMSIG_ERR_GONE
								: VMSIG_ERR_NOT_READY,
				"%s is not ready: %s", shim->options.endpoint,
				view->reason[0] ? view->reason : "it is still booting");
		session_step(shim, -1, until);
	}
	return is_there(shim) ? EXIT_OK : session_stop(shim);
}
