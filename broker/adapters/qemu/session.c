/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM session as the core knows it: it begins when a kernel is proven, ends when its memory is
 * another's, and outlives a lost connection: then the endpoint is unreachable until the same
 * process says so again, or has ended.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/adapters/qemu/qemu.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memctx.h"

void qemu_session_forget(struct qemu *q)
{
	qemu_flow_cancel(q);
	q->ready = q->lost = false;
	q->proof = (struct kcr3_proof){0};
	q->strikes_memory = q->strikes_vcpu = 0;
	q->rival_ms = q->rival_wait_ms = 0;
	q->urgent = false;
	q->migrating = true;
	q->backoff_ms = q->env.config->retry_ms;
}

void qemu_session_end(struct qemu *q, const char *reason)
{
	bool was_ready = q->ready;

	qemu_session_forget(q);
	/* While no MEMCTX is out the epoch goes on: there is nothing to take back, only the search
	 * starts over, and that is no news. */
	if (!was_ready) {
		if (q->owed)
			qemu_schedule(q, q->env.config->retry_ms);
		return;
	}
	if (qemu_may_log(q))
		log_info("VM session ended", LOG_STR("endpoint", q->env.config->name),
			LOG_STR("reason", reason), LOG_INT("epoch", q->epoch));
	q->owed = false;
	qemu_tell_invalidated(q);
}

void qemu_session_lose(struct qemu *q, const char *reason)
{
	qemu_flow_cancel(q);
	quiesce_link_down(&q->quiesce);
	q->lost = true;
	qemu_tell_state(q, VMSIG_STATE_UNREACHABLE, reason);
}

static void on_refused(struct qemu *q, int r)
{
	/* STALE_EPOCH: the core has asked for a newer one and will say so. */
	q->ready = q->lost = false;
	if (qemu_may_log(q))
		log_info("context dropped", LOG_STR("endpoint", q->env.config->name),
			LOG_INT("epoch", q->epoch), LOG_STR("error", vmsig_error_name(r)));
	qemu_schedule_retry(q);
}

void qemu_session_publish(struct qemu *q)
{
	vmsig_event ev = {
		.kind = VMSIG_EV_MEMCTX, .source = VMSIG_SRC_MEMCTX, .endpoint = q->env.endpoint};
	const vmsig_memseg *segs;
	vmsig_memctx pod;
	uint32_t nseg;
	int r;

	/* With what tells this session from others, which only the proof knows. */
	qemu_tell_ram(q);
	q->ready = true; /* the core may ask for a descriptor inside of the call */
	q->lost = false;
	q->told_state = VMSIG_STATE_READY;
	qemu_describe(q, &pod, &segs, &nseg);
	memcpy(ev.inln, &pod, sizeof(pod));
	ev.payload = (vmsig_payload){.data = segs, .len = nseg * sizeof(*segs)};
	r = q->env.emit->event(q->env.emit->core, &ev);
	if (r) {
		on_refused(q, r);
		return;
	}
	if (qemu_may_log(q))
		log_info("kernel proven", LOG_STR("endpoint", q->env.config->name),
			LOG_INT("epoch", q->epoch), LOG_HEX("kcr3", q->proof.kcr3),
			LOG_INT("levels", q->proof.levels),
			LOG_STR("os", vmsig_os_name(q->proof.system.os)),
			LOG_STR("proof", vmsig_proof_name(q->proof.system.proof)),
			LOG_STR("release", q->proof.system.release));
	qemu_schedule(q, q->env.config->reprove_ms);
}

/* ---- the process ---- */

static void on_process_closed(void *arg)
{
	struct qemu *q = arg;

	q->closing--;
	qemu_maybe_stopped(q);
}

void qemu_process_forget(struct qemu *q)
{
	if (!q->process)
		return;
	q->closing++;
	q->process = process_close(q->process, on_process_closed, q);
}

static void on_process_end(void *arg)
{
	struct qemu *q = arg;

	snprintf(q->down_reason, sizeof(q->down_reason), "QEMU (pid %d) has ended", (int)q->pid);
	qemu_process_forget(q);
	/* With a connection left its end is about to be heard of; without one this is the end. */
	if (link_ready(&q->link) || q->removed)
		return;
	q->guest = guest_unref(q->guest);
	qemu_session_end(q, q->down_reason);
	qemu_tell_state(q, VMSIG_STATE_GONE, q->down_reason);
	qemu_schedule_retry(q);
}

void qemu_process_found(struct qemu *q, pid_t pid)
{
	qemu_process_forget(q);
	q->pid = pid;
	if (process_open(&q->process, q->env.loop, pid, on_process_end, q))
		log_warning("QEMU's process cannot be watched: a lost connection counts as its end",
			LOG_STR("endpoint", q->env.config->name), LOG_INT("pid", pid));
}
