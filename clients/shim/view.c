/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/view.h"

#include "clients/common/exits.h"
#include "clients/common/moment.h"
#include "clients/shim/shim.h"

/* ---- news ---- */

static void tell_epoch(struct shim *shim, uint32_t before)
{
	if (before)
		shim_output_news(&shim->output, "epoch", 0,
			"%s was reset or restored: epoch %u is over, this is %u",
			shim->options.endpoint, before, shim->context.epoch);
	shim_hold_epoch(shim, shim->context.epoch);
}

static void tell_state(struct shim *shim, uint32_t before, int error)
{
	const char *endpoint = shim->options.endpoint, *reason = shim->context.reason;

	switch (shim->context.state) {
	case VMSIG_STATE_READY:
		if (before != VMSIG_STATE_UNKNOWN)
			shim_output_news(&shim->output, "ready", error, "%s is ready in epoch %u",
				endpoint, shim->context.epoch);
		break;
	case VMSIG_STATE_GONE:
		shim_output_news(&shim->output, "gone", VMSIG_ERR_GONE, "%s is gone: %s", endpoint,
			reason[0] ? reason : vmsig_error_text(VMSIG_ERR_GONE));
		break;
	case VMSIG_STATE_UNREACHABLE:
		shim_output_news(&shim->output, "unreachable", VMSIG_ERR_NOT_READY,
			"%s is unreachable: %s", endpoint, reason);
		break;
	case VMSIG_STATE_PANICKED:
		shim_output_news(
			&shim->output, "panicked", error, "%s has panicked: %s", endpoint, reason);
		break;
	default:
		break;
	}
}

static void tell_refused(struct shim *shim, const vmsig_delivery *delivery)
{
	shim_output_news(&shim->output, "refused", delivery->error,
		"nothing more is heard of %s: %s", shim->options.endpoint,
		vmsig_delivery_text(delivery));
}

void shim_view_take(struct shim *shim, vmsig_delivery *delivery)
{
	struct context *context = &shim->context;
	uint32_t epoch = context->epoch, state = context->state;
	int r;

	if (delivery->event.kind == VMSIG_EV_SUBSCRIBED && delivery->error)
		tell_refused(shim, delivery);
	/* It stands on the context that may go now. */
	if (delivery->event.kind == VMSIG_EV_MEMCTX ||
		delivery->event.kind == VMSIG_EV_MEMCTX_INVALIDATED)
		shim->os = vmsig_os_close(shim->os);
	r = context_take(context, delivery);
	if (context->epoch != epoch)
		tell_epoch(shim, epoch);
	if (context->state != state)
		tell_state(shim, state, r);
}

/* ---- waiting ---- */

static bool is_there(const struct shim *shim)
{
	return shim->context.mem && (!shim->hold.usable || shim->context.epoch >= shim->hold.epoch);
}

int shim_view_await(struct shim *shim)
{
	int64_t until = moment_in_ms(shim->options.ready_ms);

	/* What is said already goes before what is asked now. */
	shim_session_step(shim, -1, 0);
	while (!is_there(shim) && !shim_session_is_stopped(&shim->session)) {
		if (moment_now() >= until)
			return shim_output_fail(&shim->output,
				shim->context.state == VMSIG_STATE_GONE ? VMSIG_ERR_GONE
									: VMSIG_ERR_NOT_READY,
				"%s is not ready: %s", shim->options.endpoint,
				context_why(&shim->context));
		shim_session_step(shim, -1, until);
	}
	return is_there(shim) ? EXIT_OK : shim_session_stop(shim);
}
