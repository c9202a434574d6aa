/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/quiesce.h"

#include <assert.h>
#include <string.h>

#include "broker/adapters/qemu/guardian.h"
#include "vmsig/vmsig_error.h"

#define RETRY_MS 10   /* when too many commands are under way */
#define CLOSE_MS 1000 /* for QEMU to continue a guest that is given up */

void quiesce_init(struct quiesce *quiesce, struct link *link, struct guardian *guardian,
	void (*closed)(void *arg), void *closed_arg)
{
	*quiesce = (struct quiesce){.link = link,
		.guardian = guardian,
		.name = link->path,
		.closed = closed,
		.closed_arg = closed_arg};
	(void)uv_timer_init(link->loop, &quiesce->timer); /* cannot fail */
	quiesce->timer.data = quiesce;
	quiesce->timer_open = true;
}

void quiesce_arm_by(struct quiesce *quiesce, const char *name, int (*arm)(void *arg), void *arm_arg)
{
	quiesce->name = name;
	quiesce->arm = arm;
	quiesce->arm_arg = arm_arg;
}

static int arm(struct quiesce *quiesce)
{
	return quiesce->arm
		       ? quiesce->arm(quiesce->arm_arg)
		       : guardian_arm(quiesce->guardian, quiesce->name, link_place(quiesce->link));
}

static void tell(struct quiesce *quiesce, int error)
{
	void (*done)(void *arg, int error) = quiesce->done;

	quiesce->done = NULL;
	if (done)
		done(quiesce->done_arg, error);
}

static void on_closed(uv_handle_t *handle)
{
	struct quiesce *quiesce = handle->data;

	quiesce->timer_open = false;
	quiesce->closed(quiesce->closed_arg);
}

static void let_go(struct quiesce *quiesce)
{
	if (quiesce->stopped)
		guardian_release(quiesce->guardian, quiesce->name);
	quiesce->stopped = false;
	uv_close((uv_handle_t *)&quiesce->timer, on_closed);
}

/* Out of the way, whatever was under way; cont may still be owed. */
static void go_idle(struct quiesce *quiesce)
{
	quiesce->state = QUIESCE_IDLE;
	quiesce->id = 0;
	uv_timer_stop(&quiesce->timer);
	if (quiesce->closing)
		let_go(quiesce);
}

static void disarm(struct quiesce *quiesce)
{
	quiesce->stopped = false;
	guardian_disarm(quiesce->guardian, quiesce->name);
}

static bool command(struct quiesce *quiesce, const char *name, enum quiesce_state state)
{
	if (link_command(quiesce->link, name, NULL, &quiesce->id))
		return false;
	quiesce->state = state;
	return true;
}

static void on_timer(uv_timer_t *timer);

/* What cannot be said over this connection is said over the next one, or by the guardian. */
static void send_cont(struct quiesce *quiesce)
{
	bool sent = quiesce->cont_id;

	if (!quiesce->stopped || !link_ready(quiesce->link)) {
		go_idle(quiesce);
		return;
	}
	quiesce->state = QUIESCE_RESUMING;
	quiesce->id = 0;
	if (!sent) {
		sent = link_command(quiesce->link, "cont", NULL, &quiesce->cont_id) == 0;
		quiesce->resume_due = sent;
	}
	if (quiesce->closing)
		uv_timer_start(&quiesce->timer, on_timer, CLOSE_MS, 0);
	else if (sent)
		uv_timer_stop(&quiesce->timer);
	else
		uv_timer_start(&quiesce->timer, on_timer, RETRY_MS, 0);
}

/* ---- the bound ---- */

static void on_timer(uv_timer_t *timer)
{
	struct quiesce *quiesce = timer->data;

	switch (quiesce->state) {
	case QUIESCE_REFUSED:
	case QUIESCE_ASKING:
		send_cont(quiesce);
		tell(quiesce, quiesce->error);
		break;
	case QUIESCE_STOPPING:
	case QUIESCE_STILL:
		/* QEMU takes commands in order: behind the stop. */
		send_cont(quiesce);
		tell(quiesce, VMSIG_ERR_TIMEOUT);
		break;
	case QUIESCE_RESUMING:
		if (quiesce->closing)
			go_idle(quiesce);
		else
			send_cont(quiesce);
		break;
	default:
		break;
	}
}

/* Later, as the seam promises. */
static void refuse(struct quiesce *quiesce, int error)
{
	quiesce->state = QUIESCE_REFUSED;
	quiesce->error = error;
	uv_timer_start(&quiesce->timer, on_timer, 0, 0);
}

/* ---- the write's side ---- */

void quiesce_start(
	struct quiesce *quiesce, uint64_t bound_ms, void (*done)(void *arg, int error), void *arg)
{
	assert(!quiesce->done && quiesce->state != QUIESCE_STILL);
	/* The one before has its bytes; its cont is answered before what is asked now. */
	quiesce->id = 0;
	quiesce->done = done;
	quiesce->done_arg = arg;
	quiesce->error = VMSIG_ERR_TIMEOUT;
	if (!link_ready(quiesce->link))
		refuse(quiesce, VMSIG_ERR_GONE);
	else if (!command(quiesce, "query-status", QUIESCE_ASKING))
		refuse(quiesce, VMSIG_ERR_BUSY);
	else
		uv_timer_start(&quiesce->timer, on_timer, bound_ms, 0);
}

