/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/hold.h"

#include <stdio.h>
#include <time.h>

#include "clients/common/moment.h"

#define NS_PER_MS 1000000
#define AGAIN_MS 200 /* before an endpoint that was not ready is asked for again */

int64_t hold_remaining(const struct hold *hold)
{
	vmsig_lease_info info;
	struct timespec now;
	int64_t left;

	if (!hold->usable)
		return 0;
	vmsig_lease_get(hold->lease, &info);
	clock_gettime(CLOCK_BOOTTIME, &now);
	left = info.deadline / NS_PER_MS - ((int64_t)now.tv_sec * 1000 + now.tv_nsec / NS_PER_MS);
	return left > 0 ? left : 0;
}

/* ---- what happens to it ---- */

int hold_fail(struct hold *hold, int error, const char *why)
{
	hold->usable = hold->waiting = false;
	hold->error = error ? error : -VMSIG_ERR_NO_LEASE;
	if (!error)
		why = "it was given back";
	snprintf(hold->why, sizeof(hold->why), "%s", why[0] ? why : vmsig_error_text(error));
	return hold->error;
}

static void grant(struct hold *hold)
{
	vmsig_lease_info info;

	vmsig_lease_get(hold->lease, &info);
	hold->usable = true;
	hold->waiting = false;
	hold->error = 0;
	hold->epoch = info.epoch;
}

bool hold_take(struct hold *hold, const vmsig_writer_event *event)
{
	if (!hold->lease || event->lease != hold->lease)
		return false;
	switch (event->kind) {
	case VMSIG_WEV_WAITING:
		hold->waiting = true;
		break;
	case VMSIG_WEV_GRANTED:
		grant(hold);
		break;
	case VMSIG_WEV_REFUSED:
		hold_fail(hold, event->error, event->text);
		break;
	case VMSIG_WEV_LOST:
		/* It may be over for another reason already. */
		if (hold->usable || !hold->error)
			hold_fail(hold, event->error, event->text);
		break;
	default:
		break;
	}
	return true;
}

void hold_drop(struct hold *hold)
{
	hold->lease = vmsig_lease_free(hold->lease);
	hold->usable = hold->waiting = false;
}

/* ---- acquiring ---- */

static int ask(struct hold *hold, vmsig_writer *writer, const vmsig_lease_request *request,
	hold_step_fn step, void *ctx)
{
	int r;

	hold_drop(hold);
	hold->error = 0;
	r = vmsig_lease_acquire(writer, request, &hold->lease);
	if (r)
		return hold_fail(hold, r, vmsig_writer_last_error(writer));
	while (!r && !hold->usable && !hold->error)
		r = step(ctx, MOMENT_NEVER);
	return hold->usable ? 0 : r ? r : hold->error;
}

/* Drives the connections meanwhile. */
static int wait_again(hold_step_fn step, void *ctx)
{
	int64_t until = moment_in_ms(AGAIN_MS);
	int r = 0;

	while (!r && moment_now() < until)
		r = step(ctx, until);
	return r;
}

int hold_acquire(struct hold *hold, vmsig_writer *writer, const vmsig_lease_request *request,
	uint32_t ready_ms, hold_step_fn step, void *ctx)
{
	int64_t until = moment_in_ms(ready_ms);
	int r;

	for (;;) {
		r = ask(hold, writer, request, step, ctx);
		if (r != -VMSIG_ERR_NOT_READY || request->no_wait || moment_now() >= until)
			break;
		r = wait_again(step, ctx);
		if (r)
			break;
	}
	if (r)
		hold_drop(hold);
	return r;
}
