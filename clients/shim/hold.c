/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/hold.h"

#include <inttypes.h>

#include "clients/common/exits.h"
#include "clients/common/moment.h"
#include "clients/shim/shim.h"

#define RELEASE_MS 2000 /* for the broker's word on a release */

/* ---- what happens to it ---- */

static void tell_lost(struct shim *shim)
{
	vmsig_lease_info info;

	vmsig_lease_get(shim->hold.lease, &info);
	shim_output_news(&shim->output, "lost", shim->hold.error,
		"lease %" PRIu64 " on %s is lost, nothing is written before `lease acquire`: %s",
		info.id, shim->options.endpoint, shim->hold.why);
}

static void tell(struct shim *shim, const vmsig_writer_event *event)
{
	const char *endpoint = shim->options.endpoint;

	switch (event->kind) {
	case VMSIG_WEV_WAITING:
		shim_output_news(&shim->output, "waiting", 0,
			"waiting: somebody holds a conflicting lease on %s", endpoint);
		break;
	case VMSIG_WEV_NOTICE:
		shim_output_news(&shim->output, "notice", 0,
			"the lease on %s will be revoked in %u ms: somebody of higher priority "
			"waits",
			endpoint, event->revoke_in_ms);
		break;
	case VMSIG_WEV_RESUMED:
		shim_output_news(
			&shim->output, "resumed", 0, "the lease on %s was resumed", endpoint);
		break;
	default:
		break;
	}
}

void shim_hold_take(struct shim *shim, const vmsig_writer_event *event)
{
	bool was_usable = shim->hold.usable;

	if (!hold_take(&shim->hold, event))
		return;
	if (was_usable && !shim->hold.usable)
		tell_lost(shim);
	else
		tell(shim, event);
}

void shim_hold_epoch(struct shim *shim, uint32_t epoch)
{
	if (!shim->hold.usable || epoch <= shim->hold.epoch)
		return;
	hold_fail(&shim->hold, -VMSIG_ERR_STALE_EPOCH, "");
	tell_lost(shim);
}

/* ---- acquiring ---- */

static int step(void *ctx, int64_t until)
{
	struct shim *shim = ctx;
	const struct shim_plane *plane = &shim->session.write;

	shim_session_step(shim, -1, until);
	if (shim_session_is_stopped(&shim->session))
		return -VMSIG_ERR_WOULD_BLOCK;
	if (!plane->up)
		hold_fail(&shim->hold, plane->error, plane->why);
	return 0;
}

int shim_hold_acquire(struct shim *shim)
{
	struct hold *hold = &shim->hold;

	if (hold->usable || !hold_acquire(hold, shim->session.writer, &shim->options.lease,
				    shim->options.ready_ms, step, shim))
		return EXIT_OK;
	if (!shim_session_is_stopped(&shim->session))
		return shim_output_fail(&shim->output, hold->error, "no lease on %s: %s",
			shim->options.endpoint, hold->why);
	hold->error = 0;
	return shim_session_stop(shim);
}

/* ---- releasing ---- */

int shim_hold_release(struct shim *shim)
{
	int64_t until = moment_in_ms(RELEASE_MS);
	struct hold *hold = &shim->hold;
	vmsig_lease_info info;
	int status = EXIT_OK;

	hold->error = 0;
	if (hold->lease && hold->usable && vmsig_lease_release(hold->lease) == 0) {
		hold->usable = false;
		do {
			shim_session_step(shim, -1, until);
			vmsig_lease_get(hold->lease, &info);
		} while (info.phase != VMSIG_LEASE_OVER && moment_now() < until);
		if (info.phase != VMSIG_LEASE_OVER)
			status = shim_output_fail(&shim->output, VMSIG_ERR_TIMEOUT,
				"the lease could not be released; it ends by itself");
		else if (info.error)
			status = shim_output_fail(&shim->output, info.error,
				"the lease on %s was over before: %s", shim->options.endpoint,
				vmsig_error_text(info.error));
	}
	hold_drop(hold);
	return status;
}

int shim_hold_check(struct shim *shim)
{
	const struct hold *hold = &shim->hold;

	/* What is said already goes before what is asked now. */
	shim_session_step(shim, -1, 0);
	if (hold->usable)
		return EXIT_OK;
	if (hold->error)
		return shim_output_fail(
			&shim->output, hold->error, "nothing is written: %s", hold->why);
	return shim_output_fail(
		&shim->output, VMSIG_ERR_NO_LEASE, "nothing is written: there is no lease");
}