bool quiesce_is_still(const struct quiesce *quiesce)
{
	return quiesce->state == QUIESCE_STILL;
}

void quiesce_end(struct quiesce *quiesce)
{
	if (quiesce->state != QUIESCE_STILL)
		return;
	uv_timer_stop(&quiesce->timer);
	send_cont(quiesce);
}

void quiesce_leave_stopped(struct quiesce *quiesce)
{
	quiesce->stop_due = false;
	if (quiesce->stopped && !quiesce->cont_id)
		disarm(quiesce);
}

static bool is_active(const struct quiesce *quiesce)
{
	return quiesce->state != QUIESCE_IDLE && quiesce->state != QUIESCE_REFUSED;
}

bool quiesce_owns_stop(struct quiesce *quiesce)
{
	bool owned = quiesce->stop_due;

	quiesce->stop_due = false;
	return owned;
}

bool quiesce_owns_resume(struct quiesce *quiesce)
{
	bool owned = quiesce->resume_due;

	quiesce->resume_due = false;
	return owned;
}

/* ---- QEMU's side ---- */

static void on_status(struct quiesce *quiesce, const struct qmp_message *message)
{
	const char *status = json_string_value(json_object_get(message->value, "status"));

	if (message->name || !status) {
		send_cont(quiesce);
		tell(quiesce, VMSIG_ERR_UNSUPPORTED);
		return;
	}
	if (strcmp(status, "running") != 0) {
		quiesce->state = QUIESCE_STILL;
		tell(quiesce, 0);
		return;
	}
	/* Known before it happens, so that nothing can come between. */
	if (arm(quiesce)) {
		send_cont(quiesce);
		tell(quiesce, VMSIG_ERR_UNSUPPORTED);
		return;
	}
	quiesce->stopped = true;
	quiesce->stop_due = command(quiesce, "stop", QUIESCE_STOPPING);
	if (quiesce->stop_due)
		return;
	disarm(quiesce);
	go_idle(quiesce);
	tell(quiesce, VMSIG_ERR_BUSY);
}

static void on_stopped(struct quiesce *quiesce, const struct qmp_message *message)
{
	quiesce->stop_due = false;
	if (message->name) {
		disarm(quiesce);
		go_idle(quiesce);
		tell(quiesce, VMSIG_ERR_UNSUPPORTED);
		return;
	}
	/* QEMU has taken its time to stop, in which the guardian had its own to answer. */
	if (guardian_has_refused(quiesce->guardian, quiesce->name)) {
		send_cont(quiesce);
		tell(quiesce, VMSIG_ERR_BUSY);
		return;
	}
	quiesce->state = QUIESCE_STILL;
	tell(quiesce, 0);
}

/* An error means that there is nothing to continue: it was shut down meanwhile, say. */
static void on_continued(struct quiesce *quiesce)
{
	quiesce->cont_id = 0;
	quiesce->stop_due = quiesce->resume_due = false; /* QEMU did both before */
	disarm(quiesce);
	if (quiesce->state == QUIESCE_RESUMING)
		go_idle(quiesce);
}

static void on_answered(struct quiesce *quiesce, const struct qmp_message *message)
{
	quiesce->id = 0;
	if (quiesce->state == QUIESCE_ASKING)
		on_status(quiesce, message);
	else if (quiesce->state == QUIESCE_STOPPING)
		on_stopped(quiesce, message);
}

bool quiesce_reply(struct quiesce *quiesce, const struct qmp_message *message)
{
	bool continued = quiesce->cont_id && message->id == quiesce->cont_id;
	bool answered = quiesce->id && message->id == quiesce->id;

	if (continued)
		on_continued(quiesce);
	else if (answered)
		on_answered(quiesce, message);
	return continued || answered;
}

void quiesce_link_down(struct quiesce *quiesce)
{
	quiesce->cont_id = 0;
	quiesce->stop_due = quiesce->resume_due = false;
	if (!is_active(quiesce))
		return;
	go_idle(quiesce);
	tell(quiesce, VMSIG_ERR_GONE);
}

void quiesce_link_ready(struct quiesce *quiesce)
{
	if (quiesce->state == QUIESCE_IDLE && !quiesce->closing)
		send_cont(quiesce);
}

/* ---- life ---- */

void quiesce_close(struct quiesce *quiesce)
{
	int error = quiesce->state == QUIESCE_REFUSED ? quiesce->error : VMSIG_ERR_GONE;

	quiesce->closing = true;
	send_cont(quiesce);
	tell(quiesce, error);
}

bool quiesce_is_open(const struct quiesce *quiesce)
{
	return quiesce->timer_open;
}
