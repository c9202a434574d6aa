/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/hold.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clients/common/exits.h"
#include "clients/shim/shim.h"

#define NS_PER_MS 1000000
#define RELEASE_MS 2000 /* for the broker's word on a release */
#define AGAIN_MS 200    /* before an endpoint that was not ready is asked for again */

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

static void set_why(struct hold *hold, int error, const char *why)
{
	hold->usable = false;
	hold->waiting = false;
	hold->error = error;
	snprintf(hold->why, sizeof(hold->why), "%s", why[0] ? why : vmsig_error_text(error));
}

static void lose(struct shim *shim, int error, const char *why)
{
	struct hold *hold = &shim->hold;
	vmsig_lease_info info;

	if (!hold->usable)
		return;
	vmsig_lease_get(hold->lease, &info);
	/* Without an error: another process of the tenant has given it back. */
	set_why(hold, error ? error : -VMSIG_ERR_NO_LEASE, error ? why : "it was given back");
	output_news(&shim->output, "lost", hold->error,
		"lease %" PRIu64 " on %s is lost, nothing is written before `lease acquire`: %s",
		info.id, shim->options.endpoint, hold->why);
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

void hold_take(struct shim *shim, const vmsig_writer_event *event)
{
	struct hold *hold = &shim->hold;

	if (!hold->lease || event->lease != hold->lease)
		return;
	switch (event->kind) {
	case VMSIG_WEV_WAITING:
		hold->waiting = true;
		output_news(&shim->output, "waiting", 0,
			"waiting: somebody holds a conflicting lease on %s",
			shim->options.endpoint);
		break;
	case VMSIG_WEV_GRANTED:
		grant(hold);
		break;
	case VMSIG_WEV_REFUSED:
		set_why(hold, event->error ? event->error : -VMSIG_ERR_NO_LEASE, event->text);
		break;
	case VMSIG_WEV_NOTICE:
		output_news(&shim->output, "notice", 0,
			"the lease on %s will be revoked in %u ms: somebody of higher priority "
			"waits",
			shim->options.endpoint, event->revoke_in_ms);
		break;
	case VMSIG_WEV_LOST:
		lose(shim, event->error, event->text);
		break;
	case VMSIG_WEV_RESUMED:
		output_news(&shim->output, "resumed", 0, "the lease on %s was resumed",
			shim->options.endpoint);
		break;
	default:
		break;
	}
}

void hold_epoch(struct shim *shim, uint32_t epoch)
{
	if (shim->hold.usable && epoch > shim->hold.epoch)
		lose(shim, -VMSIG_ERR_STALE_EPOCH, "");
}

/* ---- acquiring ---- */

static int refuse(struct shim *shim)
{
	const struct hold *hold = &shim->hold;

	return output_fail(&shim->output, hold->error, "no lease on %s: %s", shim->options.endpoint,
		hold->why);
}

static void forget(struct hold *hold)
{
	hold->lease = vmsig_lease_free(hold->lease);
	hold->usable = hold->waiting = false;
}

/* One request, until it is answered: 0, the error, or -WOULD_BLOCK when it was stopped. */
static int ask(struct shim *shim)
{
	struct hold *hold = &shim->hold;
	const struct plane *plane = &shim->session.write;
	int r;

	forget(hold);
	r = vmsig_lease_acquire(shim->session.writer, &shim->options.lease, &hold->lease);
	if (r) {
		set_why(hold, r, vmsig_writer_last_error(shim->session.writer));
		return r;
	}
	hold->error = 0;
	do {
		session_step(shim, -1, SESSION_NEVER);
		if (session_is_stopped(&shim->session) && !hold->usable)
			return -VMSIG_ERR_WOULD_BLOCK;
		if (!plane->up)
			set_why(hold, plane->error, plane->why);
	} while (!hold->usable && !hold->error);
	return hold->error;
}

int hold_acquire(struct shim *shim)
{
	int64_t until = session_now() + (int64_t)shim->options.ready_ms * NS_PER_MS;
	struct hold *hold = &shim->hold;
	int r;

	if (hold->usable)
		return EXIT_OK;
	for (;;) {
		r = ask(shim);
		if (r != -VMSIG_ERR_NOT_READY || shim->options.lease.no_wait ||
			session_now() >= until || session_is_stopped(&shim->session))
			break;
		for (int64_t again = session_now() + (int64_t)AGAIN_MS * NS_PER_MS;
			session_now() < again && !session_is_stopped(&shim->session);)
			session_step(shim, -1, again);
	}
	if (!r)
		return EXIT_OK;
	forget(hold);
	if (!session_is_stopped(&shim->session))
		return refuse(shim);
	hold->error = 0;
	return session_stop(shim);
}

/* ---- releasing ---- */

int hold_release(struct shim *shim)
{
	int64_t until = session_now() + (int64_t)RELEASE_MS * NS_PER_MS;
	struct hold *hold = &shim->hold;
	vmsig_lease_info info;
	int status = EXIT_OK;

	hold->error = 0;
	if (hold->lease && hold->usable && vmsig_lease_release(hold->lease) == 0) {
		hold->usable = false;
		do {
			session_step(shim, -1, until);
			vmsig_lease_get(hold->lease, &info);
		} while (info.phase != VMSIG_LEASE_OVER && session_now() < until);
		if (info.phase != VMSIG_LEASE_OVER)
			status = output_fail(&shim->output, VMSIG_ERR_TIMEOUT,
				"the lease could not be released; it ends by itself");
		else if (info.error)
			status = output_fail(&shim->output, info.error,
				"the lease on %s was over before: %s", shim->options.endpoint,
				vmsig_error_text(info.error));
	}
	forget(hold);
	return status;
}

int hold_check(struct shim *shim)
{
	const struct hold *hold = &shim->hold;

	/* What is said already goes before what is asked now. */
	session_step(shim, -1, 0);
	if (hold->usable)
		return EXIT_OK;
	if (hold->error)
		return output_fail(&shim->output, hold->error, "nothing is written: %s", hold->why);
	return output_fail(
		&shim->output, VMSIG_ERR_NO_LEASE, "nothing is written: there is no lease");
}
